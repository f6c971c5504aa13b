package lifecycle

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// hintsMax is how many times in a row a member's hint about the proposer is followed at once.
const hintsMax = 3

// Delete takes a request to delete cells. It is answered when every seal is chosen, or after its Wait with what is
// pending. Only the named cells are touched, and of those only the named incarnation, or the current one.
func (m *Manager) Delete(now time.Duration, id RequestID, req wire.DeleteCells) {
	m.now = now
	r := m.begin(id, "lifecycle.delete", len(req.Drops), req.Wait)
	if r == nil {
		return
	}
	for i, d := range req.Drops {
		r.cells[i] = d.Cell
		m.deleteOne(waiter{r, i, toDelete}, d)
	}
	m.finish(r)
}

// deleteOne resolves one element at once, or starts the deletion and lets it wait for the seal.
func (m *Manager) deleteOne(w waiter, d wire.Drop) {
	if err := d.Cell.Check(); err != nil {
		w.resolve(asError(err))
		return
	}
	m.takeClaimed(d)
	in := m.names[d.Cell]
	last := cell.Incarnation(0)
	if in != nil {
		last = in.Incarnation
	}
	if d.Incarnation == 0 && m.cancel(d.Cell) {
		if in == nil {
			w.resolve(nil) // it was asked for, and never planned
			return
		}
	}
	switch {
	case in == nil || d.Incarnation > last:
		w.resolve(&cell.Error{Op: w.req.op, Kind: cell.NotFound, Cell: d.Cell,
			Detail: fmt.Sprintf("incarnation %d does not exist, the last one is %d", d.Incarnation, last)})
	case d.Incarnation != 0 && d.Incarnation < last, in.is(Wiping, Deleted):
		w.resolve(nil) // its end is proven
	case in.State == Sealing:
		m.wait(in, w)
	// What is being deleted already was answered above, so a pause refuses only what would begin.
	case m.pauses[DeleteCells] != nil:
		err := m.refusePaused(DeleteCells)
		err.Op, err.Cell = w.req.op, d.Cell
		w.resolve(err)
	default:
		in.Plan++
		m.become(in, Sealing)
		m.wait(in, w)
		m.settle(in, toCreate, &cell.Error{Op: "lifecycle.create", Kind: cell.Deleted, Cell: in.Cell,
			Detail: fmt.Sprintf("incarnation %d was asked to be deleted meanwhile", in.Incarnation)})
		m.advance(in)
	}
}

// seal asks for the seals that are due, within the bounds.
func (m *Manager) seal() {
	for len(m.seals) > 0 && m.sealing < m.config.Seals && m.pauses[DeleteCells] == nil {
		in := m.seals[0]
		m.seals[0] = nil
		m.seals = m.seals[1:]
		if in.State != Sealing {
			in.begin().sealing = false
			m.pursue(in)
			continue
		}
		s, busy := m.sealServer(in)
		if s == nil {
			m.parkSeal(in, busy, nil)
			continue
		}
		w := in.work
		m.call(&call{server: s, seal: in}, wire.MethodSeal, &wire.SealCell{Cell: in.Cell, Incarnation: in.Incarnation,
			Timeout: uint32(m.config.SealTimeout / time.Millisecond), Attempt: w.attempt}, m.config.SealTimeout+time.Second)
		w.attempt++
	}
}

// sealServer picks whom to ask: the member that another one named, else the owner of ballot 1, else the next in turn.
// Only members that confirmed this very jury are asked: a server that hosts the name with another jury would seal a cell
// that nobody asked to delete. busy tells that there is somebody, but with too much to do already.
func (m *Manager) sealServer(in *incarnation) (s *server, busy bool) {
	w, n := in.work, len(in.Members)
	first := (w.asked + 1) % n
	for i, mem := range in.Members {
		if w.asked < 0 && mem.Node() == in.Owner || w.hint == mem.Server() {
			first = i
		}
	}
	w.hint = ""
	for k := range n {
		i := (first + k) % n
		s := m.servers[in.Members[i].Server()]
		switch {
		case s == nil || !s.up || !in.Founded.has(i) || in.Absent.has(i):
		case s.seals >= m.config.SealsPerServer:
			busy = true
		default:
			w.asked = i
			return s, false
		}
	}
	return nil, busy
}

// parkSeal tries again later; sooner when it was not the cell's fault.
func (m *Manager) parkSeal(in *incarnation, busy bool, err *cell.Error) {
	if !busy {
		in.work.parked++
	}
	m.after(m.backoff(max(in.work.parked, 1), err), func() { m.seals = append(m.seals, in) })
}

// sealDone takes a member's answer. Deleted is as good as success: the member had confirmed that it hosts this jury's
// node, and such a server reports Deleted only once its node has applied the seal, or was dropped after that.
func (m *Manager) sealDone(c *call, err *cell.Error) {
	in, w := c.seal, c.seal.work
	if in.State != Sealing {
		w.sealing = false
		m.pursue(in)
		return
	}
	switch {
	case err == nil || err.Kind == cell.Deleted || plantedTrustSilence && err.Kind == cell.UnknownResult:
		w.sealing = false
		m.end(in, BySeal)
		m.settle(in, toDelete, nil)
		m.advance(in)
	case err.Kind == cell.NotProposer && err.Leader != "" && err.Leader != c.server.id && w.hints < hintsMax:
		w.hint = err.Leader
		w.hints++
		m.seals = append(m.seals, in)
	default:
		w.hints = 0
		w.note(c.server.id, err)
		m.parkSeal(in, false, err)
	}
}

// end records the proof that nothing can be chosen in the incarnation any more. Members known to host another jury have
// nothing to be dropped.
func (m *Manager) end(in *incarnation, how Ending) {
	m.become(in, Wiping)
	in.Ending = how
	in.Dropped = in.begin().foreign
	m.route(in)
}

// becomeVoid ends an incarnation in which no majority can come together any more: too many of its servers carry a
// tombstone for it. If it was wanted, the next incarnation follows.
func (m *Manager) becomeVoid(in *incarnation, retry bool) {
	m.end(in, ByVoid)
	m.settle(in, toDelete, nil)
	if retry {
		in.Retry = true
		m.wishAgain(in)
	}
}

// becomeDeleted follows when every member has confirmed that its node is gone. The newest incarnation of a name stays
// as a tombstone; of an older one nothing is left.
func (m *Manager) becomeDeleted(in *incarnation) {
	m.planner.forget(&in.Record)
	m.forgetRecovery(in)
	newest := m.names[in.Cell]
	if newest != in {
		m.unlink(newest, in)
		m.free(in.Cell)
		return
	}
	m.become(in, Deleted)
	in.since = m.observer.round
	in.reseat(nil)
	in.Founding, in.Founded, in.Void, in.Dropped, in.Absent, in.Owner = nil, 0, 0, 0, 0, 0
	in.seen, in.unended, in.hosting = 0, 0, 0
	m.free(in.Cell)
	m.pursue(in)
}

// unlink takes a finished incarnation out of the chain of its name.
func (m *Manager) unlink(newest, in *incarnation) {
	m.counts[in.State]--
	m.forget(in)
	newest.since = m.observer.round
	for p := newest; p != nil; p = p.older {
		if p.older == in {
			p.older = in.older
			return
		}
	}
	must.That(false, "an older incarnation hangs on the newest: %v", in)
}
