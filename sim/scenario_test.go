package sim

import (
	"testing"
	"time"

	"physalia/paxos"
)

const millisecond = time.Millisecond

// small is one cell on seven servers with three clients; faults are added.
func small(faults ...Fault) Schedule {
	return Schedule{Seed: 7, Servers: 7, Cells: 1, Alpha: 4, Batch: 2, Clients: 3, Ops: 30, Span: time.Second,
		Sync: millisecond, Turn: millisecond / 10, Idle: time.Minute, Faults: faults}
}

// play runs a scenario in which every property must hold.
func play(t *testing.T, p Schedule) *Report {
	t.Helper()
	r := Run(p)
	if r.Failure != nil {
		t.Fatal(r.Describe())
	}
	return r
}

// must asserts that a scenario went where it was meant to go.
func must(t *testing.T, ok bool, r *Report) {
	t.Helper()
	if !ok {
		t.Errorf("the scenario did not come about: %v", r)
	}
}

func TestCalm(t *testing.T) {
	r := play(t, small())
	must(t, r.Takeovers == 2 && r.Fates[answered] >= 3*30, r)
}

// The proposer dies when its Accept reached one, two, three peers, and has forgotten it (hazard H7).
func TestProposerDiesOverAnAccept(t *testing.T) {
	for peers := range 6 {
		r := play(t, small(Fault{Kind: Ambush, Proposer: true, At: 300 * millisecond, For: 50 * millisecond, Share: peers}))
		must(t, r.Takeovers > 2 && r.Crashes > 7, r)
	}
}

// The old proposer goes on in a minority, and comes back with entries that were never chosen (hazard H5).
func TestDeposedProposerComesBack(t *testing.T) {
	r := play(t, small(
		Fault{Kind: Isolate, Proposer: true, Who: Some(1, 2), At: 300 * millisecond, For: 300 * millisecond},
		Fault{Kind: Duel, Who: Some(4), At: 310 * millisecond}))
	must(t, r.Takeovers > 2, r)
}

// A member misses more than the ring holds, and is taught the whole state (hazard H6).
func TestLaggardIsTaughtAll(t *testing.T) {
	r := play(t, small(Fault{Kind: Isolate, Who: Some(6), At: 50 * millisecond, For: 800 * millisecond}))
	must(t, r.Messages[paxos.MsgTeachAll] > 0, r)
}

// Nothing that the proposer says gets out; then nothing gets in (hazard H9).
func TestOneWay(t *testing.T) {
	for _, kind := range []FaultKind{Cut, Deafen} {
		r := play(t, small(Fault{Kind: kind, Proposer: true, At: 200 * millisecond, For: 600 * millisecond}))
		must(t, r.Takeovers > 2, r)
	}
}

// Three and three do not hear each other; the seventh hears both, and makes a majority with either.
func TestBridge(t *testing.T) {
	p := small(Fault{Kind: Isolate, Who: Some(0, 1, 2), Others: Some(4, 5, 6), At: 100 * millisecond, For: 900 * millisecond})
	r := play(t, p)
	must(t, r.Fates[answered] > 80, r)
}

// The power fails for all, again and again, while disks are slow and packets come twice (hazard H8).
func TestPowerCuts(t *testing.T) {
	p := small(Fault{Kind: SlowDisk, Who: 0x7f, At: 0, For: time.Second, Delay: 20 * millisecond})
	p.Twice = 30
	for at := 200 * millisecond; at < time.Second; at += 200 * millisecond {
		p.Faults = append(p.Faults, Fault{Kind: Crash, Who: 0x7f, At: at, For: 10 * millisecond})
	}
	r := play(t, p)
	must(t, r.BatchesLost > 5, r)
}

// A standing proposer is replaced; when it goes on, it does not know, and must not answer reads from the past.
func TestPausedProposer(t *testing.T) {
	r := play(t, small(Fault{Kind: Pause, Proposer: true, At: 200 * millisecond, For: 500 * millisecond}))
	must(t, r.Takeovers > 2, r)
}

// No reply arrives for half a second: everything is asked again, and takes effect once (hazard H14).
func TestLostReplies(t *testing.T) {
	r := play(t, small(Fault{Kind: LostReplies, Share: 100, At: 200 * millisecond, For: 500 * millisecond}))
	must(t, r.Attempts > r.Fates[answered], r)
}

func TestAnyFourOfSevenSuffice(t *testing.T) {
	for dead := Servers(1); dead < 1<<7; dead++ {
		if dead.count() == 3 {
			p := small()
			p.Ops, p.Dead = 6, dead
			play(t, p)
		}
	}
}

// A cell is sealed while its proposer is cut off with writes under way: nothing follows the seal (rule 15).
func TestSealInTrouble(t *testing.T) {
	r := play(t, small(
		Fault{Kind: Isolate, Proposer: true, Who: Some(3, 4), At: 300 * millisecond, For: 200 * millisecond},
		Fault{Kind: Seal, At: 295 * millisecond}))
	must(t, r.Fates[refused] > 0, r)
}

// Slow disks of three members slow nobody down.
func TestThreeSlowDisks(t *testing.T) {
	r := play(t, small(Fault{Kind: SlowDisk, Who: Some(4, 5, 6), At: 100 * millisecond, For: time.Second, Delay: 300 * millisecond}))
	must(t, r.Fates[answered] >= 3*30 && r.Takeovers == 2, r)
}
