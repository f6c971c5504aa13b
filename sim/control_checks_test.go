package sim

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// A server that crashes before its node is durable never hosted it, for anybody: a founding that seven such servers took up binds
// nobody. One that has answered did.
func TestWhatACrashTookWasNeverHosted(t *testing.T) {
	w := newWorld(controlled())
	f := wire.Founding{Cell: "tmp-9", Incarnation: 1, Owner: 1, Alpha: 3}
	for i, s := range w.servers[:jurySize] {
		f.Members = append(f.Members, wire.Founder{Node: uint64(i) + 1, Server: s.id, PeerAddr: string(s.id), ClientAddr: string(s.id)})
	}
	params := (&wire.CreateNodes{Foundings: []wire.Founding{f}}).Append(nil)
	v := w.volumeOf("tmp-9", 1)
	for _, early := range []bool{true, false} {
		s := w.servers[0]
		if !early {
			s = w.servers[1]
		}
		w.runUntil(time.Second, func() bool { return s.core.Ready() })
		answered := false
		w.deliver(s, &call{wire.MethodCreateNodes, func(_ []byte, err *cell.Error) { answered = err == nil }}, wire.MethodCreateNodes, params)
		w.runUntil(w.now+time.Second, func() bool { return v.hosted[s.at] && (early || answered) })
		if w.failure != nil || !v.hosted[s.at] || answered == early {
			t.Fatalf("%s hosts %v, answered %v: %v", s.id, v.hosted[s.at], answered, w.failure)
		}
		s.crash(0)
		if v.hosted[s.at] == early {
			t.Errorf("%s crashed before its batch was durable: %v; it counts as a host: %v", s.id, early, v.hosted[s.at])
		}
	}
}

// An operator who rebuilds the store does not wait for a server that is not let in, since its disk is not the one that is known.
func TestRefusedServersAreNotInTheFleet(t *testing.T) {
	w := newWorld(controlled())
	c := w.control
	w.runUntil(500*time.Millisecond, func() bool { return c.active != nil && c.active.links[0].up })
	s := w.servers[0]
	g := s.registration()
	g.Boot += 5
	if _, err := c.active.tracker.ServerSeen(c.active.now(), g); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []bool{true, false} {
		c.active.register(s)
		w.runUntil(w.now+50*time.Millisecond, func() bool { return c.active.refused.Has(s.at) == refused })
		if want := len(w.servers); refused && c.fleet() != want-1 || !refused && c.fleet() != want {
			t.Errorf("refused: %v, and the fleet is %d of %d servers", refused, c.fleet(), want)
		}
		s.boot = g.Boot
	}
}

// Where a member has missed its founding and the store was lost, another server must be left to take its place.
func TestServersAreLeftForWhoMissedTheFounding(t *testing.T) {
	w := newWorld(controlled())
	v := w.volumeOf("tmp-9", 1)
	v.known.Number = 1
	for i, s := range w.servers[:jurySize] {
		v.known.Members = append(v.known.Members, wire.Founder{Node: uint64(i) + 1, Server: s.id})
		v.hosted[i] = i > 0
	}
	for _, x := range []struct {
		dead Servers
		lost bool
		want bool
	}{{0, true, true}, {Some(8), true, true}, {Some(7, 8), true, false}, {Some(0, 8), true, true}, {Some(7, 8), false, true}} {
		w.control.vault.lost = x.lost
		if got := w.spared(x.dead); got != x.want {
			t.Errorf("dead %09b, store lost: %v: spared: %v", x.dead, x.lost, got)
		}
	}
}

// An order to be empty that is overtaken by the order to serve is undone all the same.
func TestDrainsThatAreOvertakenAreUndone(t *testing.T) {
	for seed := range uint64(40) {
		p := controlled()
		p.Seed, p.Control.Wishes = seed, 0
		w := newWorld(p)
		o := &w.control.people
		w.runUntil(400*time.Millisecond, func() bool { return false })
		s := w.servers[8].id
		o.drained[s] = w.now
		o.duty(s, lifecycle.Draining)
		o.restore(s)
		w.runUntil(w.now+3*time.Second, func() bool { return len(o.drained) == 0 })
		w.runUntil(w.now+10*time.Millisecond, func() bool { return false })
		if len(o.drained) > 0 || w.failure != nil {
			t.Fatalf("seed %d: drained are %v: %v", seed, o.drained, w.failure)
		}
		if duty := dutyOf(w, s); duty != "" {
			t.Fatalf("seed %d: %s is %s, and no operator remembers it", seed, s, duty)
		}
	}
}

// dutyOf is what a server is to be, as the manager has it; empty when it serves.
func dutyOf(w *World, s cell.ServerID) string {
	p, duty := w.control.active, "?"
	p.ask(func(now time.Duration, id lifecycle.RequestID) { p.manager.Status(now, id, wire.StatusRequest{}) }, func(r lifecycle.Reply) {
		duty = ""
		for _, d := range r.Status.Drains {
			if d.Server == s {
				duty = d.Duty
			}
		}
	})
	w.runUntil(w.now+time.Second, func() bool { return duty != "?" })
	return duty
}
