package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

// envelope is the naive twin of a bucket: it remembers everything that was taken.
type envelope struct {
	limit Limit
	full  int           // tokens at birth
	born  time.Duration // since when they gather
	taken []time.Duration
}

// allows reports whether one more at this time leaves every window within burst and rate.
func (e *envelope) allows(now time.Duration) bool {
	every := e.limit.interval()
	for i, t := range e.taken {
		if n := len(e.taken) - i + 1; time.Duration(n-e.limit.Burst)*every > now-t {
			return false
		}
	}
	return time.Duration(len(e.taken)+1-e.full)*every <= now-e.born
}

// TestBucketAgainstTwin: a bucket allows what its twin allows, no more and no less, and what it promises comes true.
func TestBucketAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limit{PerSecond: rapid.SampledFrom([]float64{0.1, 1, 3, 7.5, 1000}).Draw(t, "rate"), Burst: rapid.IntRange(1, 5).Draw(t, "burst")}
		twin := &envelope{limit: l, full: l.Burst}
		var b bucket
		now := time.Duration(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.SampledFrom([]time.Duration{0, 1, time.Millisecond, l.interval() - 1, l.interval(), 3 * l.interval()}).Draw(t, "pause")
			wait, left := b.room(now, l, 1)
			if (wait == 0) != twin.allows(now) || (wait == 0) != (left > 0) {
				t.Fatalf("at %v the bucket says wait %v, left %d; the twin says %v", now, wait, left, twin.allows(now))
			}
			if wait > 0 {
				if before := now + wait - 1; twin.allows(before) || !twin.allows(now+wait) {
					t.Fatalf("at %v the promise of %v is not the first moment", now, wait)
				}
				continue
			}
			b.take(now, l)
			twin.taken = append(twin.taken, now)
		}
	})
}

// ledger holds a world to its limits: it reads what is stored, and knows what began when.
type ledger struct {
	w     *world
	m     *Manager // whose life it is
	born  time.Duration
	books map[string]*envelope
	seen  map[string]Record
}

// watch starts a ledger.
func watch(w *world) *ledger {
	l := &ledger{w: w, seen: map[string]Record{}}
	w.stored = l.stored
	return l
}

// stored looks at every batch: a record that appears is a creation, a move that appears is a replacement.
func (l *ledger) stored(batch []Write) {
	if l.m != l.w.m { // another life: what it may do begins anew
		l.m, l.born, l.books = l.w.m, l.w.m.guard.born, map[string]*envelope{}
	}
	for _, wr := range batch {
		if wr.Key[0] != keyRecord {
			continue
		}
		before := l.seen[string(wr.Key)]
		if wr.Value == nil {
			delete(l.seen, string(wr.Key))
			continue
		}
		r, err := decodeRecord(wr.Value, intern{})
		if err != nil {
			l.w.fail("stored record: %v", err)
		}
		l.seen[string(wr.Key)] = r
		switch mv := r.Moving(); {
		case before.Cell == "":
			l.spend(creations, r.Brick.String(), r.servers()...)
		case !mv.isZero() && (before.Moving().Remove != mv.Remove || before.Moving().Add != mv.Add):
			l.spend(mv.Cause.class(), r.Brick.String(), mv.Remove, mv.Add)
		}
	}
}

// spend enters one beginning in the books of every scope.
func (l *ledger) spend(c class, brick string, servers ...cell.ServerID) {
	row := l.w.m.config.Limits.of(c)
	enter := func(name string, limit Limit) {
		name = c.String() + " " + name
		e := l.books[name]
		if e == nil {
			e = &envelope{limit: limit, full: limit.Burst, born: l.born}
			if c != creations {
				e.full = 1
			}
			l.books[name] = e
		}
		if !e.allows(l.w.now) {
			l.w.fail("the limit %s of %s is exceeded at %v: %v", limit, name, l.w.now, e.taken)
		}
		e.taken = append(e.taken, l.w.now)
	}
	enter("colony", row.Colony)
	enter("brick "+brick, row.Brick)
	for _, s := range servers {
		enter("server "+string(s), row.Server)
	}
}

// tightLimits are such that every bucket runs dry in a small world.
func tightLimits() Limits {
	return Limits{
		Create: LimitsOf{Colony: Limit{3, 4}, Brick: Limit{2, 3}, Server: Limit{2, 3}},
		Move:   LimitsOf{Colony: Limit{2, 3}, Brick: Limit{1, 2}, Server: Limit{0.5, 2}},
		Repair: LimitsOf{Colony: Limit{2, 3}, Brick: Limit{2, 2}, Server: Limit{1, 2}},
	}
}

// TestNoLimitIsEverExceeded lets requests, proposals, drains, pauses, losses, deaths and crashes run at random; whatever begins is
// within every limit of the life it begins in, what is paused does not begin, and at the end everything converges.
func TestNoLimitIsEverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := smallConfig()
		c.Seed, c.Limits, c.MovesPerServer = rapid.Uint64().Draw(t, "seed"), tightLimits(), 2
		w := newWorld(t.Fatalf, c, 6)
		l := watch(w)
		names := []cell.ID{"a", "b", "c", "d", "e", "f"}
		name := func() cell.ID { return rapid.SampledFrom(names).Draw(t, "name") }
		server := func() *fakeServer { return w.servers[rapid.IntRange(0, 5).Draw(t, "server")] }
		action := func() Action { return Action(rapid.IntRange(int(CreateCells), int(actionMax)).Draw(t, "action")) }
		t.Repeat(map[string]func(*rapid.T){
			"create":  func(t *rapid.T) { w.create(time.Second, name(), name()) },
			"delete":  func(t *rapid.T) { w.delete(time.Second, wire.Drop{Cell: name()}) },
			"replace": func(t *rapid.T) { w.replace(5*time.Second, name(), server().reg.Server, "") },
			"propose": func(t *rapid.T) {
				p := Proposal{Cell: name(), Remove: server().reg.Server, Cause: Cause(rapid.IntRange(int(ByRepair), int(causeMax)).Draw(t, "cause"))}
				under := w.m.names[p.Cell]
				was := under != nil && !under.Moving().isZero()
				if err := w.m.Propose(w.now, p); err == nil && !was && w.m.pauses[p.Cause.action()] != nil {
					t.Fatalf("%+v began although it is paused", p)
				}
				w.turn()
			},
			"withdraw": func(t *rapid.T) { w.m.Withdraw(w.now, name(), server().reg.Server); w.turn() },
			"duty": func(t *rapid.T) {
				w.duty(server().reg.Server, rapid.SampledFrom([]Duty{Serving, Serving, Draining}).Draw(t, "duty"))
			},
			"pause":   func(t *rapid.T) { w.pause(action()) },
			"resume":  func(t *rapid.T) { w.resume(action()) },
			"server":  func(t *rapid.T) { s := server(); w.setUp(s, !s.up) },
			"deliver": func(t *rapid.T) { w.deliverSome(t, true, true) },
			"arrive":  func(t *rapid.T) { w.deliverSome(t, true, true) },
			"unheard": func(t *rapid.T) { w.deliverSome(t, true, false) },
			"lose":    func(t *rapid.T) { w.deliverSome(t, false, false) },
			"time": func(t *rapid.T) {
				w.now += time.Duration(rapid.IntRange(1, 3000).Draw(t, "ms")) * time.Millisecond
				w.turn()
			},
			"crash":      func(t *rapid.T) { w.crash() },
			"crash soon": func(t *rapid.T) { w.dieAt = w.steps + rapid.IntRange(1, 6).Draw(t, "effects") },
			"":           func(t *rapid.T) { w.checkCounts() },
		})
		w.dieAt = 0
		for _, s := range w.servers {
			w.duty(s.reg.Server, Serving)
		}
		w.resume(CreateCells, DeleteCells, MoveCells, RepairCells)
		w.settle()
		w.checkSettled()
		w.checkCounts()
		if len(w.open) != 0 || len(w.m.open.of) != 0 {
			t.Fatalf("requests without an answer: %v; not converged: %d", w.open, len(w.m.open.of))
		}
		if l.m == nil && len(l.seen) > 0 {
			t.Fatal("the ledger has seen nothing")
		}
	})
}

// checkCounts compares what is counted as it changes with what is there.
func (w *world) checkCounts() {
	causes := [causeMax + 1]int{}
	at := map[cell.ServerID]int{}
	stuck := map[cell.ServerID]int{}
	unsettled := 0
	for _, newest := range w.m.names {
		for in := newest; in != nil; in = in.older {
			if !in.isSettled() {
				unsettled++
			}
			if in.Moving().isZero() {
				continue
			}
			causes[in.Moving().Cause]++
			for _, s := range []cell.ServerID{in.Moving().Remove, in.Moving().Add} {
				at[s]++
				if v := in.work.move; v != nil && v.stalled >= stuckAfter {
					stuck[s]++
				}
			}
		}
	}
	if causes != w.m.causes || unsettled != len(w.m.open.of) {
		w.fail("replacements %v are counted as %v, %d unsettled as %d", causes, w.m.causes, unsettled, len(w.m.open.of))
	}
	for id, s := range w.m.servers {
		if s.replacing != at[id] || s.stuck != stuck[id] {
			w.fail("server %s: %d replacements, %d stuck, counted as %d, %d", id, at[id], stuck[id], s.replacing, s.stuck)
		}
	}
}

// duty, pause and resume give an order and check that it is answered.
func (w *world) duty(server cell.ServerID, d Duty) (err *cell.Error) {
	return w.order(func(id RequestID) { w.m.SetDuty(w.now, id, server, d, Order{By: "ann", At: 1, Reason: "test"}) })
}

func (w *world) pause(list ...Action) {
	w.order(func(id RequestID) {
		w.m.Pause(w.now, id, list, Order{By: "ann@desk", Reason: "power work", At: 1795348800000})
	})
}

func (w *world) resume(list ...Action) {
	w.order(func(id RequestID) { w.m.Resume(w.now, id, list) })
}

func (w *world) order(give func(id RequestID)) *cell.Error {
	w.nextID++
	id, steps := w.nextID, w.steps
	give(id)
	w.turn()
	r, ok := w.replies[id]
	if !ok && !(w.dieAt > steps && w.dieAt <= w.steps) {
		w.fail("the order %d is not answered", id)
	}
	return r.Err
}

// More is asked for than the limits allow: what cannot begin waits in order, says why, and begins when its time has come.
func TestCreationsWaitForTheirLimit(t *testing.T) {
	c := smallConfig()
	c.Limits.Create = LimitsOf{Colony: Limit{2, 3}, Brick: Limit{1000, 1000}, Server: Limit{1000, 1000}}
	w := newWorld(t.Fatalf, c, 5)
	watch(w)
	early := w.create(0, "a", "b", "c", "d", "e", "f", "g")
	w.turn()
	for i, o := range w.replies[early].Outcomes.Outcomes[3:] {
		if o.Err == nil || o.Err.Kind != cell.UnknownResult {
			t.Errorf("creation %d: %v", i+3, o.Err)
		}
	}
	id := w.create(time.Minute, "g")
	w.advance(time.Second)
	if got := w.states(); got != "a.1 live, b.1 live, c.1 live, d.1 live, e.1 live" {
		t.Fatalf("after a second: %s", got)
	}
	if s := w.status(t, 10); len(s.Waiting) != 2 || s.Waiting[0].Cell != "f" || s.Waiting[1].Why != "its jury is not planned yet: the limit of creates of the colony, 2:3, is reached, and 2 wait" {
		t.Errorf("status: %+v", s.Waiting)
	}
	w.advance(time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Error(err)
	}
}

// One brick at its limit does not hold up the others.
func TestLimitOfOneBrick(t *testing.T) {
	c := smallConfig()
	c.Limits.Create = LimitsOf{Colony: Limit{1000, 1000}, Brick: Limit{0.1, 2}, Server: Limit{1000, 1000}}
	w := newWorld(t.Fatalf, c, 6)
	for i, s := range w.servers {
		s.reg.Brick = fmt.Sprintf("b%d", i/3)
	}
	w.store = NewMemStore()
	w.crash()
	watch(w)
	for _, brick := range []string{"b0", "b1"} {
		w.nextID++
		w.m.Create(w.now, w.nextID, wire.CreateCells{Cells: []cell.ID{cell.ID(brick + "-1"), cell.ID(brick + "-2"), cell.ID(brick + "-3")}, Brick: brick})
	}
	w.turn()
	w.turn()
	w.drain()
	if got := w.states(); got != "b0-1.1 live, b0-2.1 live, b1-1.1 live, b1-2.1 live" {
		t.Fatal(got)
	}
	w.advance(10 * time.Second)
	if got := len(w.list()); got != 6 {
		t.Errorf("%d cells after ten seconds", got)
	}
}

// An operator's replacement waits for its turn; his request says why, and what has not begun when it ends never does.
func TestReplacementsWaitForTheirLimit(t *testing.T) {
	c := smallConfig()
	c.Limits.Move = LimitsOf{Colony: Limit{1, 1}, Brick: Limit{100, 100}, Server: Limit{100, 100}}
	w := newWorld(t.Fatalf, c, 5)
	watch(w)
	w.create(time.Minute, "a", "b", "c")
	w.settle()
	remove := func(name cell.ID) cell.ServerID { return w.m.names[name].Members[0].Server() }
	first, second := w.replace(time.Minute, "a", remove("a"), ""), w.replace(time.Minute, "b", remove("b"), "")
	short := w.replace(500*time.Millisecond, "c", remove("c"), "")
	if s := w.status(t, 10); s.Open != 3 || len(s.Waiting) != 3 || s.Waiting[0].Cell != "b" || s.Waiting[0].Workflow != "replace" || s.Waiting[0].State != "asked for" || s.Waiting[2].Cell != "a" {
		t.Errorf("status: %+v", s)
	}
	w.advance(900 * time.Millisecond)
	wantError(t, w.outcome(t, short), cell.Overloaded, "the limit of moves of the colony, 1:1, is reached")
	w.unanswered(t, second)
	w.advance(10 * time.Second)
	for _, id := range []RequestID{first, second} {
		if err := w.outcome(t, id); err != nil {
			t.Error(err)
		}
	}
	if conf := w.cellOf(incKey{"c", 1}).conf; conf.Number != 1 {
		t.Errorf("c was changed: %+v", conf)
	}
	wantError(t, w.m.Propose(w.now, Proposal{Cell: "none", Remove: "x", Cause: ByNear}), cell.NotFound, "no such cell")
}

// The last repair is kept for a cell at the brink.
func TestBrinkComesFirst(t *testing.T) {
	c := Config{Jury: 3, Seed: 1, Limits: Limits{Repair: LimitsOf{Colony: Limit{0.001, 2}, Brick: Limit{100, 100}, Server: Limit{100, 100}}}}
	w := newWorld(t.Fatalf, c, 8)
	w.create(time.Minute, "a", "b")
	w.settle()
	w.setUp(w.byID[w.m.names["b"].Members[0].Server()], false)
	well, brink := w.m.names["a"], w.m.names["b"]
	if w.m.live(well) < 3 {
		well, brink = brink, well
	}
	if w.m.live(well) != 3 || w.m.live(brink) != 2 {
		t.Fatal("the two juries overlap; choose another seed")
	}
	p := func(in *incarnation) Proposal {
		return Proposal{Cell: in.Cell, Remove: in.Members[0].Server(), Cause: ByRepair}
	}
	wantError(t, w.m.Propose(w.now, p(well)), cell.Overloaded, "the limit of repairs of the colony")
	if err := w.m.Propose(w.now, p(brink)); err != nil {
		t.Error(err)
	}
}

// A configuration with limits that mean nothing is refused.
func TestLimitsAreChecked(t *testing.T) {
	for _, l := range []Limit{{-1, 1}, {1, 0}, {1, -1}, {2e6, 1}, {0, 1}} {
		c := Config{}
		c.Limits.Move.Brick = l
		if c.Check() == nil {
			t.Errorf("%s is accepted", l)
		}
	}
	if err := (Config{}).Check(); err != nil {
		t.Error(err)
	}
}

// Ten thousand cells in ten seconds is within the defaults, also when all ask at once.
func TestDefaultsLetTenThousandCome(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1}, 14)
	l := watch(w)
	for n := 0; n < 10_000; n += 500 {
		names := make([]cell.ID, 500)
		for i := range names {
			names[i] = cell.ID(fmt.Sprintf("vol-%05d", n+i))
		}
		w.create(time.Minute, names...)
		w.turn()
	}
	for range 10_000/256 + 1 {
		w.turn()
	}
	if len(l.seen) != 10_000 || w.now != 0 {
		t.Errorf("%d cells are planned at %v", len(l.seen), w.now)
	}
}

// status asks for the status with a page of so many steps.
func (w *world) status(t *testing.T, limit uint32) *wire.ControlStatus {
	t.Helper()
	w.nextID++
	w.m.Status(w.now, w.nextID, wire.StatusRequest{Limit: limit})
	w.turn()
	if r := w.replies[w.nextID]; r.Status == nil {
		t.Fatalf("no status: %+v", r)
	}
	return w.replies[w.nextID].Status
}
