package route

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// FindStep is the decision of Finder.Next.
type FindStep struct {
	Ask      bool      // send a LookupRequest for Cells to Addr; then Answered. Otherwise sleep until the next Want
	Addr     string    // of a discovery copy
	Snapshot bool      // instead of asking anybody, look the Cells up in the newest snapshot; then Answered
	Cells    []cell.ID // at most lookupBatchMax; valid until Answered
	Ended    []FindEnd // lookups that ended without being sent; report each with Place.Found
}

// FindEnd is the end of one cell's lookup, for Place.Found.
type FindEnd struct {
	Cell     cell.ID
	Improved bool // a better route was accepted
	Denied   bool // a copy answered, and no copy that answered had a route
}

// Finder looks cells up in discovery: many cells per request, one request in flight, each cell at most once in flight,
// and every copy is asked before a cell is given up. Each pass asks the copies in another order that the dice draw, those
// that did not answer last time behind the others: so no copy gets everybody's first question, and one that answers
// nonsense is not the first for ever. When no copy answers, a snapshot is asked if there is one. After such a pass it does
// not ask the copies again until a jittered, growing pause has passed, and meanwhile goes by the snapshot, or else ends all
// lookups at once: callers then go by what they know, which is how a colony without its control plane is used.
type Finder struct {
	copies   []string
	rules    *Rules
	dice     Dice
	snapshot bool

	queue  []lookup // not yet in the batch, in order of arrival
	queued map[cell.ID]struct{}

	batch      []lookup // being looked up, all sent to the copy asked last
	ids        []cell.ID
	order      []int // copies, in the order of this pass
	silent     []bool
	asked      int  // copies asked in this pass
	heard      int  // copies that answered in this pass
	reading    bool // the batch is with the snapshot
	failed     int  // passes in a row in which nobody answered
	resumes    time.Duration
	retryAfter time.Duration // longest wish of the copies that refused in this pass
}

// lookup is one cell's wish.
type lookup struct {
	id    cell.ID
	known bool // a copy had a route, if not a better one, or could not be sure that there is none
}

// NewFinder draws from the dice. Without copies, and without a snapshot, every lookup ends at once.
func NewFinder(copies []string, rules *Rules, dice Dice) *Finder {
	f := &Finder{copies: copies, rules: rules, dice: dice, queued: map[cell.ID]struct{}{}, silent: make([]bool, len(copies))}
	for i := range copies {
		f.order = append(f.order, i)
	}
	return f
}

// UseSnapshot says that there are snapshots to go by when no copy answers.
func (f *Finder) UseSnapshot() { f.snapshot = true }

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
		resting := len(f.copies) == 0 || now < f.resumes
		if resting && !f.snapshot {
			step.Ended = f.drop()
			return step
		}
		f.fill()
		f.reading = resting
	}
	if len(f.batch) == 0 {
		return step
	}
	f.ids = f.ids[:0]
	for i := range f.batch {
		f.ids = append(f.ids, f.batch[i].id)
	}
	step.Ask, step.Snapshot, step.Cells = true, f.reading, f.ids
	if !f.reading {
		step.Addr = f.copies[f.order[f.asked]]
	}
	return step
}

// fill moves the queue's head into an empty batch, and begins a pass.
func (f *Finder) fill() {
	n := min(len(f.queue), lookupBatchMax)
	f.batch = append(f.batch, f.queue[:n]...)
	f.queue = append(f.queue[:0], f.queue[n:]...)
	f.asked, f.heard, f.retryAfter = 0, 0, 0
	for i := range f.order { // Fisher and Yates
		k := i + int(f.dice.roll()%uint64(len(f.order)-i))
		f.order[i], f.order[k] = f.order[k], f.order[i]
	}
	slices.SortStableFunc(f.order, func(a, b int) int { return rank(f.silent[a]) - rank(f.silent[b]) })
}

// rank puts copies that did not answer last behind the others.
func rank(silent bool) int {
	if silent {
		return 1
	}
	return 0
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

// Refused says that the copy just asked answered that it wants to be left alone for a while; Answered with nil must follow.
func (f *Finder) Refused(retryAfter time.Duration) {
	f.retryAfter = max(f.retryAfter, min(retryAfter, retryAfterMax))
}

// Answered takes the copy's answer, or what the snapshot had, one route per cell and in their order, or nil when there was
// none, and returns the lookups that ended with it. Accept is called for every route that names members and tells whether
// it is better than what was known (Place.Accept).
func (f *Finder) Answered(now time.Duration, routes *wire.Routes, accept func(*wire.Route) bool) []FindEnd {
	var ended []FindEnd
	answered := routes != nil && len(routes.Routes) == len(f.batch)
	if answered {
		ended = f.take(routes, accept)
	}
	if !f.reading {
		if f.silent[f.order[f.asked]] = !answered; answered {
			f.heard++
		}
		f.asked++
		if len(f.batch) > 0 && f.asked < len(f.copies) {
			return ended
		}
		if f.endPass(now); len(f.batch) > 0 && f.heard == 0 && f.snapshot {
			f.reading = true
			return ended
		}
	}
	for _, l := range f.batch {
		ended = append(ended, f.end(l, false))
	}
	f.batch, f.reading = f.batch[:0], false
	return ended
}

// take goes through an answer; those of the batch that are not better off stay in it.
func (f *Finder) take(routes *wire.Routes, accept func(*wire.Route) bool) (ended []FindEnd) {
	left := f.batch[:0]
	for i, l := range f.batch {
		r := &routes.Routes[i]
		known := r.Cell == l.id && len(r.Members) > 0
		if known && accept(r) {
			ended = append(ended, f.end(l, true))
			continue
		}
		l.known = l.known || known || routes.Filling && r.Incarnation == 0
		left = append(left, l)
	}
	f.batch = left
	return ended
}

// endPass pauses when no copy answered: with jitter, and as long as the most patient of them asked for.
func (f *Finder) endPass(now time.Duration) {
	if f.heard > 0 {
		f.failed = 0
		return
	}
	unit := lookupPauseUnits * f.rules.BackoffMin
	f.resumes = now + Backoff(&f.dice, max(unit, f.retryAfter), unit, lookupPauseMax, f.failed)
	f.failed++
}
