package placement

import (
	"slices"
	"testing"

	"physalia/cell"
)

// Survivors are taken first; one that cannot serve, or that would break a hard constraint, is passed over.
func TestKeep(t *testing.T) {
	servers := pool("b1", "red", 20, 4, 4, 1000)
	keep := []cell.ServerID{"b1-red-019", "b1-red-003", "b1-red-008", "nobody"}
	in := Input{View: view(t, servers), Book: NewBook(), JurySize: 7, Keep: keep}
	for seed := range uint64(50) {
		p, _, err := Place(in, seeded(seed))
		if err != nil || !slices.Equal(p.Members[:3], keep[:3]) {
			t.Fatalf("seed %d: %v, %v, want the members to begin with %v", seed, p.String(), err, keep[:3])
		}
		if bad := Check(Jury(p.Members, in.View), 7, in.View); len(bad) > 0 {
			t.Fatalf("seed %d: %v", seed, bad)
		}
	}
	in.Down = map[cell.ServerID]bool{keep[0]: true}
	in.Keep = []cell.ServerID{keep[0], "b1-red-001", "b1-red-005", "b1-red-009", "b1-red-013"} // one down, four of one rack
	p, _, err := Place(in, seeded(1))
	if err != nil || !slices.Equal(p.Members[:3], in.Keep[1:4]) || slices.Contains(p.Members, in.Keep[0]) || slices.Contains(p.Members, in.Keep[4]) {
		t.Errorf("%v, %v, want to begin with three of %v", p.String(), err, in.Keep)
	}
}
