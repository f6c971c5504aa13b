package lifecycle

import (
	"container/heap"
	"errors"
	"fmt"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// goal is what a waiter waits for.
type goal uint8

const (
	toCreate goal = iota
	toDelete
	toMove
	toNear
)

// request is a batch that waits for its answer.
type request struct {
	id      RequestID
	op      string
	cells   []cell.ID
	results []wire.Outcome
	settled []bool        // whose result is final
	open    int           // how many are not
	done    bool          // it is answered
	due     time.Duration // when it is answered in any case

	petition *petition // what it waits to begin, if it may not yet
}

// waiter is one element of a request that waits for one cell.
type waiter struct {
	req   *request
	index int
	goal  goal
}

// resolve settles one element; the first word counts. The answer is Manager.answer's to send.
func (w waiter) resolve(err *cell.Error) {
	if r := w.req; !r.done && !r.settled[w.index] {
		r.settled[w.index] = true
		r.results[w.index].Err = err
		r.open--
	}
}

// resolve settles an element of a request that was admitted earlier, and has the request answered after its last one.
func (m *Manager) resolve(w waiter, err *cell.Error) {
	w.resolve(err)
	if w.req.open == 0 {
		m.late = append(m.late, w.req)
	}
}

// begin admits a request of n elements, or answers it and returns nil.
func (m *Manager) begin(id RequestID, op string, n int, wait uint32) *request {
	refuse := func(k cell.Kind, format string, args ...any) *request {
		m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: &cell.Error{Op: op, Kind: k,
			Detail: fmt.Sprintf(format, args...), RetryAfter: time.Second}})
		return nil
	}
	switch {
	case m.mode.rebuilding:
		m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: m.mode.refuse(op)})
		return nil
	case n < 1 || n > wire.BatchMax:
		return refuse(cell.Invalid, "%d cells, allowed are 1 to %d", n, wire.BatchMax)
	case m.requests[id] != nil:
		return refuse(cell.Invalid, "request %d is being worked on", id)
	case len(m.requests) >= m.config.RequestsMax:
		return refuse(cell.Overloaded, "%d requests wait for their answers", len(m.requests))
	}
	r := &request{id: id, op: op, cells: make([]cell.ID, n), results: make([]wire.Outcome, n), settled: make([]bool, n),
		open: n, due: m.now + min(time.Duration(wait)*time.Millisecond, m.config.WaitMax)}
	m.requests[id] = r
	return r
}

// finish answers a request if it can be answered, and otherwise sees to it that it is when its time is over.
func (m *Manager) finish(r *request) {
	m.late = append(m.late, r)
	if r.open > 0 && r.due > m.now {
		m.after(r.due-m.now, func() { m.late = append(m.late, r) })
	}
}

// answer replies to every request that is settled or late. It comes after planning, so that a request that does not
// want to wait at all still has its juries durable when it is answered.
func (m *Manager) answer() {
	for _, r := range m.late {
		if r.done || r.open > 0 && r.due > m.now {
			continue
		}
		r.done = true
		for i := range r.results {
			if !r.settled[i] {
				r.results[i].Err = m.pending(r, i)
			}
			r.results[i].Err = brief(r.results[i].Err, answerBytesMax/len(r.results))
		}
		delete(m.requests, r.id)
		m.out.Replies = append(m.out.Replies, Reply{Request: r.id, Outcomes: &wire.Outcomes{Outcomes: r.results}})
		r.cells, r.results, r.settled = nil, nil, nil
	}
	m.late = m.late[:0]
}

// answerBytesMax is what the details of one answer may take together, so that it fits any client's frame.
const answerBytesMax = wire.ClientFrameMax / 2

// brief cuts the detail of an error to its share of an answer.
func brief(err *cell.Error, share int) *cell.Error {
	if err == nil || len(err.Detail) <= share {
		return err
	}
	short := *err
	short.Detail = strings.ToValidUTF8(err.Detail[:share], "") + " ..."
	return &short
}

// pending says what an element still waits for, and stops its waiting: what was begun goes on without it.
func (m *Manager) pending(r *request, i int) *cell.Error {
	name, why := r.cells[i], "it is not known any more"
	if q := r.petition; q != nil {
		err := *q.why
		err.Op, err.Cell, err.Hint = r.op, name, "it has not begun: ask again, or wait longer for its turn"
		return &err
	}
	if w := m.wishes[name]; w != nil {
		w.waiters = without(w.waiters, r)
		why = m.unplanned(w)
	} else if under := m.recovering[name]; under != nil {
		under.waiters = without(under.waiters, r)
		why = "its survivors are being asked for what they hold"
	} else if u := m.users[name]; u != nil && r.op == "lifecycle.locate" {
		why = "it can be brought nearer: " + u.why
		u.waiters = without(u.waiters, r)
	} else if in := m.names[name]; in != nil {
		why = fmt.Sprintf("incarnation %d is %s: %s", in.Incarnation, in.State, m.waitingFor(in))
		if in.work != nil {
			in.work.waiters = without(in.work.waiters, r)
		}
	}
	return &cell.Error{Op: r.op, Kind: cell.UnknownResult, Cell: name, Detail: why,
		Hint: "it goes on in the background; repeat the request to wait for it"}
}

// without removes the waiters of one request.
func without(list []waiter, r *request) []waiter {
	kept := list[:0]
	for _, w := range list {
		if w.req != r {
			kept = append(kept, w)
		}
	}
	clear(list[len(kept):])
	return kept
}

// wait adds a waiter to an incarnation.
func (m *Manager) wait(in *incarnation, w waiter) {
	work := in.begin()
	work.waiters = append(work.waiters, w)
}

// settle resolves those who wait for one goal.
func (m *Manager) settle(in *incarnation, g goal, err *cell.Error) {
	if in.work == nil {
		return
	}
	kept := in.work.waiters[:0]
	for _, w := range in.work.waiters {
		if w.goal != g {
			kept = append(kept, w)
			continue
		}
		m.resolve(w, err)
	}
	in.work.waiters = kept
}

// answerRefused stops the waiting for a creation that so many servers decline that it cannot finish soon. The founding
// goes on being told, so the answer is "unknown", not "no".
func (m *Manager) answerRefused(in *incarnation) {
	w := in.work
	declined := w.refused | w.foreign | in.Void
	if in.State != Creating || len(in.Members)-declined.size() >= in.majority() || in.hopeless() {
		return
	}
	m.settle(in, toCreate, &cell.Error{Op: "lifecycle.create", Kind: cell.UnknownResult, Cell: in.Cell,
		Detail: fmt.Sprintf("incarnation %d: %s", in.Incarnation, m.waitingFor(in)),
		Hint:   "it is tried again in the background; see to the servers, or delete the cell"})
}

// asError makes a *cell.Error of any error.
func asError(err error) *cell.Error {
	var e *cell.Error
	if errors.As(err, &e) {
		return e
	}
	return &cell.Error{Kind: cell.Internal, Detail: err.Error(), Err: err}
}

// timer is something to be done at a time.
type timer struct {
	at    time.Duration
	order uint64 // ties go to whoever came first
	do    func()
}

// timers is a heap by time.
type timers struct {
	heap []timer
	last uint64
}

func (t *timers) Len() int { return len(t.heap) }
func (t *timers) Less(i, j int) bool {
	a, b := &t.heap[i], &t.heap[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}
func (t *timers) Swap(i, j int) { t.heap[i], t.heap[j] = t.heap[j], t.heap[i] }
func (t *timers) Push(x any)    { t.heap = append(t.heap, x.(timer)) }
func (t *timers) Pop() any {
	last := len(t.heap) - 1
	x := t.heap[last]
	t.heap[last] = timer{}
	t.heap = t.heap[:last]
	return x
}

// after does something when so much time has passed.
func (m *Manager) after(d time.Duration, do func()) {
	m.timers.last++
	heap.Push(&m.timers, timer{at: m.now + d, order: m.timers.last, do: do})
}

// Next tells when Effects should be called again if no input comes before, and whether there is such a time.
func (m *Manager) Next() (at time.Duration, ok bool) {
	switch {
	case m.observer.busy():
		return m.now, true
	case m.mode.rebuilding: // everything else waits for its end
	case m.canDrop() || m.canPlan() || m.canMove() || len(m.late) > 0 || m.canApproach() || len(m.surveys) > 0 && m.surveying < m.config.Surveys ||
		len(m.moves) > 0 && m.moving < m.config.Moves:
		return m.now, true
	}
	if m.timers.Len() > 0 {
		return m.timers.heap[0].at, true
	}
	return 0, false
}

// Effects does what is due at this time and hands out what the caller must do.
func (m *Manager) Effects(now time.Duration) Effects {
	m.now = now
	m.guard.start(now)
	for m.timers.Len() > 0 && m.timers.heap[0].at <= now {
		heap.Pop(&m.timers).(timer).do()
	}
	m.observe()
	if !m.mode.rebuilding {
		m.act()
	}
	m.answer()
	m.store()
	out := m.out
	m.out = Effects{}
	return out
}

// act does what is wanted and within the limits. None of it is done while the store is being rebuilt.
func (m *Manager) act() {
	m.plan()
	m.hear()
	m.empty()
	m.survey()
	m.tell()
	m.dropStrays()
	m.seal()
	m.approach()
	m.balance()
	m.move()
}

// Confirmed hands out what servers have confirmed and what is not stored yet, for an owner who stops in order. Whoever does not
// ask, or cannot store it, has the servers asked again in the next life.
func (m *Manager) Confirmed() []Write {
	m.due = true
	m.store()
	writes := m.out.Persist
	m.out.Persist = nil
	return writes
}

// store writes down every record that changed, once per turn. What was only confirmed goes along with what must be stored anyway.
func (m *Manager) store() {
	m.due = m.due || len(m.dirty) > 0 || len(m.out.Persist) > 0 || len(m.heard) >= confirmedAtOne
	if !m.due {
		return
	}
	m.due = false
	for _, list := range []*[]*incarnation{&m.dirty, &m.heard} {
		for _, in := range *list {
			if in.pending == stored {
				continue // in both lists: a decision came after the confirmation
			}
			in.pending = stored
			w := Write{Key: in.key()}
			if !in.forgotten {
				w.Value = appendRecord(nil, &in.Record)
			}
			m.out.Persist = append(m.out.Persist, w)
		}
		clear(*list) // it holds on to nothing
		*list = (*list)[:0]
	}
}
