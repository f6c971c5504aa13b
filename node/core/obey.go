package core

import (
	"fmt"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// outcome is what applying one transaction came to.
type outcome = machine.Outcome

// obey does what a node's replica decided in this turn, in the order that paxos.Effects gives. A quarantine on the way loses
// the rest of the turn, which equals a crash of the node before the turn: nothing that was decided in it was stored or
// sent, and what earlier turns sent or hold back rests on their own batches.
func (c *Core) obey(h *hosted) {
	if h.hot != nil {
		c.guard(h, func() { c.decided(h) })
	}
}

// decided is obey under guard.
func (c *Core) decided(h *hosted) {
	e := h.hot.replica.Effects()
	if e.Install != nil && !c.install(h, e.Install) {
		return
	}
	if c.deliver(h, e.Deliver); h.hot == nil {
		return // quarantined: nothing of this turn is stored or sent for it, as if it had crashed before
	}
	if e.Persist.State && !c.applyWaiting(h) {
		return // likewise, and before the records that count on the state are in the batch
	}
	c.carryOut(h, &e)
	c.scratch.Return(&e)
}

// carryOut stores, sends and answers, in this order, so that a panic on the way has promised nothing.
func (c *Core) carryOut(h *hosted, e *paxos.Effects) {
	c.follow(h)
	c.persist(h, &e.Persist)
	if h.hot.batch = c.handed; c.batch != nil {
		h.hot.batch++
	}
	for i := range e.SendNow {
		c.emit(h, &e.SendNow[i], noEpoch)
	}
	for i := range e.SendDurable {
		c.hold(heldItem{node: h, message: e.SendDurable[i], support: c.stamp(h, &e.SendDurable[i]), jury: h.hot.replica.Configuration().Number})
	}
	c.settle(h, e)
	if e.Released {
		c.retire(h)
	}
}

// settle answers readers and those whose proposals came to nothing, and decides whether Tick has to look after the node.
// It comes after the deliveries: whoever they answered no longer waits, and a read is answered from a state that holds
// everything its confirmation covers. Writes may be answered before the own vote is durable, since a majority's is.
func (c *Core) settle(h *hosted, e *paxos.Effects) {
	s := h.hot
	for _, token := range e.ReadsReady {
		if w := s.waiters.takeRead(token); w != nil {
			c.waiters--
			c.countRead(false)
			c.answerRead(h, w.request)
		}
	}
	for _, token := range e.ReadsFailed {
		if w := s.waiters.takeRead(token); w != nil {
			c.fail(w, c.redirect("", h, c.whoLeads(h, 0)))
		}
	}
	c.readLocally(h)
	c.dropProposals(h, e.Dropped)
	if e.Lost {
		c.loseProposals(h)
		c.lost(h)
	}
	c.pace(h, len(e.Deliver) > 0 || e.Install != nil, len(e.ReadsReady) > 0)
	c.setLed(h, s.replica.Role() == paxos.Proposer)
	if leader := s.replica.Leader(); leader != h.leader {
		c.follows(h, leader)
	}
	if s.replica.Unfinished() || !s.waiters.empty() {
		c.activate(h)
	}
}

// install replaces a node's state by a taught snapshot. Transactions that were under way here are looked up in it, since
// their slots are never delivered one by one. It reports false when the node had to be quarantined: the replica believes
// to have the state already, so there is no going on without it.
func (c *Core) install(h *hosted, snapshot *paxos.Snapshot) bool {
	fresh, err := machine.Restore(snapshot.State)
	if err == nil && fresh.Hash() != snapshot.Hash {
		err = fmt.Errorf("state hash is %x, the snapshot says %x", fresh.Hash(), snapshot.Hash)
	}
	if err != nil {
		c.quarantineError(h, fmt.Sprintf("snapshot at slot %d cannot be installed: ", snapshot.Applied), err)
		return false
	}
	fresh.Use(&c.applying)
	h.hot.state, h.hot.lesson = lagging{machine: fresh}, nil // what waited is part of it
	h.hot.proof.restart(snapshot.Applied, snapshot.Hash)
	if h.hot.led {
		c.countLeases(h)
	}
	s := &h.hot.waiters
	for _, w := range s.inOrder(func(w *waiter) bool { return w.request.Kind == RequestTxn }) {
		o, ok := fresh.Recall(w.request.Request)
		if !ok {
			continue
		}
		delete(s.txns, w.key())
		if o.Err != nil && o.Err.Kind == cell.Expired {
			// It was under way here: perhaps applied, then forgotten. Expired would say "not by this attempt" (rule 14).
			c.fail(w, &cell.Error{Kind: cell.UnknownResult, Cell: h.id, Hint: "read back what it would have written",
				Detail: "the cell went on without this node for so long that it forgot the outcome"})
			continue
		}
		c.answerAll(h, w, &o)
	}
	if snapshot.Sealed {
		c.sealed(h)
	}
	return true
}

// deliver takes the slots that were chosen, and applies them unless they may wait (lag.go).
func (c *Core) deliver(h *hosted, delivered []paxos.Delivery) {
	c.slots += len(delivered)
	if len(delivered) > 0 {
		h.hot.learnt = c.now
	}
	for i := range delivered {
		c.commands += len(delivered[i].Entry.Commands)
	}
	s := &h.hot.state
	if s.waiting = append(s.waiting, delivered...); len(s.waiting) > 0 && !c.mayLag(h, delivered) {
		c.applyWaiting(h)
	}
}

// apply applies one chosen slot. A command that this version does not fully understand, or that panics, takes the node
// out of service; it is never skipped (rule 9).
func (c *Core) apply(h *hosted, d *paxos.Delivery) {
	if c.cfg.Events.Applied != nil {
		c.cfg.Events.Applied(h.id, h.incarnation, d)
	}
	switch d.Entry.Kind {
	case paxos.NoOp:
	case paxos.Reform:
		c.reformed(h, d)
	case paxos.Seal:
		c.sealed(h)
	case paxos.Commands:
		for _, command := range d.Entry.Commands {
			o, err := h.hot.state.machine.Apply(command)
			if err != nil && plantedSkipUnknown {
				continue
			}
			if err != nil {
				c.quarantineError(h, fmt.Sprintf("slot %d: ", d.Slot), err)
				return
			}
			c.leaseApplied(h, o)
			if w := h.hot.waiters.removeTxn(requestKey{o.Request.Client, o.Request.Sequence}); w != nil {
				c.answerAll(h, w, o)
			}
		}
	default:
		c.quarantine(h, Unknown, fmt.Sprintf("slot %d: entry kind %d is not known to this version", d.Slot, d.Entry.Kind))
		return
	}
	c.prove(h, d.Slot)
}

// sealed notes that the incarnation is over: every waiter hears so, and the row keeps it. "Deleted" says "not applied" and
// is true: everything that was chosen before the seal has been delivered here, and behind it nothing ever is (P7).
func (c *Core) sealed(h *hosted) {
	if h.sealed {
		return
	}
	h.sealed = true
	s := &h.hot.waiters
	for _, w := range s.seals {
		c.reply(w.request.Origin, nil, nil)
		c.waiters--
	}
	s.seals = nil
	c.failAll(s, &cell.Error{Kind: cell.Deleted, Cell: h.id, Detail: fmt.Sprintf("incarnation %d is sealed", h.incarnation)})
	c.putRow(h)
	c.routeChanged(h, false)
}

// persist adds a node's writes to the batch of this turn. The promise is folded into the ring records; only a promise
// without a record rewrites the row.
//
// The highest promise is never lost on disk, although records are overwritten and rows are written with an older one:
// every record carries the highest promise of its time, so the record that overwrites the carrier of a promise carries at
// least that promise, and h.promised only rises. The snapshot stands in the batch that lets the ring overwrite (rule 6);
// an installed one stands there before any later record, which is why a restart may ignore the records below it.
func (c *Core) persist(h *hosted, p *paxos.Persist) {
	replica, shelving := h.hot.replica, h.hot.shelving
	if p.State { // first: what leaves the journal, or is overwritten, is covered then, also if a panic ends the turn here
		c.value = c.stored(c.value[:0], c.snapshot(h))
		c.key = handleKey(c.key[:0], keyState, h.handle)
		c.write().Set(c.key, c.value)
	}
	if h.journaled != 0 && (shelving || p.State && c.isSuperseded(h, p)) {
		c.leaveJournal(h)
	}
	for i := range p.Records {
		c.putRecord(h, &peer.RingRecord{Record: p.Records[i], Promised: replica.Promised(), Applied: p.Applied})
	}
	if len(p.Records) == 0 && (p.Promised != nil || shelving && !plantedLoosePromise && h.promised != replica.Promised()) {
		h.promised = replica.Promised()
		c.putRow(h)
	}
	h.hot.shelving = false
}

// stored appends a snapshot as it is stored.
func (c *Core) stored(b []byte, s *paxos.Snapshot) []byte {
	if c.cfg.Unpacked {
		return peer.AppendSnapshot(b, s)
	}
	return peer.AppendStoredSnapshot(b, s)
}
