//go:build planted

package paxos

import "testing"

// TestPlantedBugsAreFound proves that the schedules and their checkers are alive: each bug that can be planted is found
// within a stated number of them. It is found twice: by any checker or assertion, and by what can be seen from outside
// (deliveries, answers, messages), with the checkers that look into members and disks switched off.
func TestPlantedBugsAreFound(t *testing.T) {
	const schedules = 2000
	for _, bug := range []string{"accept-without-promising", "certify-any-ballot"} {
		for _, outside := range []bool{false, true} {
			name := bug + "/any"
			if outside {
				name = bug + "/outside"
			}
			t.Run(name, func(t *testing.T) {
				undo := Plant(bug)
				if undo == nil {
					t.Fatalf("there is no bug %q to plant", bug)
				}
				defer undo()
				for seed := range uint64(schedules) {
					s := drawSchedule(seeded(seed), eventsPerSeed)
					if err := s.run(func(w *world) { w.check.outside = outside }); err != nil {
						t.Logf("found in schedule %d of at most %d, by %v", seed+1, schedules, err)
						return
					}
				}
				t.Errorf("not found within %d schedules", schedules)
			})
		}
	}
}
