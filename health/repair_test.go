package health

import (
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// One server dies: nothing is proposed before the patience is over, then its cells are repaired, within the budget.
func TestOneDeadServerWaits(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 1, 7, 6, 3, 2000)
	w.die("s000")
	hosted := w.count()[1]
	w.run(c.Patience - time.Second)
	logf(t, w, "before the patience is over: %d proposals", len(w.proposals))
	if len(w.proposals) != 0 || len(w.notes) != 0 || w.r.Stats().Queued[classWaiting] != hosted {
		t.Fatalf("%d proposals, notes %v, %+v", len(w.proposals), w.notes, w.r.Stats())
	}
	w.run(5 * time.Minute)
	logf(t, w, "5 minutes later: %d proposals of %d cells, at most %d in any second", len(w.proposals), hosted, peak(w.proposals, time.Second))
	if len(w.proposals) != hosted || w.count()[1] != 0 {
		t.Fatalf("%d proposals for %d cells, left %v", len(w.proposals), hosted, w.count())
	}
	if most := peak(w.proposals, time.Second); most > int(1.2*c.Brick.Repairs+1) {
		t.Fatalf("%d in one second, the budget is %v a second", most, c.Brick.Repairs)
	}
	if first := w.proposals[0]; first.at < time.Hour+c.Patience {
		t.Fatalf("first at %v", first.at)
	}
}

// A second server dies while the first is being repaired: the cells that both shared come first.
func TestSecondDeathComesFirst(t *testing.T) {
	c := DefaultRepairConfig()
	c.Brick.Repairs, c.Server.Repairs = 2, 2 // so that there is a queue
	w := newRepairWorld(t, c, 2, 7, 6, 3, 2000)
	w.die("s000")
	w.run(c.Patience + 30*time.Second)
	before := len(w.proposals)
	w.die("s041") // another rack, another power domain
	died := w.now
	shared := w.count()[2]
	if before == 0 || shared == 0 || w.count()[1] == 0 {
		t.Fatalf("%d proposals so far, %v", before, w.count())
	}
	w.run(c.Settle + 3*time.Minute)
	var urgent, late int
	for _, p := range w.proposals[before:] {
		switch {
		case p.dead == 2:
			urgent++
		case urgent < shared && p.at > died+c.Settle+time.Second:
			late++
		}
	}
	logf(t, w, "%d cells lost a second member; %d of them proposed, %d others before the last of them", shared, urgent, late)
	if urgent != shared || late != 0 {
		t.Fatalf("%d of %d urgent cells proposed, %d others before the last of them", urgent, shared, late)
	}
	if most := peak(w.proposals, time.Second); most > int(1.2*c.Brick.Repairs+1) {
		t.Fatalf("%d in one second", most)
	}
}

// A whole rack, or a whole power domain, dies: a hold begins and says so, no cell is repaired, those on the brink are raised by one
// within the budget. When it returns, nothing is left to do.
func TestCorrelatedFailureHolds(t *testing.T) {
	for _, s := range []struct {
		name                   string
		racks, perRack, powers int
		dies                   func(*repairWorld) []cell.ServerID
		domain                 string
	}{
		{"rack of six", 7, 6, 3, func(w *repairWorld) []cell.ServerID { return w.rack("r2") }, "rack:b1/r2"},
		{"rack of two", 7, 2, 3, func(w *repairWorld) []cell.ServerID { return w.rack("r2") }, "rack:b1/r2"},
		{"power domain across racks", 9, 5, 3, func(w *repairWorld) []cell.ServerID { return w.power("p1") }, "power:b1/p1"},
		{"power domain of 14 servers in all", 14, 1, 3, func(w *repairWorld) []cell.ServerID { return w.power("p1") }, "power:b1/p1"},
	} {
		t.Run(s.name, func(t *testing.T) {
			c := DefaultRepairConfig()
			c.Brick = Budget{Repairs: 10, Bytes: 200 << 10}
			w := newRepairWorld(t, c, 3, s.racks, s.perRack, s.powers, 3000)
			w.run(time.Second)
			down := s.dies(w)
			for _, id := range down {
				w.die(id)
				w.now += 200 * time.Millisecond // no turn: nobody is raised onto a server that dies next
			}
			before := w.count()
			w.run(time.Hour)
			if !slices.ContainsFunc(w.notes, func(n Note) bool {
				return n.Hold && n.Domain == s.domain && strings.Contains(n.Text, "physalia control hold end "+s.domain)
			}) {
				t.Fatalf("no hold on %s: %v", s.domain, w.notes)
			}
			raised := 0
			for _, p := range w.proposals {
				if p.dead != 3 {
					t.Fatalf("repaired under a hold: %v with %d dead", p.Repair, p.dead)
				}
				raised++
			}
			second := peak(w.proposals, time.Second)
			logf(t, w, "%d servers died: %v before, %d raised; at most %d reconfigurations and %d bytes in a second, the budget is %v and %v",
				len(down), before, raised, second, second*int(c.NodeBytes), c.Brick.Repairs, c.Brick.Bytes)
			if raised != before[3] || w.count()[3] != 0 || w.count()[2] != before[2]+before[3] {
				t.Fatalf("%d raised, before %v, after %v", raised, before, w.count())
			}
			if most := min(1.2*c.Brick.Repairs+1, 1.2*c.Brick.Bytes/float64(c.NodeBytes)+1); float64(second) > most {
				t.Fatalf("%d in one second, the budget allows %v", second, most)
			}
			w.comeBack(down...)
			w.run(c.ReturnMin + time.Second)
			done := len(w.proposals)
			w.run(2 * c.Patience)
			if st := w.r.Stats(); len(w.r.holds) != 0 || len(w.proposals) != done || st.InFlight != 0 || st.Queued != [classes]int{} || st.Troubled != 0 {
				t.Fatalf("holds %v, %d proposals after the return, %+v", w.r.holds, len(w.proposals)-done, st)
			}
		})
	}
}

// A hold ends by hand, and after its maximum: then the dead are taken for gone.
func TestHoldEnds(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 4, 7, 6, 3, 500)
	down := w.rack("r3")
	w.die(down...)
	w.run(time.Minute)
	held := w.r.Stats().Queued[classHeld]
	if err := w.r.EndHold(w.now, "rack:b1/r9"); cell.KindOf(err) != cell.NotFound {
		t.Fatalf("a domain that does not exist: %v", err)
	}
	if err := w.r.EndHold(w.now, "rack:b1/r3"); err != nil {
		t.Fatal(err)
	}
	if err := w.r.EndHold(w.now, "rack:b1/r3"); cell.KindOf(err) != cell.NotFound {
		t.Fatalf("ended twice: %v", err)
	}
	w.run(c.Patience + 2*time.Minute)
	if held == 0 || w.r.Stats().Queued[classHeld] != 0 || w.count()[0] != 500 {
		t.Fatalf("%d were held, now %+v, cells by dead members %v", held, w.r.Stats(), w.count())
	}

	w = newRepairWorld(t, c, 4, 7, 6, 3, 500)
	w.step = time.Second
	w.die(down...)
	w.run(c.HoldMax - time.Minute)
	if w.count()[0] == 500 {
		t.Fatal("repaired under the hold")
	}
	w.run(c.Patience)
	if last := w.notes[len(w.notes)-1]; last.Hold || !strings.Contains(last.Text, "taken for gone") || w.count()[0] != 500 {
		t.Fatalf("%v, %v", last, w.count())
	}
}

// A server returns: what waits for it is dropped, what is only planned is withdrawn, and one that flaps wins no patience.
func TestReturn(t *testing.T) {
	c := DefaultRepairConfig()
	c.Brick.Repairs, c.Server.Repairs = 5, 5
	w := newRepairWorld(t, c, 5, 7, 6, 3, 2000)
	w.takes = time.Hour // everything stays planned
	w.die("s000")
	hosted := w.count()[1]
	w.run(c.Patience + 3*time.Second)
	proposed := len(w.proposals)
	if proposed == 0 || proposed >= hosted {
		t.Fatalf("%d of %d proposed", proposed, hosted)
	}
	w.comeBack("s000")
	w.run(c.ReturnMin - time.Second)
	if w.withdrawn != 0 || len(w.proposals) != proposed {
		t.Fatalf("%d withdrawn, %d new proposals before the server has stayed", w.withdrawn, len(w.proposals)-proposed)
	}
	w.die("s000") // it did not stay: its death is the old one
	w.run(2 * time.Second)
	if len(w.proposals) == proposed {
		t.Fatal("a server that flaps wins patience")
	}
	w.comeBack("s000")
	w.run(c.ReturnMin + time.Second)
	if st := w.r.Stats(); w.withdrawn != len(w.proposals) || st.InFlight != 0 || st.Queued != [classes]int{} {
		t.Fatalf("%d of %d withdrawn, %+v", w.withdrawn, len(w.proposals), st)
	}
	w.run(c.Patience)
	if w.withdrawn != len(w.proposals) {
		t.Fatal("proposed for a server that is up")
	}
}

// A server returned and stayed for long enough, and dies again before a turn has seen that: its patience begins anew.
func TestDeathAfterAReturnThatNoTurnSaw(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 5, 7, 6, 3, 200)
	w.die("s000")
	w.run(c.Patience - time.Minute)
	w.comeBack("s000")
	w.now += c.ReturnMin + time.Second // no turn
	w.die("s000")
	w.run(c.Patience - time.Second)
	if len(w.proposals) != 0 {
		t.Fatalf("%d proposals before the patience is over", len(w.proposals))
	}
	w.run(5 * time.Minute)
	if len(w.proposals) == 0 {
		t.Fatal("no proposal after it")
	}
}

// What is past planning when the server returns goes on to its end.
func TestReturnTooLate(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 6, 7, 6, 3, 200)
	w.takes = 40 * time.Second
	w.die("s000")
	w.run(c.Patience + time.Second)
	for _, c := range w.cells {
		c.planned = false
	}
	proposed := len(w.proposals)
	w.comeBack("s000")
	w.run(time.Minute)
	if st := w.r.Stats(); proposed == 0 || w.withdrawn != 0 || int(st.Done) != proposed || st.InFlight != 0 {
		t.Fatalf("%d proposed, %d withdrawn, %+v", proposed, w.withdrawn, st)
	}
}

// A cell that has lost its majority is never touched; it is when members return.
func TestLostQuorum(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 7, 14, 3, 3, 1)
	jury := slices.Clone(w.cells["vol-000000"].members)
	w.r.config.HoldWindow = time.Nanosecond // not what is asked here
	for _, s := range jury[:4] {
		w.die(s)
		w.now += time.Second
	}
	w.run(2 * time.Hour)
	if st := w.r.Stats(); len(w.proposals) != 0 || st.Queued[classLost] != 1 {
		t.Fatalf("%d proposals, %+v", len(w.proposals), st)
	}
	w.comeBack(jury[3])
	w.run(time.Minute)
	if st := w.r.Stats(); st.Queued[classLost] != 0 || len(w.proposals) != 3 || w.proposals[0].Remove != jury[0] {
		t.Fatalf("%v, %+v", w.proposals, st)
	}
}

// Refusals slow down the pool that they are about, and nothing else; when room comes, repair goes on.
func TestRefusals(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 8, 7, 6, 3, 2000)
	asks := 0
	w.refuse = func(Repair) *cell.Error {
		asks++
		return &cell.Error{Op: "lifecycle.propose", Kind: cell.NoRoom, Detail: "brick b1 color red has 5 live servers"}
	}
	w.die("s000")
	w.run(c.Patience + 10*time.Minute)
	if most := int(c.Brick.Repairs) + 10*int(time.Minute/c.Pause.Most) + 10; asks == 0 || asks > most {
		t.Fatalf("asked %d times in ten minutes without room, at most %d were expected: one second's budget, then one by one", asks, most)
	}
	w.refuse = nil
	w.run(10 * time.Minute)
	if w.count()[1] != 0 {
		t.Fatalf("%v", w.count())
	}
}

// Another instance owns the brick: nothing is proposed, and all the more when it becomes ours.
func TestOwnedBricksOnly(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 9, 7, 6, 3, 300)
	mine := false
	w.r.Own(func(brick string) bool { return brick != "b1" || mine })
	w.die("s000")
	w.run(c.Patience + time.Minute)
	if len(w.proposals) != 0 {
		t.Fatalf("%v", w.proposals[0])
	}
	mine = true
	w.run(time.Minute)
	if w.count()[1] != 0 {
		t.Fatalf("%v", w.count())
	}
}

// Routes: the newest wins, the deleted go, malformed ones and those beyond a bound are counted.
func TestRoutes(t *testing.T) {
	c := DefaultRepairConfig()
	c.CellsMax = 2
	w := newRepairWorld(t, c, 10, 4, 3, 3, 1)
	route := func(id cell.ID, incarnation cell.Incarnation, configuration uint64, servers ...cell.ServerID) {
		r := wire.Route{Cell: id, Incarnation: incarnation, Configuration: configuration, Deleted: len(servers) == 0}
		for i, s := range servers {
			r.Members = append(r.Members, wire.Founder{Node: uint64(i + 1), Server: s})
		}
		w.r.Route(w.now, &r)
	}
	members := func(id cell.ID) (out []cell.ServerID) {
		if ref := w.r.find(id); ref != 0 {
			for i := range int(w.r.row(ref).size) {
				out = append(out, w.r.hosts[w.r.seat(ref, i).host].id)
			}
		}
		return out
	}
	thirteen := w.servers[:12:12]
	thirteen = append(thirteen, "s-unheard")
	for _, s := range []struct {
		what string
		do   func()
		want []cell.ServerID
	}{
		{"new", func() { route("a", 1, 2, "s001", "s002", "s003") }, []cell.ServerID{"s001", "s002", "s003"}},
		{"older", func() { route("a", 1, 1, "s004") }, []cell.ServerID{"s001", "s002", "s003"}},
		{"newer", func() { route("a", 1, 3, "s001", "s002", "s004") }, []cell.ServerID{"s001", "s002", "s004"}},
		{"a server twice", func() { route("a", 1, 4, "s001", "s001") }, []cell.ServerID{"s001", "s002", "s004"}},
		{"no room", func() { route("b", 1, 1, "s001") }, []cell.ServerID{"s001", "s002", "s004"}},
		{"next incarnation", func() { route("a", 2, 1, thirteen...) }, thirteen},
		{"deleted before", func() { route("a", 1, 0) }, thirteen},
		{"deleted", func() { route("a", 2, 0) }, nil},
	} {
		s.do()
		if got := members("a"); !slices.Equal(got, s.want) {
			t.Fatalf("%s: %v, want %v", s.what, got, s.want)
		}
		checkCensus(t, w.r)
	}
	if st := w.r.Stats(); st.RefusedRoutes != 2 || st.Cells != 1 {
		t.Fatalf("%+v", st)
	}
}

// A hold that begins late: what is only planned for its cells is given up, what is further goes on.
func TestHoldWithdraws(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 11, 7, 6, 3, 2000)
	w.takes = time.Hour
	w.die("s041")
	w.run(c.HoldWindow + time.Minute)
	w.die("s000")
	w.run(c.Settle + 10*time.Second)
	planned := 0
	for i, p := range w.proposals {
		cell := w.cells[p.Cell]
		if cell.planned = i%2 == 0; cell.planned {
			planned++
		}
	}
	if planned == 0 || planned == len(w.proposals) || len(w.r.holds) != 0 {
		t.Fatalf("%d of %d planned, holds %v", planned, len(w.proposals), w.r.holds)
	}
	proposed := len(w.proposals)
	for _, s := range w.rack("r0")[1:3] {
		w.die(s)
	}
	brink := w.count()[3] + w.count()[4]
	w.run(10 * time.Second)
	logf(t, w, "%d proposed, %d of them planned, %d withdrawn", proposed, planned, w.withdrawn)
	// Those that the two new deaths have brought to the brink are wanted all the more.
	if w.withdrawn == 0 || w.withdrawn > planned || w.withdrawn < planned-brink {
		t.Fatalf("%d withdrawn of %d planned, %d at the brink", w.withdrawn, planned, brink)
	}
	for _, p := range w.proposals[proposed:] {
		if p.dead != 3 {
			t.Fatalf("%v with %d dead", p.Repair, p.dead)
		}
	}
	checkCensus(t, w.r)
}

// What operators are told: holds with the command that ends them, queues, budgets, cells in danger with all their members.
func TestReport(t *testing.T) {
	c := DefaultRepairConfig()
	w := newRepairWorld(t, c, 12, 7, 6, 3, 400)
	w.takes = time.Hour
	lost := w.cells["vol-000007"].members[:4]
	w.die(lost...)
	for _, s := range w.cells["vol-000001"].members[:3] {
		if !w.dead[s] {
			w.die(s)
		}
	}
	dead := len(w.where(func(g wire.Registration) bool { return w.dead[g.Server] }))
	w.run(20 * time.Second)
	w.comeBack(lost[3])
	report := w.r.Report(w.now, 1)
	if len(report.Cells) != 1 || !report.Cut || len(report.Dead) != dead || len(report.Budgets) != 3 || report.Budgets[1].Of != "each brick" || report.Budgets[1].RepairsLeft == 0 {
		t.Fatalf("%d dead, %+v", dead, report)
	}
	full := w.r.Report(w.now, 0)
	states := map[string]int{}
	classes := map[string]int{}
	for _, cell := range full.Cells {
		classes[cell.Class]++
		if cell.Cell == "vol-000007" {
			for _, m := range cell.Members {
				states[m.State]++
			}
			// The index looks again only when the server has stayed, so it is still listed as it was.
			if cell.Class != "lost" || !strings.Contains(cell.Doing, "physalia cell recover vol-000007") {
				t.Errorf("%+v", cell)
			}
		}
	}
	if states["dead"] != 3 || states["returning"] != 1 || states["up"] != 3 || classes["brink"] == 0 {
		t.Errorf("members %v, classes %v", states, classes)
	}
	var waiting uint64
	for _, p := range full.Pools {
		waiting += p.Waiting + p.Held
	}
	if classes["lost"] == 0 || full.Cut {
		t.Errorf("classes %v, cut %v", classes, full.Cut)
	}
	if waiting == 0 || full.Budgets[0].Of != "colony" || full.Budgets[0].RepairsLeft > full.Budgets[0].Repairs {
		t.Errorf("%+v %+v", full.Pools, full.Budgets)
	}
}
