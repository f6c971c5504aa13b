package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// exchange is what one call needs while it runs; it is used again by later calls.
type exchange struct {
	op       string // for errors
	deadline time.Duration
	call     route.Call

	timer  Timer // stopped while nobody waits
	method string
	params wire.Message // &txn, &read, &about or &list
	header *wire.Header // of params
	txn    wire.TxnRequest
	read   wire.ReadRequest
	about  wire.LeaseRequest
	list   wire.LeasesRequest
	put    [1]cell.Op    // what a Put has in its transaction
	brief  bool          // nobody will look at the results of the operations
	trace  uint64        // for the header
	sent   time.Duration // of a write: no later than its first send

	incarnation cell.Incarnation // of the reply
	result      cell.TxnResult
	lease       wire.LeaseReply
	leases      []cell.LeaseStatus
}

func (c *Client) newExchange() *exchange {
	x := &exchange{timer: c.cfg.Clock.NewTimer(time.Hour)}
	x.timer.Stop()
	return x
}

// put counts a call out and takes its exchange back, without what the call referred to.
func (c *Client) put(x *exchange) {
	x.txn, x.read, x.result = wire.TxnRequest{}, wire.ReadRequest{}, cell.TxnResult{}
	x.about, x.lease, x.leases = wire.LeaseRequest{}, wire.LeaseReply{}, nil
	x.put, x.brief = [1]cell.Op{}, false
	c.exchanges.Put(x)
	c.inFlight.Add(-1)
}

// attempt is one send and its answer. An attempt that was given up is left to whoever still answers it.
type attempt struct {
	link  *link
	ready chan struct{} // capacity 1: the answer is here
	done  func(result []byte, err error)
	reply answer
	err   *cell.Error
	fate  route.Fate
}

// answer is the reply to any method; want tells which of them it is to be decoded as.
type answer struct {
	want   wire.Message
	brief  bool          // of txn, all but the results of the operations
	txn    wire.TxnReply // has the encoding of wire.ReadReply
	lease  wire.LeaseReply
	leases wire.Leases
}

// expect makes the reply one to what the exchange sends.
func (r *answer) expect(x *exchange) {
	r.brief = x.brief
	switch x.params.(type) {
	case *wire.LeaseRequest:
		r.want = &r.lease
	case *wire.LeasesRequest:
		r.want = &r.leases
	default:
		r.want = &r.txn
	}
}

// decode reads the reply that is expected.
func (r *answer) decode(result []byte) error {
	if r.brief && r.want == &r.txn {
		return wire.UnmarshalFate(result, &r.txn)
	}
	return wire.Unmarshal(result, r.want)
}

func newAttempt() *attempt {
	a := &attempt{ready: make(chan struct{}, 1)}
	a.done = a.end // bound once
	return a
}

// end takes the answer; it runs on the connection's reader and does not block.
func (a *attempt) end(result []byte, err error) {
	a.fate, a.err = route.Replied, nil
	switch {
	case err != nil:
		a.err = asError(err)
		a.fate = fate(a.err)
	default:
		if err := a.reply.decode(result); err != nil {
			a.err = &cell.Error{Op: "client.decode", Kind: cell.UnknownResult, Detail: "the answer cannot be decoded", Err: err,
				Hint: "compare the versions of both sides"}
		}
	}
	if a.fate == route.Replied {
		a.link.replies.Add(1)
	}
	a.ready <- struct{}{}
}

// fate tells the errors of servers, which carry no cause, from those of this side's connection (rpc.Conn.Call).
func fate(err *cell.Error) route.Fate {
	switch {
	case err.Err == nil || err.Kind == cell.TooLarge:
		return route.Replied
	case err.Kind == cell.UnknownResult:
		return route.Lost
	}
	return route.Unsent
}

// asError finds the *cell.Error in err, or makes one for a foreign error.
func asError(err error) *cell.Error {
	var e *cell.Error
	if errors.As(err, &e) {
		return e
	}
	return &cell.Error{Op: "client", Kind: cell.Unavailable, Err: err}
}

// run takes an exchange whose call has begun to its end. The error is that of package route, with the cause when the
// caller, the Client or the deadline ended the call.
func (h *Cell) run(ctx context.Context, x *exchange) *cell.Error {
	c := h.client
	for {
		step, changed := h.next(x)
		if step.Find {
			c.finder.want(h.id)
		}
		var gone error
		switch step.Do {
		case route.Stop:
			if step.Err != nil && x.call.TimedOut() {
				return because(step.Err, context.DeadlineExceeded)
			}
			return step.Err
		case route.Ask:
			gone = h.ask(ctx, x, step)
		default:
			gone = c.wait(ctx, x.timer, step.Until, changed)
		}
		if gone != nil {
			return because(x.call.Abandon(c.now(), false), gone)
		}
	}
}

// because puts the reason why a call was given up under its error.
func because(e *cell.Error, cause error) *cell.Error {
	own := *e
	own.Err = cause
	return &own // package route keeps the other
}

// next takes one decision, and with Await the channel that tells when the lookup has ended.
func (h *Cell) next(x *exchange) (route.Step, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	step := x.call.Next(h.client.now(), h.place, &h.client.rules, h.client.spender)
	if step.Do != route.Await {
		return step, nil
	}
	if h.changed == nil {
		h.changed = make(chan struct{})
	}
	return step, h.changed
}

// wait waits until a time, or until changed is closed. The error says that the caller or the Client is gone.
func (c *Client) wait(ctx context.Context, timer Timer, until time.Duration, changed <-chan struct{}) error {
	timer.Reset(until - c.now())
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-changed:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return closedError("client")
	}
	return nil
}

// ask sends once and reports the answer to the call. The error says that the caller or the Client is gone.
func (h *Cell) ask(ctx context.Context, x *exchange, step route.Step) error {
	c := h.client
	l := h.way(step.Addr)
	conn, why, gone := c.connect(ctx, x, l, step.Until)
	if gone != nil {
		return gone
	}
	if conn == nil {
		h.answered(x, step.Addr, route.Answer{Fate: route.Unsent, Err: why})
		return nil
	}
	before, sent := l.replies.Load(), c.now()
	x.header.Incarnation, x.header.Attempt = step.Incarnation, step.Attempt
	x.header.Timeout = milliseconds(step.Until - sent)
	x.read.Least, x.read.Stale = step.Least, step.Stale
	a := c.attempts.Get().(*attempt)
	a.link = l
	a.reply.expect(x)
	conn.Go(x.method, x.params, a.done)
	x.timer.Reset(step.Until - sent)
	defer x.timer.Stop()
	for gone == nil {
		select {
		case <-a.ready:
			h.received(x, step.Addr, a)
			c.attempts.Put(a)
			return nil
		case <-x.timer.C():
			patience := c.now() - sent
			l.silent(conn, before, patience)
			if more := h.overdue(x); more > 0 {
				x.timer.Reset(more)
				continue
			}
			h.answered(x, step.Addr, route.Answer{Fate: route.Lost, Err: &cell.Error{Op: x.method, Kind: cell.UnknownResult,
				Detail: fmt.Sprintf("no answer within %v", patience.Round(time.Millisecond))}})
			return nil
		case <-ctx.Done():
			gone = ctx.Err()
		case <-c.ctx.Done():
			gone = closedError("client")
		}
	}
	x.call.Abandon(c.now(), true) // with the request in flight, its outcome is open
	return gone
}

// overdue is how much longer to wait for an answer that is not here in time.
func (h *Cell) overdue(x *exchange) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.client.now()
	return x.call.Overdue(now, &h.client.rules, h.client.spender) - now
}

// connect returns a connection, or why there is none. It waits for a first dial no longer than until, and only briefly
// for one that follows a failure: others may be asked meanwhile.
func (c *Client) connect(ctx context.Context, x *exchange, l *link, until time.Duration) (*rpc.Conn, *cell.Error, error) {
	for {
		conn, dialing, why := l.get()
		if dialing == nil {
			return conn, why, nil
		}
		if why != nil {
			until = min(until, c.now()+redialPatience*c.cfg.BackoffMin)
		}
		if err := c.wait(ctx, x.timer, until, dialing); err != nil {
			return nil, nil, err
		}
		if c.now() >= until {
			return nil, &cell.Error{Op: "client.dial", Kind: cell.Unavailable, Detail: "connecting to " + l.addr + " takes too long"}, nil
		}
	}
}

// redialPatience is how long a call waits for a connection that was lost to be made again, in units of BackoffMin.
const redialPatience = 4

// received takes the answer of an attempt over into the exchange and reports it.
func (h *Cell) received(x *exchange, addr string, a *attempt) {
	if a.err != nil {
		h.answered(x, addr, route.Answer{Fate: a.fate, Err: a.err})
		return
	}
	revision := x.take(&a.reply)
	a.reply = answer{}
	h.answered(x, addr, route.Answer{Fate: route.Replied, Incarnation: x.incarnation, Revision: revision})
}

// take moves a reply into the exchange and returns the revision of the cell that it tells.
func (x *exchange) take(r *answer) cell.Revision {
	switch r.want {
	case &r.lease:
		x.incarnation, x.lease = r.lease.Incarnation, r.lease
		return r.lease.Revision
	case &r.leases:
		x.incarnation, x.leases = r.leases.Incarnation, r.leases.Leases
		return r.leases.Revision
	}
	x.incarnation, x.result = r.txn.Incarnation, r.txn.Result
	return r.txn.Result.Revision
}

// answered reports what became of an Ask; an answer from off the route is the occasion to learn the route.
func (h *Cell) answered(x *exchange, addr string, answer route.Answer) {
	c := h.client
	now := c.now()
	h.mu.Lock()
	x.call.Answered(now, addr, answer, h.place, &c.rules)
	learn := answer.Fate == route.Replied && answer.Err == nil && h.place.Learn(now, addr)
	h.mu.Unlock()
	if learn {
		c.learn(h, addr)
	}
}

// milliseconds rounds up, so that a request never says that nobody waits for it.
func milliseconds(d time.Duration) uint32 {
	return uint32(max(1, min((d+time.Millisecond-1)/time.Millisecond, 1<<32-1)))
}
