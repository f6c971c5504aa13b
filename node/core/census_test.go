package core

import (
	"fmt"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// The census tells every node once, page by page, with the founding as it was told; what is not durable is not told.
func TestCensusPages(t *testing.T) {
	c := newColony(t, 7)
	for i := range 5 {
		c.create(cell.ID(fmt.Sprintf("vol-%d", i)))
	}
	core := c.servers[2].core
	var seen []cell.ID
	for q := (wire.Census{Limit: 2}); ; {
		page := core.Census(&q)
		for _, n := range page.Nodes {
			seen = append(seen, n.Cell)
			q.After = n.Handle
			if n.Configuration != 1 || n.Incarnation != 1 || n.Alpha == 0 || n.Owner == 0 || n.Learner || n.Sealed || len(n.Members) != 7 {
				t.Errorf("%+v", n)
			}
			if s := n.Members[n.Node-1].Server; s != core.cfg.Server {
				t.Errorf("node %d of %s is told as that of %s", n.Node, n.Cell, s)
			}
		}
		if !page.More {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("seen %v", seen)
	}
	c.servers[2].slow = true
	core.CreateNodes(c.origin(), &wire.CreateNodes{Foundings: []wire.Founding{foundingOf("vol-5", 1, 0, 1, 2, 3, 4, 5, 6)}})
	if page := core.Census(&wire.Census{After: 5}); len(page.Nodes) != 0 {
		t.Errorf("told before it was durable: %+v", page.Nodes)
	}
}

// A tombstone that a crash may still undo is not told: the manager would found the next incarnation beside a node that comes back.
func TestCensusWaitsForTheDisk(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.servers[0].slow = true
	core := c.servers[0].core
	core.DropNodes(c.origin(), &wire.DropNodes{Sealed: true, Drops: []wire.Drop{{Cell: "vol-1", Incarnation: 1}}})
	page := core.Graves(&wire.Census{})
	if len(page.Graves) != 1 {
		t.Fatalf("%+v", page)
	}
	to := c.origin()
	core.Tell(to, page)
	for _, r := range core.Flush().Replies {
		if r.To == to {
			t.Errorf("told before it is durable: %+v", r)
		}
	}
}

// Tombstones are told in pages, with the newest number, and they outlive a restart.
func TestGravesPages(t *testing.T) {
	c := newColony(t, 7)
	drop := func(i int, inc cell.Incarnation) {
		t.Helper()
		if err := c.dropAt(0, cell.ID(fmt.Sprintf("vol-%d", i)), inc, true); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		drop(i, 1)
	}
	drop(3, 7)
	read := func() map[cell.ID]cell.Incarnation {
		all := map[cell.ID]cell.Incarnation{}
		for q := (wire.Census{Limit: 2}); ; {
			page := c.servers[0].core.Graves(&q)
			for _, g := range page.Graves {
				all[g.Cell] = g.Incarnation
			}
			if q.After = page.Next; !page.More {
				return all
			}
		}
	}
	check := func() {
		t.Helper()
		if all := read(); len(all) != 5 || all["vol-3"] != 7 || all["vol-4"] != 1 {
			t.Errorf("told are %v", all)
		}
	}
	check()
	c.restart(0)
	c.settle()
	check()
	if page := c.servers[0].core.Graves(&wire.Census{After: 99}); len(page.Graves) != 0 || page.More {
		t.Errorf("behind the end: %+v", page)
	}
}
