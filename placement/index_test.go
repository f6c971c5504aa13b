package placement

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
)

// TestIndexAgreesWithMap: whatever comes and goes, in several pools, the book knows exactly what a map would.
func TestIndexAgreesWithMap(t *testing.T) {
	red, blue := pool("b1", "red", 8, 4, 4, 1000), pool("b2", "blue", 8, 4, 4, 1000)
	rapid.Check(t, func(t *rapid.T) {
		type key struct {
			id  cell.ID
			inc cell.Incarnation
		}
		book, twin := NewBook(), map[key]bool{}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			k := key{cell.ID(fmt.Sprintf("c%d", rapid.IntRange(0, 150).Draw(t, "cell"))), cell.Incarnation(rapid.IntRange(1, 2).Draw(t, "incarnation"))}
			if rapid.IntRange(0, 2).Draw(t, "what") == 0 {
				if got := book.Remove(k.id, k.inc); got != twin[k] {
					t.Fatalf("remove %v: %v", k, got)
				}
				delete(twin, k)
				continue
			}
			servers := red
			if rapid.Bool().Draw(t, "blue") {
				servers = blue
			}
			err := book.Add(k.id, k.inc, Placement{Brick: servers[0].Brick, Color: servers[0].Color, Members: ids(servers)[:7]})
			if (err != nil) != twin[k] {
				t.Fatalf("add %v, known %v: %v", k, twin[k], err)
			}
			twin[k] = true
		}
		if book.Len() != len(twin) {
			t.Fatalf("%d cells, want %d", book.Len(), len(twin))
		}
		for id := range 151 {
			for inc := range 2 {
				k := key{cell.ID(fmt.Sprintf("c%d", id)), cell.Incarnation(inc + 1)}
				if _, ok := book.find(k.id, k.inc); ok != twin[k] {
					t.Fatalf("%v: found %v", k, ok)
				}
			}
		}
	})
}
