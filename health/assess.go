package health

import (
	"fmt"
	"strings"
	"time"

	"physalia/cell"
)

// hostState is what is believed of a server.
type hostState uint8

const (
	hostUnknown hostState = iota // no verdict yet: counts as alive, since nothing is begun on a guess
	hostUp
	hostDead
	hostReturning // up again, but not yet for ReturnMin: counts as alive, and nothing about it is given up
)

// host is one server.
type host struct {
	id     cell.ServerID
	cells  []cellRef
	cursor uint32 // its cells below this position are to be looked at
	paging bool   // it stands in the list of those whose cells are

	placed  bool // it has registered
	pool    uint16
	domains [domainKinds]domainRef

	state     hostState
	held      bool  // dead, and under a hold
	released  bool  // dead, and its death counts for no hold any more
	looks     uint8 // moments after its death that have passed: Settle, Patience
	died      time.Duration
	returned  time.Duration
	sick      map[cellRef]time.Duration // nodes that are out of service although the server is up, since when (sick.go); nil: none
	nodeBytes uint64                    // average over its nodes; zero: not reported
	bucket    bucket
	reserved  uint32 // turn in which a more urgent cell waits for its budget
}

// class says how a cell is, the worst last. Only the last three are proposed for.
type class uint8

// The classes of cells.
const (
	classFine    class = iota
	classBusy          // a replacement is proposed, under way, or rests after a refusal; in no queue
	classWaiting       // for its patience, or for the dust to settle
	classHeld          // it would be repaired, but for a hold
	classLost          // no majority is alive: never touched
	classAged          // one member dead for longer than the patience
	classUrgent        // two or more dead
	classBrink         // exactly a majority alive
	classes
)

var classNames = [classes]string{"fine", "busy", "waiting", "held", "lost", "aged", "urgent", "brink"}

// String names a class as reports and metrics show it.
func (c class) String() string { return classNames[c] }

// ClassName names the classes of RepairStats.Queued, for metrics; empty for those that are no queue.
func ClassName(c int) string {
	if class(c) == classFine || class(c) == classBusy {
		return ""
	}
	return class(c).String()
}

// view is what a look at a cell shows.
type view struct {
	class  class
	dead   int
	held   bool    // a dead member is under a hold
	remove hostRef // who should go, if anybody
}

// assess looks at a cell and puts it where it belongs.
func (r *Repairer) assess(ref cellRef) {
	v := r.see(ref)
	if r.row(ref).class == classBusy {
		r.reconsider(ref, r.active[ref], v)
		return
	}
	r.enqueue(ref, v.class)
}

// see judges a cell by its members' servers, and by what these say of their nodes. Whom to remove: a member who is under no hold and so will hardly return,
// rather than one who is; then whoever died first.
func (r *Repairer) see(ref cellRef) (v view) {
	w := r.row(ref)
	var first, last time.Duration
	firstHeld := false
	for i := range int(w.size) {
		at := r.seat(ref, i).host
		died, held, gone := r.gone(ref, at)
		if !gone {
			continue
		}
		if v.dead == 0 || firstHeld && !held || firstHeld == held && died < first {
			v.remove, first, firstHeld = at, died, held
		}
		last = max(last, died)
		v.dead++
		v.held = v.held || held
	}
	v.class = r.classify(int(w.size), v, first, last)
	return v
}

// classify is the policy in one place.
func (r *Repairer) classify(size int, v view, first, last time.Duration) class {
	live, majority := size-v.dead, size/2+1
	switch {
	case v.dead == 0:
		return classFine
	case live < majority:
		return classLost
	case live == majority:
		return classBrink
	case v.held:
		return classHeld
	case v.dead >= 2 && r.now-last >= r.config.Settle:
		return classUrgent
	case v.dead == 1 && (r.now-first >= r.config.Patience || plantedImpatience):
		return classAged
	}
	return classWaiting
}

// why explains a proposal.
func (r *Repairer) why(ref cellRef, v view) string {
	w := r.row(ref)
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d members are dead:", v.dead, w.size)
	sep := " "
	for i := range int(w.size) {
		at := r.seat(ref, i).host
		if since, _, gone := r.gone(ref, at); gone {
			what := ""
			if r.hosts[at].state != hostDead {
				what = " (its node is out of service)"
			}
			fmt.Fprintf(&b, "%s%s%s for %v", sep, r.hosts[at].id, what, round(r.now-since))
			sep = ", "
		}
	}
	if v.held {
		b.WriteString("; held by a correlated failure, so by one member only")
	}
	return b.String()
}

// queue is a list of cells, linked through their rows.
type queue struct {
	head, tail cellRef
	len        int
}

// enqueue puts a cell at the end of the queue of its class, unless it stands there already.
func (r *Repairer) enqueue(ref cellRef, to class) {
	w := r.row(ref)
	pool := r.poolAt(ref)
	if w.class == to && (w.pool == pool || to == classFine || to == classBusy) {
		return
	}
	r.unqueue(ref)
	w.class, w.pool = to, pool
	if to == classFine || to == classBusy {
		return
	}
	q := &r.pools[pool].queues[to]
	if w.prev = q.tail; w.prev != 0 {
		r.row(w.prev).next = ref
	} else {
		q.head = ref
	}
	q.tail = ref
	q.len++
}

// unqueue takes a cell out of its queue.
func (r *Repairer) unqueue(ref cellRef) {
	w := r.row(ref)
	if w.class != classFine && w.class != classBusy {
		q := &r.pools[w.pool].queues[w.class]
		if w.prev != 0 {
			r.row(w.prev).next = w.next
		} else {
			q.head = w.next
		}
		if w.next != 0 {
			r.row(w.next).prev = w.prev
		} else {
			q.tail = w.prev
		}
		q.len--
	}
	w.class, w.prev, w.next = classFine, 0, 0
}

// poolAt is the pool of a cell: that of the first member whose server has registered.
func (r *Repairer) poolAt(ref cellRef) uint16 {
	for i := range int(r.row(ref).size) {
		if h := &r.hosts[r.seat(ref, i).host]; h.placed {
			return h.pool
		}
	}
	return 0
}
