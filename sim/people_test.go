package sim

import (
	"testing"

	"physalia/client/route"
)

// People beside the clients get somewhere: locks are taken and given back or lost, records move, blocks are read and written.
func TestPeopleGetSomewhere(t *testing.T) {
	var sum Report
	for seed := uint64(1); seed <= 40; seed++ {
		p := Draw(SeedSource(seed))
		p.Lockers, p.Recorders, p.Store = 2, 2, true
		r := Run(p)
		if r.Failure != nil {
			t.Fatal(r.Describe())
		}
		sum.Add(r)
	}
	t.Log(sum.Locks, sum.LeaseEnds, sum.Records, sum.BlockOps)
	if sum.Locks < 200 || sum.Records < 100 || sum.BlockOps < 500 {
		t.Errorf("%d locks, %d records, %d operations on blocks", sum.Locks, sum.Records, sum.BlockOps)
	}
	for _, why := range []route.HoldEnd{route.HoldLapsed, route.HoldClosed} {
		if sum.LeaseEnds[why] < 10 {
			t.Errorf("%d leases ended as %q", sum.LeaseEnds[why], why)
		}
	}
}

// The checkers of people can fail: something is changed behind the back of a run that was fine.
func TestCheckersOfPeopleSee(t *testing.T) {
	for name, c := range map[string]struct {
		checker string
		tamper  func(w *World)
	}{
		"a lease lost without an end": {"lease", func(w *World) { w.gone = append(w.gone, loss{w.lockers[0].session, 1 << 40}) }},
		"a generation twice":          {"fences", func(w *World) { w.grants = append(w.grants, w.grants[len(w.grants)-1]) }},
		"a block of another content": {"block store", func(w *World) {
			for i := range w.store.history {
				w.store.history[i].Data = "nobody's"
			}
		}},
	} {
		p := small()
		p.Lockers, p.Recorders, p.Store = 2, 2, true
		w := newWorld(p)
		if w.play(); w.failure != nil {
			t.Fatal(w.failure)
		}
		c.tamper(w)
		only(w, c.checker)
		if w.judge(); w.failure == nil {
			t.Errorf("%s: %s sees nothing", name, c.checker)
		}
	}
}

// The proposer is deaf, and behind the back of the schedule nobody else hears anything either: no write gets through, and that is seen.
func TestUsefulSees(t *testing.T) {
	p := small(Fault{Kind: Deafen, Proposer: true, At: 500 * millisecond, For: usefulTime + 2*millisecond})
	p.Span, p.Clients, p.Ops = 5*usefulTime/3, 3, 30
	w := newWorld(p)
	w.after(510*millisecond, func() {
		for a := range w.servers {
			for b := range w.servers {
				w.net.change(a, b, allLanes, 1)
			}
		}
	})
	w.runUntil(p.Span, never)
	expect(t, w, "useful", "none of")
}
