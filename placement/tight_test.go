package placement

import (
	"fmt"
	"testing"

	"physalia/cell"
	"physalia/internal/topology"
)

// In a pool at its overlap limit that has lost a server for good, every cell gets a new member all the same, where the constraint cannot be
// kept too; where it can, or enough servers are left, it is kept.
func TestSubstituteInATightPool(t *testing.T) {
	yielded := 0
	for seed := range uint64(400) {
		servers := pool("b1", "red", 16, 4, 4, 100)
		v := view(t, servers)
		book := NewBook()
		in := Input{View: v, Book: book, JurySize: 7}
		rng := seeded(seed)
		var juries [][]cell.ServerID
		for i := range 5 {
			p, rep, err := Place(in, rng)
			if err != nil || !rep.OverlapHard {
				t.Fatalf("%v: %+v", err, rep)
			}
			if err := book.Add(cell.ID(fmt.Sprintf("c%d", i)), 1, p); err != nil {
				t.Fatal(err)
			}
			juries = append(juries, p.Members)
		}
		for i, jury := range juries {
			gone := jury[int(seed)%len(jury)]
			in.Down = map[cell.ServerID]bool{gone: true}
			to, err := Substitute(in, jury, gone)
			if err != nil {
				if fitting(v, jury, gone, func([]cell.ServerID) bool { return true }) {
					t.Errorf("seed %d, cell %d: %v, and a server fits the domains", seed, i, err)
				}
				continue
			}
			next := swapped(jury, Swap{Remove: gone, Add: to})
			if n := book.Sharing(next); n > 1 {
				yielded++
				if fitting(v, jury, gone, func(other []cell.ServerID) bool { return book.Sharing(other) <= book.Sharing(jury) }) {
					t.Errorf("seed %d, cell %d: %s for %s shares too much with %d cells, another would not", seed, i, to, gone, n-1)
				}
			}
		}
	}
	if yielded == 0 {
		t.Error("the constraint could always be kept")
	}
}

// fitting reports whether some server could take a member's place in a sound jury of which ok holds.
func fitting(v *topology.View, jury []cell.ServerID, gone cell.ServerID, ok func([]cell.ServerID) bool) bool {
	for _, s := range v.Servers() {
		if next := swapped(jury, Swap{Remove: gone, Add: s.ID}); len(Check(Jury(next, v), len(jury), v)) == 0 && ok(next) && s.ID != gone {
			return true
		}
	}
	return false
}
