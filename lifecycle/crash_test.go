package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/internal/wire"
)

func smallConfig() Config {
	return Config{Jury: 3, Batch: 4, CallsPerServer: 2, Calls: 8, Seals: 4, SealsPerServer: 2, PlansPerTurn: 3, Seed: 7}
}

// story is a script that touches every transition: creations, one with a member down, a deletion, a deletion while a
// member is down followed by the next incarnation, and the member's return.
func story(w *world) {
	w.create(time.Minute, "a", "b", "c")
	w.drain()
	w.setUp(w.servers[0], false)
	w.create(time.Minute, "d")
	w.drain()
	w.delete(time.Minute, wire.Drop{Cell: "a"}, wire.Drop{Cell: "b", Incarnation: 1})
	w.drain()
	w.create(time.Minute, "a")
	w.drain()
	w.setUp(w.servers[0], true)
	w.drain()
	w.delete(time.Minute, wire.Drop{Cell: "d"})
	w.drain()
}

// drain lets everything in flight arrive, without waiting for timers.
func (w *world) drain() {
	for len(w.flight) > 0 {
		w.deliver(0, true, true)
	}
}

// TestCrashAtEveryEffect kills the manager before each single effect of a story, goes on with the story, and converges.
func TestCrashAtEveryEffect(t *testing.T) {
	run := func(dieAt int) *world {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("crash before effect %d: %s", dieAt, fmt.Sprintf(format, args...))
		}
		w := newWorld(fail, smallConfig(), 5)
		w.dieAt = dieAt
		story(w)
		w.settle()
		w.dieAt = 0
		w.checkSettled()
		return w
	}
	calm := run(0)
	effects := calm.steps - 1 // the last one is the list that checkSettled asked for
	if effects < 30 {
		t.Fatalf("the story has %d effects, too few to be one", effects)
	}
	if got := calm.states(); got != "a.2 live, b.1 deleted, c.1 live, d.1 deleted" {
		t.Fatalf("without a crash: %s", got)
	}
	for k := 1; k <= effects; k++ {
		if w := run(k); !w.died {
			t.Fatalf("no crash before effect %d of %d", k, effects)
		}
	}
}

func (w *world) states() (s string) {
	for i, c := range w.list() {
		if i > 0 {
			s += ", "
		}
		s += fmt.Sprintf("%s.%d %s", c.Cell, c.Incarnation, c.State)
	}
	return s
}

// TestRandomWorld lets a random schedule of requests, losses, deaths, returns and crashes run, and holds every invariant
// all the way; at the end everything converges.
func TestRandomWorld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := smallConfig()
		c.Seed = rapid.Uint64().Draw(t, "seed")
		w := newWorld(t.Fatalf, c, rapid.IntRange(3, 6).Draw(t, "servers"))
		names := []cell.ID{"a", "b", "c", "d"}
		name := func() cell.ID { return rapid.SampledFrom(names).Draw(t, "name") }
		wait := func() time.Duration {
			return time.Duration(rapid.IntRange(0, 3).Draw(t, "wait")) * time.Second
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) { w.create(wait(), name(), name()) },
			"delete": func(t *rapid.T) {
				inc := cell.Incarnation(rapid.IntRange(0, 3).Draw(t, "incarnation"))
				w.delete(wait(), wire.Drop{Cell: name(), Incarnation: inc})
			},
			"deliver": func(t *rapid.T) { w.deliverSome(t, true, true) },
			"arrive":  func(t *rapid.T) { w.deliverSome(t, true, true) },
			"unheard": func(t *rapid.T) { w.deliverSome(t, true, false) },
			"lose":    func(t *rapid.T) { w.deliverSome(t, false, false) },
			"server": func(t *rapid.T) {
				s := w.servers[rapid.IntRange(0, len(w.servers)-1).Draw(t, "server")]
				w.setUp(s, !s.up)
			},
			"refuse": func(t *rapid.T) {
				s := w.servers[rapid.IntRange(0, len(w.servers)-1).Draw(t, "server")]
				s.refuse, s.keep = nil, nil
				if rapid.Bool().Draw(t, "refuse") {
					s.refuse = &cell.Error{Kind: cell.NoRoom, Detail: "disk full"}
				}
				if rapid.Bool().Draw(t, "keep") {
					s.keep = &cell.Error{Kind: cell.Unavailable, Detail: "disk slow"}
				}
			},
			"tombstone": func(t *rapid.T) {
				s := w.servers[rapid.IntRange(0, len(w.servers)-1).Draw(t, "server")]
				for _, n := range names {
					w.bury(s, n)
				}
			},
			"time": func(t *rapid.T) {
				w.now += time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond
				w.turn()
			},
			"crash": func(t *rapid.T) { w.crash() },
			"crash soon": func(t *rapid.T) {
				w.dieAt = w.steps + rapid.IntRange(1, 6).Draw(t, "effects")
			},
		})
		w.dieAt = 0
		for _, s := range w.servers {
			s.refuse, s.keep = nil, nil
		}
		w.settle()
		w.checkSettled()
		if len(w.open) != 0 {
			t.Fatalf("requests without an answer: %v", w.open)
		}
	})
}

// bury gives a server a tombstone for the first incarnation of a cell that it never heard of, as if the store had
// forgotten a deletion.
func (w *world) bury(s *fakeServer, name cell.ID) {
	for k := range s.nodes {
		if k.cell == name {
			return
		}
	}
	s.tombs[name] = max(s.tombs[name], 1)
}

func (w *world) deliverSome(t *rapid.T, arrives, answered bool) {
	if len(w.flight) == 0 {
		t.Skip("nothing in flight")
	}
	w.deliver(rapid.IntRange(0, len(w.flight)-1).Draw(t, "call"), arrives, answered)
}
