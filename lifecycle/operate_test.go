package lifecycle

import (
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// TestStoredOrders holds the bytes of pauses and duties on disk.
func TestStoredOrders(t *testing.T) {
	o := Order{By: "ann@desk", Reason: "power work", At: 1795348800000}
	const want = "4f019403a8616e6e406465736baa706f77657220776f726bcf000001a20320a200653d4c5c"
	b := appendOrder(nil, uint8(MoveCells), &o)
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	what, back, err := decodeOrder(b, uint8(actionMax))
	if err != nil || Action(what) != MoveCells || *back != o {
		t.Errorf("got %d %+v, %v", what, back, err)
	}
	if string(pauseKey(MoveCells)) != "c\x03" || string(drainKey("s1")) != "ds1" {
		t.Error("the keys have changed")
	}
	b[5] ^= 1
	if _, _, err := decodeOrder(b, uint8(actionMax)); err == nil {
		t.Error("a flipped bit is believed")
	}
}

// A pause of everything: whoever asks is told by whom, when and why; nothing begins, also after a restart; resumed, it goes on.
func TestPauseHoldsAndSurvives(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 5)
	w.create(time.Minute, "a", "b", "c")
	w.settle()
	member := w.m.names["a"].Members[0].Server()
	w.pause(CreateCells, DeleteCells, MoveCells, RepairCells)
	refused := func() {
		t.Helper()
		const why = "is paused by ann@desk at 2026-11-22T12:00:00Z: power work"
		wantError(t, w.outcome(t, w.create(0, "d")), cell.Refused, "create "+why)
		wantError(t, w.outcome(t, w.delete(0, wire.Drop{Cell: "b"})), cell.Refused, "delete "+why)
		wantError(t, w.outcome(t, w.replace(time.Minute, "a", member, "")), cell.Refused, "move "+why)
		for cause, action := range map[Cause]string{ByNear: "move", ByBalance: "move", ByDrain: "move", ByRepair: "repair", ByRaise: "repair"} {
			err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: member, Cause: cause})
			wantError(t, err, cell.Overloaded, action+" "+why)
			if err.RetryAfter == 0 {
				t.Error("no hint when to come back")
			}
		}
		if err := w.outcome(t, w.create(0, "a")); err != nil {
			t.Errorf("a cell that exists: %v", err)
		}
	}
	refused()
	if s := w.status(t, 10); len(s.Pauses) != 4 || s.Pauses[2] != (wire.PauseState{Action: "move", By: "ann@desk", Reason: "power work", At: 1795348800000}) {
		t.Errorf("pauses: %+v", s.Pauses)
	}
	w.crash()
	refused()
	w.settle()
	if got := w.states(); got != "a.1 live, b.1 live, c.1 live" {
		t.Error(got)
	}
	w.resume(RepairCells)
	w.now += time.Second // a restart leaves one token, and that is kept for a cell at the brink
	if err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: member, Cause: ByRepair}); err != nil {
		t.Error(err)
	}
	w.resume(CreateCells, DeleteCells, MoveCells)
	id := w.create(time.Minute, "d")
	w.settle()
	if err := w.outcome(t, id); err != nil {
		t.Error(err)
	}
	w.crash()
	if s := w.status(t, 0); len(s.Pauses) != 0 {
		t.Errorf("pauses after they were resumed and the manager restarted: %+v", s.Pauses)
	}
	w.settle()
	w.checkSettled()
}

// A replacement that is caught by a pause before the cell has heard of it stops; one for which the cell has issued a number goes on.
func TestPauseOfReplacements(t *testing.T) {
	for calls := range 6 {
		w := newWorld(t.Fatalf, seven(), 9)
		w.create(time.Minute, "a")
		w.settle()
		before := serversOf(w.wantCell(t, "a", 1, "live", ""))
		w.replace(time.Minute, "a", before[0], "")
		for range calls {
			w.someFlight()
			w.deliver(0, true, true)
		}
		issued := len(w.cellOf(incKey{"a", 1}).conf.Learners) > 0
		asked := slices.ContainsFunc(w.flight, func(c Call) bool {
			p, ok := c.Params.(*wire.ChangeCell)
			return ok && p.Kind == wire.AddLearner
		})
		w.pause(MoveCells)
		w.settle()
		gone := !slices.Contains(serversOf(w.list()[0]), before[0])
		if gone != (issued || asked) {
			t.Errorf("paused after %d calls, a number issued %v, asked for %v: replaced is %v", calls, issued, asked, gone)
		}
		if !gone {
			w.wantCell(t, "a", 1, "live", "move is paused by ann@desk")
		}
		w.crash()
		w.settle()
		if conf := w.cellOf(incKey{"a", 1}).conf; (conf.Number > 1) != gone {
			t.Errorf("paused after %d calls, and restarted: %+v", calls, conf)
		}
		w.resume(MoveCells)
		w.settle()
		w.checkSettled()
		if slices.Contains(serversOf(w.wantCell(t, "a", 1, "live", "")), before[0]) {
			t.Errorf("paused after %d calls, resumed: the old member is there", calls)
		}
	}
}

// A pause of deletions stops those that have begun: no seal is asked for, and nothing is wiped.
func TestPauseOfDeletions(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	w.create(time.Minute, "a", "b")
	w.settle()
	nodes := func(name cell.ID) (n int) {
		for _, s := range w.servers {
			if _, ok := s.nodes[incKey{name, 1}]; ok {
				n++
			}
		}
		return n
	}
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	for !w.sealed[incKey{"a", 1}] {
		w.deliver(0, true, true)
	}
	w.delete(time.Minute, wire.Drop{Cell: "b"})
	w.flight = nil // the seal of b, and the drops of a, never arrive
	w.pause(DeleteCells)
	w.crash()
	w.settle()
	if w.sealed[incKey{"b", 1}] || nodes("a") != 3 {
		t.Errorf("sealed is %v, %d nodes are left of a cell that ended", w.sealed[incKey{"b", 1}], nodes("a"))
	}
	for _, c := range w.list() {
		if c.Waiting == "" {
			t.Errorf("%s.%d waits for nothing", c.Cell, c.Incarnation)
		}
	}
	w.resume(DeleteCells)
	w.settle()
	if nodes("a")+nodes("b") > 0 {
		t.Error("nodes are left")
	}
	w.checkSettled()
}

// crowd is a world with cells on its servers.
func crowd(fail func(string, ...any), c Config, servers, cells int) *world {
	w := newWorld(fail, c, servers)
	for i := range cells {
		w.create(time.Minute, cell.ID(fmt.Sprintf("c%02d", i)))
	}
	w.settle()
	return w
}

// A drained server empties itself, within the limits, one member per cell at a time; nothing new is placed there, and it can be
// taken back.
func TestDrain(t *testing.T) {
	c := smallConfig()
	c.Limits.Move = LimitsOf{Colony: Limit{2, 2}, Brick: Limit{100, 100}, Server: Limit{100, 100}}
	w := crowd(t.Fatalf, c, 6, 20)
	watch(w)
	s := w.servers[0].reg.Server
	n := w.m.planner.book.Nodes(s)
	if n < 5 {
		t.Fatalf("only %d cells are on the server", n)
	}
	if err := w.duty(s, Draining); err != nil {
		t.Fatal(err)
	}
	began := w.now
	if x := w.status(t, 10).Drains; len(x) != 1 || x[0].Server != s || x[0].Duty != "draining" || x[0].Nodes != uint64(n) || x[0].By != "ann" {
		t.Errorf("drains: %+v", x)
	}
	w.advance(time.Second)
	if x := w.status(t, 10).Drains[0]; x.Nodes == uint64(n) || x.Nodes == 0 || x.Waiting != "the limit of moves of the colony, 2:2, is reached" {
		t.Errorf("after a second: %+v", x)
	}
	for _, in := range w.m.names {
		if !in.hosts(s) && in.Moving().isZero() {
			wantError(t, w.outcome(t, w.replace(0, in.Cell, in.Members[0].Server(), s)), cell.Refused, "is to be emptied")
		}
	}
	w.create(time.Minute, "new1", "new2", "new3", "new4")
	w.settle()
	w.checkSettled()
	if left := w.m.planner.book.Nodes(s); left != 0 || len(w.servers[0].nodes) != 0 {
		t.Errorf("%d nodes are left in the book, %d on the server", left, len(w.servers[0].nodes))
	}
	if took, least := w.now-began, time.Duration(n-2)*time.Second/2; took < least {
		t.Errorf("%d nodes left in %v, the limit is %v", n, took, least)
	}
	w.crash()
	w.create(time.Minute, "new5", "new6")
	w.settle()
	if w.m.planner.book.Nodes(s) != 0 {
		t.Error("a drained server got a node after a restart")
	}
	if err := w.duty(s, Serving); err != nil || len(w.m.drains) != 0 {
		t.Error(err)
	}
	for i := range 6 {
		w.create(time.Minute, cell.ID(fmt.Sprintf("after%d", i)))
	}
	w.settle()
	if w.m.planner.book.Nodes(s) == 0 {
		t.Error("a server that was given back gets no nodes")
	}
	wantError(t, w.duty("nobody", Draining), cell.NotFound, "never registered")
}

// A drain that cannot go on says why, and goes on by itself when it can.
func TestDrainWithoutRoom(t *testing.T) {
	w := crowd(t.Fatalf, smallConfig(), 4, 4)
	w.setUp(w.servers[3], false)
	w.duty(w.servers[0].reg.Server, Draining)
	w.advance(30 * time.Second)
	x := w.status(t, 10).Drains[0]
	if x.Nodes == 0 || x.Waiting == "" {
		t.Fatalf("%+v", x)
	}
	w.settle()
	w.checkSettled()
	if n := len(w.servers[0].nodes); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
}

// A decommissioned server is retired when it is empty, dead or alive, and not before.
func TestDecommission(t *testing.T) {
	for _, alive := range []bool{true, false} {
		w := crowd(t.Fatalf, smallConfig(), 6, 10)
		s := w.servers[0]
		id := s.reg.Server
		if !alive {
			w.delete(time.Minute, wire.Drop{Cell: w.m.planner.book.CellAt(id, 0)}) // which leaves a node to be wiped
			for w.m.counts[Wiping] == 0 {
				w.deliver(0, true, true)
			}
			w.setUp(s, false)
			s.lost = true
		}
		w.duty(id, Decommissioning)
		if alive {
			w.turn()
			if w.m.retired[id] {
				t.Error("retired before it is empty")
			}
			w.duty(id, Serving)
			w.duty(id, Decommissioning)
		}
		w.settle()
		if !w.m.retired[id] || len(w.m.drains) != 0 || alive && len(s.nodes) > 0 {
			t.Fatalf("alive %v: retired is %v, %d drains, %d nodes", alive, w.m.retired[id], len(w.m.drains), len(s.nodes))
		}
		if err := w.m.ServerUp(w.now, s.reg); err == nil {
			t.Error("a retired server is admitted")
		}
		if err := w.duty(id, Decommissioning); err != nil {
			t.Errorf("ordered again: %v", err)
		}
		wantError(t, w.duty(id, Serving), cell.Refused, "retired")
		s.up, s.lost = false, true
		w.crash()
		if !w.m.retired[id] || len(w.m.drains) != 0 {
			t.Error("forgotten with a restart")
		}
		w.settle()
	}
}

// What has not converged is shown oldest first, page by page, with what it waits for; what converges leaves the list.
func TestStatusPages(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 3)
	for _, s := range w.servers[1:] {
		s.refuse = &cell.Error{Kind: cell.NoRoom, Detail: "disk full"}
	}
	for i := range 5 {
		w.create(0, cell.ID(fmt.Sprintf("c%d", 4-i)))
		w.now += time.Second
	}
	w.drain()
	var got []string
	for after, more := uint64(0), true; more; {
		w.nextID++
		w.m.Status(w.now, w.nextID, wire.StatusRequest{After: after, Limit: 2})
		w.turn()
		s := w.replies[w.nextID].Status
		if s.Open != 5 || len(s.Waiting) > 2 {
			t.Fatalf("%+v", s)
		}
		for _, x := range s.Waiting {
			got = append(got, string(x.Cell))
			after = x.Number
			if x.Workflow != "create" || x.State != "creating" || x.Why == "" {
				t.Errorf("%+v", x)
			}
		}
		more = s.More
	}
	if want := []string{"c4", "c3", "c2", "c1", "c0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, s := range w.servers {
		s.refuse = nil
	}
	w.settle()
	if s := w.status(t, 10); s.Open != 0 || len(s.Waiting) != 0 || s.More {
		t.Errorf("%+v", s)
	}
	w.nextID++
	w.m.Status(w.now, w.nextID, wire.StatusRequest{Limit: wire.StatusPageMax + 1})
	w.turn()
	wantError(t, w.replies[w.nextID].Err, cell.Invalid, "limit is")
}

// A plan of a manager that another one has overtaken is refused by the cell, and what it wanted is seen in the end as it is.
func TestStalePlanIsRefused(t *testing.T) {
	w, before := liveCell(t, seven(), 10)
	id := w.replace(time.Minute, "a", before[0], "")
	for !slices.ContainsFunc(w.flight, func(c Call) bool {
		p, ok := c.Params.(*wire.ChangeCell)
		return ok && p.Kind == wire.Replace
	}) {
		w.someFlight()
		w.deliver(0, true, true)
	}
	old, delayed := w.m, w.flight[0]
	w.crash() // the other one begins, from the same store
	w.settle()
	conf := w.cellOf(incKey{"a", 1}).conf
	if conf.Number != 2 {
		t.Fatalf("%+v", conf)
	}
	proposer := w.byID[w.cellOf(incKey{"a", 1}).proposer]
	_, err := w.changeAt(proposer, delayed.Params.(*wire.ChangeCell))
	wantError(t, err, cell.Stale, "")
	if got := w.cellOf(incKey{"a", 1}).conf; got.Number != 2 || !slices.Equal(got.Members, conf.Members) {
		t.Errorf("the delayed plan has changed it: %+v", got)
	}
	w.m, w.flight = old, nil // the overtaken one hears so, and looks
	w.m.Done(w.now, delayed.ID, nil, err)
	w.settle()
	if got := w.cellOf(incKey{"a", 1}).conf; got.Number != 2 {
		t.Errorf("the overtaken manager has changed it: %+v", got)
	}
	if err := w.outcome(t, id); err != nil {
		t.Errorf("what it wanted is there, and it says: %v", err)
	}
}

// busyStory touches every workflow: creations, a deletion, replacements by every cause, a drain, a decommissioning, and pauses in
// between. What it asks for may be lost with a crash; demand asks again for all of it.
func busyStory(w *world) {
	w.create(time.Minute, "a", "b", "c")
	w.drainFlight(3)
	w.pause(MoveCells)
	w.delete(time.Minute, wire.Drop{Cell: "c"})
	w.create(time.Minute, "d")
	w.drain()
	for cause := ByRepair; cause <= causeMax; cause++ {
		w.proposeFirst([]cell.ID{"a", "b", "d"}[cause%3], cause)
		w.drainFlight(2)
	}
	w.resume(MoveCells)
	w.duty("s01", Draining)
	w.drainFlight(7)
	w.proposeFirst("a", ByBalance)
	w.duty("s02", Decommissioning)
	w.pause(RepairCells)
	w.drain()
}

// demand asks for everything that the story asks for, again.
func demand(w *world) {
	w.create(time.Minute, "a", "b", "d")
	if in := w.m.names["c"]; in != nil {
		w.delete(time.Minute, wire.Drop{Cell: "c", Incarnation: in.Incarnation})
	}
	w.resume(MoveCells)
	w.pause(RepairCells)
	w.duty("s01", Draining)
	w.duty("s02", Decommissioning)
}

// someFlight lets time pass until a call is in flight.
func (w *world) someFlight() {
	for len(w.flight) == 0 {
		at, ok := w.m.Next()
		if !ok {
			w.fail("nothing is in flight, and nothing will be")
			return
		}
		w.now = max(w.now, at)
		w.turn()
	}
}

// drainFlight lets some calls arrive.
func (w *world) drainFlight(n int) {
	for range n {
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
		}
	}
}

// proposeFirst proposes to replace the first member of a cell, if there is such a cell.
func (w *world) proposeFirst(name cell.ID, cause Cause) {
	if in := w.m.names[name]; in != nil && len(in.Members) > 0 {
		w.m.Propose(w.now, Proposal{Cell: name, Remove: in.Members[0].Server(), Cause: cause}) // a refusal is part of the story
		w.turn()
	}
}

// TestCrashAtEveryEffectOfEveryWorkflow kills the manager before each single effect of a story of all workflows, goes on with the
// story, and converges; the world holds the invariants and the limits all the way.
func TestCrashAtEveryEffectOfEveryWorkflow(t *testing.T) {
	run := func(dieAt int) *world {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("crash before effect %d: %s", dieAt, fmt.Sprintf(format, args...))
		}
		c := smallConfig()
		c.Limits = tightLimits()
		w := newWorld(fail, c, 7)
		watch(w)
		w.dieAt = dieAt
		busyStory(w)
		w.settle()
		steps := w.steps
		w.dieAt = 0
		demand(w)
		w.settle()
		w.checkSettled()
		w.checkCounts()
		if got := w.states(); got != "a.1 live, b.1 live, c.1 deleted, d.1 live" && got != "a.1 live, b.1 live, d.1 live" {
			fail("it ends with %s", got)
		}
		for _, s := range []cell.ServerID{"s01", "s02"} {
			if left := len(w.byID[s].nodes); left != 0 || w.m.planner.book.Nodes(s) != 0 {
				fail("%d nodes are left on %s, and %d in the book", left, s, w.m.planner.book.Nodes(s))
			}
		}
		if !w.m.retired["s02"] || w.m.retired["s01"] || w.m.pauses[RepairCells] == nil || w.m.pauses[MoveCells] != nil {
			fail("orders are lost: retired %v, pauses %v", w.m.retired, w.m.pauses)
		}
		for _, n := range w.cells {
			if len(n.conf.Learners) > 1 {
				fail("learners are left: %+v", n.conf)
			}
		}
		w.steps = steps
		return w
	}
	calm := run(0)
	if calm.steps < 80 {
		t.Fatalf("the story has %d effects, too few to be one", calm.steps)
	}
	for k := 1; k <= calm.steps; k++ {
		if w := run(k); !w.died {
			t.Fatalf("no crash before effect %d of %d", k, calm.steps)
		}
	}
}

// A cell is deleted in the middle of a replacement, while one founder has not heard of the founding: he is told of it as it was, and
// the learner is wiped with the members. The world checks what is founded.
func TestDeleteTellsTheFoundingAsItWas(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 9)
	w.create(time.Minute, "a")
	late := w.byID[w.flight[6].Server]
	w.setUp(late, false)
	w.drain()
	first := w.m.names["a"].Members[0].Server()
	if first == late.reg.Server {
		first = w.m.names["a"].Members[1].Server()
	}
	w.replace(time.Minute, "a", first, "")
	for w.m.names["a"].Moving().Node == 0 {
		w.someFlight()
		w.deliver(0, true, true)
	}
	learner := w.byID[w.m.names["a"].Moving().Add]
	w.drain()
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.setUp(late, true)
	w.settle()
	w.wantCell(t, "a", 1, "deleted", "")
	if _, left := learner.nodes[incKey{"a", 1}]; left {
		t.Error("the learner is left")
	}
}
