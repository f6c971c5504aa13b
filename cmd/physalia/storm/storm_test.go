package storm

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Real connections to real instances: everybody gets in, also after all instances restarted at once, and no instance ever
// takes more than its pace allows, however slow or fast this machine is.
func TestStorm(t *testing.T) {
	for _, instances := range []int{1, 3} {
		r, err := Run(t.Context(), Config{Servers: 200, Bricks: 8, Instances: instances, PerSecond: 400, Seed: 7})
		if err != nil {
			t.Fatal(err)
		}
		if !r.Paced || len(r.Phases) != 2 {
			t.Errorf("%d instances: %+v", instances, r)
		}
		for _, p := range r.Phases {
			if p.Registrations < 200 || p.AttemptsMost == 0 {
				t.Errorf("%d instances, %s: %+v", instances, p.Name, p)
			}
		}
	}
}
