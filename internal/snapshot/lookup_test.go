package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/objects"
	"physalia/internal/snapshot"
	"physalia/internal/wire"
)

func write(t *testing.T, st objects.Store, written uint64, configuration uint64) snapshot.Ref {
	t.Helper()
	ref := snapshot.Ref{Written: written, Copy: "c1"}
	w := snapshot.NewWriter(st, ref)
	byBucket := map[int][]wire.SnapshotCell{}
	for i := range 300 {
		id := cell.ID(fmt.Sprintf("vol-%d", i))
		byBucket[wire.BucketOf(id)] = append(byBucket[wire.BucketOf(id)], wire.SnapshotCell{Cell: id, Incarnation: 1, Configuration: configuration,
			Members: []wire.SnapshotMember{{Node: 1, Server: uint32(i % 2)}}})
	}
	var err error
	const buckets = wire.TableBuckets / 4 // per part
	for first := 0; first < wire.TableBuckets && err == nil; first += buckets {
		var part []wire.SnapshotCell
		for b := first; b < first+buckets; b++ {
			part = append(part, byBucket[b]...)
		}
		err = w.Cells(t.Context(), uint32(first), part)
	}
	if err == nil {
		err = w.Servers(t.Context(), []wire.Contact{{Server: "s0", ClientAddr: "h0:1"}, {Server: "s1", ClientAddr: "h1:1"}})
	}
	if err == nil {
		err = w.Finish(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestLookup: cells are found in the newest snapshot, by reading only what they need; what is not there is left open; a damage
// leads to the snapshot before, and is told once.
func TestLookup(t *testing.T) {
	st, err := objects.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	gets := 0
	var skipped []snapshot.Ref
	l := &snapshot.Lookup{From: countingStore{st, &gets}, Skipped: func(r snapshot.Ref, _ error) { skipped = append(skipped, r) }}
	if _, err := l.Find(t.Context(), 0, []cell.ID{"vol-1"}); !errors.Is(err, cell.NotFound) {
		t.Errorf("without a snapshot: %v", err)
	}
	write(t, st, 1000, 1)
	newest := write(t, st, 2000, 2)
	check := func(now time.Duration, configuration uint64, reads int) {
		t.Helper()
		gets = 0
		r, err := l.Find(t.Context(), now, []cell.ID{"vol-17", "never", "vol-18"})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Routes; !r.Filling || got[0].Configuration != configuration || got[0].Members[0].ClientAddr != "h1:1" || got[1].Incarnation != 0 ||
			got[1].Cell != "never" || got[2].Members[0].ClientAddr != "h0:1" {
			t.Errorf("%+v", r)
		}
		if gets > reads {
			t.Errorf("%d objects were read, allowed are %d", gets, reads)
		}
	}
	check(0, 2, 5) // head, servers, at most three parts
	check(time.Second, 2, 3)
	parts, err := st.List(t.Context(), "discovery/parts/"+newest.String()+"/r")
	if err != nil || len(parts) != 4 {
		t.Fatalf("%v, %v", parts, err)
	}
	for _, name := range parts {
		if err := st.Put(t.Context(), name, []byte("PhyD nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	check(2*time.Second, 1, 9)
	check(3*time.Second, 1, 3)
	if !slices.Equal(skipped, []snapshot.Ref{newest}) {
		t.Errorf("skipped %v", skipped)
	}
	write(t, st, 3000, 3)
	check(time.Hour, 3, 5)
}

// countingStore counts what is read.
type countingStore struct {
	snapshot.Files
	gets *int
}

// Get implements snapshot.Files.
func (c countingStore) Get(ctx context.Context, name string) ([]byte, error) {
	*c.gets++
	return c.Files.Get(ctx, name)
}
