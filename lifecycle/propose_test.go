package lifecycle

import (
	"slices"
	"testing"
	"time"

	"physalia/cell"
)

// liveCell makes a world with one live cell "a" and tells its members.
func liveCell(t *testing.T, c Config, servers int) (*world, []cell.ServerID) {
	t.Helper()
	w := newWorld(t.Fatalf, c, servers)
	w.create(time.Minute, "a")
	w.settle()
	return w, serversOf(w.wantCell(t, "a", 1, "live", ""))
}

// wantKind checks a refusal, or its absence.
func wantKind(t *testing.T, what string, err *cell.Error, kind cell.Kind) {
	t.Helper()
	if err == nil || err.Kind != kind {
		t.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

func TestProposeAndWithdraw(t *testing.T) {
	w, before := liveCell(t, seven(), 9)
	p := Proposal{Cell: "a", Incarnation: 1, Remove: before[0], Cause: ByRepair, Why: "dead for an hour"}
	bad := func(what string, kind cell.Kind, change func(*Proposal)) {
		t.Helper()
		q := p
		change(&q)
		wantKind(t, what, w.m.Propose(w.now, q), kind)
	}
	bad("no cause", cell.Invalid, func(p *Proposal) { p.Cause = 0 })
	bad("no cell", cell.NotFound, func(p *Proposal) { p.Cell = "b" })
	bad("another incarnation", cell.Stale, func(p *Proposal) { p.Incarnation = 2 })
	bad("no member", cell.NotFound, func(p *Proposal) { p.Remove = "nobody" })
	bad("a member already", cell.Exists, func(p *Proposal) { p.Add = before[1] })
	if err := w.m.Propose(w.now, p); err != nil {
		t.Fatal(err)
	}
	if err := w.m.Propose(w.now, p); err != nil {
		t.Errorf("proposed again: %v", err)
	}
	bad("another is under way", cell.Exists, func(p *Proposal) { p.Remove = before[1] })
	if w.m.Withdraw(w.now, "a", before[1]) || w.m.Withdraw(w.now, "b", before[0]) {
		t.Error("what was not proposed was withdrawn")
	}
	w.turn() // the cell is looked at
	if !w.m.Withdraw(w.now, "a", before[0]) {
		t.Error("a plan cannot be withdrawn")
	}
	w.settle()
	w.wantCell(t, "a", 1, "live", "")
	if log := w.cellOf(incKey{"a", 1}).conf; log.Number != 1 || len(log.Learners) > 0 {
		t.Errorf("the log has %+v", log)
	}
	if err := w.m.Propose(w.now, p); err != nil {
		t.Fatal(err)
	}
	for len(w.cellOf(incKey{"a", 1}).conf.Learners) == 0 {
		w.turn()
		w.deliver(0, true, true)
	}
	if w.m.Withdraw(w.now, "a", before[0]) {
		t.Error("withdrawn, and the cell has a learner")
	}
	w.settle()
	w.checkSettled()
	if now := serversOf(w.wantCell(t, "a", 1, "live", "")); slices.Contains(now, before[0]) {
		t.Errorf("members are %v", now)
	}
}

// After a restart nobody knows what the cell was asked, so a stored plan is not given up; what an operator wants never is.
func TestWithdrawIsCautious(t *testing.T) {
	w, before := liveCell(t, seven(), 9)
	if err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: before[0], Cause: ByNear}); err != nil {
		t.Fatal(err)
	}
	w.turn()
	w.crash()
	if got := w.m.names["a"].Moving().Cause; got != ByNear {
		t.Errorf("the cause after a restart is %v", got)
	}
	if w.m.Withdraw(w.now, "a", before[0]) {
		t.Error("withdrawn after a restart")
	}
	w.settle()
	if err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: before[1], Cause: ByNear}); err != nil {
		t.Fatal(err)
	}
	id := w.replace(time.Minute, "a", before[1], "")
	if w.m.Withdraw(w.now, "a", before[1]) {
		t.Error("an operator's wish was withdrawn")
	}
	w.settle()
	if err := w.outcome(t, id); err != nil {
		t.Error(err)
	}
}

// A proposed replacement whose new server has died gets another one.
func TestProposeAnotherServer(t *testing.T) {
	w, before := liveCell(t, seven(), 9)
	p := Proposal{Cell: "a", Remove: before[0], Cause: ByRepair}
	if err := w.m.Propose(w.now, p); err != nil {
		t.Fatal(err)
	}
	first := w.m.names["a"].Moving().Add
	w.setUp(w.byID[first], false)
	if err := w.m.Propose(w.now, p); err != nil {
		t.Fatal(err)
	}
	if second := w.m.names["a"].Moving().Add; second == first {
		t.Errorf("%s is still waited for", first)
	}
	w.settle()
	w.checkSettled()
}

// A replacement waits for a new server that has died. It does not keep a dead member from being repaired, and whoever asked for
// it is told; any other wish is refused.
func TestRepairGoesBeforeAReplacementThatWaitsForADeadServer(t *testing.T) {
	w, members := liveCell(t, seven(), 9)
	id := w.replace(time.Hour, "a", members[0], "")
	add := w.m.names["a"].Moving().Add
	w.setUp(w.byID[add], false)
	w.setUp(w.byID[members[1]], false)
	wantKind(t, "a move", w.m.Propose(w.now, Proposal{Cell: "a", Remove: members[1], Cause: ByBalance}), cell.Exists)
	if err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: members[1], Cause: ByRepair}); err != nil {
		t.Fatal(err)
	}
	w.turn()
	if r := w.replies[id]; r.Outcomes == nil || r.Outcomes.Outcomes[0].Err == nil || r.Outcomes.Outcomes[0].Err.Kind != cell.Conflict {
		t.Errorf("the operator is told %+v", r)
	}
	if m := w.m.names["a"].Moving(); m.Remove != members[1] || m.Add == add {
		t.Errorf("under way is %+v", m)
	}
	w.settle()
	if after := serversOf(w.wantCell(t, "a", 1, "live", "")); slices.Contains(after, members[1]) {
		t.Errorf("members %v", after)
	}
}
