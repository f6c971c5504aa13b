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
	t.Log(r.Created, r.Deleted, r.Moves, r.Moved, r.Repairs, r.Simulated, r.Events)
	must(t, r.Created > 4 && r.Deleted > 1 && r.Moved > 1, r)
}

// drawControlled draws a schedule of the swarm that has a control plane.
func drawControlled(seed uint64) Schedule {
	s := SeedSource(seed)
	p := Draw(s)
	if p.Control == nil {
		giveControl(s, &p)
	}
	return p
}

// TestControlSwarm draws schedules that all have a control plane, and proves that everything happens to it.
func TestControlSwarm(t *testing.T) {
	var sum Report
	for seed := uint64(1); seed <= controlSeeds; seed++ {
		r := Run(drawControlled(seed))
		if r.Failure != nil {
			t.Fatalf("seed %d: %s", seed, r.Describe())
		}
		sum.Add(r)
	}
	t.Logf("%d control processes, %d cells created, %d deleted, %d replacements asked for and %d done, %d repairs, %d rebuilds, upsets %v",
		sum.Controls, sum.Created, sum.Deleted, sum.Moves, sum.Moved, sum.Repairs, sum.Rebuilds, sum.Upsets)
}

const controlSeeds = 100
