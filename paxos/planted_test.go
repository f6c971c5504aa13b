//go:build planted

package paxos

import "testing"

// TestPlantedBugsAreFound proves that the schedules and their checkers are alive: each bug that can be planted is found
// within a stated number of them. It is found twice: by any checker or assertion, and by what can be seen from outside
// (deliveries, answers, messages), with the checkers that look into members and disks switched off. Who is released too early
// costs no agreement, only the cell when others fail just then, so that is looked for from inside.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range []struct {
		name        string
		any, hidden uint64 // schedules
	}{
		{"accept-without-promising", 100, 1000},
		{"certify-any-ballot", 100, 100},
		{"carry-ballot", 1000, 1000},
		{"promise-below-floor", 100, 100},
		{"release-before-held", 1000, 0},
		{"applied-in-memory", 1000, 0},
	} {
		for _, outside := range []bool{false, true} {
			name, schedules := bug.name+"/any", bug.any
			if outside {
				name, schedules = bug.name+"/outside", bug.hidden
			}
			if schedules == 0 {
				continue
			}
			t.Run(name, func(t *testing.T) {
				undo := Plant(bug.name)
				if undo == nil {
					t.Fatalf("there is no bug %q to plant", bug.name)
				}
				defer undo()
				for seed := range schedules {
					s := drawSchedule(seeded(seed), eventsPerSeed)
					if err := s.run(func(w *world) { w.check.outside = outside }); err != nil {
						t.Logf("found in schedule %d of at most %d, by %.90v", seed+1, schedules, err)
						return
					}
				}
				t.Errorf("not found within %d schedules", schedules)
			})
		}
	}
}
