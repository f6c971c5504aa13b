package core

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// Lossy recovery (rule 17), as a server sees it: it tells what its node of a lost cell holds, and it creates a node of the
// next incarnation from a state. What is the best state is not decided here.

// export tells what a node holds. It changes nothing: whatever the node accepts later cannot be chosen, if the operator is
// right about who is dead.
func (c *Core) export(h *hosted, r *Request) {
	replica := h.hot.replica
	if replica.IsUntaught() {
		c.reply(r.Origin, nil, &cell.Error{Op: wire.MethodExport, Kind: cell.UnknownHere, Cell: h.id, Detail: "this node was taught no state yet"})
		return
	}
	x := &wire.NodeExport{Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node), Configuration: uint64(replica.Configuration().Number),
		Promised: replica.Promised().String(), Applied: uint64(replica.Applied()), Known: uint64(replica.Known()),
		Revision: c.current(h).Revision(), Sealed: replica.IsSealed()}
	x.Jury, x.Others = parties(replica)
	state := c.current(h).Snapshot(nil)
	x.StateHash = machine.HashOf(state)
	if r.Content {
		x.State = state
	}
	size := 0
	for _, record := range replica.Accepted() {
		entry := peer.AppendEntry(nil, &record.Entry)
		if size += len(entry); size > wire.ExportBytesMax || len(x.Accepted) == wire.ExportRecordsMax {
			x.Cut = true
			break
		}
		x.Sealed = x.Sealed || record.Entry.Kind == paxos.Seal
		a := wire.Accepted{Slot: uint64(record.Slot), Round: uint64(record.Ballot.Round), Node: uint64(record.Ballot.Node)}
		if r.Content {
			a.Entry = entry
		}
		x.Accepted = append(x.Accepted, a)
	}
	c.reply(r.Origin, x, nil)
}

// parties lists the servers of the jury, and who else may hold something of the cell.
func parties(r *paxos.Replica) (jury, others []cell.ServerID) {
	conf, pending := r.Configuration(), r.Pending()
	for _, m := range conf.Members {
		jury = append(jury, cell.ServerID(m.Server))
	}
	other := func(m paxos.Member) {
		if id := cell.ServerID(m.Server); id != "" && !slices.Contains(jury, id) && !slices.Contains(others, id) {
			others = append(others, id)
		}
	}
	for _, l := range conf.Learners {
		other(l.Member)
	}
	other(conf.Left)
	if pending != nil {
		for _, m := range pending.Members {
			other(m)
		}
	}
	return jury, others
}

// RecoverNodes creates this server's nodes of recovered incarnations and answers once all of them are durable. It is
// CreateNodes with a state, and with the one exception to rule 16: a node of an older incarnation is wiped although that
// was never sealed, because the operator has declared it lost.
func (c *Core) RecoverNodes(to Origin, m *wire.RecoverNodes) {
	outcomes := &wire.Outcomes{Outcomes: make([]wire.Outcome, len(m.Recoveries))}
	for i := range m.Recoveries {
		outcomes.Outcomes[i].Err = c.recoverNode(&m.Recoveries[i])
	}
	c.hold(heldItem{reply: &Reply{To: to, Result: outcomes}})
}

// recoverNode makes one node from a state, or says why not. Everything that can be refused is refused before anything is
// touched. The end of the old node, its tombstone, and the row and state of the new one are in one batch: a crash leaves the
// one or the other. The new node promised ballot 1 by being created, like any founding member; it starts through the same
// restore as after a restart, so it is a follower, and the first request elects.
func (c *Core) recoverNode(r *wire.Recovery) *cell.Error {
	f := &r.Founding
	refuse := func(kind cell.Kind, format string, args ...any) *cell.Error {
		return &cell.Error{Op: wire.MethodRecoverNodes, Kind: kind, Cell: f.Cell, Detail: fmt.Sprintf(format, args...)}
	}
	if !c.ready {
		return refuse(cell.Unavailable, "the server is starting")
	}
	configuration, self, err := founding(f, c.cfg.Server)
	if err != nil {
		return refuse(cell.Invalid, "%v", err)
	}
	if dead := c.tombstones[f.Cell]; f.Incarnation <= dead {
		return refuse(cell.Deleted, "incarnation %d was deleted here, up to %d", f.Incarnation, dead)
	}
	old, left, same := c.find(f.Cell), c.pointers.of[f.Cell], foundingHash(configuration)
	switch {
	case old != nil && old.incarnation == f.Incarnation && old.sealed:
		return refuse(cell.Deleted, "incarnation %d is sealed", f.Incarnation)
	case old != nil && old.incarnation == f.Incarnation && old.founding == same:
		return nil // asked again; the reply waits for the newest batch, so it is durable
	case left != nil && left.incarnation == f.Incarnation && left.founding == same:
		return nil // its node was here, and left: it must not come back without what it promised
	case old != nil && old.incarnation >= f.Incarnation:
		return refuse(cell.Stale, "incarnation %d of it is hosted here with jury %s", old.incarnation, old.configuration.Describe())
	case left != nil && left.incarnation >= f.Incarnation:
		return refuse(cell.Stale, "a node of incarnation %d of it was here and left", left.incarnation)
	case old == nil && c.nodes() >= c.cfg.Capacity:
		return refuse(cell.NoRoom, "the server hosts %d nodes, its capacity", c.nodes())
	}
	snapshot, err := compose(r, configuration)
	if err != nil {
		return refuse(cell.Quarantined, "%v", err)
	}
	if old != nil {
		c.supersede(old, f.Incarnation)
	}
	c.dropPointer(f.Cell)
	h := &hosted{id: f.Cell, incarnation: f.Incarnation, node: self, configuration: configuration, founding: same,
		promised: paxos.FoundingBallot(configuration), creating: true}
	c.settleIn(h, f.Members)
	c.value = c.stored(c.value[:0], snapshot)
	c.key = handleKey(c.key[:0], keyState, h.handle)
	c.write().Set(c.key, c.value)
	return nil
}

// compose makes the state that a recovered cell begins with: the given one, with the entries that are kept applied to it.
// Every member computes the same. What this version does not understand is refused, as rule 9 demands of a node.
func compose(r *wire.Recovery, founding *paxos.Configuration) (s *paxos.Snapshot, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("state at slot %d: %v", r.Applied, p)
		}
	}()
	state, err := machine.Restore(r.State)
	if err != nil {
		return nil, fmt.Errorf("state at slot %d: %w", r.Applied, err)
	}
	if hash := machine.HashOf(r.State); hash != r.StateHash {
		return nil, fmt.Errorf("hash of the state at slot %d is %x, the manager says %x", r.Applied, hash, r.StateHash)
	}
	applied := r.Applied
	for i := range r.Kept {
		applied++
		if err := replay(state, &r.Kept[i], applied); err != nil {
			return nil, fmt.Errorf("slot %d: %w", applied, err)
		}
	}
	s = &paxos.Snapshot{Applied: paxos.Slot(applied), Configuration: *founding, State: state.Snapshot(nil)}
	s.Hash = machine.HashOf(s.State)
	return s, nil
}

// replay applies one entry that is kept. A change of the jury has no meaning in the next incarnation, which has a jury of
// its own; a seal would have kept the cell from being recovered.
func replay(state *machine.Machine, a *wire.Accepted, slot uint64) error {
	if a.Slot != slot {
		return fmt.Errorf("the entry kept for it is of slot %d", a.Slot)
	}
	var entry paxos.Entry
	in := wire.NewReader(a.Entry)
	if peer.DecodeEntry(&in, &entry); in.Done() != nil {
		return in.Done()
	}
	if entry.Kind == paxos.Seal {
		return fmt.Errorf("a sealed cell is not recovered")
	}
	for _, command := range entry.Commands {
		if _, err := state.Apply(command); err != nil {
			return err
		}
	}
	return nil
}

// supersede wipes a node whose incarnation the operator has declared lost, and leaves a tombstone for it. Who waits hears
// that the incarnation is over; a transaction may have been applied before the loss and may be part of the recovered state or
// not, which nobody can tell any more.
func (c *Core) supersede(h *hosted, by cell.Incarnation) {
	detail := fmt.Sprintf("incarnation %d lost its majority and was recovered as incarnation %d", h.incarnation, by)
	if h.hot != nil {
		s := &h.hot.waiters
		for _, w := range s.inOrder(func(w *waiter) bool { return w.request.Kind == RequestTxn }) {
			delete(s.txns, w.key())
			c.fail(w, &cell.Error{Op: w.request.op(), Kind: cell.UnknownResult, Cell: h.id, Detail: detail,
				Hint: "read back what it would have written; exactly once does not reach across incarnations"})
		}
	}
	h.sealed = true
	c.remove(h, &cell.Error{Op: "node", Kind: cell.Stale, Cell: h.id, Detail: detail, Hint: "look the cell up again"})
	c.bury(h.id, h.incarnation)
}

// bury leaves a tombstone, so that a late creation of an incarnation finds it dead. It fences more than a pointer does.
func (c *Core) bury(id cell.ID, incarnation cell.Incarnation) {
	if p := c.pointers.of[id]; p != nil && p.incarnation <= incarnation {
		c.dropPointer(id)
	}
	if c.tombstones[id] >= incarnation {
		return
	}
	c.dig(id, incarnation)
	c.value = peer.AppendTombstone(c.value[:0], &peer.Tombstone{Cell: id, Incarnation: incarnation})
	c.key = tombstoneKey(c.key[:0], id)
	c.write().Set(c.key, c.value)
}
