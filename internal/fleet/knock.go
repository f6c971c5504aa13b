package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/knock"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Knocks lets servers knock instead of connecting; see package knock. Packets and Key are required.
type Knocks struct {
	Packets  net.PacketConn // owned by the Fleet from now on; nothing is ever sent over it
	Key      knock.Key
	QueueMax int // servers that wait for their call; default 65,536
	DialsMax int // calls under way; default 32
}

// knocker reads knocks and calls servers back, at the pace of registrations.
type knocker struct {
	cfg    Knocks
	wake   chan struct{} // capacity 1: somebody waits for a call
	dials  chan struct{} // a token per call under way
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	book  *knock.Book
	conns map[*rpc.Conn]struct{} // opened by this side

	taken, called, failed atomic.Uint64
	dropped               map[knock.Refusal]*atomic.Uint64 // written only before the reader starts
}

// callTime bounds one call until the server has accepted it.
const callTime = 5 * time.Second

// KnockStats is what became of knocks since the fleet began.
type KnockStats struct {
	Taken   uint64 // worth a call
	Called  uint64 // calls that the server accepted
	Failed  uint64 // calls that came to nothing: nobody there, somebody else there, or not accepted
	Waiting int    // servers that wait for their call
	Dropped map[knock.Refusal]uint64
}

// listenKnocks starts to read and to call.
func (f *Fleet) listenKnocks() {
	c := *f.cfg.Knocks
	if c.QueueMax <= 0 {
		c.QueueMax = 1 << 16
	}
	if c.DialsMax <= 0 {
		c.DialsMax = 32
	}
	k := &knocker{cfg: c, wake: make(chan struct{}, 1), dials: make(chan struct{}, c.DialsMax), book: knock.NewBook(c.QueueMax),
		conns: make(map[*rpc.Conn]struct{}), dropped: make(map[knock.Refusal]*atomic.Uint64)}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	for _, why := range knock.Refusals {
		k.dropped[why] = new(atomic.Uint64)
	}
	f.knock = k
	f.wg.Add(2)
	go f.readKnocks()
	go f.callBack()
}

// KnockStats reports what became of knocks; zero when nobody may knock.
func (f *Fleet) KnockStats() KnockStats {
	s := KnockStats{Dropped: make(map[knock.Refusal]uint64)}
	k := f.knock
	if k == nil {
		return s
	}
	for why, n := range k.dropped {
		s.Dropped[why] = n.Load()
	}
	k.mu.Lock()
	s.Waiting = k.book.Waiting()
	k.mu.Unlock()
	s.Taken, s.Called, s.Failed = k.taken.Load(), k.called.Load(), k.failed.Load()
	return s
}

// readKnocks takes one datagram after the other. Whoever floods this port costs this one goroutine a hash per datagram, and
// the rest of the process nothing.
func (f *Fleet) readKnocks() {
	defer f.wg.Done()
	k := f.knock
	buf := make([]byte, knock.BytesMax+1) // a longer one is cut, and then too long by one byte
	for {
		n, _, err := k.cfg.Packets.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			f.cfg.Log.Warn("reading knocks", "error", err)
			select {
			case <-f.stop:
				return
			case <-time.After(time.Second): // what does not end by itself must not fill the log
			}
			continue
		}
		if why := f.takeKnock(buf[:n]); why != "" {
			k.dropped[why].Add(1)
			continue
		}
		k.taken.Add(1)
		select {
		case k.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// takeKnock judges one datagram.
func (f *Fleet) takeKnock(datagram []byte) knock.Refusal {
	n, why := f.knock.cfg.Key.Open(f.cfg.Colony, datagram)
	if why != "" {
		return why
	}
	// The address is the one that the server registered. Where the datagram came from is not even looked at.
	var known knock.Known
	f.mu.RLock()
	if m := f.members[n.Server]; m != nil {
		known = knock.Known{Addr: m.reg.ClientAddr, Connected: m.conn != nil && n.Boot <= m.reg.Boot}
	}
	f.mu.RUnlock()
	f.knock.mu.Lock()
	defer f.knock.mu.Unlock()
	return f.knock.book.Take(time.Now().UnixMilli(), n, known)
}

// callBack calls those who wait, at the pace of registrations, a bounded number at a time.
func (f *Fleet) callBack() {
	defer f.wg.Done()
	k := f.knock
	for {
		select {
		case <-f.stop:
			return
		case <-k.wake:
		}
		// The token for a call under way comes before the one of the pace: a slow network must not use up the pace.
		for {
			k.mu.Lock()
			c, ok := k.book.Next()
			k.mu.Unlock()
			if !ok {
				break
			}
			select {
			case <-f.stop:
				return
			case k.dials <- struct{}{}:
			}
			if !f.entry.pass(c.Knock.Server, f.stop) {
				return
			}
			f.wg.Add(1)
			go f.call(c)
		}
	}
}

// call opens a connection to one server, proves that it was asked to, and leaves the rest to the server, which registers.
func (f *Fleet) call(c knock.Call) {
	defer f.wg.Done()
	k := f.knock
	err := f.open(c)
	<-k.dials
	k.mu.Lock()
	k.book.Done(c.Knock.Server)
	k.mu.Unlock()
	if err == nil {
		k.called.Add(1)
		return
	}
	k.failed.Add(1)
	f.entry.leave(c.Knock.Server)
	f.cfg.Log.Debug("server that knocked was not reached", "server", c.Knock.Server, "addr", c.Addr, "error", err)
}

// open does the work of call.
func (f *Fleet) open(c knock.Call) error {
	k := f.knock
	ctx, cancel := context.WithTimeout(k.ctx, callTime)
	defer cancel()
	f.wg.Add(1) // for OnClose, which is called only if there was a connection
	conn, err := rpc.Dial(ctx, c.Addr, rpc.Config{
		Hello:       wire.Hello{Purpose: wire.ForDialBack, Colony: f.cfg.Colony},
		FrameMax:    wire.ControlFrameMax,
		Handler:     rpc.HandlerFunc(f.handle),
		InFlightMax: f.cfg.InFlightMax,
		DialContext: f.cfg.Dial,
		Check: func(h wire.Hello) *cell.Error {
			if h.Server == c.Knock.Server && h.Colony == f.cfg.Colony {
				return nil
			}
			return &cell.Error{Op: "control.call", Kind: cell.Refused,
				Detail: fmt.Sprintf("at %s is %q of colony %q, not %s", c.Addr, h.Server, h.Colony, c.Knock.Server)}
		},
		OnClose: func(conn *rpc.Conn, err error) {
			defer f.wg.Done()
			k.mu.Lock()
			delete(k.conns, conn)
			k.mu.Unlock()
			f.closed(conn, err)
		},
	})
	if err != nil {
		f.wg.Done() // there is no connection to end
		return err
	}
	k.mu.Lock()
	if conn.Err() == nil {
		k.conns[conn] = struct{}{}
	}
	k.mu.Unlock()
	if k.ctx.Err() != nil {
		conn.Close(k.ctx.Err()) // close may have missed it
	}
	f.mu.RLock()
	m := &wire.DialBack{Control: f.cfg.Control, Addr: f.table.Addr(), Nonce: c.Knock.Nonce}
	f.mu.RUnlock()
	k.cfg.Key.Prove(f.cfg.Colony, c.Knock.Server, c.Knock.Boot, m)
	if err = conn.Call(ctx, wire.MethodDialBack, m, nil); err != nil {
		conn.Close(err)
		return err
	}
	// One timer per call, not per server: calls are paced.
	time.AfterFunc(enteringTime, func() {
		if !f.current(c.Knock.Server, conn) {
			conn.Close(&cell.Error{Op: "control.call", Kind: cell.Unavailable, Detail: "it was called and did not register"})
		}
	})
	return nil
}

// close ends reading and every connection that this side opened.
func (k *knocker) close() error {
	k.cancel()
	err := k.cfg.Packets.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for conn := range k.conns {
		conn.Close(&cell.Error{Op: "control.call", Kind: cell.Unavailable, Detail: "the control plane is shutting down"})
	}
	if errors.Is(err, net.ErrClosed) {
		return nil // a second Close
	}
	return err
}
