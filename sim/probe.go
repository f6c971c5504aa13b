package sim

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// A probe asks every cell of a site to write, while parts of the site are lost, and compares who answers with a count by hand: a cell
// with four members that run and hear each other must answer, one without four that run and hear one of them must not. The share of
// cells that do not answer is what the laboratory computes for its figures, so this is where the two meet.
//
// And it asks what the loss should have cost at most: where all that is lost is one rack, one power domain, or the servers of one cell, every other
// cell keeps a majority; what is lost in one pool, cells of other pools do not notice.

// asked is one cell under a probe.
type asked struct {
	v           *volume
	client      *client
	began       time.Duration
	must, never bool
}

// probe asks all cells, and judges when its time is over.
func (w *World) probe(f *Fault) {
	// What is taken for constant is looked at now and in the end. What the loss may cost at most is known at once.
	before := w.condition()
	lost := w.lost()
	w.checkLoss(lost)
	all := []*asked{}
	for _, v := range w.cells {
		if v.sealing || len(v.known.Members) == 0 {
			continue
		}
		a := &asked{v: v, client: w.newClient(v, len(w.clients)), began: w.now}
		a.must, a.never = w.canServe(v)
		a.client.settler, a.client.left = true, 0
		all = append(all, a)
		a.pursue(w.now + f.For)
	}
	w.after(f.For, func() {
		for _, a := range all {
			a.client.left = 0
		}
		if w.healed || w.failure != nil {
			return
		}
		if !slices.Equal(before, w.condition()) { // something else happened: nothing follows from the answers
			w.report.ProbesVoid++
			return
		}
		for _, a := range all {
			w.judgeAsked(a, lost)
		}
	})
}

// pursue begins writes until one is answered or the time is over.
func (a *asked) pursue(end time.Duration) {
	w := a.client.session.world
	if w.healed || w.now >= end || a.answered() {
		return
	}
	if a.client.current == nil {
		a.client.left = 1
		a.client.start()
	}
	w.after(10*time.Millisecond, func() { a.pursue(end) })
}

// answered reports whether a write of the probe took effect.
func (a *asked) answered() bool {
	for _, o := range a.client.session.world.ops {
		if o.client == a.client && o.fate == answered {
			return true
		}
	}
	return false
}

// judgeAsked compares what was answered with what was counted. A jury that changed meanwhile counts as both.
func (w *World) judgeAsked(a *asked, lost Servers) {
	must, never := w.canServe(a.v)
	must, never = must && a.must, never && a.never
	served := a.answered()
	w.report.Probed++
	if never {
		w.report.Unserved++
	}
	w.trace.note(w.now, "%s was asked to write: must %v, must not %v, answered %v, lost %032b", a.v.id, must, never, served, lost)
	switch {
	case must && !served:
		w.fail("served", place{v: a.v}, "four members run and hear each other since %v, and no write was answered", a.began)
	case never && served:
		w.fail("served", place{v: a.v}, "a write was answered without four members that hear each other")
	}
}

// condition is everything that a probe takes for constant.
func (w *World) condition() (all []int) {
	for _, s := range w.servers {
		up := s.life*4 + s.paused
		if s.core == nil {
			up = -1
		}
		all = append(all, up)
		for _, o := range w.servers {
			for lane := range w.net.lanes {
				all = append(all, w.net.lanes[lane][s.at][o.at])
			}
		}
	}
	return all
}

// talk reports whether two servers run and hear each other on all lanes.
func (w *World) talk(a, b *server) bool {
	if a.core == nil || b.core == nil || a.paused+b.paused > 0 {
		return false
	}
	for lane := range w.net.lanes {
		if a != b && w.net.lanes[lane][a.at][b.at]+w.net.lanes[lane][b.at][a.at] > 0 {
			return false
		}
	}
	return true
}

// canServe counts: must is that four members with nodes run and all hear each other; never is that of no member four run, itself
// included, that it hears. In between nothing is claimed.
func (w *World) canServe(v *volume) (must, never bool) {
	jury := w.serversOf(v.known.Members)
	most, star := 0, 0
	for _, a := range jury {
		if n := countIf(jury, func(b *server) bool { return w.talk(a, b) }); n > star {
			star = n
		}
	}
	// All sets of members, since seven have only 128: the count must be too simple to be wrong.
	for set := range 1 << len(jury) {
		n, all := 0, true
		for i, a := range jury {
			if set>>i&1 == 0 {
				continue
			}
			n++
			all = all && v.hosted[a.at]
			for j, b := range jury[:i] {
				all = all && (set>>j&1 == 0 || w.talk(a, b))
			}
		}
		if all && (n > 1 || n == 1 && star > 0) {
			most = max(most, n)
		}
	}
	return most > jurySize/2, star <= jurySize/2
}

// serversOf are the servers of members.
func (w *World) serversOf(members []wire.Founder) (jury []*server) {
	for _, m := range members {
		jury = append(jury, w.serverNamed(m.Server))
	}
	return jury
}

// countIf counts the elements for which a condition holds.
func countIf[T any](all []T, is func(T) bool) (n int) {
	for _, x := range all {
		if is(x) {
			n++
		}
	}
	return n
}

// lost is who does not run, or is not in the largest part of the network.
func (w *World) lost() Servers {
	best := Servers(0)
	for _, a := range w.servers {
		if part := w.in(func(b *server) bool { return w.talk(a, b) }); part.count() > best.count() {
			best = part
		}
	}
	return w.everybody() &^ best
}

// jurySet is the members of a cell as a set.
func (w *World) jurySet(v *volume) (set Servers) {
	for _, s := range w.serversOf(v.known.Members) {
		set |= 1 << s.at
	}
	return set
}

// checkLoss says whether a loss costs more than it may (DESIGN.md, section 9; NSDI 2020, sections 2.2 and 3.4). Of each cell only its own
// pool is looked at: what is lost elsewhere must not matter to it.
func (w *World) checkLoss(lost Servers) {
	for _, v := range w.cells {
		jury := w.jurySet(v)
		if jury == 0 {
			continue
		}
		pool := w.plan.poolSet(w.serverNamed(v.known.Members[0].Server).at)
		if outside := (jury &^ pool).count(); outside > 0 {
			w.fail("blast", place{v: v}, "%d of its members are of another color or brick", outside)
		}
		here, left := lost&pool, (jury &^ lost).count()
		if left > jurySize/2 {
			continue
		}
		for _, d := range w.plan.siteDomains() {
			if here&^d.set == 0 {
				w.fail("blast", place{v: v}, "the loss of %s alone leaves it %d members", d.name, left)
			}
		}
		for _, o := range w.cells {
			if o != v && here&^w.jurySet(o) == 0 {
				w.fail("blast", place{v: v}, "the loss of the servers of %s leaves it %d members", o.id, left)
			}
		}
	}
}

// checkColors sees every byte that passes between two servers of a site: nothing does between bricks or colors.
func (w *World) checkColors(from, to *server) {
	if w.plan.Site == nil {
		return
	}
	if a, b := w.plan.spot(from.at), w.plan.spot(to.at); a.color != b.color || a.brick != b.brick {
		w.fail("colors", place{s: from}, "it sends something to %s, which is of another color or brick", to.id)
	}
}

// checkChange looks at a new jury of a site, where nobody but repair and balance change one. A change takes at most one member that
// runs, and gives one that runs for it: who has been back for long, or away for long, decides. So repair never makes things worse.
func (w *World) checkChange(v *volume, before, after []wire.Founder) {
	if w.plan.Site == nil || len(before) == 0 {
		return
	}
	const long = time.Second // longer than a replacement is under way
	has := func(all []wire.Founder, id cell.ServerID) bool {
		return slices.ContainsFunc(all, func(m wire.Founder) bool { return m.Server == id })
	}
	// Whoever died a moment ago may have been alive when it was chosen, and whoever is back for a moment may have been dead when it
	// was given up: neither is held against repair.
	gained, given := 0, 0
	for _, m := range after {
		if s := w.serverNamed(m.Server); !has(before, m.Server) && (s.core != nil || w.now-s.since < long) {
			gained++
		}
	}
	for _, m := range before {
		if s := w.serverNamed(m.Server); !has(after, m.Server) && s.core != nil && w.now-s.since > long {
			given++
		}
	}
	if given > gained {
		w.fail("margin", place{v: v}, "its jury changes from %v to %v, and fewer of its members run", before, after)
	}
}
