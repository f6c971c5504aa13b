package placement

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/topology"
)

// swapped is a jury after a swap.
func swapped(jury []cell.ServerID, w Swap) []cell.ServerID {
	next := slices.Clone(jury)
	next[slices.Index(next, w.Remove)] = w.Add
	return next
}

// rebook makes the book say that a cell has another jury.
func rebook(t rapid.TB, b *Book, id cell.ID, v *topology.View, jury []cell.ServerID) {
	t.Helper()
	b.Remove(id, 1)
	if err := b.Add(id, 1, Jury(jury, v)); err != nil {
		t.Fatal(err)
	}
}

// hintAt is a volume whose users are all in one place.
func hintAt(l topology.Location) Hints { return Hints{Client: l, Primary: l, Replica: l} }

// TestImproveKeepsHardConstraints: whatever the pool, a sound jury stays sound swap by swap, no swap goes to a server that is
// down or full, the score falls every time, and it ends.
func TestImproveKeepsHardConstraints(t *testing.T) {
	swaps := 0
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{3, 5, 7, 7}).Draw(t, "size")
		c := drawColony(t, 30, 6, size)
		p, _, err := c.place(t, size, rapid.Uint64().Draw(t, "seed"))
		if err != nil {
			return
		}
		v, err := topology.NewView(c.servers)
		if err != nil {
			t.Fatal(err)
		}
		user := rapid.SampledFrom(c.servers).Draw(t, "user")
		in := Input{View: v, Down: c.down, Book: c.book, JurySize: size, Hints: hintAt(user.Location())}
		jury := p.Members
		rebook(t, c.book, "mine", v, jury)
		strict := uint64(c.book.Len()) <= OverlapLimit(len(c.servers), size)
		for step := 0; ; step++ {
			w, ok := Improve(in, jury)
			if !ok {
				break
			}
			swaps++
			next := swapped(jury, w)
			c.book.Remove("mine", 1)
			if why := c.sound(next, size); why != "" {
				t.Fatalf("%v by %s: %s", next, w, why)
			}
			if before, after := c.sharing(jury), c.sharing(next); strict && after > before {
				t.Fatalf("%s: shares too much with %d cells, with %d before", w, after, before)
			}
			if w.Gain < GainMin || step > 10*size {
				t.Fatalf("step %d: %s", step, w)
			}
			jury = next
			rebook(t, c.book, "mine", v, jury)
		}
	})
	if swaps == 0 {
		t.Fatal("nothing was ever improved")
	}
}

// TestImproveFindsTheBestSwap compares with all swaps there are, scored by a twin that shares nothing with the package but the
// scale, in pools where no cell shares anything.
func TestImproveFindsTheBestSwap(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		const size = 7
		c := drawColony(t, 20, 0, size)
		p, _, err := c.place(t, size, rapid.Uint64().Draw(t, "seed"))
		if err != nil {
			return
		}
		v, _ := topology.NewView(c.servers)
		server := rapid.SampledFrom(c.servers).Draw(t, "user")
		user := server.Location()
		in := Input{View: v, Down: c.down, Book: c.book, JurySize: size, Hints: hintAt(user)}
		rebook(t, c.book, "mine", v, p.Members)
		cost := func(id cell.ServerID, member uint64) int64 {
			s := v.Server(id)
			load := max(s.Load, uint64(c.book.Nodes(id))) - member
			return int64(load*1_000_000/s.Capacity) + 25_000*7*int64(s.Location().Distance(user))
		}
		best := int64(GainMin - 1)
		for _, leaves := range p.Members {
			for i := range c.servers {
				comes := c.servers[i].ID
				if next := swapped(p.Members, Swap{Remove: leaves, Add: comes}); !slices.Contains(p.Members, comes) && soundSwap(c, next, comes) {
					best = max(best, cost(leaves, 1)-cost(comes, 0))
				}
			}
		}
		w, ok := Improve(in, p.Members)
		if ok != (best >= GainMin) || ok && w.Gain != best {
			t.Fatalf("found %s (%v), the best gains %d", w, ok, best)
		}
		if ok {
			found++
		}
	})
	if found == 0 {
		t.Fatal("there was never anything to find")
	}
}

// soundSwap judges a jury of which only one server is new.
func soundSwap(c *colony, jury []cell.ServerID, comes cell.ServerID) bool {
	for i := range c.servers {
		if s := &c.servers[i]; s.ID == comes && (c.down[comes] || max(s.Load, uint64(c.book.Nodes(comes))) >= s.Capacity) {
			return false
		}
	}
	v, err := topology.NewView(c.servers)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(Check(Jury(jury, v), len(jury), v), func(x Violation) bool { return x.Rule == RuleRack || x.Rule == RulePower })
}

// TestJuryFollowsItsUser: a user who jumps to another rack is followed, swap by swap, until as many members are as near as a
// new placement would bring them.
func TestJuryFollowsItsUser(t *testing.T) {
	servers := pool("b1", "red", 40, 8, 4, 1000)
	v, b := view(t, servers), NewBook()
	in := Input{View: v, Book: b, JurySize: 7, Hints: hintAt(servers[0].Location())}
	p, _, err := Place(in, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	jury := p.Members
	rebook(t, b, "mine", v, jury)
	in.Hints = hintAt(servers[5].Location()) // rack r6, power domain p2
	for {
		w, ok := Improve(in, jury)
		if !ok {
			break
		}
		jury = swapped(jury, w)
		rebook(t, b, "mine", v, jury)
	}
	b.Remove("mine", 1)
	fresh, _, err := Place(in, seeded(2))
	if err != nil {
		t.Fatal(err)
	}
	far := func(jury []cell.ServerID) (n int) {
		for _, id := range jury {
			n += int(v.Server(id).Location().Distance(servers[5].Location()))
		}
		return n
	}
	if far(jury) != far(fresh.Members) || !slices.Contains(jury, servers[5].ID) {
		t.Fatalf("%v is %d steps away, a new placement %v %d", jury, far(jury), fresh.Members, far(fresh.Members))
	}
}

// TestImproveLevelsLoads: new servers are filled by swaps until the fullest and the emptiest are about even, and then it ends.
func TestImproveLevelsLoads(t *testing.T) {
	servers := pool("b1", "red", 24, 6, 4, 100)
	b, rng := NewBook(), seeded(3)
	juries := make([][]cell.ServerID, 60)
	old := view(t, servers[:12])
	for i := range juries {
		p, _, err := Place(Input{View: old, Book: b, JurySize: 7}, rng)
		if err != nil {
			t.Fatal(err)
		}
		juries[i] = p.Members
		rebook(t, b, name(i), old, p.Members)
	}
	v := view(t, servers)
	in := Input{View: v, Book: b, JurySize: 7}
	for moved := 1; moved > 0; {
		moved = 0
		for i := range juries {
			if w, ok := Improve(in, juries[i]); ok {
				moved++
				juries[i] = swapped(juries[i], w)
				rebook(t, b, name(i), v, juries[i])
			}
		}
	}
	least, most := 1000, 0
	for _, s := range servers {
		n := b.Nodes(s.ID)
		least, most = min(least, n), max(most, n)
	}
	if most-least > 5 { // GainMin is 2.5 nodes of 100
		t.Fatalf("between %d and %d nodes on a server", least, most)
	}
}

func name(i int) cell.ID { return cell.ID([]byte{'c', byte('0' + i/10), byte('0' + i%10)}) }

// TestImproveMendsABrokenJury: four members in one rack are more urgent than any distance.
func TestImproveMendsABrokenJury(t *testing.T) {
	servers := pool("b1", "red", 20, 5, 4, 1000)
	v, b := view(t, servers), NewBook()
	crowded := []cell.ServerID{servers[0].ID, servers[5].ID, servers[10].ID, servers[15].ID, servers[1].ID, servers[2].ID, servers[3].ID}
	rebook(t, b, "mine", v, crowded)
	in := Input{View: v, Book: b, JurySize: 7, Hints: hintAt(servers[0].Location())}
	w, ok := Improve(in, crowded)
	if left := v.Server(w.Remove); !ok || left.Rack != "r1" {
		t.Fatalf("found %s (%v)", w, ok)
	}
	if crowds := Check(Jury(swapped(crowded, w), v), 7, v); len(crowds) > 0 {
		t.Fatalf("%s leaves %v", w, crowds)
	}
}

// TestSubstitute: the emptiest server that fits, near the users where they are known; a refusal tells the numbers.
func TestSubstitute(t *testing.T) {
	servers := pool("b1", "red", 14, 7, 4, 1000)
	v, b := view(t, servers), NewBook()
	jury := ids(servers[:7])
	rebook(t, b, "mine", v, jury)
	in := Input{View: v, Book: b, JurySize: 7, Hints: hintAt(servers[9].Location()), Down: map[cell.ServerID]bool{servers[0].ID: true}}
	if id, err := Substitute(in, jury, servers[0].ID); err != nil || id != servers[9].ID {
		t.Fatalf("%s, %v", id, err)
	}
	for _, s := range servers[7:] {
		in.Down[s.ID] = true
	}
	if id, err := Substitute(in, jury, servers[0].ID); cell.KindOf(err) != cell.NoRoom {
		t.Fatalf("%s, %v", id, err)
	}
}
