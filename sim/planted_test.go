//go:build planted

package sim

import (
	"testing"

	"physalia/node/core"
	"physalia/paxos"
)

// plantedMax is within how many schedules each planted bug must be found.
const plantedMax = 2000

// TestPlanted proves that the checkers are alive: each deliberate bug is found, by all checkers together, and by those that
// know nothing of messages, only what is applied and what clients see.
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
			hunt(t, "all")
			hunt(t, "all but memory", "memory")
		})
	}
}

// hunt plays schedules until one fails, as it must, with some checkers blindfolded.
func hunt(t *testing.T, eyes string, blind ...string) {
	for seed := uint64(1); seed <= plantedMax; seed++ {
		w := newWorld(Draw(SeedSource(seed)))
		for _, name := range blind {
			w.without(name)
		}
		if w.play(); w.failure != nil {
			t.Logf("%s checkers: found after %d schedules by %v", eyes, seed, w.failure)
			return
		}
	}
	t.Errorf("%s checkers: not found in %d schedules", eyes, plantedMax)
}

func (w *World) without(name string) {
	for i, c := range w.checkers {
		if c.name == name {
			w.checkers = append(w.checkers[:i], w.checkers[i+1:]...)
			return
		}
	}
	panic("no checker is called " + name)
}
