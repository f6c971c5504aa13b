package health

import (
	"container/heap"
	"fmt"
	"time"

	"physalia/cell"
)

// phase is how far a proposal has come.
type phase uint8

const (
	asked       phase = iota // proposed; the manager has not answered
	begun                    // the manager took it
	withdrawing              // the manager was asked to give it up
	late                     // too late to give it up: it goes on to its end
	resting                  // it was refused; after a pause the cell is looked at again
)

// active is a cell with a proposal. There are some hundred at a time.
type active struct {
	remove hostRef
	phase  phase
	class  class // when it was proposed
	raise  bool
	until  time.Duration // when it is given up waiting for; zero: an answer is owed
	serial uint64        // tells wakes of this proposal from those of one before
	bytes  float64       // charged
	pool   uint16
	paid   []hostRef // who else was charged
}

// wake is a moment at which a proposal is looked at.
type wake struct {
	at     time.Duration
	cell   cellRef
	serial uint64
}

// wakeHeap orders wakes by time; ties by serial, which never repeats.
type wakeHeap []wake

func (h wakeHeap) Len() int { return len(h) }
func (h wakeHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].serial < h[j].serial
}
func (h wakeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)   { *h = append(*h, x.(wake)) }
func (h *wakeHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// lookedMax bounds how many cells of one pool are looked at in one turn before one is found that no server's budget blocks.
const lookedMax = 32

// choose proposes what is most urgent, class by class, in turn over the pools, as far as the budgets go. What a cell waits for
// is kept from all that are less urgent: they would else take it, bit by bit, for ever.
func (r *Repairer) choose() {
	for i := range r.pools {
		r.pools[i].looked = 0
	}
	for _, c := range [...]class{classBrink, classUrgent, classAged} {
		most := r.config.InFlight
		if c != classBrink {
			most -= most / 4
		}
		for progress := true; progress; {
			progress = false
			for i := range r.pools {
				// Another pool begins in each turn.
				at := (i + int(r.turn)) % len(r.pools)
				if len(r.out.Propose) >= r.config.PerTurn || r.inFlight >= most {
					break
				}
				took, stop := r.chooseFrom(at, c)
				if stop {
					return // the colony's budget is used up
				}
				progress = progress || took
			}
		}
	}
}

// chooseFrom proposes for one cell of a pool's queue, if it may.
func (r *Repairer) chooseFrom(at int, c class) (took, stop bool) {
	p := &r.pools[at]
	q, b := &p.queues[c], &r.bricks[p.brick]
	if q.len == 0 || b.blocked == r.turn || p.stalled > r.now || p.refusals > 0 && p.asked > 0 || !r.owns(b.name) {
		return false, false
	}
	for ; q.len > 0 && p.looked < lookedMax; p.looked++ {
		ref := q.head
		v := r.see(ref)
		if v.class != c || int(r.poolAt(ref)) != at {
			r.enqueue(ref, v.class)
			continue
		}
		bytes := r.charge(ref)
		r.colony.fill(r.now, r.config.Colony)
		b.bucket.fill(r.now, r.config.Brick)
		if !r.colony.allows(bytes, r.config.Colony) {
			return false, true
		}
		if !b.bucket.allows(bytes, r.config.Brick) {
			b.blocked = r.turn
			return false, false
		}
		if r.serversAllow(ref, bytes) {
			r.propose(ref, v, bytes)
			return true, false
		}
		r.unqueue(ref) // behind the others: they may not need the same servers
		r.enqueue(ref, c)
	}
	return false, false
}

// charge is how many bytes the repair of a cell is taken for: the largest average among the servers of its living members.
func (r *Repairer) charge(ref cellRef) float64 {
	bytes := uint64(0)
	for i := range int(r.row(ref).size) {
		if h := &r.hosts[r.seat(ref, i).host]; h.state != hostDead {
			bytes = max(bytes, h.nodeBytes)
		}
	}
	if bytes == 0 {
		bytes = r.config.NodeBytes
	}
	return float64(bytes)
}

// serversAllow asks the budgets of all living members: any of them may have to teach the new one. If one forbids it, those that
// the cell waits for are reserved for the rest of the turn.
func (r *Repairer) serversAllow(ref cellRef, bytes float64) bool {
	all := true
	for i := range int(r.row(ref).size) {
		h := &r.hosts[r.seat(ref, i).host]
		if h.state == hostDead {
			continue
		}
		h.bucket.fill(r.now, r.config.Server)
		all = all && h.reserved != r.turn && h.bucket.allows(bytes, r.config.Server)
	}
	if !all {
		for i := range int(r.row(ref).size) {
			r.hosts[r.seat(ref, i).host].reserved = r.turn
		}
	}
	return all
}

// propose charges the budgets and proposes to replace a member.
func (r *Repairer) propose(ref cellRef, v view, bytes float64) {
	w := r.row(ref)
	r.stats.Proposed++
	if v.held {
		r.stats.Raised++
	}
	a := &active{remove: v.remove, class: v.class, raise: v.held, serial: r.stats.Proposed, bytes: bytes, pool: w.pool}
	p := &r.pools[w.pool]
	r.colony.take(bytes)
	r.bricks[p.brick].bucket.take(bytes)
	for i := range int(w.size) {
		if at := r.seat(ref, i).host; r.hosts[at].state != hostDead {
			r.hosts[at].bucket.take(bytes)
			a.paid = append(a.paid, at)
		}
	}
	r.stats.BytesProposed += uint64(bytes)
	r.inFlight++
	p.asked++
	r.enqueue(ref, classBusy)
	r.active[ref] = a
	r.out.Propose = append(r.out.Propose, Repair{Cell: w.id, Incarnation: w.incarnation, Remove: r.hosts[v.remove].id, Raise: v.held, Why: r.why(ref, v)})
}

// Outcome takes the manager's answer to a proposal: nil when the replacement has begun, or the same was under way. A refusal
// lets the cell rest, and its pool become slower; what was charged is returned.
func (r *Repairer) Outcome(now time.Duration, id cell.ID, remove cell.ServerID, err *cell.Error) {
	r.advance(now)
	ref := r.find(id)
	a := r.active[ref]
	if ref == 0 || a == nil || a.phase != asked || r.hosts[a.remove].id != remove {
		return // deleted, moved or created again meanwhile
	}
	p := &r.pools[a.pool]
	p.asked--
	if err == nil {
		r.stats.Begun++
		p.refusals, p.stalled, p.why = 0, 0, ""
		a.phase = begun
		r.later(ref, a, r.config.Pause.UnderWay)
		r.assess(ref) // what is not wanted any more is given up
		return
	}
	r.stats.Refused++
	r.inFlight--
	r.colony.give(a.bytes, r.config.Colony)
	r.bricks[p.brick].bucket.give(a.bytes, r.config.Brick)
	for _, at := range a.paid {
		r.hosts[at].bucket.give(a.bytes, r.config.Server)
	}
	r.refused(p, err)
	a.phase = resting
	pause := r.config.Pause.Most
	if err.Kind == cell.Overloaded {
		pause = p.stalled - r.now
	}
	r.later(ref, a, pause)
	r.assess(ref)
}

// refused slows a pool down. A cell that cannot be helped says little about the others of its pool, so the pauses begin short;
// a limit or a pause of the manager says how long.
func (r *Repairer) refused(p *pool, err *cell.Error) {
	pause := r.config.Pause.Refused << min(p.refusals, 10)
	if err.Kind == cell.Overloaded && err.RetryAfter > 0 {
		pause = err.RetryAfter
	}
	p.refusals++
	p.stalled = r.now + min(max(pause, 0), r.config.Pause.Most)
	p.why = err.Error()
	if len(p.why) > failureBytesMax {
		p.why = p.why[:failureBytesMax]
	}
}

// Withdrawn takes the answer to a withdrawal: whether the replacement was given up.
func (r *Repairer) Withdrawn(now time.Duration, id cell.ID, remove cell.ServerID, given bool) {
	r.advance(now)
	ref := r.find(id)
	a := r.active[ref]
	if ref == 0 || a == nil || a.phase != withdrawing || r.hosts[a.remove].id != remove {
		return
	}
	if !given {
		a.phase = late
		return
	}
	r.stats.Withdrawn++
	r.retire(ref, a)
	r.assess(ref)
}

// reconsider looks at a cell that has a proposal.
func (r *Repairer) reconsider(ref cellRef, a *active, v view) {
	h := &r.hosts[a.remove]
	switch a.phase {
	case resting:
		// A cell that is now worse rests no longer; one that is better needs nothing.
		if v.class != a.class {
			r.retire(ref, a)
			r.enqueue(ref, v.class)
		}
	case begun:
		// Wanted is what would be proposed now; and while a server is returning, what was proposed before.
		_, _, gone := r.gone(ref, a.remove)
		wanted := h.state == hostReturning || gone && v.class != classLost && v.class != classHeld && v.class != classFine
		if !wanted {
			a.phase = withdrawing
			r.out.Withdraw = append(r.out.Withdraw, Withdrawal{Cell: r.row(ref).id, Remove: h.id})
		}
	case asked, withdrawing, late: // an answer is owed, or its end
	}
}

// later has a proposal looked at again after a while.
func (r *Repairer) later(ref cellRef, a *active, after time.Duration) {
	a.until = r.now + max(after, 0)
	heap.Push(&r.wakes, wake{a.until, ref, a.serial})
}

// wake ends pauses and patience with proposals.
func (r *Repairer) wake() {
	for len(r.wakes) > 0 && r.wakes[0].at <= r.now {
		due := heap.Pop(&r.wakes).(wake)
		a := r.active[due.cell]
		if a == nil || a.serial != due.serial || a.until > r.now {
			continue
		}
		// A withdrawal is answered soon, so whoever is still here is over, or stuck and proposed again.
		if a.phase == withdrawing {
			r.later(due.cell, a, r.config.Pause.UnderWay)
			continue
		}
		r.retire(due.cell, a)
		r.assess(due.cell)
	}
}

// retire ends a proposal; its cell stands in no queue then.
func (r *Repairer) retire(ref cellRef, a *active) {
	if a.phase != resting {
		r.inFlight--
	}
	if a.phase == asked {
		r.pools[a.pool].asked--
	}
	delete(r.active, ref)
	r.enqueue(ref, classFine)
}

// describe shows how a proposal stands, for people.
func (a *active) describe(now time.Duration) string {
	switch a.phase {
	case asked:
		return "proposed"
	case begun, late:
		return "under way"
	case withdrawing:
		return "being given up"
	}
	return fmt.Sprintf("rests for %v", round(max(a.until-now, 0)))
}
