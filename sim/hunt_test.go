package sim

import (
	"os"
	"strconv"
	"testing"
)

func TestHunt(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("N"))
	for seed := uint64(1); seed <= uint64(n); seed++ {
		if r := Run(Draw(SeedSource(seed))); r.Failure != nil {
			t.Logf("found after %d schedules by %v", seed, r.Failure)
			return
		}
	}
	t.Fatal("not found")
}
