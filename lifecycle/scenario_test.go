package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// outcome returns the one outcome of a request, or fails when it is not answered.
func (w *world) outcome(t *testing.T, id RequestID) *cell.Error {
	t.Helper()
	r, ok := w.replies[id]
	if !ok || r.Outcomes == nil || len(r.Outcomes.Outcomes) != 1 {
		t.Fatalf("request %d: answered is %v: %+v", id, ok, r)
	}
	return r.Outcomes.Outcomes[0].Err
}

func (w *world) unanswered(t *testing.T, id RequestID) {
	t.Helper()
	if r, ok := w.replies[id]; ok {
		t.Fatalf("request %d is answered already: %+v", id, r)
	}
}

func wantError(t *testing.T, err *cell.Error, k cell.Kind, text string) {
	t.Helper()
	if err == nil || err.Kind != k || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want %v with %q", err, k, text)
	}
}

// wantCell checks the state of one cell and what it waits for; an empty text means that it waits for nothing.
func (w *world) wantCell(t *testing.T, name cell.ID, inc cell.Incarnation, state, waiting string) wire.CellInfo {
	t.Helper()
	for _, c := range w.list() {
		if c.Cell != name {
			continue
		}
		if c.Incarnation != inc || c.State != state || !strings.Contains(c.Waiting, waiting) || (waiting == "") != (c.Waiting == "") {
			t.Fatalf("%s.%d is %s, waiting for %q; want %d, %s, %q", name, c.Incarnation, c.State, c.Waiting, inc, state, waiting)
		}
		return c
	}
	t.Fatalf("%s is not listed", name)
	return wire.CellInfo{}
}

// advance lets time pass in small steps, with everything in flight arriving.
func (w *world) advance(d time.Duration) {
	for end := w.now + d; ; {
		w.turn()
		w.drain()
		at, ok := w.m.Next()
		if !ok || at > end {
			w.now = end
			w.turn()
			w.drain()
			return
		}
		w.now = max(w.now, at)
	}
}

func seven() Config { return Config{Seed: 1} }

func TestFourDurableAnswersSuffice(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	id := w.create(time.Minute, "a")
	if len(w.flight) != 7 {
		t.Fatalf("%d servers are told in parallel, want 7", len(w.flight))
	}
	for range 3 {
		w.deliver(0, true, true)
	}
	w.unanswered(t, id)
	w.deliver(0, true, true)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	c := w.wantCell(t, "a", 1, "live", "4 of 7 nodes founded")
	if c.Live != 7 || c.Margin != 3 || c.Plan != 1 || len(c.Members) != 7 || c.Members[2].PeerAddr == "" {
		t.Fatalf("%+v", c)
	}
	w.drain()
	w.wantCell(t, "a", 1, "live", "")
	if len(w.routes) != 1 || w.routes[0].Deleted || len(w.routes[0].Members) != 7 {
		t.Fatalf("routes: %+v", w.routes)
	}
}

func TestCreateIsIdempotentByName(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	first, second := w.create(time.Minute, "a"), w.create(time.Minute, "a")
	w.drain()
	for _, id := range []RequestID{first, second, w.create(0, "a")} {
		if err := w.outcome(t, id); err != nil {
			t.Fatal(err)
		}
	}
	w.nextID++
	w.m.Create(w.now, w.nextID, wire.CreateCells{Cells: []cell.ID{"a"}, Color: "blue"})
	w.turn()
	wantError(t, w.outcome(t, w.nextID), cell.Exists, "brick b1 color red")
	w.nextID++
	w.m.Create(w.now, w.nextID, wire.CreateCells{Cells: []cell.ID{"a"}, Brick: "b1", Color: "red"})
	w.turn()
	if err := w.outcome(t, w.nextID); err != nil {
		t.Fatal(err)
	}
	w.wantCell(t, "a", 1, "live", "")
}

func TestNoRoomSaysWhy(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 5)
	wantError(t, w.outcome(t, w.create(time.Minute, "a")), cell.NoRoom, "7")
	if got := w.list(); len(got) != 0 {
		t.Fatalf("a cell without a jury is listed: %+v", got)
	}
}

// TestPendingCreation: with four of seven servers dead right after planning, the creation stays pending under its
// incarnation, tells the requester what is missing, and finishes when the servers return.
func TestPendingCreation(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 14)
	id := w.create(5*time.Second, "a")
	jury := slices.Clone(w.flight)
	for i, c := range jury {
		if i < 4 {
			w.setUp(w.byID[c.Server], false)
		}
	}
	w.drain()
	w.advance(4 * time.Second)
	w.unanswered(t, id)
	w.advance(2 * time.Second)
	wantError(t, w.outcome(t, id), cell.UnknownResult, "3 of 7 nodes founded, a majority is 4; waits for")
	c := w.wantCell(t, "a", 1, "creating", "(down)")
	if c.Live != 3 || c.Margin != -1 {
		t.Fatalf("live %d margin %d", c.Live, c.Margin)
	}
	again := w.create(time.Minute, "a")
	w.setUp(w.byID[jury[0].Server], true)
	w.drain()
	if err := w.outcome(t, again); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.checkSettled()
	w.wantCell(t, "a", 1, "live", "")
}

// TestRefusedCreationAnswersEarly: a requester does not wait in vain when too many servers decline.
func TestRefusedCreationAnswersEarly(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	for _, s := range w.servers[:4] {
		s.refuse = &cell.Error{Kind: cell.NoRoom, Detail: "disk full"}
	}
	id := w.create(time.Hour, "a")
	w.drain()
	wantError(t, w.outcome(t, id), cell.UnknownResult, "disk full")
	for _, s := range w.servers {
		s.refuse = nil
	}
	w.settle()
	w.wantCell(t, "a", 1, "live", "")
}

// TestDeletionWithoutQuorum: the seal cannot be chosen, so the deletion stays pending and the name taken (rule 15).
func TestDeletionWithoutQuorum(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	w.create(time.Minute, "a")
	w.drain()
	for _, s := range w.servers[:4] {
		w.setUp(s, false)
	}
	id := w.delete(10*time.Second, wire.Drop{Cell: "a"})
	w.advance(9 * time.Second)
	w.unanswered(t, id)
	w.advance(2 * time.Second)
	wantError(t, w.outcome(t, id), cell.UnknownResult, "takes 4 of 7 members; 3 are on servers that are up")
	w.wantCell(t, "a", 1, "sealing", "no quorum")
	wantError(t, w.outcome(t, w.create(0, "a")), cell.Exists, "being deleted")
	w.crash()
	w.wantCell(t, "a", 1, "sealing", "waits for s01 (down)")
	w.setUp(w.servers[0], true)
	id = w.delete(time.Minute, wire.Drop{Cell: "a", Incarnation: 1})
	w.advance(30 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	w.wantCell(t, "a", 1, "wiping", "4 of 7 nodes wiped")
}

// TestSealTakesFounders: four were founded, the cell is to be deleted, and one of the four never comes back. The founders that were
// not reached before are founded now, since the seal takes a majority.
func TestSealTakesFounders(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	w.create(time.Minute, "a")
	for range 4 {
		w.deliver(0, true, true)
	}
	for len(w.flight) > 0 {
		w.deliver(0, false, false)
	}
	w.wantCell(t, "a", 1, "live", "4 of 7 nodes founded")
	for _, s := range w.servers {
		if len(s.nodes) > 0 {
			s.lost = true
			w.setUp(s, false)
			break
		}
	}
	id := w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.advance(30 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
}

// TestNameIsFreeWhileServersAreDown: after the seal, a member that is down does not keep the name; it is wiped when it
// returns, whatever the name is used for by then (hazard H15).
func TestNameIsFreeWhileServersAreDown(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 14)
	w.create(time.Minute, "a")
	w.drain()
	old := w.juries[incKey{"a", 1}]
	gone := w.byID[old.Members[6].Server]
	w.setUp(gone, false)
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.drain()
	id := w.create(time.Minute, "a")
	w.advance(time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	w.wantCell(t, "a", 2, "live", "nodes of incarnation 1 are left on "+string(gone.reg.Server)+" (down)")
	w.crash()
	if len(gone.nodes) != 1 {
		t.Fatalf("the server that is down hosts %d nodes", len(gone.nodes))
	}
	w.settle()
	w.checkSettled()
	if len(gone.nodes) != 0 || gone.tombs["a"] != 1 {
		t.Fatalf("the returned server hosts %v", gone.nodes)
	}
	if n := len(w.store.pairs); n != 14+1 {
		t.Fatalf("%d records are stored, want 14 servers and one incarnation", n)
	}
}

// TestForgottenDeletion: a store that forgot a deletion plans an incarnation that servers know to be dead. It becomes
// void, and the next one follows by itself.
func TestForgottenDeletion(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	for i, s := range w.servers {
		if i < 5 {
			s.tombs["a"] = 2
		}
	}
	id := w.create(time.Minute, "a")
	w.advance(10 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.checkSettled()
	w.wantCell(t, "a", 3, "live", "")
}

// TestVoidSurvivesCrash: the wish for the next incarnation is durable.
func TestVoidSurvivesCrash(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	for _, s := range w.servers[:4] {
		s.tombs["a"] = 1
	}
	w.create(time.Minute, "a")
	for !strings.HasPrefix(w.states(), "a.1 wiping") {
		w.deliver(0, true, true)
	}
	w.crash()
	w.settle()
	w.checkSettled()
	w.wantCell(t, "a", 2, "live", "")
}

// TestUnknownCellIsNeverTouched: the store lost a living cell (restored from a backup) and plans the same incarnation
// with another jury. Whatever is asked, not one node of the living cell is sealed or wiped (rule 16, hazard H16).
func TestUnknownCellIsNeverTouched(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	w.create(time.Minute, "a")
	w.drain()
	living := w.juries[incKey{"a", 1}]
	w.store, w.juries = NewMemStore(), map[incKey]wire.Founding{}
	w.config.Seed, w.config.Alpha = 99, 9 // whatever it draws, it is another founding
	w.crash()
	id := w.create(5*time.Second, "a")
	w.advance(10 * time.Second)
	wantError(t, w.outcome(t, id), cell.UnknownResult, "which this store does not know")
	w.wantCell(t, "a", 1, "creating", "hosts it with another jury")
	w.delete(5*time.Second, wire.Drop{Cell: "a"})
	w.advance(time.Minute)
	w.wantCell(t, "a", 1, "sealing", "hosts it with another jury")
	for _, s := range w.servers {
		if have, ok := s.nodes[incKey{"a", 1}]; !ok || !sameJury(have, living) {
			t.Fatalf("%s lost its node of the living cell", s.reg.Server)
		}
	}
}

func TestDeleteOfWhatIsNot(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	wantError(t, w.outcome(t, w.delete(0, wire.Drop{Cell: "a"})), cell.NotFound, "the last one is 0")
	wantError(t, w.outcome(t, w.delete(0, wire.Drop{Cell: "-"})), cell.Invalid, "")
	w.create(time.Minute, "a")
	w.drain()
	wantError(t, w.outcome(t, w.delete(0, wire.Drop{Cell: "a", Incarnation: 2})), cell.NotFound, "incarnation 2")
	plans := []uint64{w.wantCell(t, "a", 1, "live", "").Plan}
	w.delete(time.Minute, wire.Drop{Cell: "a", Incarnation: 1})
	w.drain()
	plans = append(plans, w.wantCell(t, "a", 1, "deleted", "").Plan)
	w.create(time.Minute, "a")
	w.drain()
	plans = append(plans, w.wantCell(t, "a", 2, "live", "").Plan)
	if !slices.Equal(plans, []uint64{1, 2, 3}) {
		t.Fatalf("plan numbers are %v: every decision raises them", plans)
	}
	if n := len(w.store.pairs); n != 3+1 {
		t.Fatalf("%d records are stored, want 3 servers and one incarnation", n)
	}
	if err := w.outcome(t, w.delete(0, wire.Drop{Cell: "a", Incarnation: 1})); err != nil {
		t.Fatalf("what is deleted already: %v", err)
	}
	w.wantCell(t, "a", 2, "live", "")
}

// TestStrangersAmongTheMembers: three of seven servers host the incarnation with another jury. The cell lives on four; its
// deletion asks only those four for the seal, drops only their nodes, and is complete without the strangers.
func TestStrangersAmongTheMembers(t *testing.T) {
	for seed := range uint64(8) {
		w := newWorld(t.Fatalf, Config{Seed: seed}, 7)
		k := incKey{"a", 1}
		stranger := wire.Founding{Cell: "a", Incarnation: 1, Alpha: 9}
		for _, s := range w.servers[:3] {
			s.nodes[k] = stranger
		}
		id := w.create(time.Minute, "a")
		w.drain()
		if err := w.outcome(t, id); err != nil {
			t.Fatal(err)
		}
		w.wantCell(t, "a", 1, "live", "hosts it with another jury")
		if seed%2 == 0 {
			w.crash() // what the manager knew of the strangers is gone
		}
		w.delete(time.Minute, wire.Drop{Cell: "a"})
		w.settle()
		w.wantCell(t, "a", 1, "deleted", "")
		for i, s := range w.servers {
			if _, hosts := s.nodes[k]; hosts != (i < 3) {
				t.Fatalf("seed %d: %s hosts a node: %v", seed, s.reg.Server, hosts)
			}
		}
	}
}

// TestHintIsFollowed: the member that another one names as the proposer is asked next, at once.
func TestHintIsFollowed(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 7)
	w.create(time.Minute, "a")
	w.drain()
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	if len(w.flight) != 1 || w.flight[0].Method != wire.MethodSeal {
		t.Fatalf("in flight: %+v", w.flight)
	}
	first := w.flight[0]
	owner := w.juries[incKey{"a", 1}].Owner
	if want := w.juries[incKey{"a", 1}].Members[owner-1].Server; first.Server != want {
		t.Fatalf("%s is asked first, want the owner of ballot 1, %s", first.Server, want)
	}
	leader := w.juries[incKey{"a", 1}].Members[(owner+2)%7].Server
	w.flight = nil
	w.m.Done(w.now, first.ID, nil, &cell.Error{Kind: cell.NotProposer, Leader: leader})
	w.turn()
	if len(w.flight) != 1 || w.flight[0].Server != leader || w.flight[0].Params.(*wire.SealCell).Attempt != 1 {
		t.Fatalf("after the hint: %+v", w.flight)
	}
}

// wipingWithOne leaves cell a sealed, with the node of one server that is up not wiped yet.
func wipingWithOne(t *testing.T) (*world, *fakeServer) {
	w := newWorld(t.Fatalf, smallConfig(), 6)
	w.create(time.Minute, "a")
	w.drain()
	s := w.byID[w.juries[incKey{"a", 1}].Members[0].Server]
	s.keep = &cell.Error{Kind: cell.Unavailable, Detail: "disk slow"}
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.advance(time.Second)
	w.wantCell(t, "a", 1, "wiping", "disk slow")
	return w, s
}

// TestNameIsTakenWhileWiping: a creation waits for members that are up, and no longer when they go down.
func TestNameIsTakenWhileWiping(t *testing.T) {
	w, s := wipingWithOne(t)
	short := w.create(time.Second, "a")
	w.advance(2 * time.Second)
	wantError(t, w.outcome(t, short), cell.UnknownResult, "the name is not free yet")
	if n := len(w.m.wishes["a"].waiters); n != 0 {
		t.Fatalf("%d waiters are left behind", n)
	}
	long := w.create(time.Hour, "a")
	if err := w.outcome(t, w.delete(0, wire.Drop{Cell: "a", Incarnation: 1})); err != nil {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	w.unanswered(t, long)
	w.setUp(s, false)
	w.advance(time.Second)
	if err := w.outcome(t, long); err != nil {
		t.Fatal(err)
	}
	w.wantCell(t, "a", 2, "live", "are left on")
}

// TestResidueOutlivesSuccessor: the node of incarnation 1 is still on a server when incarnation 2 is deleted. Incarnation 3
// waits for that server, unless it is down, and the node is wiped in the end.
func TestResidueOutlivesSuccessor(t *testing.T) {
	for name, free := range map[string]func(*world, *fakeServer){
		"down":  func(w *world, s *fakeServer) { w.setUp(s, false) },
		"wiped": func(_ *world, s *fakeServer) { s.keep = nil },
	} {
		t.Run(name, func(t *testing.T) { testResidue(t, free) })
	}
}

func testResidue(t *testing.T, free func(*world, *fakeServer)) {
	w, s := wipingWithOne(t)
	w.setUp(s, false)
	w.create(time.Minute, "a")
	w.drain()
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.advance(time.Second)
	w.wantCell(t, "a", 2, "deleted", "nodes of incarnation 1 are left on "+string(s.reg.Server))
	w.setUp(s, true)
	id := w.create(time.Hour, "a")
	w.advance(time.Second)
	w.unanswered(t, id)
	free(w, s)
	w.advance(30 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	s.keep = nil
	w.crash()
	w.settle()
	w.checkSettled()
	w.wantCell(t, "a", 3, "live", "")
}

// TestDeletionCancelsWish: a deletion of whatever there is ends the wish for the next incarnation, too.
func TestDeletionCancelsWish(t *testing.T) {
	w, s := wipingWithOne(t)
	id := w.create(time.Hour, "a")
	if err := w.outcome(t, w.delete(0, wire.Drop{Cell: "a"})); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.outcome(t, id), cell.Deleted, "meanwhile")
	s.keep = nil
	w.settle()
	w.wantCell(t, "a", 1, "deleted", "")
}

// TestVoidIsRetriedOnce: once the next incarnation is planned, or cannot be, the void one asks for nothing any more.
func TestVoidIsRetriedOnce(t *testing.T) {
	for _, room := range []bool{true, false} {
		w := newWorld(t.Fatalf, seven(), 9)
		id := w.create(time.Minute, "a")
		for i, c := range w.flight {
			if i < 4 {
				w.byID[c.Server].tombs["a"] = 1
			}
		}
		last := w.byID[w.flight[6].Server]
		w.setUp(last, false) // it leaves the void incarnation unfinished
		for _, s := range w.servers {
			if !room && s.nodes[incKey{"a", 1}].Cell == "" && s.tombs["a"] == 0 {
				w.setUp(s, false)
			}
		}
		w.advance(time.Second)
		if room {
			w.wantCell(t, "a", 2, "live", "nodes of incarnation 1 are left")
		} else {
			wantError(t, w.outcome(t, id), cell.NoRoom, "")
		}
		w.crash()
		w.delete(time.Minute, wire.Drop{Cell: "a"})
		w.advance(time.Minute)
		w.crash()
		w.settle()
		w.checkSettled()
		w.wantCell(t, "a", map[bool]cell.Incarnation{true: 2, false: 1}[room], "deleted", "")
	}
}

func TestBounds(t *testing.T) {
	c := smallConfig()
	c.RequestsMax, c.BacklogMax = 2, 3
	w := newWorld(t.Fatalf, c, 3)
	w.nextID++
	w.m.Create(w.now, w.nextID, wire.CreateCells{Cells: []cell.ID{"a", "b", "c", "d"}, Wait: 1000})
	w.turn()
	if n := len(w.list()); n != 3 {
		t.Fatalf("%d cells are planned, want the 3 of the backlog", n)
	}
	w.create(time.Minute, "e")
	third := w.create(time.Minute, "f")
	if r := w.replies[third]; r.Err == nil || r.Err.Kind != cell.Overloaded {
		t.Fatalf("a third request: %+v", r)
	}
	w.drain()
	r := w.replies[1]
	if r.Outcomes == nil || r.Outcomes.Outcomes[2].Err != nil || r.Outcomes.Outcomes[3].Err.Kind != cell.Overloaded {
		t.Fatalf("%+v", r)
	}
	for _, n := range []int{0, wire.BatchMax + 1} {
		id := w.create(0, make([]cell.ID, n)...)
		if r := w.replies[id]; r.Err == nil || r.Err.Kind != cell.Invalid {
			t.Fatalf("%d cells: %+v", n, r)
		}
	}
}

// TestBatches: many cells are few calls, few batches of the store, and never more in flight than allowed.
func TestBatches(t *testing.T) {
	c := seven()
	c.CallsPerServer, c.Calls, c.Batch = 2, 20, 100
	w := newWorld(t.Fatalf, c, 14)
	names := make([]cell.ID, 1000)
	for i := range names {
		names[i] = cell.ID(fmt.Sprintf("vol-%04d", i))
	}
	id := w.create(time.Minute, names...)
	calls, most := 0, 0
	for len(w.flight) > 0 || w.m.Stats().Backlog > 0 {
		most = max(most, len(w.flight))
		perServer := map[cell.ServerID]int{}
		for _, f := range w.flight {
			if perServer[f.Server]++; perServer[f.Server] > 2 {
				t.Fatalf("%d batches are in flight to %s", perServer[f.Server], f.Server)
			}
		}
		if len(w.flight) == 0 {
			w.turn()
			continue
		}
		calls++
		w.deliver(0, true, true)
	}
	if r := w.replies[id]; r.Outcomes == nil || len(r.Outcomes.Outcomes) != 1000 {
		t.Fatalf("%+v", r)
	}
	if most > 20 || calls > 14*20 {
		t.Fatalf("%d calls, %d at once", calls, most)
	}
	if s := w.m.Stats(); s.Cells[Live] != 1000 || s.Batches != 0 || s.Requests != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestSealsInFlight: deletions of many cells ask for a bounded number of seals at once, of each server and of all.
func TestSealsInFlight(t *testing.T) {
	for _, bound := range []struct{ perServer, all, want int }{{1, 100, 7}, {100, 10, 10}} {
		c := seven()
		c.SealsPerServer, c.Seals = bound.perServer, bound.all
		w := newWorld(t.Fatalf, c, 7)
		drops := make([]wire.Drop, 100)
		for i := range drops {
			drops[i].Cell = cell.ID(fmt.Sprintf("vol-%d", i))
			w.create(0, drops[i].Cell)
		}
		w.settle()
		w.delete(time.Minute, drops...)
		most := 0
		for w.m.Stats().Cells[Sealing] > 0 {
			seals, perServer := 0, map[cell.ServerID]int{}
			for _, f := range w.flight {
				if f.Method != wire.MethodSeal {
					continue
				}
				seals++
				if perServer[f.Server]++; perServer[f.Server] > bound.perServer {
					t.Fatalf("%d seals are asked of %s at once", perServer[f.Server], f.Server)
				}
			}
			if most = max(most, seals); len(w.flight) > 0 {
				w.deliver(len(w.flight)-1, true, true)
				continue
			}
			at, _ := w.m.Next()
			w.now = max(w.now, at)
			w.turn()
		}
		if most != bound.want {
			t.Fatalf("%d seals at once, want %d of %+v", most, bound.want, bound)
		}
		w.settle()
		w.checkSettled()
	}
}

// TestFailingServerIsLeftAlone: batches that fail as a whole are repeated at a pace, not in a loop.
func TestFailingServerIsLeftAlone(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Jury: 3, Seed: 3, RetryMin: 100 * time.Millisecond, RetryMax: time.Second}, 3)
	w.create(0, "a", "b", "c")
	calls := 0
	for end := w.now + 10*time.Second; w.now < end; {
		for len(w.flight) > 0 {
			calls++
			w.deliver(0, false, false)
		}
		at, ok := w.m.Next()
		if !ok {
			t.Fatal("nothing is ever asked again")
		}
		w.now = max(w.now, at)
		w.turn()
	}
	if calls < 3*8 || calls > 3*30 {
		t.Fatalf("%d calls to 3 servers in 10 s", calls)
	}
}

// TestCapacity: what the book knows is counted once, and given back; what a server hosts beside that counts, too.
func TestCapacity(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	for _, s := range w.servers {
		s.reg.Capacity = 1
	}
	w.crash() // they register with their capacity
	w.create(time.Minute, "a")
	w.drain()
	w.crash() // they register with one node each, which the book knows
	wantError(t, w.outcome(t, w.create(time.Minute, "b")), cell.NoRoom, "")
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.settle()
	id := w.create(time.Minute, "b")
	w.settle()
	if err := w.outcome(t, id); err != nil {
		t.Fatalf("after the deletion: %v", err)
	}
	w.delete(time.Minute, wire.Drop{Cell: "b"})
	w.settle()
	w.servers[0].nodes[incKey{"unknown", 1}] = wire.Founding{Cell: "unknown", Incarnation: 1}
	w.crash()
	wantError(t, w.outcome(t, w.create(time.Minute, "c")), cell.NoRoom, "")
}

func TestMovedServerIsNotUsed(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	g := w.servers[0].reg
	g.Rack = "elsewhere"
	if err := w.m.ServerUp(w.now, g); cell.KindOf(err) != cell.Refused {
		t.Fatalf("got %v, want refused", err)
	}
	w.turn()
	wantError(t, w.outcome(t, w.create(0, "a")), cell.NoRoom, "")
	w.crash() // the store remembers the first place
	if err := w.m.ServerUp(w.now, g); cell.KindOf(err) != cell.Refused {
		t.Fatalf("after a restart: got %v, want refused", err)
	}
}

func TestPendingRequestsLeaveNothingBehind(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	for _, s := range w.servers {
		s.refuse = &cell.Error{Kind: cell.Unavailable, Detail: "starting"}
	}
	for range 10 {
		w.create(time.Second, "a")
		w.advance(2 * time.Second)
	}
	if n := len(w.m.names["a"].work.waiters); n != 0 || w.m.Stats().Requests != 0 {
		t.Fatalf("%d waiters and %d requests are left", n, w.m.Stats().Requests)
	}
}
