package placement

import (
	"fmt"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/topology"
)

// fillPool places n cells of seven in one pool.
func fillPool(t testing.TB, v *topology.View, b *Book, n int, seed uint64) {
	rng := seeded(seed)
	in := Input{View: v, Book: b, JurySize: 7}
	for i := range n {
		p, rep, err := Place(in, rng)
		if err != nil {
			t.Fatalf("cell %d of %d: %v", i, n, err)
		}
		if rep.OverlapHard && rep.Above > 0 {
			t.Fatalf("cell %d shares too much with %d", i, rep.Above)
		}
		if err := b.Add(cell.ID(fmt.Sprintf("c%d", i)), 1, p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFillToOverlapLimit: round-robin pools can be filled up to the overlap limit without a refusal and without any
// pair of cells that shares more than three servers; nodes and owners stay balanced all the way.
func TestFillToOverlapLimit(t *testing.T) {
	for _, n := range []int{12, 14, 16, 20, 24, 30, 40} {
		for _, racks := range []int{3, 4, 7} {
			for _, powers := range []int{3, 5} {
				t.Run(fmt.Sprintf("servers=%d/racks=%d/powers=%d", n, racks, powers), func(t *testing.T) {
					servers := pool("b1", "red", n, racks, powers, 10_000)
					b := NewBook()
					limit := int(OverlapLimit(n, 7))
					fillPool(t, view(t, servers), b, limit, uint64(n))
					if o := b.Overlap(servers[0].Pool(), 0); o.Above != 0 || o.Examined != limit {
						t.Fatalf("%d cells: %s", limit, o)
					}
				})
			}
		}
	}
}

// TestBalance: the demo's pools, and the bench's seven servers, spread nodes and owners evenly.
func TestBalance(t *testing.T) {
	cases := []struct{ servers, racks, powers, cells, nodes, owned int }{
		{7, 7, 7, 700, 0, 0}, // the widest difference allowed between two servers
		{8, 4, 3, 25, 1, 1},
		{8, 4, 3, 1000, 1, 1},
		{40, 8, 5, 2000, 4, 2},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("servers=%d", c.servers), func(t *testing.T) {
			servers := pool("b1", "red", c.servers, c.racks, c.powers, 10_000)
			b := NewBook()
			fillPool(t, view(t, servers), b, c.cells, 3)
			nodes, owned := difference(servers, b.Nodes), difference(servers, b.Owned)
			if nodes > c.nodes || owned > c.owned {
				t.Fatalf("servers differ by up to %d nodes and %d owned cells, allowed are %d and %d", nodes, owned, c.nodes, c.owned)
			}
		})
	}
}

func difference(servers []topology.Server, count func(cell.ServerID) int) int {
	least, most := count(servers[0].ID), count(servers[0].ID)
	for _, s := range servers {
		least, most = min(least, count(s.ID)), max(most, count(s.ID))
	}
	return most - least
}

func TestOverlapLimit(t *testing.T) {
	cases := []struct {
		n, size int
		want    uint64
	}{
		{8, 7, 0}, {12, 7, 1}, {20, 7, 13}, {100, 7, 11203}, {2000, 7, 1899052855}, {9, 3, 1}, {100, 2, 0}, {6, 7, 0},
		{1 << 16, 13, (1 << 44) / 17160},
	}
	for _, c := range cases {
		if got := OverlapLimit(c.n, c.size); got != c.want {
			t.Errorf("%d servers, cells of %d: %d, want %d", c.n, c.size, got, c.want)
		}
	}
}

// TestSearchGivesUp: at the limit of its work the search refuses, and says that it did not see everything.
func TestSearchGivesUp(t *testing.T) {
	servers := pool("b1", "red", 12, 1, 12, 10)
	for i, rack := range []topology.Rack{"r2", "r3"} {
		servers[i].Rack = rack // every jury of three needs both of these, so two cells share two
	}
	v, b := view(t, servers), NewBook()
	if err := b.Add("c1", 1, Jury([]cell.ServerID{servers[0].ID, servers[1].ID, servers[2].ID}, v)); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]string{1: "no jury found in 1 steps", searchStepsMax: "every jury would share more than 1 servers"} {
		p := v.Pools()[0]
		s := &search{size: 3, pool: p, book: b.pool(p.Key), limit: limit}
		rep := Report{Pool: p.Key}
		s.gather(&Input{Book: b}, nil, 1, &rep)
		if s.run(true) {
			t.Fatal("found a jury that cannot exist")
		}
		if got := s.explain(&rep).detail; !strings.Contains(got, want) {
			t.Errorf("limit %d: got %q, want %q", limit, got, want)
		}
	}
}
