package sim

import (
	"testing"
	"time"
)

// controlled is a world with a control plane of its own and nothing else that goes wrong.
func controlled(upsets ...Upset) Schedule {
	p := small()
	p.Servers, p.Cells, p.Clients, p.Span = serversMax, 2, 2, 3*time.Second
	p.Control = &ControlPlan{Scratch: 2, Wishes: 6, Patience: 600 * millisecond, Scan: 200 * millisecond, Upsets: upsets}
	return p
}

func TestControl(t *testing.T) {
	r := play(t, controlled())
	must(t, r.Created > 4 && r.Deleted > 1 && r.Moved > 1, r)
}

// TestControlSwarm draws schedules that all have a control plane, and proves that everything happens to it.
func TestControlSwarm(t *testing.T) {
	swarm, err := ScenarioNamed("control")
	if err != nil {
		t.Fatal(err)
	}
	var sum Report
	for seed := uint64(1); seed <= controlSeeds; seed++ {
		r := Run(swarm.Draw(SeedSource(seed)))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s", seed, r.Describe())
		}
		sum.Add(r)
	}
	t.Logf("%d control processes, %d cells created, %d deleted, %d replacements asked for and %d done, %d repairs, %d rebuilds, upsets %v",
		sum.Controls, sum.Created, sum.Deleted, sum.Moves, sum.Moved, sum.Repairs, sum.Rebuilds, sum.Upsets)
	if sum.Created < 300 || sum.Deleted < 100 || sum.Moved < 20 || sum.Repairs < 50 || sum.Rebuilds < 10 {
		t.Error("too little happened")
	}
	for k, n := range sum.Upsets {
		if n < 10 {
			t.Errorf("%s happened %d times", UpsetKind(k), n)
		}
	}
}

// controlSeeds takes some ten seconds on an idle machine.
const controlSeeds = 100
