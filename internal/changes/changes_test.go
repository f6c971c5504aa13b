package changes

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	_ "physalia/internal/rapidseed"
)

// TestFollowing: whoever goes from page to page, or starts anew when it is told to, ends with what the set is.
func TestFollowing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const buckets = 3
		log := New[int](buckets, rapid.IntRange(1, 8).Draw(t, "max"), 0)
		set, seen := map[int]int{}, map[int]int{} // key -> version
		sums := map[uint32]int{}                  // what the follower believes of each bucket
		position := uint64(0)
		whole := func() {
			clear(seen)
			for k, v := range set {
				seen[k] = v
			}
			for b := range uint32(buckets) {
				sums[b] = sum(set, int(b))
			}
		}
		whole()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "change") {
				k := rapid.IntRange(0, 9).Draw(t, "key")
				set[k]++
				log.Note(k, k%buckets)
				continue
			}
			limit := rapid.IntRange(1, 4).Draw(t, "limit")
			p := log.After(position, limit)
			if len(p.Keys) > limit || p.Lost && len(p.Keys)+len(p.Buckets) > 0 || p.To < position {
				t.Fatalf("after %d, at most %d: %+v", position, limit, p)
			}
			if p.Lost {
				whole()
			}
			for _, k := range p.Keys {
				seen[k] = set[k]
			}
			for _, b := range p.Buckets {
				sums[b] = sum(set, int(b))
				if sum(seen, int(b)) != sums[b] {
					t.Fatalf("bucket %d is said to be complete at %d, and is not", b, p.To)
				}
			}
			position = p.To
		}
		for p := log.After(position, 3); p.To != position; p = log.After(position, 3) {
			if p.Lost {
				whole()
			}
			for _, k := range p.Keys {
				seen[k] = set[k]
			}
			for _, b := range p.Buckets {
				sums[b] = sum(set, int(b))
			}
			position = p.To
		}
		for b := range uint32(buckets) {
			if sums[b] != sum(set, int(b)) || sum(seen, int(b)) != sums[b] {
				t.Fatalf("bucket %d: believed %d, seen %d, is %d", b, sums[b], sum(seen, int(b)), sum(set, int(b)))
			}
		}
	})
}

func sum(set map[int]int, bucket int) (n int) {
	for k, v := range set {
		if k%3 == bucket {
			n += (k + 1) * v
		}
	}
	return n
}

func TestLogIsBounded(t *testing.T) {
	l := New[int](1, 4, 0)
	for i := range 100 {
		l.Note(i, 0)
		if len(l.entries) > 8 {
			t.Fatalf("%d entries are kept", len(l.entries))
		}
		if p := l.After(l.Position()-uint64(min(i+1, 4)), 10); p.Lost || len(p.Keys) != min(i+1, 4) {
			t.Fatalf("the last %d changes: %+v", min(i+1, 4), p)
		}
	}
	if p := l.After(50, 10); !p.Lost || p.To != 100 {
		t.Errorf("long ago: %+v", p)
	}
	if p := l.After(101, 10); !p.Lost {
		t.Errorf("another life's position: %+v", p)
	}
	later := New[int](1, 4, 1000)
	later.Note(1, 0)
	if p := later.After(100, 10); !p.Lost || p.To != 1001 {
		t.Errorf("the position of an earlier life: %+v", p)
	}
	if p := l.After(98, 1); !slices.Equal(p.Keys, []int{98}) || p.To != 99 || len(p.Buckets) != 0 {
		t.Errorf("a page of one: %+v", p)
	}
}
