package sim

import (
	"os"
	"strconv"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	began := time.Now()
	n, _ := strconv.Atoi(os.Getenv("N"))
	var total Report
	bad := 0
	for seed := uint64(1); seed <= uint64(max(n, 200)); seed++ {
		p := Draw(SeedSource(seed))
		r := Run(p)
		if r.Failure != nil {
			t.Errorf("seed %d: %v\n%v\n%v", seed, r.Failure, r, p)
			if bad++; bad > 8 {
				break
			}
		}
		total.Events += r.Events
		total.Messages += r.Messages
		total.Slots += r.Slots
		total.BatchesLost += r.BatchesLost
		total.Crashes += r.Crashes
		total.Takeovers += r.Takeovers
		total.Attempts += r.Attempts
		total.Simulated += r.Simulated
		total.Undecided += r.Undecided
		for i := range r.Fates {
			total.Fates[i] += r.Fates[i]
		}
		for i := range r.Faults {
			total.Faults[i] += r.Faults[i]
		}
	}
	t.Log(&total, total.Faults, total.Undecided)
	t.Log(time.Since(began))
}
