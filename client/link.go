package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// link is the way to one address: at most one connection, shared by all cells, dialled when it is first needed and
// again, with jittered and growing pauses, when it is lost.
type link struct {
	client  *Client
	addr    string
	conn    atomic.Pointer[rpc.Conn]
	replies atomic.Uint64 // answers of any connection; tells a silent server from a slow request
	probing atomic.Bool   // it is asked for a sign of life

	mu       sync.Mutex
	closed   bool
	dialing  chan struct{} // closed when the dial under way ends; nil when there is none
	failures int           // dials and connections in a row without a single answer
	answered uint64        // replies when the current connection was made
	resumes  time.Duration // no dial before
	why      *cell.Error   // of the last failure
	dice     route.Dice
}

// link returns the way to an address.
func (c *Client) link(addr string) *link {
	if l, ok := c.links.Load(addr); ok {
		return l.(*link)
	}
	l, _ := c.links.LoadOrStore(addr, &link{client: c, addr: addr, dice: route.Dice(c.seed ^ hash(addr))})
	return l.(*link)
}

// way is the link to an address, which most often is that of the cell's last request: its proposer's.
func (h *Cell) way(addr string) *link {
	if l := h.last.Load(); l != nil && l.addr == addr {
		return l
	}
	l := h.client.link(addr)
	h.last.Store(l)
	return l
}

// get returns the connection, or the channel of a dial to wait for, or why there is neither now. After the channel is
// closed, get again. A dial that follows a failure comes with that failure.
func (l *link) get() (*rpc.Conn, <-chan struct{}, *cell.Error) {
	if conn := l.conn.Load(); conn != nil {
		return conn, nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if conn := l.conn.Load(); conn != nil {
		return conn, nil, nil
	}
	now := l.client.now()
	switch {
	case l.dialing != nil:
		return nil, l.dialing, l.why
	case l.closed:
		return nil, nil, closedError("client.dial")
	case now < l.resumes:
		return nil, nil, l.resting(now)
	}
	done := make(chan struct{})
	if !l.client.start(func() { l.dial(done) }) {
		return nil, nil, closedError("client.dial")
	}
	l.dialing = done
	return nil, done, l.why
}

// resting says why nobody dials now.
func (l *link) resting(now time.Duration) *cell.Error {
	e := &cell.Error{Op: "client.dial", Kind: cell.Unavailable,
		Detail: fmt.Sprintf("%s is not tried for another %v after %d failures", l.addr, (l.resumes - now).Round(time.Millisecond), l.failures)}
	if l.why != nil {
		e.Err = l.why
	}
	return e
}

// dial connects once, closes done, and then keeps Close waiting for as long as the connection lives.
func (l *link) dial(done chan struct{}) {
	c := l.client
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DialTimeout)
	defer cancel()
	cfg := c.dial
	gone := make(chan struct{})
	cfg.OnClose = func(conn *rpc.Conn, err error) { l.lost(conn, err); close(gone) }
	conn, err := rpc.Dial(ctx, l.addr, cfg)
	l.dialled(conn, err)
	close(done)
	if err == nil {
		<-gone
	}
}

// dialled takes the end of a dial.
func (l *link) dialled(conn *rpc.Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing = nil
	if err != nil {
		l.fail(asError(err))
		return
	}
	l.answered = l.replies.Load()
	shown := l.client.present(conn, l.addr)
	l.conn.Store(conn)
	if l.client.token.Load() != shown { // there is another one since, and whoever read it did not see this connection
		l.client.present(conn, l.addr)
	}
	if l.closed {
		conn.Close(closedError("client.dial"))
	}
	if conn.Err() != nil {
		l.conn.CompareAndSwap(conn, nil) // lost may have looked for it before it was there
	}
}

// lost is called when a connection has ended.
func (l *link) lost(conn *rpc.Conn, err error) {
	l.conn.CompareAndSwap(conn, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replies.Load() != l.answered {
		l.failures = 0 // it was of use
	}
	l.fail(asError(err))
}

// fail notes a failure and postpones the next dial; l.mu is held.
func (l *link) fail(why *cell.Error) {
	cfg := &l.client.cfg
	l.why = why
	l.resumes = l.client.now() + route.Backoff(&l.dice, 0, cfg.BackoffMin, cfg.BackoffMax, l.failures)
	l.failures++
	if !l.closed {
		cfg.Logger.Info("physalia: server lost", "addr", l.addr, "failures", l.failures, "err", why)
	}
}

// silent is told that an attempt which began after so many replies ran out of patience. When nothing at all has arrived since, the
// server is asked for a sign of life, which needs none of its cells: when thousands of cold ones are asked at once, the first answer takes its time,
// and whoever is cut off then has to send everything again. Without a sign the connection is given up, so that all
// others who wait on it go elsewhere at once.
func (l *link) silent(conn *rpc.Conn, replies uint64, patience time.Duration) {
	if l.replies.Load() != replies || !l.probing.CompareAndSwap(false, true) {
		return
	}
	if !l.client.start(func() { l.probe(conn, replies, patience) }) {
		l.probing.Store(false)
	}
}

// probe waits for a sign of life for half an AttemptTimeout.
func (l *link) probe(conn *rpc.Conn, replies uint64, patience time.Duration) {
	defer l.probing.Store(false)
	sign := make(chan struct{})
	conn.Go(wire.MethodServer, nil, func([]byte, error) { close(sign) }) // an error is a sign, or the connection's end
	c := l.client
	wait := c.cfg.AttemptTimeout / 2
	timer := c.cfg.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-sign:
	case <-c.ctx.Done():
	case <-timer.C():
		if l.replies.Load() == replies {
			conn.Close(&cell.Error{Op: "client.link", Kind: cell.Unavailable, Detail: fmt.Sprintf("%s was silent for %v", l.addr, (patience + wait).Round(time.Millisecond))})
		}
	}
}

// close ends the link for good.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if conn := l.conn.Load(); conn != nil {
		conn.Close(closedError("client.dial"))
	}
}

// closedError is what calls of a closed Client end with.
func closedError(op string) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Unavailable, Detail: "the client is closed", Hint: "make a new client"}
}
