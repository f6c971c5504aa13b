package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/topology"
)

// TestAddRefusals: what is refused changes nothing.
func TestAddRefusals(t *testing.T) {
	seven := ids(pool("b1", "red", 7, 7, 7, 1))
	with := func(change func(*Placement)) Placement {
		p := Placement{Brick: "b1", Color: "red", Members: slices.Clone(seven)}
		change(&p)
		return p
	}
	cases := []struct {
		name string
		p    Placement
		kind cell.Kind
		want string
	}{
		{"again", with(func(*Placement) {}), cell.Exists, "incarnation 1 is accounted for already"},
		{"empty", with(func(p *Placement) { p.Members = nil }), cell.Invalid, "jury has 0 members"},
		{"too large", with(func(p *Placement) { p.Members = ids(pool("b1", "red", 14, 7, 7, 1)) }), cell.Invalid, "jury has 14 members"},
		{"no owner", with(func(p *Placement) { p.Owner = 7 }), cell.Invalid, "owner 7"},
		{"negative owner", with(func(p *Placement) { p.Owner = -1 }), cell.Invalid, "owner -1"},
		{"twice", with(func(p *Placement) { p.Members[3] = p.Members[1] }), cell.Invalid, "is a member twice"},
		{"other pool", with(func(p *Placement) { p.Color = "blue" }), cell.Invalid, "is of brick b1 color red, not of brick b1 color blue"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := NewBook()
			if err := b.Add("first", 1, Placement{Brick: "b1", Color: "red", Members: seven}); err != nil {
				t.Fatal(err)
			}
			id := cell.ID("second")
			if c.kind == cell.Exists {
				id = "first"
			}
			err := b.Add(id, 1, c.p)
			if cell.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %v with %q", err, c.kind, c.want)
			}
			if b.Len() != 1 || b.Nodes(seven[0]) != 1 || b.Owned(seven[0]) != 1 || b.Nodes("b1-red-014") != 0 {
				t.Fatalf("the refused cell left a trace: %d cells", b.Len())
			}
		})
	}
}

// TestIncarnationsAreApart: the next life of a name is a cell of its own while the last one is being wiped.
func TestIncarnationsAreApart(t *testing.T) {
	b, p := NewBook(), Placement{Brick: "b1", Color: "red", Members: []cell.ServerID{"s1", "s2", "s3"}}
	for inc := range cell.Incarnation(2) {
		if err := b.Add("c", inc+1, p); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() != 2 || b.Nodes("s1") != 2 || !b.Remove("c", 1) || b.Remove("c", 1) || b.Nodes("s1") != 1 || b.Cells(p.Pool()) != 1 {
		t.Fatalf("%d cells, %d nodes on s1", b.Len(), b.Nodes("s1"))
	}
}

// TestOverlapSample: a sample is evenly spaced, never larger than asked for, and whole when it covers all.
func TestOverlapSample(t *testing.T) {
	b := NewBook()
	key := topology.PoolKey{Brick: "b1", Color: "red"}
	if o := b.Overlap(key, 0); o != (Overlap{}) {
		t.Fatalf("empty pool: %+v", o)
	}
	servers := pool("b1", "red", 30, 5, 5, 1000)
	for i := range 10 {
		members := ids(servers[i%3*10:])[:7] // three groups of equal juries
		if err := b.Add(cell.ID(fmt.Sprintf("c%d", i)), 1, Placement{Brick: "b1", Color: "red", Members: members}); err != nil {
			t.Fatal(err)
		}
	}
	b.Remove("c1", 1)
	b.Remove("c4", 1) // leaves one cell alone in the second group
	for sample, want := range map[int]Overlap{0: {8, 8, 7}, 100: {8, 8, 7}, 8: {8, 8, 7}, 3: {8, 3, 3}, 1: {8, 1, 1}} {
		if got := b.Overlap(key, sample); got != want {
			t.Errorf("sample %d: %+v, want %+v", sample, got, want)
		}
	}
	if got, want := b.Overlap(key, 0).String(), "7 of 8 cells (87.5%) share too many servers with another"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
