package placement

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/internal/topology"
)

// place asks for one more cell in a colony.
func (c *colony) place(t rapid.TB, size int, seed uint64) (Placement, Report, error) {
	v, err := topology.NewView(c.servers)
	if err != nil {
		t.Fatal(err)
	}
	return Place(Input{View: v, Down: c.down, Book: c.book, JurySize: size, Keep: c.keep}, seeded(seed))
}

// TestHardConstraintsHold: no placement ever violates a hard constraint, whatever the pool.
func TestHardConstraintsHold(t *testing.T) {
	placed := 0
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, 3, 5, 7, 7, 7, 9, 13}).Draw(t, "size")
		c := drawColony(t, 30, 4, size)
		for i := range 6 {
			p, rep, err := c.place(t, size, rapid.Uint64().Draw(t, "seed"))
			if err != nil {
				if cell.KindOf(err) != cell.NoRoom {
					t.Fatalf("refused with %v", err)
				}
				return
			}
			placed++
			if why := c.sound(p.Members, size); why != "" {
				t.Fatalf("%s: %s", p.String(), why)
			}
			v, _ := topology.NewView(c.servers)
			for _, bad := range Check(p, size, v) {
				t.Fatalf("%s: %s", p.String(), bad)
			}
			above := c.sharing(p.Members)
			if rep.OverlapHard && above > 0 {
				t.Fatalf("%s shares too much with %d cells", p.String(), above)
			}
			if uint64(rep.Cells+1) <= OverlapLimit(c.live(), size) && !rep.OverlapHard {
				t.Fatalf("overlap was not enforced with %d cells on %d live servers", rep.Cells, c.live())
			}
			if rep.Cells < softWindow && rep.Above != above {
				t.Fatalf("report says %d cells above, counted %d", rep.Above, above)
			}
			c.add(t, 100+i, p.Members)
		}
	})
	if placed == 0 {
		t.Fatal("nothing was ever placed")
	}
}

// TestRefusesOnlyTheImpossible compares refusals with an enumeration of all juries of up to nine servers, where the
// overlap constraint is hard for the first cell at most, and then excludes nothing.
func TestRefusesOnlyTheImpossible(t *testing.T) {
	outcomes := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 9).Draw(t, "size")
		c := drawColony(t, 9, 3, size)
		possible := exists(ids(c.servers), size, func(j []cell.ServerID) bool { return c.sound(j, size) == "" })
		_, _, err := c.place(t, size, rapid.Uint64().Draw(t, "seed"))
		if possible != (err == nil) {
			t.Fatalf("possible %v, got %v", possible, err)
		}
		outcomes[possible]++
	})
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Fatalf("one-sided: %v", outcomes)
	}
}

// TestOverlapRefusals does the same with the overlap constraint hard: juries of three in pools of up to sixteen.
func TestOverlapRefusals(t *testing.T) {
	outcomes := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		const size = 3
		c := drawColony(t, 16, 4, size)
		after := uint64(c.book.Len()) + 1
		hard := after <= OverlapLimit(len(c.servers), size)
		apart := func(j []cell.ServerID) bool { return c.sound(j, size) == "" && c.sharing(j) == 0 }
		possible := exists(ids(c.servers), size, apart)
		if !hard || (!possible && after > OverlapLimit(c.live(), size)) {
			possible = exists(ids(c.servers), size, func(j []cell.ServerID) bool { return c.sound(j, size) == "" })
		}
		p, rep, err := c.place(t, size, rapid.Uint64().Draw(t, "seed"))
		if possible != (err == nil) {
			t.Fatalf("possible %v (hard %v), got %s %v", possible, hard, p.String(), err)
		}
		outcomes[fmt.Sprintf("possible=%v hard=%v enforced=%v", possible, hard, rep.OverlapHard)]++
	})
	if outcomes["possible=true hard=true enforced=true"] == 0 {
		t.Fatalf("the constraint was never at work: %v", outcomes)
	}
	t.Log(outcomes)
}

// TestSameInputSamePlacement: equal inputs, books and dice give equal placements and reports, and Place leaves no trace
// in the book.
func TestSameInputSamePlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{3, 5, 7}).Draw(t, "size")
		c := drawColony(t, 20, 6, size)
		seed := rapid.Uint64().Draw(t, "seed")
		p1, r1, err1 := c.place(t, size, seed)
		if _, _, err := c.place(t, size, seed+1); (err == nil) != (err1 == nil) {
			t.Fatalf("the dice decide whether there is room: %v, %v", err1, err)
		}
		p2, r2, err2 := c.place(t, size, seed)
		if !reflect.DeepEqual(p1, p2) || !reflect.DeepEqual(r1, r2) || fmt.Sprint(err1) != fmt.Sprint(err2) {
			t.Fatalf("differ:\n%s %v\n%s %v", p1.String(), err1, p2.String(), err2)
		}
	})
}

// TestBookMatchesNaiveTwin drives a book with random additions and removals and compares it with lists.
func TestBookMatchesNaiveTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := pool("b1", "red", rapid.IntRange(8, 24).Draw(t, "servers"), 4, 3, 100)
		b, twin := NewBook(), map[int]Placement{}
		key := topology.PoolKey{Brick: "b1", Color: "red"}
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			i := rapid.IntRange(0, 15).Draw(t, "cell")
			id := cell.ID(fmt.Sprintf("c%d", i))
			if _, there := twin[i]; there {
				if cell.KindOf(b.Add(id, 1, twin[i])) != cell.Exists {
					t.Fatal("added twice")
				}
				if !b.Remove(id, 1) {
					t.Fatal("not removed")
				}
				delete(twin, i)
			} else {
				p := Placement{Brick: "b1", Color: "red", Owner: rapid.IntRange(0, 6).Draw(t, "owner"),
					Members: rapid.Permutation(ids(servers)).Draw(t, "jury")[:7]}
				if b.Remove(id, 1) {
					t.Fatal("removed what is not there")
				}
				if err := b.Add(id, 1, p); err != nil {
					t.Fatal(err)
				}
				twin[i] = p
			}
			compareBooks(t, b, key, servers, twin)
		}
	})
}

func compareBooks(t rapid.TB, b *Book, key topology.PoolKey, servers []topology.Server, twin map[int]Placement) {
	above := 0
	for i, p := range twin {
		sharing := 0
		for _, q := range twin {
			if shared(p.Members, q.Members) > 3 {
				sharing++ // with itself too
			}
		}
		if got := b.Sharing(p.Members); got != sharing {
			t.Fatalf("cell %d shares too much with %d, want %d", i, got, sharing)
		}
		if sharing > 1 {
			above++
		}
	}
	if got := b.Overlap(key, 0); got.Cells != len(twin) || got.Examined != len(twin) || got.Above != above {
		t.Fatalf("overlap %+v, want %d of %d", got, above, len(twin))
	}
	if b.Len() != len(twin) || b.Cells(key) != len(twin) {
		t.Fatalf("%d cells, want %d", b.Len(), len(twin))
	}
	for _, s := range servers {
		nodes, owned := 0, 0
		for _, p := range twin {
			nodes += shared(p.Members, []cell.ServerID{s.ID})
			if p.Members[p.Owner] == s.ID {
				owned++
			}
		}
		if b.Nodes(s.ID) != nodes || b.Owned(s.ID) != owned {
			t.Fatalf("%s: %d nodes %d owned, want %d and %d", s.ID, b.Nodes(s.ID), b.Owned(s.ID), nodes, owned)
		}
	}
}

// TestAimsMatchDistances: what Place scores by is the topology's own distance.
func TestAimsMatchDistances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawColony(t, 20, 0, 7)
		v, err := topology.NewView(c.servers)
		if err != nil {
			t.Fatal(err)
		}
		pick := func(label string, names ...string) string { return rapid.SampledFrom(names).Draw(t, label) }
		where := topology.Location{Server: cell.ServerID(pick("server", "", "s00", "s03", "elsewhere")), Brick: topology.Brick(pick("brick", "", "b1", "b2")),
			Rack: topology.Rack(pick("rack", "", "r1", "r2", "r9")), Power: topology.PowerDomain(pick("power", "", "p1", "p2", "p9"))}
		hints := (&Hints{Primary: where}).known(v)
		for _, p := range v.Pools() {
			as := aims(hints, p)
			for i := range p.Servers {
				want := uint64(0)
				if len(hints) > 0 {
					want = primaryWeight * uint64(p.Servers[i].Location().Distance(v.Locate(where)))
				}
				if got := farness(as, p, i); got != want {
					t.Fatalf("%s to %+v: %d, want %d", p.Servers[i].ID, where, got, want)
				}
			}
		}
	})
}

// TestLeaveUndoesEnter: after any sequence of members coming and going, the scan stands as if only the present ones had
// ever come.
func TestLeaveUndoesEnter(t *testing.T) {
	crowded := false
	rapid.Check(t, func(t *rapid.T) {
		const size = 7
		c := drawColony(t, 12, 12, size)
		p := c.book.pool(topology.PoolKey{Brick: "b1", Color: "red"})
		share, window := rapid.IntRange(0, 3).Draw(t, "share"), rapid.IntRange(0, 4).Draw(t, "window")
		var jury []int32
		p.begin(share, window)
		for range rapid.IntRange(0, 40).Draw(t, "moves") {
			if n := len(jury); n > 0 && (n == size || rapid.Bool().Draw(t, "leave")) {
				p.leave(jury[n-1])
				jury = jury[:n-1]
			} else if free := absent(len(p.servers), jury); len(free) > 0 {
				jury = append(jury, rapid.SampledFrom(free).Draw(t, "member"))
				p.enter(jury[n])
			}
		}
		above, heat := p.scan.above, slices.Clone(p.scan.heat)
		p.begin(share, window)
		for _, n := range jury {
			p.enter(n)
		}
		if above != p.scan.above || !slices.Equal(heat, p.scan.heat) {
			t.Fatalf("jury %v: above %d heat %v, want %d %v", jury, above, heat, p.scan.above, p.scan.heat)
		}
		crowded = crowded || above > 0
	})
	if !crowded {
		t.Fatal("no jury ever shared too much")
	}
}

// absent lists the server numbers below n that are not in the jury.
func absent(n int, jury []int32) []int32 {
	var out []int32
	for i := range int32(n) {
		if !slices.Contains(jury, i) {
			out = append(out, i)
		}
	}
	return out
}
