package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// recovering is a cell whose survivors are asked for their content, so that the plan for it can be carried out.
type recovering struct {
	plan    wire.RecoveryCell
	waiters []waiter
}

// Recover takes a request to carry out a plan. The servers named dead are retired first, durably. It is answered when every
// recovered cell is hosted durably by a majority of its new members, or after its Wait with what is pending. Repeating it is
// harmless: what was done is not done again.
func (m *Manager) Recover(now time.Duration, id RequestID, req wire.RecoverCells) {
	m.now = now
	const op = "recovery.apply"
	dead, err := m.checkDead(op, req.Dead)
	if err != nil {
		m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: err})
		return
	}
	r := m.begin(id, op, len(req.Cells), req.Wait)
	if r == nil {
		return
	}
	m.retire(req.Dead)
	for i := range req.Cells {
		r.cells[i] = req.Cells[i].Cell
		m.recoverOne(waiter{r, i, toCreate}, req.Cells[i], dead)
	}
	m.finish(r)
}

// recoverOne resolves one element at once, or starts the recovery and lets it wait for four durable nodes. What a manager that
// died in between had begun is found in one of two shapes: nothing durable for this cell, then it is begun again; or the next
// incarnation with the planned jury, then it is waited for.
func (m *Manager) recoverOne(w waiter, c wire.RecoveryCell, dead map[cell.ServerID]bool) {
	in := m.names[c.Cell]
	if in != nil && in.Incarnation == c.Incarnation+1 && isJury(in, c.Members) { // done before
		if in.State == Creating {
			m.wait(in, w)
		} else {
			w.resolve(nil)
		}
		return
	}
	if why := m.unfit(in); why != "" {
		w.resolve(m.unrecovered(&c, cell.Refused, "%s", why))
		return
	}
	if in.Incarnation != c.Incarnation || in.Plan != c.Plan {
		w.resolve(m.unrecovered(&c, cell.Stale, "the plan is for incarnation %d plan number %d, now it is %d and %d", c.Incarnation, c.Plan, in.Incarnation, in.Plan))
		return
	}
	if err := m.checkJury(in, &c, dead); err != nil {
		w.resolve(err)
		return
	}
	if under := m.recovering[c.Cell]; under != nil {
		under.waiters = append(under.waiters, w)
		return
	}
	m.recovering[c.Cell] = &recovering{plan: c, waiters: []waiter{w}}
	m.inquire(in, dead, true, func(y *survey, v verdict) { m.surveyed(y, &v) })
}

// unrecovered words why one cell of a plan was left alone.
func (m *Manager) unrecovered(c *wire.RecoveryCell, kind cell.Kind, format string, args ...any) *cell.Error {
	e := &cell.Error{Op: "recovery.apply", Kind: kind, Cell: c.Cell, Detail: fmt.Sprintf(format, args...)}
	if kind == cell.Stale {
		e.Hint = "make a new plan; nothing was changed for this cell"
	}
	return e
}

// isJury reports whether an incarnation has exactly these members.
func isJury(in *incarnation, members []wire.Founder) bool {
	return slices.EqualFunc(in.Members, members, func(a Member, b wire.Founder) bool { return a.Node() == b.Node && a.Server() == b.Server })
}

// checkJury refuses a planned jury that cannot be founded now. The executor chooses nothing: when a server that was planned
// with is gone, the cell is planned again.
func (m *Manager) checkJury(in *incarnation, c *wire.RecoveryCell, dead map[cell.ServerID]bool) *cell.Error {
	if c.Problem != "" {
		return m.unrecovered(c, cell.Refused, "the plan leaves it alone: %s", c.Problem)
	}
	rec := Record{Cell: c.Cell, Incarnation: c.Incarnation + 1, Plan: 1, State: Creating, Configuration: 1, Alpha: in.Alpha, Owner: c.Owner}
	for _, f := range c.Members {
		s := m.servers[f.Server]
		switch {
		case s == nil || !s.up || dead[f.Server]:
			return m.unrecovered(c, cell.Stale, "server %s is to host it and is not connected", f.Server)
		case s.reg.Brick != in.Brick.String() || s.reg.Color != in.Color.String():
			return m.unrecovered(c, cell.Invalid, "server %s is of brick %s color %s, the cell of %s %s", f.Server, s.reg.Brick, s.reg.Color, in.Brick, in.Color)
		case f.Node < 1 || f.Node > wire.MembersMax:
			return m.unrecovered(c, cell.Invalid, "node number is %d", f.Node)
		}
		rec.Members = append(rec.Members, NewMember(uint32(f.Node), f.Server))
	}
	if len(rec.Members) != len(in.Members) {
		return m.unrecovered(c, cell.Invalid, "%d members, the cell has %d", len(rec.Members), len(in.Members))
	}
	if err := rec.check(); err != nil {
		return m.unrecovered(c, cell.Invalid, "%v", err)
	}
	return nil
}

// surveyed takes what the survivors hold, and either founds the next incarnation or says why not. What they hold may be more
// than when the plan was made, never less.
func (m *Manager) surveyed(y *survey, v *verdict) {
	under := m.recovering[y.in.Cell]
	delete(m.recovering, y.in.Cell)
	c := &under.plan
	err := m.checkJury(y.in, c, y.dead)
	switch {
	case v.problem != "":
		err = m.unrecovered(c, cell.Refused, "%s", v.problem)
	case err == nil && v.slot < c.Slot:
		err = m.unrecovered(c, cell.Stale, "the survivors hold it through slot %d, the plan says %d", v.slot, c.Slot)
	}
	if err != nil {
		for _, w := range under.waiters {
			m.resolve(w, err)
		}
		return
	}
	m.goOn(y.in, c, v).waiters = under.waiters
}

// goOn ends an incarnation as lost and founds the next one with the recovered state. All of it is in one batch, before any
// server hears of it: the end of the old incarnation, the jury of the new one and its state (rule 4).
func (m *Manager) goOn(old *incarnation, c *wire.RecoveryCell, v *verdict) *work {
	rec := Record{Cell: old.Cell, Incarnation: old.Incarnation + 1, State: Creating, Plan: old.Plan + 1, Brick: old.Brick, Color: old.Color,
		Configuration: 1, Alpha: old.Alpha, Owner: c.Owner}
	for _, f := range c.Members {
		rec.Members = append(rec.Members, NewMember(uint32(f.Node), f.Server))
	}
	old.Plan++
	if u := m.users[old.Cell]; u != nil && u.incarnation == old.Incarnation { // it is the same volume
		u.incarnation, u.near, u.tries = rec.Incarnation, false, 0
		m.saveUsers(u)
		m.follow(u)
	}
	m.become(old, Wiping)
	old.Ending = ByLoss
	m.settle(old, toCreate, &cell.Error{Op: "lifecycle.create", Kind: cell.Stale, Cell: old.Cell,
		Detail: fmt.Sprintf("incarnation %d lost its majority and is recovered as %d", old.Incarnation, rec.Incarnation)})
	m.planner.forget(&old.Record)
	in := &incarnation{Record: rec, work: &work{asked: -1},
		recovery: &recovery{applied: v.source.Applied, hash: v.source.StateHash, state: v.source.State, kept: v.kept}}
	m.out.Persist = append(m.out.Persist, Write{recoveryKey(&rec), appendRecovery(nil, in.recovery)})
	m.save(in)
	err := m.insert(in)
	must.That(err == nil, "a jury that was checked fits the book: %v: %v", in, err)
	m.advance(old)
	return in.begin()
}

// tellRecoveries sends one batch of foundings with state. It is answered like a batch of plain foundings, and a server that has
// the node already says so, whichever of the two created it.
func (m *Manager) tellRecoveries(s *server, tasks []task) {
	p := &wire.RecoverNodes{Recoveries: make([]wire.Recovery, len(tasks))}
	for i, t := range tasks {
		r := t.in.recovery
		p.Recoveries[i] = wire.Recovery{Founding: m.founding(t.in), Applied: r.applied, StateHash: r.hash, State: r.state, Kept: r.kept}
	}
	m.call(&call{server: s, job: found, tasks: tasks}, wire.MethodRecoverNodes, p, m.config.CallTimeout)
}

// holdOlder keeps the nodes of lost incarnations from being dropped while their successor is founded.
func (in *incarnation) holdOlder() {
	for old := in.older; old != nil && in.State == Creating; old = old.older {
		old.held = old.Ending == ByLoss
	}
}

// releaseOlder lets them be dropped, now that the successor is durable at a majority.
func (m *Manager) releaseOlder(in *incarnation) {
	for old := in.older; old != nil; {
		next := old.older // the end of old may take it out of the chain
		if old.held {
			old.held = false
			m.advance(old)
		}
		old = next
	}
}

// isTold reports whether every member that may still come has said whether it hosts its node.
func (m *Manager) isTold(in *incarnation) bool {
	for i, mem := range in.Members {
		if !in.settled().has(i) && !m.retired[mem.Server()] {
			return false
		}
	}
	return true
}

// forgetRecovery removes a state that everybody has.
func (m *Manager) forgetRecovery(in *incarnation) {
	if in.recovery != nil {
		in.recovery = nil
		m.out.Persist = append(m.out.Persist, Write{Key: recoveryKey(&in.Record)})
	}
}

// retire takes identities out of service for good. Nodes that wait to be dropped there are as good as gone, and states need
// not be kept for them: the server is never spoken to again.
func (m *Manager) retire(list []cell.ServerID) {
	changed := false
	for _, id := range list {
		if !m.retired[id] {
			m.retired[id], changed = true, true
			m.out.Persist = append(m.out.Persist, Write{retiredKey(id), appendRetired(nil, id)})
		}
	}
	if !changed {
		return
	}
	var ending []*incarnation
	m.order.scan("", "", func(name cell.ID) bool {
		for in := m.names[name]; in != nil; in = in.older {
			if in.State == Wiping || in.recovery != nil {
				ending = append(ending, in)
			}
		}
		return true
	})
	for _, in := range ending {
		m.advance(in)
	}
}

// passRetired takes the nodes on retired servers for dropped.
func (m *Manager) passRetired(in *incarnation) {
	for i, mem := range in.Members {
		if m.retired[mem.Server()] && !in.Dropped.has(i) {
			in.Dropped.add(i)
			m.save(in)
		}
	}
}

// restoreRecovery takes a stored retirement, or a stored state. In the order of keys retirements come before all records, so
// the first look at a record knows who never returns; a state comes behind the record that it belongs to, and calls leave
// only after everything was read.
func (m *Manager) restoreRecovery(key, value []byte) error {
	if key[0] == keyRetired {
		id, err := decodeRetired(value)
		if err == nil {
			m.server(id)
			m.retired[id] = true
		}
		return err
	}
	r, err := decodeRecovery(value)
	if err != nil {
		return err
	}
	i := slices.Index(key, 0)
	if i < 0 {
		return damaged(fmt.Sprintf("key %q", key))
	}
	for in := m.names[cell.ID(key[1:i])]; in != nil; in = in.older {
		if string(recoveryKey(&in.Record)) == string(key) {
			in.recovery = r
			return nil
		}
	}
	return damaged(fmt.Sprintf("the state under %q belongs to no incarnation", key))
}
