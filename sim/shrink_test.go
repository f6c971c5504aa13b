package sim

import "testing"

// What does not fail is not made smaller. That what fails is, needs a failure: see TestPlantedShrinks.
func TestShrinkLeavesASoundScheduleAlone(t *testing.T) {
	p := Draw(SeedSource(3))
	if q, ran := Shrink(p, 100); ran != 1 || q.String() != p.String() {
		t.Errorf("%d runs made %v of %v", ran, q, p)
	}
}

// Every simplification leads to a schedule that is as good as the one before or out of bounds, and at last to one that
// stays as it is.
func TestSimplificationsEnd(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		s := shrinker{best: Draw(SeedSource(seed))}
		for range 200 {
			for _, simpler := range simplifications {
				p := s.best
				p.Faults = append([]Fault(nil), p.Faults...)
				simpler(&p)
				if full := p.withDefaults(); full.check() == nil {
					s.best = p
				}
			}
		}
		if s.best.Cells != 1 || s.best.Clients != 1 || s.best.Ops != 1 || s.best.Alpha != 1 || s.best.Servers != jurySize {
			t.Errorf("seed %d ends at %v", seed, s.best)
		}
	}
}
