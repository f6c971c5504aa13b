package lifecycle

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// What one part of the manager decides while another part waits: replacements beside foundings, the census beside everything.

// A replacement renumbers the positions of members. Whoever is still to be told of the founding is told nevertheless, and nobody
// is taken for told in the place of another.
func TestFoundingsOutliveAReplacement(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 9)
	for _, s := range w.servers[7:] {
		w.setUp(s, false)
	}
	w.create(0, "a")
	members := w.m.names["a"].servers()
	first, sixth, seventh := w.byID[members[0]], w.byID[members[5]], w.byID[members[6]]
	w.setUp(sixth, false)
	w.setUp(seventh, false)
	w.drain()
	w.setUp(w.servers[7], true)
	w.replace(time.Minute, "a", first.reg.Server, w.servers[7].reg.Server)
	w.advance(20 * time.Second)
	if c := w.wantCell(t, "a", 1, "live", "5 of 7 nodes founded"); slices.Contains(serversOf(c), first.reg.Server) {
		t.Fatalf("nothing was replaced: %v", serversOf(c))
	}
	w.setUp(sixth, true)
	w.advance(20 * time.Second)
	in := w.m.names["a"]
	for i, mem := range in.Members {
		if _, hosts := w.byID[mem.Server()].nodes[incKey{"a", 1}]; hosts != in.Founded.has(i) {
			t.Errorf("member %s hosts its node: %v, in the record: %v", mem.Server(), hosts, in.Founded.has(i))
		}
	}
	w.settle()
	if _, hosts := seventh.nodes[incKey{"a", 1}]; !hosts {
		t.Errorf("%s was never told to found its node", seventh.reg.Server)
	}
	w.checkSettled()
}

// Who uses a volume stays known when its cell is recovered with loss: it is the same volume.
func TestUsersOfARecoveredCell(t *testing.T) {
	w, _ := lostCell(t)
	user := w.servers[6].reg.Server
	if err := w.outcome(t, w.locate(0, "a", user)); err != nil {
		t.Fatal(err)
	}
	w.apply(w.dead(), w.mustPlan().Cells[0])
	w.settle()
	for range 2 {
		if u := w.m.users["a"]; u == nil || u.incarnation != 2 || u.client != user {
			t.Fatalf("the users of the recovered cell are %+v", u)
		}
		w.crash()
		w.settle()
	}
}

// Users of what was deleted are forgotten with it, also when nothing looks at the cell any more.
func TestUsersOfADeletedCell(t *testing.T) {
	w := racked(t.Fatalf, seven(), 16, 8, 4)
	w.create(time.Minute, "a")
	w.settle()
	w.locate(time.Minute, "a", "s01")
	w.settle()
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.settle()
	if len(w.m.users) != 0 {
		t.Errorf("%d users are known", len(w.m.users))
	}
	w.crash()
	if len(w.m.users) != 0 {
		t.Errorf("%d users are stored", len(w.m.users))
	}
}

// A server that hosts a node of a cell which nobody can decide about is not empty, whatever the book says: its identity is not
// retired.
func TestNoIdentityIsRetiredOverAClaim(t *testing.T) {
	w := lost(t, 8, "a")
	var host *fakeServer
	for _, s := range w.servers {
		if _, hosts := s.nodes[incKey{"a", 1}]; hosts && host == nil {
			host = s
		}
	}
	for _, s := range w.servers {
		w.setUp(s, s == host)
	}
	w.crash()
	w.listen(1)
	w.rebuild(wire.RebuildEnd)
	w.duty(host.reg.Server, Decommissioning)
	w.advance(time.Minute)
	if w.m.retired[host.reg.Server] {
		t.Fatal("a server with a node of an undecided cell was retired")
	}
	if x := w.status(t, 10).Drains; len(x) != 1 || x[0].Waiting == "" {
		t.Errorf("nothing says why the server is not retired: %+v", x)
	}
}

// A cell that comes to a dead server's list while it is looked through keeps the identity, too.
func TestNoIdentityIsRetiredOverALateCell(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 8)
	w.create(time.Minute, "a")
	w.settle()
	host := w.byID[w.wantCell(t, "a", 1, "live", "").Members[0].Server]
	w.setUp(host, false)
	host.lost = true
	d := &drain{server: w.m.server(host.reg.Server), duty: Decommissioning, order: &Order{By: "ann"}, round: true}
	w.m.drains = append(w.m.drains, d) // at the end of a round that began before the cell was there
	w.m.newRound(d)
	if w.m.retired[host.reg.Server] {
		t.Fatal("a server with a living member was retired")
	}
}

// A name that an old store has for deleted may have lived on after that store was saved: after a rebuild its next life is above all
// that was heard of, as for a name that nobody knows.
func TestDeletedNameOfAnOldStore(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 21)
	w.create(time.Minute, "a")
	w.drain()
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.drain()
	old := w.store.clone()
	for range 3 { // b has lived often
		w.create(time.Minute, "b")
		w.drain()
		w.delete(time.Minute, wire.Drop{Cell: "b"})
		w.drain()
	}
	w.create(time.Minute, "a", "b")
	w.drain()
	second := w.juries[incKey{"a", 2}]
	w.store = old
	for _, s := range w.servers { // whoever hosts the second life of a, or heard of it, keeps silent
		for _, mem := range second.Members {
			if mem.Server == s.reg.Server {
				w.setUp(s, false)
			}
		}
	}
	w.crash()
	w.rebuild(wire.RebuildBegin)
	w.listen(1)
	w.rebuild(wire.RebuildEnd)
	w.create(time.Minute, "a")
	w.turn()
	if in := w.m.names["a"]; in.State != Deleted && in.Incarnation == 2 {
		t.Fatalf("%v is planned again with %v, %v host it", in, in.servers(), second.Members)
	}
}

// A recovery plans the incarnation after the one that is lost. Where servers tell of a later one that nobody can decide about, there
// would be two juries under one number.
func TestNoRecoveryBesideALaterLife(t *testing.T) {
	w, _ := lostCell(t)
	c := w.mustPlan("a").Cells[0]
	other := w.servers[6]
	w.m.sight(w.m.server(other.reg.Server), &wire.CensusNode{Handle: 1, Cell: "a", Incarnation: 2, Node: 1, Configuration: 1, Alpha: 4, Owner: 1,
		Members: []wire.CensusMember{{Node: 1, Server: other.reg.Server}, {Node: 2, Server: "x2"}, {Node: 3, Server: "x3"}}})
	if p := w.mustPlan("a").Cells[0]; p.Problem == "" {
		t.Errorf("a recovery is planned: %+v", p)
	}
	id := w.apply(w.dead(), c)
	w.settle()
	if err := w.replies[id].Outcomes.Outcomes[0].Err; cell.KindOf(err) != cell.Refused || len(w.begun) != 0 {
		t.Errorf("got %v, begun %v", err, w.begun)
	}
}

// A node that cannot be is a finding, never a record: the manager could neither store it nor read it again.
func TestImpossibleNodesAreFindings(t *testing.T) {
	good := func() wire.CensusNode {
		return wire.CensusNode{Handle: 1, Cell: "a", Incarnation: 1, Node: 1, Configuration: 2, Alpha: 4, Sealed: true,
			Members: []wire.CensusMember{{Node: 1, Server: "s01"}, {Node: 2, Server: "s02"}, {Node: 3, Server: "s03"}}}
	}
	for name, spoil := range map[string]func(n *wire.CensusNode){
		"order":         func(n *wire.CensusNode) { n.Members[0].Node = 9 },
		"twice":         func(n *wire.CensusNode) { n.Members[1].Server = "s01" },
		"node 0":        func(n *wire.CensusNode) { n.Members[0].Node = 0 },
		"node too high": func(n *wire.CensusNode) { n.Members[2].Node = math.MaxUint32 + 5 },
		"alpha":         func(n *wire.CensusNode) { n.Alpha = 1 << 17 },
		"no owner":      func(n *wire.CensusNode) { n.Configuration = 1 },
		"last life":     func(n *wire.CensusNode) { n.Incarnation = math.MaxUint64 },
	} {
		w := newWorld(t.Fatalf, Config{Seed: 1, Jury: 3, ScanEvery: time.Minute}, 3)
		n := good()
		spoil(&n)
		func() {
			defer func() {
				if v := recover(); v != nil {
					t.Errorf("%s: the manager stops: %v", name, v)
				}
			}()
			w.m.observer.round = 1
			w.m.sight(w.m.server("s01"), &n)
			w.turn()
			w.create(0, "b")
			if len(w.m.observer.found) != 1 || w.m.observer.found[0].Kind != "conflict" || w.m.names["a"] != nil {
				t.Errorf("%s: found %+v, record %v", name, w.m.observer.found, w.m.names["a"])
			}
			w.crash()
		}()
	}
	w := newWorld(t.Fatalf, Config{Seed: 1, Jury: 3, ScanEvery: time.Minute}, 3)
	w.m.grave(w.m.server("s01"), &wire.Grave{Cell: "a", Incarnation: math.MaxUint64})
	w.create(0, "a")
	if in := w.m.names["a"]; in == nil || in.Incarnation == 0 || w.m.highest > 1<<62 {
		t.Errorf("after an impossible tombstone: %v, highest %d", in, w.m.highest)
	}
	n := good()
	if w.m.sight(w.m.server("s02"), &n); w.m.names["a"] == nil {
		t.Error("nothing was adopted, so nothing is tested")
	}
}

// A server whose pages never end is left out of the round: the others are compared.
func TestEndlessCensus(t *testing.T) {
	for _, graves := range []bool{true, false} {
		w := newWorld(t.Fatalf, Config{Seed: 1, Jury: 3, ScanEvery: time.Minute}, 3)
		for i := 0; w.m.observer.ended == 0; i++ {
			if i > 10_000 {
				t.Fatalf("graves %v: the round does not end", graves)
			}
			w.turn()
			if len(w.flight) == 0 {
				at, _ := w.m.Next()
				w.now = max(w.now, at)
				continue
			}
			c := w.flight[0]
			if c.Server != "s02" || (c.Method == wire.MethodGraves) != graves {
				w.deliver(0, true, true)
				continue
			}
			w.flight = w.flight[1:]
			if graves {
				w.m.Heard(w.now, c.ID, nil, &wire.GravePage{Graves: []wire.Grave{{Cell: "x", Incarnation: 1}}, Next: 1, More: true}, nil)
			} else {
				w.m.Heard(w.now, c.ID, &wire.CensusPage{Nodes: []wire.CensusNode{{Handle: 1}}, More: true}, nil, nil)
			}
		}
	}
}

// While a limit of a brick holds cells back, the manager looks at a few of them for each token, not at all of them.
func TestCrowdThatFollowsIsLookedAtInTurn(t *testing.T) {
	c := seven()
	c.Limits = Limits{Move: LimitsOf{Colony: Limit{1000, 1000}, Brick: Limit{20, 1}, Server: Limit{1000, 1000}}}
	w := racked(t.Fatalf, c, 32, 8, 4)
	var names []cell.ID
	for i := range 300 {
		names = append(names, cell.ID(fmt.Sprintf("c%03d", i)))
	}
	w.create(time.Minute, names...)
	w.settle()
	for _, name := range names {
		w.locate(0, name, "s06")
	}
	turns := 0
	for end := w.now + 10*time.Second; ; turns++ {
		w.turn()
		w.drain()
		at, ok := w.m.Next()
		if !ok || at > end {
			break
		}
		w.now = max(w.now, at)
	}
	replaced := 0
	for _, c := range w.cells {
		replaced += int(c.next) - 8
	}
	if replaced < 190 || replaced > 201 {
		t.Errorf("%d replacements in ten seconds at 20 per second", replaced)
	}
	if turns > 15*replaced {
		t.Errorf("%d turns for %d replacements", turns, replaced)
	}
}

// What an operator takes over from a repair answers to the pause of moves from then on, not to that of repairs.
func TestJoinedRepairIsNotHeld(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 8)
	w.create(time.Minute, "a")
	w.settle()
	remove := w.wantCell(t, "a", 1, "live", "").Members[0].Server
	if err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: remove, Cause: ByRepair}); err != nil {
		t.Fatal(err)
	}
	w.pause(RepairCells)
	w.advance(10 * time.Second)
	w.wantCell(t, "a", 1, "live", "is being replaced by")
	id := w.replace(time.Minute, "a", remove, "")
	w.advance(30 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
}

// A new member whose server dies for good before it has joined does not hold its cell for ever: whoever wanted the replacement
// chooses again, so that a drain ends and a repair of the same cell is not refused.
func TestDeadNewMembersAreGivenUp(t *testing.T) {
	for _, steps := range []int{0, 3, 6} {
		w := newWorld(t.Fatalf, seven(), 10)
		w.create(time.Minute, "a")
		w.settle()
		id := w.wantCell(t, "a", 1, "live", "").Members[0].Server
		w.duty(id, Draining)
		for w.m.names["a"].Moving().isZero() {
			w.now += time.Second
			w.turn()
		}
		for range steps { // until the number is issued, and later
			w.turn()
			if len(w.flight) > 0 {
				w.deliver(0, true, true)
			}
		}
		add := w.byID[w.m.names["a"].Moving().Add]
		add.lost = true
		w.setUp(add, false)
		w.advance(3 * time.Minute)
		if n := w.m.planner.book.Nodes(id); n != 0 || !w.m.names["a"].Moving().isZero() {
			t.Fatalf("after %d steps: %d nodes are left on %s, %v", steps, n, id, w.m.names["a"].Moving())
		}
		w.checkCounts()
	}
}

// What an operator asked for by name is his to give up.
func TestOperatorsMoveWaitsForItsServer(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 10)
	w.create(time.Minute, "a")
	w.settle()
	members := serversOf(w.wantCell(t, "a", 1, "live", ""))
	i := slices.IndexFunc(w.servers, func(s *fakeServer) bool { return !slices.Contains(members, s.reg.Server) })
	add := w.servers[i]
	id := w.replace(5*time.Minute, "a", members[0], add.reg.Server)
	w.setUp(add, false)
	w.advance(3 * time.Minute)
	w.unanswered(t, id)
	w.setUp(add, true)
	w.advance(30 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
}
