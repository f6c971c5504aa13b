//go:build planted

package blockstore

import (
	"strings"
	"testing"
)

// plantedMax is within how many worlds each planted bug must be found.
const plantedMax = 3000

// TestPlanted proves that the checkers are alive: each deliberate bug is found by the checker that is named for it, and also
// by those that see only what clients see (Lost, which looks into disks, is blindfolded).
func TestPlanted(t *testing.T) {
	for _, bug := range []struct{ name, checker string }{
		{"ack-before-replica", "lost"},
		{"read-without-proof", "overwritten"},
		{"read-before-replica", "lost"},
		{"accept-lower-fence", "overwritten"},
		{"replica-before-full", "lost"},
		{"alone-while-proposing", "lost"},
		{"serve-after-restart", "lost"},
		{"believe-unknown-promote", "answered"},
		{"forget-writers", "overwritten"},
		{"replica-answers-reads", "split-brain"},
	} {
		t.Run(bug.name, func(t *testing.T) {
			undo := Plant(bug.name)
			if undo == nil {
				t.Fatal("nobody knows this bug")
			}
			defer undo()
			hunt(t, bug.checker, false)
			hunt(t, "", true)
		})
	}
}

// hunt plays worlds until one fails by the named checker, or by any when none is named.
func hunt(t *testing.T, checker string, outside bool) {
	t.Helper()
	for seed := range uint64(plantedMax) {
		w := newWorld(seed)
		w.outside = outside
		if err := w.play(); err != nil && strings.HasPrefix(err.Error(), checker) {
			first, _, _ := strings.Cut(err.Error(), "\n")
			t.Logf("outside only: %v; found in world %d of at most %d, by %s", outside, seed+1, plantedMax, first)
			return
		}
	}
	t.Errorf("not found by %q within %d worlds; outside only: %v", checker, plantedMax, outside)
}
