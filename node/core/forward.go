package core

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
)

// Any member forwards a request that it cannot answer (rule 13): a client that reaches this server but not the proposer's
// says so by asking again and again, and the request goes to the proposer's server, one hop and no further, and its answer
// comes back the same way. What is lost between the two servers is an unknown outcome, as on any connection; repeating the
// same request elsewhere is safe, since exactly-once is by its identity.

// attemptsBeforeForward: so often a client asked before its request is passed on. The first ask finds out who leads, the
// second one asks there.
const attemptsBeforeForward = 2

// forwardsMax bounds the forwarded requests without an answer.
const forwardsMax = 4096

// forwards are the requests that were passed on, in order of their numbers.
type forwards struct {
	last    uint64
	waiting []*forward
}

// forward is one request that was passed on and is not answered.
type forward struct {
	id       uint64
	to       *server
	request  *Request
	deadline time.Duration
}

// forwardedBy is where the answer to a request of a peer goes; it is the Conn of its Origin.
type forwardedBy struct {
	server *server
	boot   uint64
	id     uint64
}

// rawMessage is a result that is passed on as it came.
type rawMessage []byte

// Append adds the bytes.
func (m rawMessage) Append(b []byte) []byte { return append(b, m...) }

// Decode is never called: who passes a result on does not look inside.
func (m rawMessage) Decode(r *wire.Reader) { r.Fail("a forwarded result is not decoded here") }

// forward passes a request on to the server that leads its cell, if its client cannot do so itself and the server is known
// to be useful; it reports whether it did.
func (c *Core) forward(h *hosted, r *Request, to *server) bool {
	if r.forwarded || r.Header.Attempt < attemptsBeforeForward || len(c.forwards.waiting) >= forwardsMax || !c.supports(to) {
		return false
	}
	params := r.params()
	if params == nil {
		return false
	}
	f := &c.forwards
	f.last++
	patience := min(time.Duration(r.Header.Timeout)*time.Millisecond, 2*c.cfg.SupportPeriod)
	f.waiting = append(f.waiting, &forward{id: f.last, to: to, request: r, deadline: c.now + patience})
	c.serving = nil
	c.waiters++
	c.sendForward(to, &peer.Forward{ID: f.last, Boot: c.cfg.Boot, Method: r.op(), Body: params})
	if c.cfg.Events.Forwarded != nil {
		c.cfg.Events.Forwarded()
	}
	return true
}

// params are what ParseRequest of the request's method reads; nil for what is not forwarded.
func (r *Request) params() []byte {
	switch {
	case r.Kind == RequestTxn && r.Log == wire.CommandTxn:
		return (&wire.TxnRequest{Header: r.Header, Request: r.Request, Txn: r.Txn}).Append(nil)
	case r.Kind == RequestTxn:
		return (&wire.LeaseRequest{Header: r.Header, Request: r.Request, Lease: r.Lease}).Append(nil)
	case r.Kind == RequestRead && r.List:
		return (&wire.LeasesRequest{Header: r.Header}).Append(nil)
	case r.Kind == RequestRead:
		return (&wire.ReadRequest{Header: r.Header, Txn: r.Txn, Confirm: r.Confirm}).Append(nil)
	}
	return nil
}

// sendForward queues a message of the forward lane.
func (c *Core) sendForward(to *server, f *peer.Forward) {
	c.body = peer.AppendForward(c.body[:0], f)
	c.enqueue(to, LaneForward, c.body)
}

// OnForward takes a message of the forward lane: a request to be answered here, or the answer to one that was passed on.
func (c *Core) OnForward(from cell.ServerID, f *peer.Forward) {
	s := c.sender(from)
	if f.Method == "" {
		c.onForwardedAnswer(s, f)
		return
	}
	by := forwardedBy{s, f.Boot, f.ID}
	r, err := ParseRequest(f.Method, f.Body)
	if err == nil && r.Kind != RequestTxn && r.Kind != RequestRead {
		err = &cell.Error{Op: f.Method, Kind: cell.Invalid, Detail: "this method is not forwarded"}
	}
	if err != nil {
		c.answerForwarded(by, nil, err)
		return
	}
	r.Origin, r.forwarded = Origin{Conn: by}, true
	c.OnRequest(r)
}

// answerForwarded sends an answer back to the server that passed the request on.
func (c *Core) answerForwarded(by forwardedBy, result wire.Message, err *cell.Error) {
	f := &peer.Forward{ID: by.id, Boot: by.boot, Err: err}
	if err == nil && result != nil {
		f.Body = result.Append(nil)
	}
	c.sendForward(by.server, f)
}

// onForwardedAnswer answers the client of a request that was passed on. Who asked may be gone, or another life of this
// server's may have: then nobody waits.
func (c *Core) onForwardedAnswer(s *server, f *peer.Forward) {
	w := c.forwards.waiting
	i, ok := slices.BinarySearchFunc(w, f.ID, func(x *forward, id uint64) int { return int(int64(x.id - id)) })
	if !ok || f.Boot != c.cfg.Boot || w[i].to != s {
		c.drop("answer that nobody waits for")
		return
	}
	x := w[i]
	c.forwards.waiting = slices.Delete(w, i, i+1)
	c.waiters--
	if f.Err != nil {
		switch f.Err.Kind {
		case cell.Quarantined:
			c.challenge(c.warm[x.request.Header.Cell], true)
		case cell.UnknownHere: // it is hosted here, so the client must not look for it elsewhere
			c.challenge(c.warm[x.request.Header.Cell], true)
			f.Err = &cell.Error{Op: f.Err.Op, Kind: cell.Unavailable, Cell: f.Err.Cell, RetryAfter: campaignAgain,
				Detail: "the server of the proposer hosts no node of it: " + f.Err.Detail}
		}
		c.reply(x.request.Origin, nil, f.Err)
		return
	}
	c.reply(x.request.Origin, rawMessage(f.Body), nil)
}

// expireForwards answers the requests whose client or proposer's server took too long.
func (c *Core) expireForwards() {
	c.failForwards(func(f *forward) bool { return f.deadline <= c.now }, "no answer came from the proposer's server in time")
}

// forsake answers the requests that were passed on to a server that is not supported any more.
func (c *Core) forsake(s *server) {
	c.failForwards(func(f *forward) bool { return f.to == s }, "the proposer's server ceased to answer")
}

// failForwards answers some of the requests that were passed on: a transaction may have been applied, a read has no outcome
// to be unsure of.
func (c *Core) failForwards(which func(*forward) bool, why string) {
	kept := c.forwards.waiting[:0]
	for _, f := range c.forwards.waiting {
		if !which(f) {
			kept = append(kept, f)
			continue
		}
		e := &cell.Error{Op: f.request.op(), Kind: cell.Unavailable, Cell: f.request.Header.Cell, Detail: why}
		if f.request.Kind == RequestTxn {
			e.Kind, e.Hint = cell.UnknownResult, "repeat the same request"
		}
		c.waiters--
		c.reply(f.request.Origin, nil, e)
	}
	clear(c.forwards.waiting[len(kept):])
	c.forwards.waiting = kept
}
