package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/topology"
)

// pool describes n servers of one brick and color with racks and power domains assigned round-robin.
func pool(brick, color string, n, racks, powers int, capacity uint64) []topology.Server {
	servers := make([]topology.Server, n)
	for i := range servers {
		servers[i] = topology.Server{
			ID: cell.ServerID(fmt.Sprintf("%s-%s-%03d", brick, color, i+1)), Brick: topology.Brick(brick), Color: topology.Color(color),
			Rack:  topology.Rack(fmt.Sprintf("r%d", i%racks+1)),
			Power: topology.PowerDomain(fmt.Sprintf("p%d", i%powers+1)), Capacity: capacity,
		}
	}
	return servers
}

func view(t testing.TB, servers []topology.Server) *topology.View {
	t.Helper()
	v, err := topology.NewView(servers)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// colony is a drawn world: servers of one pool with every constraint in play, and a book with some cells.
type colony struct {
	servers []topology.Server
	down    map[cell.ServerID]bool
	book    *Book
	juries  [][]cell.ServerID // in the book
	keep    []cell.ServerID
}

// drawColony draws at least one and at most n servers. Racks, power domains and capacities are few, so that constraints bind.
func drawColony(t *rapid.T, n int, cells int, size int) *colony {
	c := &colony{down: map[cell.ServerID]bool{}, book: NewBook()}
	racks, powers := rapid.IntRange(1, 5).Draw(t, "racks"), rapid.IntRange(1, 5).Draw(t, "powers")
	for i := range rapid.IntRange(1, n).Draw(t, "servers") {
		c.servers = append(c.servers, topology.Server{
			ID: cell.ServerID(fmt.Sprintf("s%02d", i)), Brick: "b1", Color: "red",
			Rack:     topology.Rack(fmt.Sprintf("r%d", rapid.IntRange(1, racks).Draw(t, "rack"))),
			Power:    topology.PowerDomain(fmt.Sprintf("p%d", rapid.IntRange(1, powers).Draw(t, "power"))),
			Capacity: uint64(rapid.SampledFrom([]int{0, 2, 20, 20, 20, 1000}).Draw(t, "capacity")),
			Load:     uint64(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "load")),
		})
		if rapid.IntRange(0, 9).Draw(t, "down") == 0 {
			c.down[c.servers[i].ID] = true
		}
	}
	if rapid.Bool().Draw(t, "keep") {
		c.keep = rapid.Permutation(ids(c.servers)).Draw(t, "kept")[:rapid.IntRange(0, min(size, len(c.servers))).Draw(t, "keeps")]
	}
	for i := range rapid.IntRange(0, cells).Draw(t, "cells") {
		if len(c.servers) < size {
			break
		}
		c.add(t, i, rapid.Permutation(ids(c.servers)).Draw(t, "jury")[:size])
	}
	return c
}

func (c *colony) add(t rapid.TB, i int, jury []cell.ServerID) {
	err := c.book.Add(cell.ID(fmt.Sprintf("c%d", i)), 1, Placement{Brick: "b1", Color: "red", Members: jury})
	if err != nil {
		t.Fatal(err)
	}
	c.juries = append(c.juries, jury)
}

func ids(servers []topology.Server) []cell.ServerID {
	out := make([]cell.ServerID, len(servers))
	for i := range servers {
		out[i] = servers[i].ID
	}
	return out
}

// sound is the naive twin of every hard constraint but overlap: it says what is wrong with a jury for a new cell of
// this colony, by counting. It shares nothing with the package.
func (c *colony) sound(jury []cell.ServerID, size int) string {
	limit := (size - 1) / 2
	if limit == 0 {
		limit = 1
	}
	racks, powers := map[topology.Rack]int{}, map[topology.PowerDomain]int{}
	seen := map[cell.ServerID]bool{}
	for _, id := range jury {
		found := false
		for _, s := range c.servers {
			if s.ID != id {
				continue
			}
			found = true
			if racks[s.Rack]++; racks[s.Rack] > limit {
				return fmt.Sprintf("rack %s holds more than %d", s.Rack, limit)
			}
			if powers[s.Power]++; powers[s.Power] > limit {
				return fmt.Sprintf("power domain %s holds more than %d", s.Power, limit)
			}
			nodes := 0
			for _, j := range c.juries {
				nodes += shared(j, []cell.ServerID{id})
			}
			if max(s.Load, uint64(nodes)) >= s.Capacity {
				return fmt.Sprintf("server %s is full", id)
			}
		}
		if !found || seen[id] || c.down[id] {
			return fmt.Sprintf("server %s: known %v, twice %v, down %v", id, found, seen[id], c.down[id])
		}
		seen[id] = true
	}
	if len(jury) != size {
		return fmt.Sprintf("jury has %d members, want %d", len(jury), size)
	}
	return ""
}

// sharing counts the cells of the colony that share more than allowed with a jury.
func (c *colony) sharing(jury []cell.ServerID) int {
	n := 0
	for _, j := range c.juries {
		if len(jury) >= 3 && shared(j, jury) > (len(jury)-1)/2 {
			n++
		}
	}
	return n
}

func shared(a, b []cell.ServerID) int {
	n := 0
	for _, x := range a {
		for _, y := range b {
			if x == y {
				n++
			}
		}
	}
	return n
}

// live counts the servers that are up and have room.
func (c *colony) live() int {
	n := 0
	for _, s := range c.servers {
		if c.sound([]cell.ServerID{s.ID}, 1) == "" {
			n++
		}
	}
	return n
}

// exists enumerates all juries and reports whether one satisfies ok.
func exists(servers []cell.ServerID, size int, ok func([]cell.ServerID) bool) bool {
	jury := make([]cell.ServerID, 0, size)
	var from func(i int) bool
	from = func(i int) bool {
		if len(jury) == size {
			return ok(jury)
		}
		for ; i <= len(servers)-(size-len(jury)); i++ {
			jury = append(jury, servers[i])
			if from(i + 1) {
				return true
			}
			jury = jury[:len(jury)-1]
		}
		return false
	}
	return from(0)
}
