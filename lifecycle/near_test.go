package lifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/topology"
	"physalia/internal/wire"
)

// racked is a world of servers in racks and power domains, round-robin.
func racked(fail func(string, ...any), c Config, servers, racks, powers int) *world {
	w := newWorld(fail, c, 0)
	for i := range servers {
		s := &fakeServer{reg: testServer(i), up: true, nodes: map[incKey]wire.Founding{}, tombs: map[cell.ID]cell.Incarnation{}, slots: map[incKey]uint64{}}
		s.reg.Rack, s.reg.Power = fmt.Sprintf("r%d", i%racks), fmt.Sprintf("p%d", i%powers)
		w.servers = append(w.servers, s)
		w.byID[s.reg.Server] = s
	}
	w.start()
	return w
}

func (w *world) locate(wait time.Duration, name cell.ID, user cell.ServerID) RequestID {
	w.nextID++
	w.m.Locate(w.now, w.nextID, wire.LocateVolume{Cell: name, Client: user, Primary: user, Replica: user, Wait: uint32(wait / time.Millisecond)})
	w.turn()
	return w.nextID
}

// far is how many steps the members of a cell are from a server, all together.
func (w *world) far(c wire.CellInfo, user cell.ServerID) (steps int) {
	place := func(id cell.ServerID) topology.Location {
		s := placeOf(&w.byID[id].reg)
		return s.Location()
	}
	for _, id := range serversOf(c) {
		steps += int(place(id).Distance(place(user)))
	}
	return steps
}

// nearest is how near seven members can be in this world of eight racks and four power domains: one on the very server, two more
// in its rack, four wherever in the brick, since neither rack nor power domain may hold four.
const nearest = 0 + 2*int(topology.SameRack) + 4*int(topology.SameBrick)

// TestCellFollowsItsUsers: the members go where the users are, one after the other, and again when they jump; what is told is
// remembered, and what is near enough is left alone.
func TestCellFollowsItsUsers(t *testing.T) {
	w := racked(t.Fatalf, seven(), 32, 8, 4)
	w.create(time.Minute, "a")
	w.settle()
	for _, user := range []cell.ServerID{"s01", "s06", "s23"} {
		id := w.locate(5*time.Minute, "a", user)
		w.unanswered(t, id)
		w.wantCell(t, "a", 1, "live", "is being replaced by")
		for range 400 {
			w.advance(100 * time.Millisecond)
			if conf := w.cells[incKey{"a", 1}].conf; len(conf.Learners) > 1 || len(conf.Members) != 7 {
				t.Fatalf("more than one member is being replaced: %+v", conf)
			}
		}
		if err := w.outcome(t, id); err != nil {
			t.Fatal(err)
		}
		if c := w.wantCell(t, "a", 1, "live", ""); w.far(c, user) != nearest {
			t.Fatalf("the members are %v, %d steps from %s, want %d", serversOf(c), w.far(c, user), user, nearest)
		}
	}
	if err := w.outcome(t, w.locate(time.Minute, "a", "s23")); err != nil {
		t.Fatalf("told again: %v", err)
	}
	w.crash()
	if len(w.m.users) != 1 || len(w.m.following) != 0 {
		t.Fatalf("after a restart %d users are known, %d cells are looked at", len(w.m.users), len(w.m.following))
	}
	wantError(t, w.outcome(t, w.locate(0, "a", "nobody")), cell.NotFound, "is not known")
	wantError(t, w.outcome(t, w.locate(0, "b", "s01")), cell.NotFound, "no such cell")
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.settle()
	if id := w.locate(0, "a", ""); w.outcome(t, id) == nil {
		t.Fatal("a deleted cell was located")
	}
	w.create(time.Minute, "a")
	w.settle()
	w.checkSettled()
}

// TestUsersAreForgotten: with the cell, and on request; its next incarnation is not near to anybody.
func TestUsersAreForgotten(t *testing.T) {
	w := racked(t.Fatalf, seven(), 16, 8, 4)
	w.create(time.Minute, "a", "b")
	w.settle()
	for _, name := range []cell.ID{"a", "b"} {
		if err := w.outcome(t, w.locate(0, name, "s01")); err != nil {
			t.Fatal(err)
		}
	}
	w.settle()
	if err := w.outcome(t, w.locate(time.Minute, "a", "")); err != nil {
		t.Fatal(err)
	}
	w.delete(time.Minute, wire.Drop{Cell: "b"})
	w.settle()
	w.create(time.Minute, "b")
	w.settle()
	w.locate(0, "b", "")
	if len(w.m.users) != 0 {
		t.Fatalf("%d users are known", len(w.m.users))
	}
	w.crash()
	if len(w.m.users) != 0 {
		t.Fatalf("%d users are stored", len(w.m.users))
	}
	w.settle()
	w.checkSettled()
}

// TestFollowingWaitsForRepair: a cell with a dead member is not moved about.
func TestFollowingWaitsForRepair(t *testing.T) {
	w := racked(t.Fatalf, seven(), 32, 8, 4)
	w.create(time.Minute, "a")
	w.settle()
	before := serversOf(w.wantCell(t, "a", 1, "live", ""))
	w.setUp(w.byID[before[3]], false)
	id := w.locate(5*time.Minute, "a", "s06")
	w.advance(30 * time.Second)
	w.unanswered(t, id)
	if now := serversOf(w.wantCell(t, "a", 1, "live", "")); !slices.Equal(now, before) {
		t.Fatalf("the members were %v, are %v", before, now)
	}
	w.setUp(w.byID[before[3]], true)
	w.advance(60 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
}

// TestFollowingSurvivesACrashAtEveryEffect: whatever was noted is followed by the next manager without being told again.
func TestFollowingSurvivesACrashAtEveryEffect(t *testing.T) {
	run := func(dieAt int) *world {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("crash before effect %d: %s", dieAt, fmt.Sprintf(format, args...))
		}
		w := racked(fail, seven(), 16, 8, 4)
		w.create(time.Minute, "a")
		w.settle()
		w.steps, w.dieAt = 0, dieAt
		w.locate(time.Minute, "a", "s06")
		noted := !w.died
		w.settle()
		steps := w.steps
		w.dieAt = 0
		if c := w.wantCell(t, "a", 1, "live", ""); noted && w.far(c, "s06") > nearest+1 {
			fail("the members are %v, %d steps away", serversOf(c), w.far(c, "s06"))
		}
		if log := w.cells[incKey{"a", 1}]; log != nil && len(log.conf.Learners) > 0 {
			fail("learners are left: %+v", log.conf)
		}
		w.checkSettled()
		w.steps = steps
		return w
	}
	calm := run(0)
	if calm.steps < 20 {
		t.Fatalf("following has %d effects, too few to be one", calm.steps)
	}
	for k := 1; k <= calm.steps; k++ {
		if w := run(k); !w.died {
			t.Fatalf("no crash before effect %d of %d", k, calm.steps)
		}
	}
}
