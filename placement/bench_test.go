package placement

import (
	"fmt"
	"runtime"
	"testing"

	"physalia/cell"
	"physalia/internal/topology"
)

// BenchmarkPlace measures placements per second in one pool, each added to the book.
func BenchmarkPlace(b *testing.B) {
	for _, c := range []struct {
		name          string
		servers, have int
		hints         bool
	}{
		{"servers=2000/cells=0", 2000, 0, false},
		{"servers=2000/cells=100000", 2000, 100_000, false},
		{"servers=2000/cells=100000/hints", 2000, 100_000, true},
		{"servers=2000/cells=1000000", 2000, 1_000_000, false},
		{"servers=200/cells=100000", 200, 100_000, false},
		{"servers=8/cells=10000", 8, 10_000, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			servers := pool("b1", "red", c.servers, min(c.servers, 50), min(c.servers, 12), 1_000_000)
			v, book, rng := view(b, servers), randomBook(b, servers, c.have), seeded(1)
			in := Input{View: v, Book: book, JurySize: 7}
			if c.hints {
				in.Hints = Hints{Client: servers[0].Location(), Primary: servers[1].Location(), Replica: servers[2].Location()}
			}
			steps, i := 0, 0
			b.ReportAllocs()
			for b.Loop() {
				p, rep, err := Place(in, rng)
				if err != nil {
					b.Fatal(err)
				}
				steps += rep.Steps
				if err := book.Add(cell.ID(fmt.Sprintf("n%d", i)), 1, p); err != nil {
					b.Fatal(err)
				}
				i++
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "placements/s")
			b.ReportMetric(float64(steps)/float64(b.N), "steps/op")
		})
	}
}

// BenchmarkBookMemory measures what a cell costs in the book.
func BenchmarkBookMemory(b *testing.B) {
	servers := pool("b1", "red", 2000, 50, 12, 1_000_000)
	for b.Loop() {
		const cells = 1_000_000
		names := make([]cell.ID, cells)
		for i := range names {
			names[i] = cell.ID(fmt.Sprintf("vol-%07d", i))
		}
		before := heapInUse()
		book := NewBook()
		addRandom(b, book, servers, names)
		b.ReportMetric(float64(heapInUse()-before)/cells, "B/cell")
		runtime.KeepAlive(names)
		if book.Len() != cells {
			b.Fatal("lost cells")
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func randomBook(t testing.TB, servers []topology.Server, cells int) *Book {
	names := make([]cell.ID, cells)
	for i := range names {
		names[i] = cell.ID(fmt.Sprintf("c%d", i))
	}
	b := NewBook()
	addRandom(t, b, servers, names)
	return b
}

// addRandom adds cells with juries drawn at random.
func addRandom(t testing.TB, b *Book, servers []topology.Server, names []cell.ID) {
	rng := seeded(7)
	order := ids(servers)
	for _, name := range names {
		for j := range 7 {
			k := j + rng.IntN(len(order)-j)
			order[j], order[k] = order[k], order[j]
		}
		p := Placement{Brick: servers[0].Brick, Color: servers[0].Color, Members: order[:7]}
		if err := b.Add(name, 1, p); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkImprove measures the search for the best swap of one cell.
func BenchmarkImprove(b *testing.B) {
	for _, c := range []struct {
		name          string
		servers, have int
	}{{"servers=2000/cells=100000", 2000, 100_000}, {"servers=2000/cells=1000000", 2000, 1_000_000}, {"servers=14/cells=100000", 14, 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			servers := pool("b1", "red", c.servers, min(c.servers, 50), min(c.servers, 12), 1_000_000)
			v, book, rng := view(b, servers), randomBook(b, servers, c.have), seeded(1)
			in := Input{View: v, Book: book, JurySize: 7}
			p, _, err := Place(in, rng)
			if err != nil {
				b.Fatal(err)
			}
			if err := book.Add("mine", 1, p); err != nil {
				b.Fatal(err)
			}
			in.Hints = hintAt(servers[5].Location())
			b.ReportAllocs()
			for b.Loop() {
				Improve(in, p.Members)
			}
		})
	}
}
