package paxos

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPropertySchedules plays random schedules, with the checkers of this package watching every step.
func TestPropertySchedules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var one *rapid.Generator[int]
		d := func(n int) int {
			one = rapid.IntRange(0, n-1)
			return one.Draw(t, "die")
		}
		s := drawSchedule(d, rapid.IntRange(1, 300).Draw(t, "events"))
		if err := s.run(nil); err != nil {
			t.Fatalf("%v\n%v", err, s)
		}
	})
}

// eventsPerSeed is how long a schedule from a seed is.
const eventsPerSeed = 400

// TestSeededSchedules plays schedules that are drawn from small seeds: the same ones every time.
func TestSeededSchedules(t *testing.T) {
	for seed := range uint64(500) {
		s := drawSchedule(seeded(seed), eventsPerSeed)
		if err := s.run(nil); err != nil {
			t.Fatalf("seed %d: %v\n%v", seed, err, s)
		}
	}
}
