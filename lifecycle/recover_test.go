package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

// firstSlot is the applied slot of a server's nodes that were created empty: every server is at another one.
func (w *world) firstSlot(s *fakeServer) uint64 { return 5 + uint64(slices.Index(w.servers, s)) }

// stateAt is the state of every cell at a slot.
func stateAt(slot uint64) []byte { return fmt.Appendf(nil, "state at %d", slot) }

// export tells what a fake server's node holds: a state, and one record above it that may have been chosen.
func (w *world) export(s *fakeServer, q *wire.ExportNode) (*wire.NodeExport, *cell.Error) {
	k := incKey{q.Cell, q.Incarnation}
	f, hosted := s.nodes[k]
	if !hosted {
		return nil, &cell.Error{Kind: cell.UnknownHere, Detail: "no node"}
	}
	slot := s.slots[k]
	if slot == 0 {
		slot = w.firstSlot(s)
	}
	x := &wire.NodeExport{Cell: q.Cell, Incarnation: q.Incarnation, Applied: slot, Known: slot, StateHash: slot, Promised: "1.1",
		Accepted: []wire.Accepted{{Slot: slot + 1, Round: slot, Node: 1}}}
	for _, mem := range f.Members {
		x.Jury = append(x.Jury, mem.Server)
		if mem.Server == s.reg.Server {
			x.Node = mem.Node
		}
	}
	if q.Content {
		x.State, x.Accepted[0].Entry = stateAt(slot), fmt.Appendf(nil, "entry %d", slot+1)
	}
	return x, nil
}

// recoverAt creates a node with a state, and holds the manager to what it must not do: two states for one incarnation, or a
// state that is not the best of the survivors.
func (w *world) recoverAt(s *fakeServer, r *wire.Recovery) *cell.Error {
	k := incKey{r.Founding.Cell, r.Founding.Incarnation}
	told := fmt.Sprint(r.Applied, r.StateHash, string(r.State), r.Kept)
	if first := w.begun[k]; first == "" {
		w.begun[k] = told
		best := uint64(0)
		for _, mem := range w.juries[incKey{k.cell, k.inc - 1}].Members {
			other := w.byID[mem.Server]
			if x, err := w.export(other, &wire.ExportNode{Cell: k.cell, Incarnation: k.inc - 1}); err == nil && !other.lost {
				best = max(best, x.Applied)
			}
		}
		if r.Applied < best || string(r.State) != string(stateAt(r.Applied)) || len(r.Kept) != 1 || r.Kept[0].Slot != r.Applied+1 {
			w.fail("%v begins with %s, the survivors hold slot %d", k, told, best)
		}
	} else if first != told {
		w.fail("L1: %v begins as %s and as %s", k, first, told)
	}
	for inc := range k.inc {
		if old := (incKey{k.cell, inc}); s.nodes[old].Cell != "" {
			delete(s.nodes, old)
			s.tombs[k.cell] = max(s.tombs[k.cell], inc)
		}
	}
	if err := w.found(s, r.Founding); err != nil {
		return err
	}
	if s.slots[k] == 0 {
		s.slots[k] = r.Applied + uint64(len(r.Kept))
	}
	return nil
}

// destroy takes a server with its disk away for good.
func (w *world) destroy(s *fakeServer) {
	s.lost = true
	w.setUp(s, false)
	clear(s.nodes)
}

// dead lists the servers that were destroyed.
func (w *world) dead() (list []cell.ServerID) {
	for _, s := range w.servers {
		if s.lost {
			list = append(list, s.reg.Server)
		}
	}
	return list
}

// planRecovery asks for a plan and lets everything arrive; nil when the manager crashed meanwhile.
func (w *world) planRecovery(req wire.PlanRecovery) (*wire.RecoveryPlan, *cell.Error) {
	w.nextID++
	id := w.nextID
	w.m.PlanRecovery(w.now, id, req)
	w.turn()
	for w.replies[id].Request == 0 {
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
			continue
		}
		at, ok := w.m.Next()
		if !ok {
			return nil, nil
		}
		w.now = max(w.now, at)
		w.turn()
	}
	return w.replies[id].Plan, w.replies[id].Err
}

// apply asks to carry out a plan.
func (w *world) apply(dead []cell.ServerID, cells ...wire.RecoveryCell) RequestID {
	w.nextID++
	w.m.Recover(w.now, w.nextID, wire.RecoverCells{Dead: dead, Cells: cells, Wait: 60_000})
	w.turn()
	return w.nextID
}

// operate plans and applies until there is nothing left that can be recovered, as an operator would.
func (w *world) operate() {
	for range 40 {
		plan, _ := w.planRecovery(wire.PlanRecovery{Dead: w.dead(), Limit: wire.RecoveryPageMax})
		if plan == nil {
			continue
		}
		cells := slices.DeleteFunc(plan.Cells, func(c wire.RecoveryCell) bool { return c.Problem != "" })
		if len(cells) == 0 {
			return
		}
		w.apply(w.dead(), cells...)
		w.settle()
	}
	w.fail("the operator does not come to an end: %+v", w.list())
}

// lossStory loses a majority of some cells, twice, the second time while the first recovery is under way.
func lossStory(w *world) {
	w.create(time.Minute, "a", "b", "c", "d", "e", "f")
	w.drain()
	w.destroy(w.servers[0])
	w.destroy(w.servers[1])
	w.destroy(w.servers[2])
	if plan, _ := w.planRecovery(wire.PlanRecovery{Dead: w.dead(), Limit: wire.RecoveryPageMax}); plan != nil {
		cells := slices.DeleteFunc(plan.Cells, func(c wire.RecoveryCell) bool { return c.Problem != "" })
		if len(cells) > 0 {
			w.apply(w.dead(), cells...)
		}
	}
	for range 8 {
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
		}
	}
	w.destroy(w.servers[3])
	w.operate()
}

// TestRecoverCrashAtEveryEffect kills the manager before each single effect of a recovery; the operator begins again.
func TestRecoverCrashAtEveryEffect(t *testing.T) {
	run := func(dieAt int) *world {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("crash before effect %d: %s", dieAt, fmt.Sprintf(format, args...))
		}
		w := newWorld(fail, smallConfig(), 8)
		w.dieAt = dieAt
		lossStory(w)
		w.settle()
		w.dieAt = 0
		w.checkSettled()
		w.checkRecovered()
		return w
	}
	calm := run(0)
	effects := calm.steps - 2 // the last ones are the lists that the checks asked for
	if len(calm.begun) < 2 || effects < 40 {
		t.Fatalf("the story recovers %d incarnations in %d effects, too few to be one", len(calm.begun), effects)
	}
	for k := 1; k <= effects; k++ {
		if w := run(k); !w.died {
			t.Fatalf("no crash before effect %d of %d", k, effects)
		}
	}
}

// checkRecovered holds, after operate and settle, that no cell has lost its majority unless nobody holds anything of it, and
// that the store keeps no state that everybody has.
func (w *world) checkRecovered() {
	whole := map[string]bool{}
	for _, c := range w.list() {
		alive := 0
		for _, mem := range c.Members {
			if !w.byID[mem.Server].lost {
				alive++
			}
		}
		if alive > 0 && alive < len(c.Members)/2+1 {
			w.fail("%s.%d has %d of %d and was not recovered", c.Cell, c.Incarnation, alive, len(c.Members))
		}
		rec := Record{Cell: c.Cell, Incarnation: c.Incarnation}
		whole[string(recoveryKey(&rec))] = alive == len(c.Members)
	}
	for key := range w.store.pairs {
		if _, current := whole[key]; key[0] == keyRecovery && (whole[key] || !current) {
			w.fail("a state is left in the store: %q", key)
		}
	}
}

// TestRandomRecovery mixes losses of servers and messages, crashes, plans that are old and plans that are new.
func TestRandomRecovery(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := smallConfig()
		c.Seed = rapid.Uint64().Draw(t, "seed")
		c.Surveys = rapid.IntRange(1, 3).Draw(t, "surveys")
		w := newWorld(t.Fatalf, c, 9)
		w.create(time.Minute, "a", "b", "c", "d", "e", "f", "g", "h")
		w.settle()
		var plans []wire.RecoveryCell
		t.Repeat(map[string]func(*rapid.T){
			"destroy": func(t *rapid.T) {
				if s := w.servers[rapid.IntRange(0, len(w.servers)-1).Draw(t, "server")]; !s.lost && len(w.dead()) < 5 {
					w.destroy(s)
				}
			},
			"plan": func(t *rapid.T) {
				if len(w.dead()) > 0 {
					if plan, _ := w.planRecovery(wire.PlanRecovery{Dead: w.dead(), Limit: wire.RecoveryPageMax}); plan != nil {
						plans = append(plans, plan.Cells...)
					}
				}
			},
			"apply": func(t *rapid.T) {
				if len(plans) > 0 && len(w.dead()) > 0 {
					w.apply(w.dead(), plans[rapid.IntRange(0, len(plans)-1).Draw(t, "plan")])
				}
			},
			"deliver": func(t *rapid.T) { w.deliverSome(t, true, true) },
			"unheard": func(t *rapid.T) { w.deliverSome(t, true, false) },
			"lose":    func(t *rapid.T) { w.deliverSome(t, false, false) },
			"server": func(t *rapid.T) {
				if s := w.servers[rapid.IntRange(0, len(w.servers)-1).Draw(t, "server")]; !s.lost {
					w.setUp(s, !s.up)
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
		w.settle()
		if len(w.dead()) > 0 {
			w.operate()
		}
		w.settle()
		w.checkSettled()
		w.checkRecovered()
	})
}

// lostCell makes one cell of three on servers and destroys all of its members but one; it returns the world and the survivor.
func lostCell(t *testing.T) (*world, *fakeServer) {
	t.Helper()
	w := newWorld(t.Fatalf, smallConfig(), 7)
	w.create(time.Minute, "a")
	w.settle()
	members := w.list()[0].Members
	w.destroy(w.byID[members[0].Server])
	w.destroy(w.byID[members[2].Server])
	return w, w.byID[members[1].Server]
}

func (w *world) mustPlan(cells ...cell.ID) *wire.RecoveryPlan {
	plan, err := w.planRecovery(wire.PlanRecovery{Dead: w.dead(), Cells: cells, Limit: 10})
	if plan == nil {
		w.fail("no plan: %v", err)
	}
	return plan
}

func TestPlanRecovery(t *testing.T) {
	w, survivor := lostCell(t)
	before := len(w.store.pairs)
	plan := w.mustPlan()
	if len(plan.Cells) != 1 || plan.More {
		t.Fatalf("plan is %+v", plan)
	}
	c := plan.Cells[0]
	slot := w.firstSlot(survivor)
	if c.Problem != "" || c.Cell != "a" || c.Incarnation != 1 || c.Source != survivor.reg.Server || c.Applied != slot || c.Slot != slot+1 ||
		!slices.Equal(c.Lost, w.dead()) || len(c.Survivors) != 1 || len(c.Members) != 3 || c.Members[0].Server != survivor.reg.Server {
		t.Errorf("plan is %+v", c)
	}
	for _, mem := range c.Members {
		if w.byID[mem.Server].lost {
			t.Errorf("dead server %s is to host it", mem.Server)
		}
	}
	if puts := len(w.store.pairs); puts != before || len(survivor.nodes) != 1 || w.m.Stats().Cells[Live] != 1 {
		t.Errorf("a plan changed something: %d pairs, were %d", puts, before)
	}
	w.setUp(survivor, false)
	if c := w.mustPlan("a").Cells[0]; !strings.Contains(c.Problem, "is not named dead and says nothing") {
		t.Errorf("with a silent survivor: %q", c.Problem)
	}
}

// A cell that keeps its majority is refused, and so are lists that cannot be right.
func TestPlanRecoveryRefuses(t *testing.T) {
	w := newWorld(t.Fatalf, smallConfig(), 7)
	w.create(time.Minute, "a")
	w.settle()
	members := w.list()[0].Members
	w.destroy(w.byID[members[0].Server])
	if c := w.mustPlan("a", "nobody").Cells; c[0].Problem != "it has 2 of 3: nothing to recover" || !strings.Contains(c[1].Problem, "does not know") {
		t.Errorf("plan is %+v", c)
	}
	if plan := w.mustPlan(); len(plan.Cells) != 0 {
		t.Errorf("all lost cells are %+v, want none", plan.Cells)
	}
	for name, dead := range map[string][]cell.ServerID{"nobody": {}, "a stranger": {"x"}, "a connected one": {members[1].Server}} {
		if _, err := w.planRecovery(wire.PlanRecovery{Dead: dead, Limit: 10}); err == nil || err.Kind != cell.Invalid && err.Kind != cell.Refused {
			t.Errorf("%s named dead: %v", name, err)
		}
		id := w.apply(dead)
		if err := w.replies[id].Err; err == nil {
			t.Errorf("%s named dead, and applied", name)
		}
	}
	if len(w.m.retired) != 0 {
		t.Errorf("retired are %v", w.m.retired)
	}
}

func TestRecoverIsIdempotentAndRetires(t *testing.T) {
	w, _ := lostCell(t)
	c := w.mustPlan().Cells[0]
	stale := c
	stale.Plan++
	for _, x := range []struct {
		plan wire.RecoveryCell
		want cell.Kind
	}{{stale, cell.Stale}, {c, 0}, {c, 0}} {
		id := w.apply(w.dead(), x.plan)
		w.settle()
		if err := w.replies[id].Outcomes.Outcomes[0].Err; cell.KindOf(err) != x.want {
			t.Fatalf("got %v, want %v", err, x.want)
		}
	}
	if got := w.begun; len(got) != 1 || got[incKey{"a", 2}] == "" {
		t.Errorf("states that were told: %v", got)
	}
	if r := w.routes[len(w.routes)-1]; r.Incarnation != 2 || r.Deleted || len(r.Members) != 3 {
		t.Errorf("discovery heard %+v last", r)
	}
	w.checkSettled()
	for range 2 { // before and after a restart of the manager
		for _, id := range w.dead() {
			if err := w.m.ServerUp(w.now, w.byID[id].reg); cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "retired for good") {
				t.Errorf("server %s returns: %v", id, err)
			}
		}
		w.crash()
	}
	if got := w.list(); len(got) != 1 || got[0].Incarnation != 2 || got[0].State != "live" {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestJudge(t *testing.T) {
	at := func(server string, applied uint64, accepted ...wire.Accepted) witness {
		return witness{server: cell.ServerID(server), export: &wire.NodeExport{Jury: []cell.ServerID{"a", "b", "c", "d", "e"}, Applied: applied,
			StateHash: applied, Known: applied, Accepted: accepted}}
	}
	acc := func(slot, round, node uint64, entry string) wire.Accepted {
		return wire.Accepted{Slot: slot, Round: round, Node: node, Entry: []byte(entry)}
	}
	no := func(server string, kind cell.Kind) witness {
		return witness{server: cell.ServerID(server), err: &cell.Error{Kind: kind}}
	}
	sealed := at("b", 3)
	sealed.export.Sealed = true
	differs := at("b", 3)
	differs.export.StateHash = 99
	heard := at("b", 3)
	heard.export.Known = 8
	for _, x := range []struct {
		name      string
		witnesses []witness
		want      string
	}{
		{"the highest applied slot", []witness{at("a", 3), at("b", 5)}, "b at 5 through 5 known 5"},
		{"the highest ballot of each slot", []witness{at("a", 3, acc(4, 7, 1, "x"), acc(5, 2, 1, "y")), at("b", 2, acc(3, 9, 9, "n"), acc(4, 6, 2, "z"), acc(5, 2, 3, "w"))}, "a at 3 through 5 known 3 x w"},
		{"up to the first gap", []witness{at("a", 3, acc(4, 1, 1, "x"), acc(6, 1, 1, "y")), at("b", 3)}, "a at 3 through 4 known 3 x"},
		{"what was heard to be chosen", []witness{heard}, "b at 3 through 3 known 8"},
		{"a quarantined node is a lost one", []witness{at("a", 3), at("b", 3), no("c", cell.Quarantined)}, "a at 3 through 3 known 3"},
		{"one that left", []witness{at("a", 3), at("b", 3), no("c", cell.Moved)}, "a at 3 through 3 known 3"},
		{"a majority by its own log", []witness{at("a", 3), at("b", 3), at("c", 3)}, "it has 3 of 5: nothing to recover"},
		{"a learner is no majority", []witness{at("a", 3), at("b", 3), at("z", 4)}, "z at 4 through 4 known 4"},
		{"a silent member", []witness{at("a", 3), no("b", cell.Unavailable)}, "b is not named dead and says nothing: unavailable"},
		{"a silent stranger", []witness{at("a", 3), no("z", cell.Unavailable)}, "a at 3 through 3 known 3"},
		{"a seal", []witness{at("a", 3), sealed}, "b holds a seal of it: its deletion was asked for and may have been carried out"},
		{"two states", []witness{at("a", 3), differs}, "a and b differ in the state at slot 3: 3 and 63"},
		{"nothing", []witness{no("a", cell.UnknownHere)}, "no survivor holds anything of it"},
	} {
		v := judge([]cell.ServerID{"a", "b", "c", "d", "e"}, map[cell.ServerID]bool{"d": true, "e": true}, x.witnesses)
		got := v.problem
		if got == "" {
			got = fmt.Sprintf("%s at %d through %d known %d", v.server, v.source.Applied, v.slot, v.known)
			for _, a := range v.kept {
				got += " " + string(a.Entry)
			}
		}
		if got != x.want {
			t.Errorf("%s: %q, want %q", x.name, got, x.want)
		}
		if !slices.Equal(v.lost, []cell.ServerID{"d", "e"}) {
			t.Errorf("%s: lost are %v", x.name, v.lost)
		}
	}
}
