package discovery

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

func routeOf(id cell.ID, incarnation cell.Incarnation, configuration uint64, first int) wire.Route {
	r := wire.Route{Cell: id, Incarnation: incarnation, Configuration: configuration}
	for i := range 7 {
		name := fmt.Sprintf("s%d", first+i)
		r.Members = append(r.Members, wire.Founder{Node: uint64(i + 1), Server: cell.ServerID(name), PeerAddr: name + ":1", ClientAddr: name + ":2"})
	}
	return r
}

func (c *Cache) one(id cell.ID) wire.Route {
	return c.Lookup(&wire.LookupRequest{Cells: []cell.ID{id}}).Routes[0]
}

func put(t *testing.T, c *Cache, r wire.Route, want bool) {
	t.Helper()
	news, err := c.Put(&r)
	if err != nil || news != want {
		t.Fatalf("put %+v: news %v, error %v; want news %v", r, news, err, want)
	}
}

func TestOnlyHigherRoutesReplace(t *testing.T) {
	c := NewCache(0)
	if r := c.one("vol-1"); len(r.Members) != 0 || r.Incarnation != 0 {
		t.Fatalf("an empty cache knows %+v", r)
	}
	put(t, c, routeOf("vol-1", 1, 2, 1), true)
	put(t, c, routeOf("vol-1", 1, 1, 9), false)
	put(t, c, routeOf("vol-1", 1, 2, 9), false)
	if r := c.one("vol-1"); r.Members[0].Server != "s1" || r.Configuration != 2 {
		t.Fatalf("a lower route replaced a higher one: %+v", r)
	}
	put(t, c, wire.Route{Cell: "vol-1", Incarnation: 1, Configuration: 1, Deleted: true}, true)
	put(t, c, routeOf("vol-1", 1, 99, 1), false)
	if r := c.one("vol-1"); !r.Deleted || len(r.Members) != 0 {
		t.Fatalf("a sealed incarnation rose: %+v", r)
	}
	put(t, c, routeOf("vol-1", 2, 1, 3), true)
	if r := c.one("vol-1"); r.Deleted || r.Incarnation != 2 {
		t.Fatalf("the next incarnation is not known: %+v", r)
	}
}

func TestAServersOwnWordBeatsHearsay(t *testing.T) {
	c := NewCache(0)
	put(t, c, routeOf("vol-1", 1, 1, 1), true)
	c.Server(&wire.Registration{Server: "s1", Boot: 3, PeerAddr: "new:1", ClientAddr: "new:2"})
	c.Server(&wire.Registration{Server: "s1", Boot: 2, PeerAddr: "old:1", ClientAddr: "old:2"})
	put(t, c, routeOf("vol-1", 1, 1, 1), false)
	if m := c.one("vol-1").Members[0]; m.ClientAddr != "new:2" || m.PeerAddr != "new:1" {
		t.Fatalf("s1 is said to be at %+v", m)
	}
}

func TestRefusals(t *testing.T) {
	c := NewCache(1)
	for name, r := range map[string]wire.Route{
		"bad name":       {Cell: "../x", Incarnation: 1, Members: routeOf("a", 1, 1, 1).Members},
		"no incarnation": {Cell: "a", Members: routeOf("a", 1, 1, 1).Members},
		"no members":     {Cell: "a", Incarnation: 1},
	} {
		if _, err := c.Put(&r); err == nil || err.Kind != cell.Invalid {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	put(t, c, routeOf("a", 1, 1, 1), true)
	full := routeOf("b", 1, 1, 1)
	if _, err := c.Put(&full); err == nil || err.Kind != cell.Overloaded {
		t.Errorf("a full cache: %v, want overloaded", err)
	}
	put(t, c, routeOf("a", 1, 2, 1), true)
}

// TestOrderDoesNotMatter: whatever the order and repetition of pushes, the cache ends with the highest.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "routes")
		var pushes []wire.Route
		for range n {
			r := routeOf("v", cell.Incarnation(rapid.IntRange(1, 3).Draw(t, "incarnation")), rapid.Uint64Range(1, 3).Draw(t, "configuration"), 1)
			if r.Deleted = rapid.IntRange(0, 3).Draw(t, "deleted") == 0; r.Deleted {
				r.Members, r.Configuration = nil, 1
			}
			pushes = append(pushes, r)
		}
		one, two := NewCache(0), NewCache(0)
		for i := range pushes {
			one.Put(&pushes[i])
		}
		dice := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 1))
		for _, i := range append(dice.Perm(n), dice.Perm(n)...) {
			two.Put(&pushes[i])
		}
		if a, b := fmt.Sprint(one.one("v")), fmt.Sprint(two.one("v")); a != b {
			t.Fatalf("order matters: %s, %s", a, b)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	c := NewCache(0)
	for i := range 100_000 {
		r := routeOf(cell.ID(fmt.Sprintf("vol-%d", i)), 1, 1, i%100)
		if _, err := c.Put(&r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := range b.N {
		c.one(cell.ID(fmt.Sprintf("vol-%d", i%100_000)))
	}
}
