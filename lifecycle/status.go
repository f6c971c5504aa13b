package lifecycle

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// unsettled is one incarnation that is not as it should be. Numbers rise, so that the list is in order of age and a page can go on
// where the last one ended.
type unsettled struct {
	number uint64
	since  time.Duration // when this manager first saw it so
	in     *incarnation  // nil once it has settled
}

// openList is what has not converged, oldest first. Its memory is bounded by twice what is in it.
type openList struct {
	list []*unsettled
	of   map[*incarnation]*unsettled
	last uint64 // number that was given out last
}

// isSettled reports whether nothing is left to be done about an incarnation.
func (in *incarnation) isSettled() bool {
	if in.forgotten || in.State == Deleted {
		return true
	}
	return in.State == Live && in.Founded == in.all() && in.Moving().isZero() && in.recovery == nil
}

// note keeps the list in step with one incarnation.
func (o *openList) note(in *incarnation, now time.Duration) {
	u := o.of[in]
	// What settles leaves a gap, which a binary search does not mind; gaps are closed when they are more than half.
	switch settled := in.isSettled(); {
	case settled && u != nil:
		u.in = nil
		delete(o.of, in)
		if len(o.list) > 64 && len(o.list) > 2*len(o.of) {
			o.list = slices.DeleteFunc(o.list, func(u *unsettled) bool { return u.in == nil })
		}
	case !settled && u == nil:
		o.last++
		u = &unsettled{number: o.last, since: now, in: in}
		o.of[in] = u
		o.list = append(o.list, u)
	}
}

// after visits what is listed behind a number, oldest first, until visit says no.
func (o *openList) after(number uint64, visit func(*unsettled) bool) {
	i, found := slices.BinarySearchFunc(o.list, number, func(u *unsettled, n uint64) int { return cmp.Compare(u.number, n) })
	if found {
		i++
	}
	for _, u := range o.list[i:] {
		if u.in != nil && !visit(u) {
			return
		}
	}
}

// Status answers with what the manager is held back by, and a page of what has not converged, oldest first. It changes nothing.
func (m *Manager) Status(now time.Duration, id RequestID, req wire.StatusRequest) {
	m.now = now
	if req.Limit > wire.StatusPageMax {
		m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: &cell.Error{Op: "control.status", Kind: cell.Invalid,
			Detail: fmt.Sprintf("limit is %d, allowed are 0 to %d", req.Limit, wire.StatusPageMax)}})
		return
	}
	// Counts are kept as things change; only the servers' buckets and the page itself are looked for, so a status costs the same whatever
	// the number of cells.
	s := &wire.ControlStatus{Uptime: milliseconds(now - m.guard.born), Limits: m.limitStates(), Counts: m.statusCounts(), Drains: m.drainStates(),
		Open: uint64(len(m.open.of) + len(m.wishes) + len(m.petitions))}
	if m.mode.rebuilding {
		s.Pauses = append(s.Pauses, wire.PauseState{Action: "everything", By: "rebuild", Reason: m.mode.why})
	}
	for a, o := range m.pauses {
		if o != nil {
			s.Pauses = append(s.Pauses, wire.PauseState{Action: Action(a).String(), By: o.By, Reason: o.Reason, At: o.At})
		}
	}
	// The first page begins with what is not stored yet, for at most half of it: what is stuck must not hide behind what waits its turn.
	if req.After == 0 {
		s.Waiting = m.unbegun(int(req.Limit) / 2)
	}
	m.open.after(req.After, func(u *unsettled) bool {
		if len(s.Waiting) >= int(req.Limit) {
			s.More = true
			return false
		}
		s.Waiting = append(s.Waiting, m.step(u))
		return true
	})
	m.out.Replies = append(m.out.Replies, Reply{Request: id, Status: s})
}

// milliseconds of a duration that is not negative.
func milliseconds(d time.Duration) uint64 { return uint64(max(d, 0) / time.Millisecond) }

// step describes one unfinished workflow.
func (m *Manager) step(u *unsettled) wire.WaitingStep {
	in := u.in
	w := wire.WaitingStep{Number: u.number, Workflow: "create", Cell: in.Cell, Incarnation: in.Incarnation, State: in.State.String(),
		Since: milliseconds(m.now - u.since), Why: m.waitingFor(in)}
	// The workflow is told by the state: what ends is being deleted, whatever was under way before.
	switch {
	case in.is(Sealing, Wiping, Deleted):
		w.Workflow = "delete"
	case !in.Moving().isZero():
		w.Workflow = "replace"
	}
	return w
}

// unbegun describes what was asked for and waits for its turn: nothing is stored of it.
func (m *Manager) unbegun(limit int) (list []wire.WaitingStep) {
	for _, q := range m.petitions {
		if len(list) >= limit {
			return list
		}
		if !q.w.req.done {
			list = append(list, wire.WaitingStep{Workflow: "replace", Cell: q.p.Cell, State: "asked for", Since: milliseconds(m.now - q.since),
				Why: fmt.Sprintf("%s shall be replaced: %s", q.p.Remove, q.why.Detail)})
		}
	}
	// In the order in which they will be planned: lines first, since what is in one has waited longer.
	wishes := func(of []*wish) {
		for _, w := range of {
			if len(list) < limit && w != nil && !w.gone {
				list = append(list, wire.WaitingStep{Workflow: "create", Cell: w.cell, State: "asked for", Why: m.unplanned(w)})
			}
		}
	}
	for _, l := range m.lines {
		wishes(l.wishes[:min(len(l.wishes), limit)])
	}
	wishes(m.blocked[:min(len(m.blocked), limit)])
	wishes(m.backlog[:min(len(m.backlog), limit)])
	return list
}

// A replacement has no states that an operator could use, so it is counted by cause.
//
// statusCounts counts workflows by state.
func (m *Manager) statusCounts() (list []wire.StatusCount) {
	add := func(workflow, state string, n int) {
		list = append(list, wire.StatusCount{Workflow: workflow, State: state, Count: uint64(n)})
	}
	add("create", "not planned", len(m.wishes))
	for s := Creating; s <= Deleted; s++ {
		workflow := "create"
		if s > Live {
			workflow = "delete"
		}
		add(workflow, s.String(), m.counts[s])
	}
	add("replace", "not begun", len(m.petitions))
	for c := ByOperator; c <= causeMax; c++ {
		add("replace", c.String(), m.causes[c])
	}
	return list
}

// tightest is how many servers' buckets a status shows.
const tightest = 32

// limitStates shows the buckets of the colony, of the bricks, and the servers' that are spent most.
func (m *Manager) limitStates() (list []wire.LimitState) {
	show := func(c class, s scoped) wire.LimitState {
		m.guard.settle(c, &s)
		_, left := s.bucket.room(m.now, s.limit, 1)
		return wire.LimitState{Work: c.String(), Scope: s.scope, Name: s.name, Milli: uint64(s.limit.PerSecond * 1000), Burst: uint64(s.limit.Burst), Left: uint64(max(left, 0))}
	}
	// Maps have no order; a status that is asked for twice should look alike.
	bricks := make([]string, 0, len(m.guard.bricks))
	for name := range m.guard.bricks {
		bricks = append(bricks, name)
	}
	slices.Sort(bricks)
	var servers []wire.LimitState
	for c := range classes {
		row := m.guard.limits.of(c)
		list = append(list, show(c, scoped{&m.guard.colony[c], row.Colony, "colony", ""}))
		for _, name := range bricks[:min(len(bricks), wire.StatusLimitsMax/int(classes)-tightest)] {
			list = append(list, show(c, scoped{&m.guard.bricks[name][c], row.Brick, "brick", name}))
		}
		for _, s := range m.servers {
			if s.limits[c].full > m.now {
				servers = append(servers, show(c, scoped{&s.limits[c], row.Server, "server", string(s.id)}))
			}
		}
	}
	// Shares are compared without a division: left/burst < left/burst.
	slices.SortFunc(servers, func(a, b wire.LimitState) int {
		return cmp.Or(cmp.Compare(a.Left*b.Burst, b.Left*a.Burst), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Work, b.Work))
	})
	return append(list, servers[:min(len(servers), tightest)]...)
}

// drainStates shows how far the servers that are being emptied are, and whose identities are retired.
func (m *Manager) drainStates() (list []wire.DrainState) {
	for _, d := range m.drains[:min(len(m.drains), wire.StatusDrainsMax)] {
		x := wire.DrainState{Server: d.server.id, Duty: d.duty.String(), By: d.order.By, Reason: d.order.Reason, At: d.order.At,
			Nodes: uint64(m.planner.book.Nodes(d.server.id)), Moving: uint64(d.server.replacing)}
		// One reason is enough for a line, and what an operator ordered explains the rest.
		switch {
		case m.pauses[MoveCells] != nil:
			x.Waiting = m.paused(MoveCells).Detail
		case d.problem != nil && d.problem.Cell == "":
			x.Waiting = d.problem.Detail
		case d.problem != nil:
			x.Waiting = fmt.Sprintf("cell %s cannot be moved: %s", d.problem.Cell, d.problem.Detail)
		case d.waits != nil:
			x.Waiting = d.waits.Detail
		}
		list = append(list, x)
	}
	// Retired identities come last, so that whoever decommissioned a server finds it after the drain has ended.
	gone := make([]cell.ServerID, 0, len(m.retired))
	for id := range m.retired {
		gone = append(gone, id)
	}
	slices.Sort(gone)
	for _, id := range gone[:min(len(gone), wire.StatusDrainsMax-len(list))] {
		list = append(list, wire.DrainState{Server: id, Duty: retiredDuty.String()})
	}
	return list
}
