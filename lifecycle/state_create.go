package lifecycle

import (
	"fmt"
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
		if len(m.wishes) >= m.config.BacklogMax {
			w.resolve(&cell.Error{Op: w.req.op, Kind: cell.Overloaded, Cell: name, RetryAfter: time.Second,
				Detail: fmt.Sprintf("%d cells wait to be planned", len(m.wishes)), Hint: "ask again later"})
			return
		}
		m.want(&wish{cell: name, brick: brick, color: color, waiters: []waiter{w}})
	case in.State == Sealing:
		w.resolve(exists(name, fmt.Sprintf("incarnation %d is being deleted: %s", in.Incarnation, m.waitingFor(in))))
	case brick != "" && brick != in.Brick || color != "" && color != in.Color:
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
	w := &wish{cell: in.Cell, brick: in.Brick, color: in.Color}
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

// plan founds as many of the wanted cells as one turn may.
func (m *Manager) plan() {
	n := 0
	for ; n < len(m.backlog) && n < m.config.PlansPerTurn; n++ {
		w := m.backlog[n]
		m.backlog[n] = nil
		switch {
		case w.gone || w.blocked:
		case m.claimed(w.cell) != "":
			m.giveUp(w, exists(w.cell, m.claimed(w.cell)))
		case !m.isFree(m.names[w.cell]):
			m.block(w)
		default:
			m.planOne(w)
		}
	}
	m.backlog = m.backlog[n:]
}

// planOne makes the record of a new incarnation. Its jury is durable before the first server hears of it, because calls
// leave after Persist; and it is never planned again, because the record stays until its end is proven (rule 4).
func (m *Manager) planOne(w *wish) {
	jury, err := m.planner.place(m.config.Jury, w.brick, w.color)
	if err != nil {
		e := *asError(err)
		e.Cell = w.cell
		m.giveUp(w, &e)
		return
	}
	rec := Record{Cell: w.cell, Incarnation: 1, State: Creating, Plan: 1, Brick: string(jury.Brick), Color: string(jury.Color),
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
}
