package core

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// requestKey finds the waiter of a transaction when its command is applied, wherever it was proposed: by this node, by one
// that was asked before, or by a successor that found it accepted. It is the identity that the log knows (rule 14).
type requestKey struct {
	client   cell.ClientID
	sequence uint64
}

// waiter is a request without an answer. Whoever answers it removes it first, so that nobody is answered twice.
type waiter struct {
	request  *Request
	token    uint64 // paxos.Proposal or paxos.ReadToken
	deadline time.Duration
	also     *waiter // the same transaction, asked again: one proposal, an answer each
}

// key is where a transaction's waiter stands in waiters.txns.
func (w *waiter) key() requestKey {
	return requestKey{w.request.Request.Client, w.request.Request.Sequence}
}

// lastDeadline is when nobody waits for this waiter's answer any more.
func (w *waiter) lastDeadline() time.Duration {
	d := w.deadline
	for ; w != nil; w = w.also {
		d = max(d, w.deadline)
	}
	return d
}

// waiters are the requests of one cell without an answer. They live and die with the hot part of the node; a node with
// waiters is never dropped from memory, only quarantined or wiped, and then they are answered.
type waiters struct {
	txns    map[requestKey]*waiter
	reads   map[paxos.ReadToken]*waiter
	seals   []*waiter
	changes []*waiter
	next    uint64
}

func (s *waiters) empty() bool {
	return len(s.txns) == 0 && len(s.reads) == 0 && len(s.seals) == 0 && len(s.changes) == 0
}

// len counts the requests, the same one asked again as one.
func (s *waiters) len() int { return len(s.txns) + len(s.reads) + len(s.seals) + len(s.changes) }

// writing reports whether anybody waits for a slot.
func (s *waiters) writing() bool { return len(s.txns) > 0 || len(s.seals) > 0 || len(s.changes) > 0 }

// make makes a waiter under a fresh token. Tokens are shared by transactions and reads, so no two waiters of a node ever
// had the same one.
func (s *waiters) make(r *Request, now time.Duration) *waiter {
	s.next++
	return &waiter{request: r, token: s.next, deadline: now + time.Duration(r.Header.Timeout)*time.Millisecond}
}

// add makes the first waiter of a transaction; join is asked before.
func (s *waiters) add(r *Request, now time.Duration) *waiter {
	if s.txns == nil {
		s.txns = make(map[requestKey]*waiter)
	}
	w := s.make(r, now)
	s.txns[requestKey{r.Request.Client, r.Request.Sequence}] = w
	return w
}

// join adds a request to the waiter of the same transaction, if there is one.
func (s *waiters) join(key requestKey, r *Request, now time.Duration) bool {
	w := s.txns[key]
	if w == nil {
		return false
	}
	also := s.make(r, now)
	also.also = w.also
	w.also = also
	return true
}

// addRead makes the waiter of a quorum-confirmed read.
func (s *waiters) addRead(r *Request, now time.Duration) *waiter {
	if s.reads == nil {
		s.reads = make(map[paxos.ReadToken]*waiter)
	}
	w := s.make(r, now)
	s.reads[paxos.ReadToken(w.token)] = w
	return w
}

// addChange makes the waiter of a change of the configuration.
func (s *waiters) addChange(r *Request, now time.Duration) {
	s.changes = append(s.changes, s.make(r, now))
}

func (s *waiters) addSeal(r *Request, now time.Duration) { s.seals = append(s.seals, s.make(r, now)) }

// removeTxn takes the waiter of a transaction out, nil when nobody waits for it here.
func (s *waiters) removeTxn(key requestKey) *waiter {
	w := s.txns[key]
	delete(s.txns, key)
	return w
}

// takeRead takes the waiter of a read out, nil when its client gave up meanwhile.
func (s *waiters) takeRead(t paxos.ReadToken) *waiter {
	w := s.reads[t]
	delete(s.reads, t)
	return w
}

// inOrder returns the first waiters of all transactions and reads for which keep holds, oldest first; the order of a map
// must never show outside.
func (s *waiters) inOrder(keep func(w *waiter) bool) []*waiter {
	var all []*waiter
	for _, w := range s.txns {
		if keep(w) {
			all = append(all, w)
		}
	}
	for _, w := range s.reads {
		if keep(w) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *waiter) int { return cmp.Compare(a.token, b.token) })
	return all
}

// anyWaiter keeps all of them.
func anyWaiter(*waiter) bool { return true }

// fail answers a waiter, and whoever asked the same again, with an error of their own.
func (c *Core) fail(w *waiter, err *cell.Error) {
	for ; w != nil; w = w.also {
		e := *err
		e.Op = w.request.op()
		c.reply(w.request.Origin, nil, &e)
		c.waiters--
	}
}

// failAll answers every waiter with err.
func (c *Core) failAll(s *waiters, err *cell.Error) {
	for _, w := range slices.Concat(s.inOrder(anyWaiter), s.seals, s.changes) {
		c.fail(w, err)
	}
	s.txns, s.reads, s.seals, s.changes = nil, nil, nil, nil
}

// answer tells a client the outcome of what it asked to log.
func (c *Core) answer(h *hosted, r *Request, o *outcome) {
	switch {
	case o.Err != nil:
		e := *o.Err
		e.Op, e.Cell = r.op(), h.id
		c.reply(r.Origin, nil, &e)
	case r.Log != wire.CommandTxn:
		c.reply(r.Origin, leaseReply(h, r, o), nil)
	default:
		result := o.Result
		result.Results = slices.Clone(result.Results) // the machine will use them again
		c.reply(r.Origin, &wire.TxnReply{Incarnation: h.incarnation, Result: result}, nil)
	}
}

// answerAll answers everybody who waits for a transaction.
func (c *Core) answerAll(h *hosted, w *waiter, o *outcome) {
	for ; w != nil; w = w.also {
		c.answer(h, w.request, o)
		c.waiters--
	}
}

// dropProposals answers the waiters of commands that were never sent to anyone: not applied, for certain.
func (c *Core) dropProposals(h *hosted, dropped []paxos.Proposal) {
	if len(dropped) == 0 {
		return
	}
	gone := make(map[uint64]bool, len(dropped))
	for _, p := range dropped {
		gone[uint64(p)] = true
	}
	err := c.redirect("", h, c.whoLeads(h, 0))
	if h.sealed {
		err = c.deleted("", h)
	}
	s := &h.hot.waiters
	for _, w := range s.inOrder(func(w *waiter) bool { return w.request.Kind == RequestTxn && gone[w.token] }) {
		delete(s.txns, w.key())
		c.fail(w, err)
	}
}

// loseProposals answers the waiters of commands that were sent by a proposer that was deposed: their outcome is unknown
// here, and repeating the same request elsewhere is safe.
func (c *Core) loseProposals(h *hosted) {
	s := &h.hot.waiters
	leader := c.whoLeads(h, 0)
	unknown := c.redirect("", h, leader)
	unknown.Kind = cell.UnknownResult
	unknown.Detail = "this node stopped leading the cell while the transaction was on its way"
	unknown.Hint = "repeat the same request"
	for _, w := range s.inOrder(func(w *waiter) bool { return w.request.Kind == RequestTxn }) {
		delete(s.txns, w.key())
		c.fail(w, unknown)
	}
	c.loseChanges(h, leader)
	seals := s.seals
	s.seals = nil
	for _, w := range seals {
		c.fail(w, c.redirect("", h, leader))
	}
}

// expire answers the waiters whose client waits no longer. A transaction stays in the pipeline and may still be chosen, so
// its outcome is unknown; a read has no outcome to be unsure of.
func (c *Core) expire(h *hosted) {
	s := &h.hot.waiters
	for _, w := range s.inOrder(func(w *waiter) bool { return w.lastDeadline() <= c.now }) {
		if w.request.Kind == RequestTxn {
			delete(s.txns, w.key())
			c.fail(w, c.timedOut(h, cell.UnknownResult))
		} else {
			delete(s.reads, paxos.ReadToken(w.token))
			c.fail(w, c.timedOut(h, cell.Unavailable))
		}
	}
	for _, list := range [...]*[]*waiter{&s.seals, &s.changes} {
		kept := (*list)[:0]
		for _, w := range *list {
			if w.deadline <= c.now {
				c.fail(w, c.timedOut(h, cell.UnknownResult))
			} else {
				kept = append(kept, w)
			}
		}
		*list = kept
	}
}

// timedOut tells people how many members' servers seem alive, since that is what they will ask next.
func (c *Core) timedOut(h *hosted, kind cell.Kind) *cell.Error {
	alive := 0
	for _, m := range h.configuration.Members {
		if c.alive(cell.ServerID(m.Server)) {
			alive++
		}
	}
	return &cell.Error{Kind: kind, Cell: h.id, Hint: "physalia cell explain shows who answers",
		Detail: fmt.Sprintf("no majority answered in time; %d of %d members' servers seem alive", alive, len(h.configuration.Members))}
}
