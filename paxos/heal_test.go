package paxos

import (
	"fmt"
	"slices"
)

// healNudges is how many rounds of nudges a cell may need to be whole again: to find a leader, to finish what is under way,
// to close the window of a change, to settle it, and to tell everybody.
const healNudges = 40

// heal ends a schedule: as many die as may, the others are connected and have disks that work. Within a bounded number of
// nudges they must choose a new command, finish the change that is under way, bring all members there, answer everybody who
// waits, and release who left.
func (p *player) heal(s *schedule) {
	w := p.w
	alive := p.survivors(s.heals)
	for round := range healNudges {
		w.settle(alive)
		if p.converged(alive) {
			return
		}
		p.lead(alive, round)
		for _, n := range alive {
			if r := w.member(n).replica; r != nil && r.Unfinished() {
				r.Nudge()
			}
		}
		if round > healNudges/2 {
			p.compare(alive)
		}
	}
	text := ""
	for _, n := range alive {
		if m := w.member(n); m.replica != nil {
			text += "\n  " + m.replica.Describe() + fmt.Sprint(" owes ", w.check.unanswered(m))
		}
	}
	w.check.holds(false, "liveness", "%v did not converge within %d nudges:%s", alive, healNudges, text)
}

// survivors lets nodes die, one after the other, as long as every jury that may still be needed keeps a majority; it restarts
// the others. What was under way may still arrive.
func (p *player) survivors(pick uint) (alive []NodeNumber) {
	w := p.w
	for _, m := range w.members {
		if m.isThere() {
			alive = append(alive, m.cfg.Self)
		}
	}
	var doomed []NodeNumber
	for i := range len(w.members) {
		doomed = append(doomed, NodeNumber((int(pick)+i*(1+int(pick>>8)%2))%len(w.members)+1))
	}
	if pick>>13&1 == 1 { // those who know most die first
		slices.SortStableFunc(doomed, func(a, b NodeNumber) int {
			return int(w.member(b).disk.image.restartsAt()) - int(w.member(a).disk.image.restartsAt())
		})
	}
	needed := p.needed()
	for _, n := range doomed {
		rest := slices.DeleteFunc(slices.Clone(alive), func(a NodeNumber) bool { return a == n })
		if !slices.ContainsFunc(needed, func(l lawful) bool {
			return l.count(func(n NodeNumber) bool { return slices.Contains(rest, n) }) < l.majority()
		}) {
			alive = rest
		}
	}
	w.mute = pick>>12&1 == 1
	for _, m := range w.members {
		switch lives := slices.Contains(alive, m.cfg.Self); {
		case !lives && m.replica != nil:
			w.crash(m, 0)
		case lives && m.replica == nil:
			w.restart(m)
		}
	}
	return alive
}

// needed lists the juries without which the cell may be stuck: the one in force and those around it, and those that an entry
// would make that was offered and may be chosen.
func (p *player) needed() (juries []lawful) {
	t := p.w.check.twin
	first := int(t.settled) - 1
	juries = slices.Clone(t.juries[first:])
	offered := func(c *Change) {
		for _, l := range juries {
			if c != nil && c.Kind == Replace && l.number == c.Number && slices.Contains(l.jury, c.Old) && !slices.Contains(l.jury, c.New) {
				jury := append(slices.DeleteFunc(slices.Clone(l.jury), func(n NodeNumber) bool { return n == c.Old }), c.New)
				juries = append(juries, lawful{number: l.number + 1, jury: jury})
				return
			}
		}
	}
	for s, offers := range p.w.check.offers {
		for _, o := range offers {
			if int(s) > len(p.w.check.agreed) {
				offered(o.entry.Change)
			}
		}
	}
	for _, m := range p.w.members {
		if m.replica != nil {
			offered(m.replica.change)
		}
	}
	return juries
}

// converged reports whether all survivors delivered a marker or the seal, and owe nothing, and whether those that left are
// gone.
func (p *player) converged(alive []NodeNumber) bool {
	for _, n := range alive {
		m := p.w.member(n)
		if m.replica == nil {
			continue // released
		}
		if m.replica.IsSealed() && len(p.w.check.unanswered(m)) == 0 && !m.replica.Unfinished() {
			continue
		}
		if p.marked() == 0 || m.replica.Applied() < p.marked() || len(p.w.check.unanswered(m)) > 0 {
			return false
		}
		if m.replica.Configuration().Learner(n) == nil && m.replica.Unfinished() {
			return false // a learner goes on asking whether it is a member
		}
	}
	return true
}

// marked is the slot of a chosen marker, zero when there is none.
func (p *player) marked() Slot {
	for i := range p.markers {
		if f := p.w.check.named[fmt.Sprint("marker", i+1)]; f.slot > 0 {
			return f.slot
		}
	}
	return 0
}

// lead does what hosts do: whoever leads gets a marker, and when nobody does, somebody campaigns, and now and then somebody
// else, too. A marker whose outcome is unknown is followed by another one.
func (p *player) lead(alive []NodeNumber, round int) {
	w := p.w
	busy := false
	for _, n := range alive {
		m := w.member(n)
		if m.replica == nil {
			continue
		}
		if w.check.sealedAt != 0 && !m.replica.IsSealed() {
			m.replica.Campaign() // a sealed cell has nothing more to say to those who missed the seal; they have to ask
		}
		busy = busy || m.replica.Role() == Candidate
		if m.replica.Role() == Proposer && !m.replica.IsSealed() {
			if p.marked() == 0 && len(w.check.unanswered(m)) == 0 {
				p.markers++
				w.propose(m, fmt.Sprint("marker", p.markers))
			}
			return
		}
	}
	if r := w.member(alive[round%len(alive)]).replica; (!busy || round%4 == 3) && r != nil {
		r.Campaign()
	}
}

// compare does what servers do that share cells: whoever is behind is told. It is the only way for a node to hear of its
// removal when all notices of it were lost, and for a learner that was dropped.
func (p *player) compare(alive []NodeNumber) {
	ahead := p.w.member(alive[0])
	for _, n := range alive {
		if m := p.w.member(n); m.replica != nil && (ahead.replica == nil || m.replica.Applied() > ahead.replica.Applied()) {
			ahead = m
		}
	}
	for _, n := range alive {
		m := p.w.member(n)
		if m.replica != nil && m.replica.Applied() < ahead.replica.Applied() && !m.replica.Unfinished() {
			p.w.network = append(p.w.network, Message{Kind: MsgLearn, From: n, To: ahead.cfg.Self, Slot: m.replica.Applied() + 1})
		}
	}
}
