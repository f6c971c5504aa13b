package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// wish is a cell that shall be created as soon as its name is free and its turn comes. It lives in memory: a request
// whose wish was lost with the process was not answered with success.
type wish struct {
	cell    cell.ID
	brick   string
	color   string
	blocked bool
	gone    bool // planned or given up
	waiters []waiter
}

// Create takes a request to create cells. It is answered when each of them is hosted durably by a majority of its
// members, or after its Wait with what is pending. It is idempotent by name.
func (m *Manager) Create(now time.Duration, id RequestID, req wire.CreateCells) {
	m.now = now
	r := m.begin(id, "lifecycle.create", len(req.Cells), req.Wait)
	if r == nil {
		return
	}
	for i, name := range req.Cells {
		r.cells[i] = name
		m.createOne(waiter{r, i, toCreate}, name, req.Brick, req.Color)
	}
	m.finish(r)
}

// createOne resolves one element at once, or lets it wait for a cell under way or for a wish.
func (m *Manager) createOne(w waiter, name cell.ID, brick, color string) {
	if err := name.Check(); err != nil {
		w.resolve(asError(err))
		return
	}
	in, wanted := m.names[name], m.wishes[name]
	switch {
	case wanted != nil:
		if other := wanted.narrow(brick, color); other != "" {
			w.resolve(exists(name, "it is asked for with "+other+" already"))
			return
		}
		wanted.waiters = append(wanted.waiters, w)
	case m.claimed(name) != "":
		w.resolve(exists(name, m.claimed(name)))
	case in == nil || in.is(Wiping, Deleted):
		// A cell that exists, or is on its way, is no new one: whoever repeats a request under a pause gets the answer to it.
		if err := m.refusePaused(CreateCells); err != nil {
			err.Op, err.Cell = w.req.op, name
			w.resolve(err)
			return
		}
		if len(m.wishes) >= m.config.BacklogMax {
			w.resolve(&cell.Error{Op: w.req.op, Kind: cell.Overloaded, Cell: name, RetryAfter: time.Second,
				Detail: fmt.Sprintf("%d cells wait to be planned", len(m.wishes)), Hint: "ask again later"})
			return
		}
		m.want(&wish{cell: name, brick: brick, color: color, waiters: []waiter{w}})
	case in.State == Sealing:
		w.resolve(exists(name, fmt.Sprintf("incarnation %d is being deleted: %s", in.Incarnation, m.waitingFor(in))))
	case brick != "" && brick != in.Brick.String() || color != "" && color != in.Color.String():
		w.resolve(exists(name, fmt.Sprintf("it lives in brick %s color %s", in.Brick, in.Color)))
	case in.State == Live:
		w.resolve(nil)
	default:
		m.wait(in, w)
	}
}

// exists says why a name cannot be had.
func exists(name cell.ID, detail string) *cell.Error {
	return &cell.Error{Op: "lifecycle.create", Kind: cell.Exists, Cell: name, Detail: detail}
}

// narrow adds what another request for the same name asks for, or tells what it contradicts.
func (w *wish) narrow(brick, color string) string {
	switch {
	case w.brick != "" && brick != "" && w.brick != brick:
		return "brick " + w.brick
	case w.color != "" && color != "" && w.color != color:
		return "color " + w.color
	}
	w.brick, w.color = w.brick+pick(w.brick == "", brick), w.color+pick(w.color == "", color)
	return ""
}

// pick returns s if it is to be taken.
func pick(take bool, s string) string {
	if take {
		return s
	}
	return ""
}

// want puts a wish in the backlog.
func (m *Manager) want(w *wish) {
	m.wishes[w.cell] = w
	m.backlog = append(m.backlog, w)
}

// wishAgain follows a creation that cannot finish with a wish for the next incarnation, and hands its waiters over.
func (m *Manager) wishAgain(in *incarnation) {
	w := &wish{cell: in.Cell, brick: in.Brick.String(), color: in.Color.String()}
	if in.work != nil {
		w.waiters, in.work.waiters = in.work.waiters, nil
	}
	m.want(w)
}

// cancel gives up the wish for a name; it reports whether there was one.
func (m *Manager) cancel(name cell.ID) bool {
	w := m.wishes[name]
	if w == nil {
		return false
	}
	m.giveUp(w, &cell.Error{Op: "lifecycle.create", Kind: cell.Deleted, Cell: name, Detail: "it was asked to be deleted meanwhile"})
	return true
}

// giveUp ends a wish without a cell; it is not tried again after a restart either.
func (m *Manager) giveUp(w *wish, err *cell.Error) {
	m.drop(w)
	for _, x := range w.waiters {
		m.resolve(x, err)
	}
	if in := m.names[w.cell]; in != nil && in.Retry {
		in.Retry = false
		m.save(in)
	}
}

// drop ends a wish; where it stands in a list, it is skipped from now on.
func (m *Manager) drop(w *wish) {
	w.gone = true
	delete(m.wishes, w.cell)
}

// block lets a wish wait until its name is free.
func (m *Manager) block(w *wish) {
	if len(m.blocked) > 2*len(m.wishes) {
		m.blocked = stillBlocked(m.blocked)
	}
	w.blocked = true
	m.blocked = append(m.blocked, w)
}

// stillBlocked returns the wishes of a list that have neither gone on nor gone.
func stillBlocked(list []*wish) []*wish {
	kept := make([]*wish, 0, len(list))
	for _, w := range list {
		if w.blocked && !w.gone {
			kept = append(kept, w)
		}
	}
	return kept
}

// free lets the wish for a name go on, if there is one and the name is free.
func (m *Manager) free(name cell.ID) {
	if w := m.wishes[name]; w != nil && w.blocked && m.isFree(m.names[name]) {
		w.blocked = false
		m.backlog = append(m.backlog, w)
	}
}

// isFree reports whether the next incarnation may be planned: nothing can be chosen in the earlier ones any more, and
// every server that could be placed on has confirmed that its nodes of them are gone.
func (m *Manager) isFree(in *incarnation) bool {
	if in != nil && m.strays.names[in.Cell] > 0 {
		return false
	}
	for ; in != nil; in = in.older {
		if !in.is(Wiping, Deleted) {
			return false
		}
		for i, mem := range in.Members {
			if !in.Dropped.has(i) && m.server(mem.Server()).up {
				return false
			}
		}
	}
	return true
}

// line is wishes that a limit holds back: those that name one brick, or none. They keep their order.
type line struct {
	brick  string
	wishes []*wish
	at     time.Duration // when the next may be tried
	why    *cell.Error
}

// lineOf finds the line of a brick, or nil when none waits.
func (m *Manager) lineOf(brick string) *line {
	for _, l := range m.lines {
		if l.brick == brick {
			return l
		}
	}
	return nil
}

// canPlan reports whether something may be planned now.
func (m *Manager) canPlan() bool {
	return m.pauses[CreateCells] == nil && (len(m.backlog) > 0 || slices.ContainsFunc(m.lines, func(l *line) bool { return l.at <= m.now }))
}

// plan founds as many of the wanted cells as one turn may. Those that waited longer come first.
func (m *Manager) plan() {
	if m.pauses[CreateCells] != nil {
		return
	}
	// A line is tried from its head until the limit stops it; wishes that come later join it, so nobody overtakes within a brick.
	n := 0
	for _, l := range m.lines {
		for l.at <= m.now && len(l.wishes) > 0 && n < m.config.PlansPerTurn {
			n++
			if err := m.planWish(l.wishes[0]); err != nil {
				m.holdLine(l, err)
				break
			}
			l.wishes[0] = nil
			l.wishes = l.wishes[1:]
		}
	}
	m.lines = slices.DeleteFunc(m.lines, func(l *line) bool { return len(l.wishes) == 0 })
	k := 0
	for ; k < len(m.backlog) && n < m.config.PlansPerTurn; k, n = k+1, n+1 {
		w := m.backlog[k]
		m.backlog[k] = nil
		l := m.lineOf(w.brick)
		if l != nil {
			l.wishes = append(l.wishes, w)
		} else if err := m.planWish(w); err != nil {
			l = &line{brick: w.brick, wishes: []*wish{w}}
			m.lines = append(m.lines, l)
			m.holdLine(l, err)
		}
	}
	m.backlog = m.backlog[k:]
}

// holdLine tries the first of a line again when its limit allows.
func (m *Manager) holdLine(l *line, err *cell.Error) {
	pause := max(err.RetryAfter, time.Millisecond)
	l.at, l.why = m.now+pause, err
	m.after(pause, func() {})
}

// planWish plans one wish, unless that is needless or its name is not free. The error is that of a limit.
func (m *Manager) planWish(w *wish) *cell.Error {
	switch {
	case w.gone || w.blocked:
		return nil
	case m.claimed(w.cell) != "":
		m.giveUp(w, exists(w.cell, m.claimed(w.cell)))
		return nil
	case !m.isFree(m.names[w.cell]):
		m.block(w)
		return nil
	}
	return m.planOne(w)
}

// unplanned says what a wish waits for.
func (m *Manager) unplanned(w *wish) string {
	if w.blocked {
		return "the name is not free yet: " + m.waitingFor(m.names[w.cell])
	}
	why := "its jury is not planned yet"
	if err := m.paused(CreateCells); err != nil {
		return why + ": " + err.Detail
	}
	if l := m.lineOf(w.brick); l != nil {
		why += fmt.Sprintf(": %s, and %d wait", l.why.Detail, len(l.wishes))
	}
	return why
}

// planOne makes the record of a new incarnation, or returns the limit that forbids it now. Its jury is durable before the first
// server hears of it, because calls leave after Persist; and it is never planned again, because the record stays until its end is
// proven (rule 4).
func (m *Manager) planOne(w *wish) *cell.Error {
	if err := m.allowCreation(w.brick, nil); err != nil { // before a jury is looked for
		return err
	}
	jury, err := m.planner.place(m.config.Jury, w.brick, w.color)
	if err != nil {
		e := *asError(err)
		e.Cell = w.cell
		m.giveUp(w, &e)
		return nil
	}
	if err := m.allowCreation(string(jury.Brick), jury.Members); err != nil {
		return err
	}
	rec := Record{Cell: w.cell, Incarnation: 1, State: Creating, Plan: 1, Brick: labelOf(string(jury.Brick)), Color: labelOf(string(jury.Color)),
		Configuration: 1, Alpha: m.config.Alpha, Owner: uint64(jury.Owner) + 1, Members: make([]Member, len(jury.Members))}
	for i, s := range jury.Members {
		rec.Members[i] = NewMember(uint32(i)+1, s)
	}
	if last := m.names[w.cell]; last != nil {
		rec.Plan = last.Plan + 1
		last.Retry = false
		m.save(last)
	}
	rec.Incarnation = m.nextIncarnation(w.cell)
	m.drop(w)
	in := &incarnation{Record: rec, work: &work{asked: -1, waiters: w.waiters}}
	m.save(in)
	err = m.insert(in)
	must.That(err == nil, "placement plans what its own book accepts: %v: %v", in, err)
	return nil
}
