package sim

import (
	"time"

	"physalia/cell"
)

// People are who uses cells otherwise than plain clients do: lockers, recorders, a block store. Each of them is switched on
// per schedule.

// drawPeople draws who there is.
func drawPeople(s Source, p *Schedule) {
	if s.Draw("with lockers", 3) == 1 {
		p.Lockers = 2 + s.Draw("lockers-2", 2)
	}
	if s.Draw("with recorders", 4) == 1 {
		p.Recorders = 2
	}
	if s.Draw("with a crowd", 8) == 1 {
		p.Crowd = 300
	}
	if s.Draw("with a block store", 5) == 1 {
		p.Store = true
	}
}

// people makes them, in an order from which patterns know their numbers.
func (w *World) people() {
	for _, v := range w.cells {
		for i := range w.plan.Lockers {
			w.newLocker(v, lockerFirst+i)
		}
	}
	// All lockers come before all recorders, see lockerAt.
	for _, v := range w.cells {
		for i := range w.plan.Recorders {
			w.newRecorder(v, recorderFirst+i)
		}
	}
	if w.plan.Store {
		w.openStore()
	}
	w.crowded()
}

// crowds come last, so that the numbers of all others stay below sessionsMax.
func (w *World) crowded() {
	for _, v := range w.cells {
		for i := range min(crowdSessions, w.plan.Crowd) {
			w.newCrowd(v, i)
		}
	}
}

// lockerAt is the number, as ClientCut and ClientPause name them, of a cell's locker.
func (p *Schedule) lockerAt(c, i int) int { return p.Cells*p.Clients + c*p.Lockers + i }

// eachSession calls do for every session, in the order of their numbers but for those of the audits.
func (w *World) eachSession(do func(*session)) {
	for _, c := range w.clients {
		do(c.session)
	}
	for _, l := range w.lockers {
		do(l.session)
	}
	for _, r := range w.recorders {
		do(r.session)
	}
	for _, c := range w.crowds {
		do(c.session)
	}
	if w.store != nil {
		for _, c := range w.store.copies {
			do(c.session)
		}
		for _, u := range w.store.users {
			do(u.session)
		}
	}
}

// idle reports whether nobody beside the clients has anything left to do.
func (w *World) idle() bool {
	for _, l := range w.lockers {
		if !l.done {
			return false
		}
	}
	for _, r := range w.recorders {
		if !r.done {
			return false
		}
	}
	for _, c := range w.crowds {
		if !c.done {
			return false
		}
	}
	if w.store != nil && !w.store.over() {
		for _, u := range w.store.users {
			if !u.done() {
				return false
			}
		}
	}
	return true
}

// acquaint is introduce for people; after an Expired it learns the newest revision, as package client does.
func (s *session) acquaint(done func(*cell.Error)) {
	if !s.expired {
		s.introduce(s.deadline(), done)
		return
	}
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: keys[0]}}}
	s.read(&txn, false, s.deadline(), func(_ *exchange, err *cell.Error) { done(err) })
}

// rest is the time that somebody thinks between two things.
func (s *session) rest(most time.Duration, do func()) {
	s.after(time.Millisecond+between(s.dice, most), do)
}

// The numbers of people among the sessions of a cell; clients, settlers and audits count from zero on.
const lockerFirst, recorderFirst, crowdFirst, storeFirst = 100, 200, 300, 400
