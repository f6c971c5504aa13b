package ledger

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/internal/wire"
)

func node(handle, configuration uint64) *wire.NodeInfo {
	return &wire.NodeInfo{Handle: handle, Cell: cell.ID(fmt.Sprintf("vol-%d", handle)), Incarnation: 1, Configuration: configuration}
}

// TestSums: however the nodes came to be what they are, the sums are those of a ledger that was told once; and a walk over
// all buckets, in pages of any size, has each of them.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, nodes := New(), map[uint64]*wire.NodeInfo{}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			h := uint64(rapid.IntRange(1, 40).Draw(t, "handle"))
			was := nodes[h]
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				if gone := l.Gone(h, node(h, 0).Cell); gone != (was != nil) {
					t.Fatalf("node %d: gone is %v", h, gone)
				}
				delete(nodes, h)
				continue
			}
			n := node(h, uint64(rapid.IntRange(1, 3).Draw(t, "configuration")))
			n.Sealed = rapid.Bool().Draw(t, "sealed")
			news := was == nil || was.Sealed != n.Sealed || !n.Sealed && was.Configuration != n.Configuration
			if got := l.Changed(n); got != news {
				t.Fatalf("%+v after %+v: news is %v", n, was, got)
			}
			nodes[h] = n
		}
		twin := New()
		for _, n := range nodes {
			twin.Changed(n)
		}
		if l.sums != twin.sums || l.Nodes() != len(nodes) {
			t.Fatalf("the sums depend on history")
		}
		if d := l.Digests(wire.TotalOf(twin.sums[:])); !d.Same || d.Sums != nil || d.Position != l.Position() {
			t.Fatalf("%+v", d)
		}
		all := make([]uint32, wire.ShareBuckets)
		for b := range all {
			all[b] = uint32(b)
		}
		seen := walk(t, l, all, uint32(rapid.IntRange(1, 9).Draw(t, "limit")))
		for h := range nodes {
			if seen[h] != 1 {
				t.Fatalf("node %d was listed %d times", h, seen[h])
			}
		}
		if len(seen) != len(nodes) {
			t.Fatalf("%d nodes listed, want %d", len(seen), len(nodes))
		}
	})
}

func walk(t *rapid.T, l *Ledger, buckets []uint32, limit uint32) map[uint64]int {
	seen := map[uint64]int{}
	q := &wire.PullRequest{Buckets: buckets, Limit: limit}
	for len(q.Buckets) > 0 {
		p, err := l.Pull(q, func(handle uint64) (wire.Route, bool) { return wire.Route{Configuration: handle}, true })
		if err != nil || len(p.Routes) > int(limit) || len(p.Sums) == 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		for i, sum := range p.Sums {
			if sum != l.sums[q.Buckets[i]] {
				t.Fatalf("bucket %d: wrong sum", q.Buckets[i])
			}
		}
		for _, r := range p.Routes {
			seen[r.Configuration]++
		}
		done := len(p.Sums)
		if q.Cursor = p.Cursor; q.Cursor != nil {
			done--
		}
		q.Buckets = q.Buckets[done:]
	}
	return seen
}

func TestPullRefuses(t *testing.T) {
	l := New()
	for name, q := range map[string]*wire.PullRequest{"bucket": {Buckets: []uint32{wire.ShareBuckets}}, "cursor": {Buckets: []uint32{1}, Cursor: []byte{1}}} {
		if _, err := l.Pull(q, nil); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// filled is a ledger of so many nodes.
func filled(nodes int) *Ledger {
	l := New()
	for h := range uint64(nodes) {
		l.Changed(node(h+1, 1))
	}
	return l
}

// TestCostOfAChange: what a push and an unchanged digest carry does not grow with the number of nodes.
func TestCostOfAChange(t *testing.T) {
	sizes := map[int][2]int{}
	for _, nodes := range []int{1000, 100_000} {
		l := filled(nodes)
		before := l.Position()
		d := l.Digests(wire.TotalOf(l.sums[:]))
		l.Changed(node(77, 2))
		reads := 0
		push := l.Changes(before, 256, func(uint64) (wire.Route, bool) { reads++; return wire.Route{Cell: "vol-77"}, true })
		if reads != 1 || len(push.Routes) != 1 || len(push.Buckets) != 1 || push.Lost {
			t.Fatalf("%d nodes: %d reads for %+v", nodes, reads, push)
		}
		push.From, push.To, d.Position = 1, 2, 1
		sizes[nodes] = [2]int{len(push.Append(nil)), len(d.Append(nil))}
	}
	if sizes[1000] != sizes[100_000] || sizes[1000][1] > 16 {
		t.Errorf("bytes of a push and of an unchanged digest: %v", sizes)
	}
}

func BenchmarkChange100000(b *testing.B) {
	l := filled(100_000)
	for i := 0; b.Loop(); i++ {
		l.Changed(node(uint64(i%100_000)+1, uint64(i)))
	}
}

func BenchmarkDigest100000(b *testing.B) {
	l := filled(100_000)
	for b.Loop() {
		l.Digests(1)
	}
}
