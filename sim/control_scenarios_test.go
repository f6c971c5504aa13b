package sim

import (
	"testing"
	"time"

	"physalia/cell"
)

// The hazards and regressions of the control plane, with the real lifecycle, health and placement code. Every world ends with
// every checker, desired among them: no server that is away is left in a jury, and nothing waits.

// Processes die, stand still and run twice while cells are created and deleted: no jury is planned twice, no number issued twice.
func TestH13ManagersDieAndDouble(t *testing.T) {
	var upsets []Upset
	for at := 50 * millisecond; at < 2*time.Second; at += 200 * millisecond {
		upsets = append(upsets, Upset{Kind: ControlTwins, At: at, For: 150 * millisecond},
			Upset{Kind: ControlPause, At: at + 40*millisecond, For: 90 * millisecond}, Upset{Kind: ControlCrash, At: at + 150*millisecond, For: 10 * millisecond})
	}
	r := play(t, controlled(upsets...))
	must(t, r.Controls > 10 && r.Created > 4 && r.Deleted > 1, r)
}

// A power domain and one more server are off while cells are deleted and their names used again; they return while no control
// plane runs, with their nodes of what was deleted.
func TestH15TheDeletedReturnWithoutControl(t *testing.T) {
	p := controlled(Upset{Kind: ControlCrash, At: 1400 * millisecond, For: time.Second})
	p.Control.Scratch, p.Control.Wishes = 5, 0
	p.Faults = []Fault{{Kind: Crash, Who: Some(0, 1, 2, 6), At: 500 * millisecond, For: 1100 * millisecond, Keep: 100}}
	r := play(t, p)
	must(t, r.Deleted > 3 && r.Created > 4 && r.Controls == 2, r)
}

// The store is emptied, or put back to a backup of before most that exists: nothing that lives is dropped, and all is known again.
func TestH16TheStoreIsLost(t *testing.T) {
	for back := range 4 {
		kind := StoreOld
		if back == 0 {
			kind = StoreLost
		}
		r := play(t, controlled(Upset{Kind: kind, At: 1500 * millisecond, For: 50 * millisecond, Share: 2 * back}))
		must(t, r.Rebuilds == 1 && r.Created > 4, r)
	}
}

// A server comes back with an empty directory and its old identity: it is refused as a voter, and slow repair replaces it.
func TestR09WipedServerIsReplaced(t *testing.T) {
	p := controlled()
	p.Faults = []Fault{{Kind: Wipe, Who: Some(2), At: 500 * millisecond, For: 50 * millisecond}}
	r := play(t, p)
	must(t, r.Stopped == 1 && r.Repairs > 0, r)
}

// Two servers find each other's directories: neither serves, and both are replaced.
func TestR10SwappedServersAreReplaced(t *testing.T) {
	p := controlled()
	p.Faults = []Fault{{Kind: Swap, Who: Some(2, 5), At: 500 * millisecond, For: 50 * millisecond}}
	r := play(t, p)
	must(t, r.Stopped == 2 && r.Repairs > 1, r)
}

// Lifecycle, health and discovery are away for the whole run, and servers die: clients see the errors that they see with them, none.
func TestR14NoControlPlaneNoDifference(t *testing.T) {
	errors := func(upsets ...Upset) int {
		p := controlled(upsets...)
		p.Control.Scratch, p.Control.Wishes, p.Patience = 0, 0, 3*time.Second
		p.Faults = []Fault{{Kind: Crash, Proposer: true, At: time.Second, For: 300 * millisecond}, {Kind: Crash, Who: Some(4), At: 2 * time.Second, For: 200 * millisecond}}
		if upsets != nil {
			p.Faults = append(p.Faults, Fault{Kind: NoControl, At: 500 * millisecond, For: 3 * time.Second})
		}
		r := play(t, p)
		must(t, r.Fates[answered] >= 2*2*30, r)
		return r.Fates[refused] + r.Fates[unknown] + r.Fates[useless] + r.Fates[void]
	}
	with, without := errors(), errors(Upset{Kind: ControlCrash, At: 500 * millisecond, For: 3 * time.Second})
	if with != without {
		t.Errorf("%d operations were not answered without a control plane, and %d with it", without, with)
	}
}

// Discovery knows the members of a deleted cell whose name was used again: what is meant for the first is refused, and not written to
// the second.
func TestR17DiscoveryKnowsADeletedCell(t *testing.T) {
	p := controlled()
	p.Control.Scratch, p.Control.Wishes = 1, 0
	w := newWorld(p)
	w.runUntil(p.Span, func() bool { return w.control.checks.newest["tmp-1"] == 2 && w.volumeOf("tmp-1", 2).wasFounded() })
	first, second := w.volumeOf("tmp-1", 1), w.volumeOf("tmp-1", 2)
	w.control.found = 1
	s := w.newSession(first, 0)
	var end *cell.Error
	over := false
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "a", Value: cell.Int(1)}}}
	s.send(cell.Request{Client: s.id, Sequence: 1, Since: 1}, 1, &txn, s.now()+time.Second, func(_ *exchange, err *cell.Error) { end, over = err, true })
	w.runUntil(w.now+2*time.Second, func() bool { return over })
	if w.failure != nil || len(first.routed.Members) == 0 || end == nil {
		t.Fatalf("%v; %d members; the write ended with %v", w.failure, len(first.routed.Members), end)
	}
	for _, e := range second.log {
		if len(e.Commands) > 0 {
			t.Errorf("incarnation 2 took a write that was meant for the first: %v", e.Describe())
		}
	}
}

// A quarter of the servers restarts at once while clients work: lookups stay few.
func TestR18LookupsAreBounded(t *testing.T) {
	calm := play(t, controlled())
	p := controlled()
	p.Faults = []Fault{{Kind: Crash, Who: Some(0, 3), At: time.Second, For: 50 * millisecond}}
	r := play(t, p)
	t.Logf("%d lookups with the restart, %d without", r.Lookups, calm.Lookups)
	must(t, r.Crashes > calm.Crashes && r.Lookups <= calm.Lookups+20*p.Cells*p.Clients, r)
}

// A cell is deleted before it exists, and its clients have much to do: in the end they leave it alone, and nobody waits for them.
func TestClientsLeaveADeletedCell(t *testing.T) {
	p := controlled()
	p.Ops, p.Patience, p.Control.Wishes = 50, 3*time.Second, 0
	p.Faults = []Fault{{Kind: Seal, At: millisecond}}
	r := play(t, p)
	must(t, r.Deleted > 0 && r.Simulated < 20*time.Second, r)
}
