package slab

import (
	"fmt"
	"maps"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	_ "physalia/internal/rapidseed" // PHYSALIA_SEED
)

// naive is the same, as one would write it without caring for memory.
type naive struct {
	order []string
	rows  map[string]Row
	kept  map[string]string
	chain map[string]Chain
}

// compare looks at everything that can be asked.
func (n *naive) compare(t *rapid.T, s *Table) {
	if s.Len() != len(n.order) {
		t.Fatalf("%d rows, want %d", s.Len(), len(n.order))
	}
	next := 0
	for at := range s.Span() {
		row := s.At(at)
		if row.Flags&Gone != 0 {
			continue
		}
		name := string(s.Name(at))
		want := n.rows[name]
		if name != n.order[next] || row.Handle != want.Handle || row.Node != want.Node || string(s.Kept(at)) != n.kept[name] {
			t.Fatalf("position %d: %q %+v %q, want %q %+v %q", at, name, row, s.Kept(at), n.order[next], want, n.kept[name])
		}
		if found, ok := s.Find(name); !ok || found != at {
			t.Fatalf("%q is at %d %v, want %d", name, found, ok, at)
		}
		if after := s.After(row.Handle); after != at {
			t.Fatalf("handle %d is at %d, want %d", row.Handle, after, at)
		}
		next++
	}
	for of := range Chain(6) {
		n.compareChain(t, s, of)
	}
}

// compareChain looks at one chain: each of its rows is visited once, and no other.
func (n *naive) compareChain(t *rapid.T, s *Table, of Chain) {
	want, got := map[string]bool{}, map[string]bool{}
	for name, in := range n.chain {
		if in == of && of != 0 {
			want[name] = true
		}
	}
	visits := 0
	s.Each(of, func(at int) bool {
		got[string(s.Name(at))] = true
		visits++
		if visits > s.Len() || s.Chained(at) != of {
			t.Fatalf("chain %d visits position %d, which is in chain %d, as its row %d", of, at, s.Chained(at), visits)
		}
		return true
	})
	if !maps.Equal(got, want) || visits != len(want) || s.Count(of) != len(want) {
		t.Fatalf("chain %d has %d rows, visits %d: %v, want %v", of, s.Count(of), visits, got, want)
	}
}

// A table does what its naive twin does, through gaps, replaced texts, and names that come back.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, n := New(rapid.Uint64().Draw(t, "key")), &naive{rows: map[string]Row{}, kept: map[string]string{}, chain: map[string]Chain{}}
		names := rapid.SampledFrom([]int{8, 300}).Draw(t, "names")
		handle := uint64(0)
		for range rapid.IntRange(1, 600).Draw(t, "steps") {
			name := fmt.Sprintf("vol-%016x", rapid.IntRange(0, names).Draw(t, "name"))
			kept := rapid.SampledFrom([]string{"", "a", "much longer than that", string(make([]byte, 9000))}).Draw(t, "kept")
			at, ok := s.Find(name)
			if _, want := n.rows[name]; ok != want {
				t.Fatalf("%q found: %v, want %v", name, ok, want)
			}
			switch {
			case !ok:
				handle += uint64(rapid.IntRange(1, 3).Draw(t, "handles"))
				row := Row{Handle: handle, Node: uint32(handle % 7)}
				s.Add(row, name, []byte(kept))
				n.order, n.rows[name], n.kept[name] = append(n.order, name), row, kept
			case rapid.Bool().Draw(t, "remove"):
				s.Remove(at)
				n.remove(name)
			case rapid.Bool().Draw(t, "link"):
				to := Chain(rapid.IntRange(0, 4).Draw(t, "chain"))
				s.Link(at, to)
				n.chain[name] = to
			default:
				s.Keep(at, []byte(kept))
				n.kept[name] = kept
			}
		}
		n.compare(t, s)
	})
}

func (n *naive) remove(name string) {
	delete(n.rows, name)
	delete(n.kept, name)
	delete(n.chain, name)
	for i, other := range n.order {
		if other == name {
			n.order = append(n.order[:i], n.order[i+1:]...)
			return
		}
	}
}

// What nobody uses must stay small, and waste must not stay: the budget of a row with the name of a volume and a jury of seven.
func TestBytesPerRow(t *testing.T) {
	if size := unsafe.Sizeof(Row{}); size != rowBytes {
		t.Errorf("a row has %d bytes, Bytes says %d", size, rowBytes)
	}
	const rows = 100_000
	s := New(1)
	kept := make([]byte, 24)
	for i := range rows {
		s.Add(Row{Handle: uint64(i + 1)}, fmt.Sprintf("vol-%017x", i), kept)
	}
	if per := s.Bytes() / rows; per > 120 {
		t.Errorf("%d bytes per row", per)
	}
	for at := range rows - 1000 {
		found, _ := s.Find(fmt.Sprintf("vol-%017x", at))
		s.Remove(found)
	}
	if s.Len() != 1000 || s.Bytes() > 512<<10 {
		t.Errorf("%d rows take %d bytes", s.Len(), s.Bytes())
	}
	for i := range 10 * rows {
		at, _ := s.Find(fmt.Sprintf("vol-%017x", rows-1-i%1000))
		s.Keep(at, []byte(fmt.Sprint(i)))
	}
	if s.Bytes() > 512<<10 {
		t.Errorf("%d rows take %d bytes after many changes", s.Len(), s.Bytes())
	}
}

// A lookup among a hundred thousand.
func BenchmarkFind(b *testing.B) {
	const rows = 100_000
	s := New(1)
	names := make([]string, rows)
	for i := range rows {
		names[i] = fmt.Sprintf("vol-%017x", i)
		s.Add(Row{Handle: uint64(i + 1)}, names[i], nil)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, ok := s.Find(names[i*7919%rows]); !ok {
			b.Fatal("not found")
		}
	}
}
