//go:build planted

package sim

import (
	"testing"

	"physalia/node/core"
	"physalia/paxos"
)

// plantedMax is within how many schedules each planted bug must be found.
const plantedMax = 2000

// TestPlanted proves that the checkers are alive: each deliberate bug is found.
func TestPlanted(t *testing.T) {
	for _, bug := range []struct {
		name  string
		plant func(string) func()
	}{
		{"ack-before-durable", core.Plant},
		{"accept-without-promising", paxos.Plant},
		{"certify-any-ballot", paxos.Plant},
	} {
		t.Run(bug.name, func(t *testing.T) {
			undo := bug.plant(bug.name)
			if undo == nil {
				t.Fatal("nobody knows this bug")
			}
			defer undo()
			hunt(t)
		})
	}
}

// hunt plays schedules until one fails, as it must.
func hunt(t *testing.T) {
	for seed := uint64(1); seed <= plantedMax; seed++ {
		if r := Run(Draw(SeedSource(seed))); r.Failure != nil {
			t.Logf("found after %d schedules by %v", seed, r.Failure)
			return
		}
	}
	t.Fatalf("not found in %d schedules", plantedMax)
}
