package route

import (
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// FindStep is the decision of Finder.Next.
type FindStep struct {
	Ask   bool      // send a LookupRequest for Cells to Addr; then Answered. Otherwise sleep until the next Want
	Addr  string    // of a discovery copy
	Cells []cell.ID // at most lookupBatchMax; valid until Answered
	Ended []FindEnd // lookups that ended without being sent; report each with Place.Found
}

// FindEnd is the end of one cell's lookup, for Place.Found.
type FindEnd struct {
	Cell     cell.ID
	Improved bool // a better route was accepted
	Denied   bool // a copy answered, and no copy that answered had a route
}

// Finder looks cells up in discovery: many cells per request, one request in flight, each cell at most once in flight,
// and every copy is asked before a cell is given up. It starts with the copy that answered last. After a pass in which
// no copy answered it does not ask again until a jittered, growing pause has passed, and meanwhile ends all lookups at
// once: callers then go by what they know, which is how a colony without its control plane is used.
type Finder struct {
	copies []string
	rules  *Rules
	dice   Dice

	queue  []lookup // not yet in the batch, in order of arrival
	queued map[cell.ID]struct{}

	batch   []lookup // being looked up, all sent to the copy asked last
	ids     []cell.ID
	asked   int // copies asked in this pass
	first   int // copy that the pass began with
	heard   int // copies that answered in this pass
	failed  int // passes in a row in which nobody answered
	resumes time.Duration
}

// lookup is one cell's wish.
type lookup struct {
	id    cell.ID
	known bool // a copy had a route, if not a better one
}

// NewFinder starts at a copy drawn by the dice. Without copies every lookup ends at once.
func NewFinder(copies []string, rules *Rules, dice Dice) *Finder {
	f := &Finder{copies: copies, rules: rules, dice: dice, queued: map[cell.ID]struct{}{}}
	if len(copies) > 0 {
		f.first = int(f.dice.roll() % uint64(len(copies)))
	}
	return f
}

// Want adds a cell, once.
func (f *Finder) Want(id cell.ID) {
	if _, ok := f.queued[id]; ok {
		return
	}
	f.queued[id] = struct{}{}
	f.queue = append(f.queue, lookup{id: id})
}

// Next decides what to do now.
func (f *Finder) Next(now time.Duration) FindStep {
	var step FindStep
	if len(f.batch) == 0 {
		if len(f.copies) == 0 || now < f.resumes {
			step.Ended = f.drop()
			return step
		}
		f.fill()
	}
	if len(f.batch) == 0 {
		return step
	}
	f.ids = f.ids[:0]
	for i := range f.batch {
		f.ids = append(f.ids, f.batch[i].id)
	}
	step.Ask, step.Addr, step.Cells = true, f.copies[(f.first+f.asked)%len(f.copies)], f.ids
	return step
}

// fill moves the queue's head into an empty batch.
func (f *Finder) fill() {
	n := min(len(f.queue), lookupBatchMax)
	f.batch = append(f.batch, f.queue[:n]...)
	f.queue = append(f.queue[:0], f.queue[n:]...)
	f.asked, f.heard = 0, 0
}

// drop ends all queued lookups without asking anybody.
func (f *Finder) drop() []FindEnd {
	ended := make([]FindEnd, 0, len(f.queue))
	f.heard = 0
	for _, l := range f.queue {
		ended = append(ended, f.end(l, false))
	}
	f.queue = f.queue[:0]
	return ended
}

// end forgets one lookup and says how it went.
func (f *Finder) end(l lookup, improved bool) FindEnd {
	delete(f.queued, l.id)
	return FindEnd{Cell: l.id, Improved: improved, Denied: !improved && !l.known && f.heard > 0}
}

// Answered takes the copy's answer, one route per cell and in their order, or nil when there was none, and returns the
// lookups that ended with it. Accept is called for every route that names members and tells whether it is better than
// what was known (Place.Accept).
func (f *Finder) Answered(now time.Duration, routes *wire.Routes, accept func(*wire.Route) bool) []FindEnd {
	var ended []FindEnd
	answered := routes != nil && len(routes.Routes) == len(f.batch)
	if answered {
		f.heard++
		left := f.batch[:0]
		for i, l := range f.batch {
			r := &routes.Routes[i]
			known := r.Cell == l.id && len(r.Members) > 0
			if known && accept(r) {
				ended = append(ended, f.end(l, true))
				continue
			}
			l.known = l.known || known
			left = append(left, l)
		}
		f.batch = left
	}
	f.asked++
	if f.asked < len(f.copies) && len(f.batch) > 0 {
		return ended
	}
	for _, l := range f.batch {
		ended = append(ended, f.end(l, false))
	}
	f.batch = f.batch[:0]
	f.endPass(now, answered)
	return ended
}

// endPass remembers which copy was good, and pauses when none was.
func (f *Finder) endPass(now time.Duration, lastAnswered bool) {
	if lastAnswered {
		f.first = (f.first + f.asked - 1) % len(f.copies)
	}
	if f.heard > 0 {
		f.failed = 0
		return
	}
	unit := lookupPauseUnits * f.rules.BackoffMin
	f.resumes = now + Backoff(&f.dice, unit, unit, lookupPauseMax, f.failed)
	f.failed++
}
