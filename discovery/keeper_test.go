package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/objects"
	"physalia/internal/snapshot"
	"physalia/internal/wire"
)

func store(t testing.TB) objects.Store {
	t.Helper()
	s, err := objects.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// filled is a copy that knows so many cells of seven members on 20 servers, one of which it has compared.
func filled(t testing.TB, cells int, k KeeperConfig, log *slog.Logger) *Service {
	t.Helper()
	s := NewService(ServiceConfig{Keeper: k, Log: log})
	for i := range 20 {
		s.Joined(wire.Registration{Server: worldID(i), Brick: fmt.Sprintf("b%d", i%2), PeerAddr: fmt.Sprintf("10.0.0.%d:7100", i), ClientAddr: fmt.Sprintf("10.0.0.%d:7200", i), Boot: 4})
	}
	s.cache.servers[s.cache.number["s003"]].share = newShare(wire.ShareBuckets)
	s.cache.servers[s.cache.number["s003"]].share.took(7, 4711, 1)
	for i := range cells {
		if _, err := s.cache.Put(manyRoute(i)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func manyRoute(i int) *wire.Route {
	r := wire.Route{Cell: cell.ID(fmt.Sprintf("vol-%08d", i)), Incarnation: cell.Incarnation(i%3 + 1), Configuration: uint64(i%5 + 1), Deleted: i%100 == 99}
	for k := 0; k < 7 && !r.Deleted; k++ {
		r.Members = append(r.Members, wire.Founder{Node: uint64(k + 1), Server: worldID((i + k*3) % 20)})
	}
	return &r
}

// equal compares what two copies know.
func equal(t *testing.T, a, b *Service, cells int) {
	t.Helper()
	if a.cache.sums != b.cache.sums || a.Stats().Cells != b.Stats().Cells {
		t.Fatalf("%d cells, and %d; sums are equal: %v", a.Stats().Cells, b.Stats().Cells, a.cache.sums == b.cache.sums)
	}
	for i := range cells {
		id := manyRoute(i).Cell
		x, y := a.cache.Route(id), b.cache.Route(id)
		if x.Deleted != y.Deleted || !slices.Equal(x.Members, y.Members) {
			t.Fatalf("%+v, and %+v", x, y)
		}
	}
}

// TestSnapshotRoundTrip: a copy that starts from a snapshot knows what its writer knew, addresses, ages and all, and asks
// servers only for what has changed since.
func TestSnapshotRoundTrip(t *testing.T) {
	const cells = 5000
	k := KeeperConfig{Store: store(t), Copy: "c1"}
	a := filled(t, cells, k, nil)
	if err := a.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := NewService(ServiceConfig{Keeper: k})
	b.load(t.Context())
	equal(t, a, b, cells)
	if kept := b.Kept(); kept.Restored != cells || kept.Damaged != 0 || kept.Newest == 0 {
		t.Errorf("%+v", kept)
	}
	s := b.cache.servers[b.cache.number["s003"]]
	if s.share == nil || s.share.sums[7] != 4711 || s.share.at[7] != 0 || s.brick != "b1" || s.boot != 4 || !s.spoke {
		t.Errorf("server came back as %+v with share %+v", s, s.share)
	}
	list, err := a.cfg.Keeper.Store.List(t.Context(), "discovery/parts/")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if data, err := k.Store.Get(t.Context(), name); err != nil || len(data) > 256<<10 {
			t.Errorf("%s has %d bytes, %v", name, len(data), err)
		}
	}
}

// TestDamagedSnapshots: whatever is wrong with a snapshot, the one before it is taken, and it is said so.
func TestDamagedSnapshots(t *testing.T) {
	const cells = 1500
	for name, damage := range map[string]func(data []byte) []byte{
		"flipped bit": func(d []byte) []byte { d[len(d)/2] ^= 4; return d },
		"cut":         func(d []byte) []byte { return d[:len(d)-1] },
		"empty":       func([]byte) []byte { return []byte("x") },
		"version":     func(d []byte) []byte { d[4]++; return d },
		"missing":     nil,
	} {
		for _, part := range []string{"discovery/heads/", "discovery/parts/"} {
			for which := range 2 {
				t.Run(fmt.Sprintf("%s %s %d", name, part, which), func(t *testing.T) {
					damaged(t, cells, part, which, damage)
				})
			}
		}
	}
}

func damaged(t *testing.T, cells int, part string, which int, damage func([]byte) []byte) {
	ctx := t.Context()
	k := KeeperConfig{Store: store(t), Copy: "c1"}
	a := filled(t, cells, k, nil)
	for range 2 {
		if err := a.Save(ctx); err != nil {
			t.Fatal(err)
		}
	}
	refs, err := snapshot.List(ctx, k.Store)
	if err != nil || len(refs) != 2 {
		t.Fatalf("%v, %v", refs, err)
	}
	names, err := k.Store.List(ctx, part+refs[0].String())
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %v", names, err)
	}
	name := names[which%len(names)]
	if damage == nil {
		err = k.Store.Delete(ctx, name)
	} else {
		var data []byte
		if data, err = k.Store.Get(ctx, name); err == nil {
			err = k.Store.Put(ctx, name, damage(data))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b := NewService(ServiceConfig{Keeper: k, Log: slog.New(slog.NewTextHandler(&log, nil))})
	b.load(ctx)
	equal(t, a, b, cells)
	gone := damage == nil && part == "discovery/heads/" // a snapshot without a head is none
	if kept := b.Kept(); kept.Damaged != 1 && !gone || kept.Newest < refs[1].Written {
		t.Errorf("%+v", kept)
	}
	if !gone && !strings.Contains(log.String(), "damaged") {
		t.Errorf("nobody was told:\n%s", log.String())
	}
}

// TestPrune: a copy keeps its newest snapshots, removes what it left unfinished, and leaves young ones of others alone.
func TestPrune(t *testing.T) {
	ctx := t.Context()
	st := store(t)
	write := func(copyName string, written uint64, finish bool) {
		w := snapshot.NewWriter(st, snapshot.Ref{Written: written, Copy: copyName})
		err := w.Servers(ctx, nil)
		if err == nil && finish {
			err = w.Finish(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(5) {
		write("c1", 1000+i, true)
	}
	write("c1", 2000, false)
	write("c2", 500, true)  // long gone
	write("c3", 1500, true) // alive
	write("c3", 2500, false)
	if removed, err := snapshot.Prune(ctx, st, "c1", 2, 900); removed != 4 || err != nil {
		t.Errorf("removed %d, %v", removed, err)
	}
	refs, err := snapshot.List(ctx, st)
	want := []snapshot.Ref{{Written: 1500, Copy: "c3"}, {Written: 1004, Copy: "c1"}, {Written: 1003, Copy: "c1"}}
	if err != nil || !slices.Equal(refs, want) {
		t.Errorf("left are %v, %v", refs, err)
	}
	if parts, err := st.List(ctx, "discovery/parts/"); err != nil || len(parts) != 4 {
		t.Errorf("left are %v, %v", parts, err)
	}
}

// TestConstantWork: a snapshot is written whether or not anything changed, and a clock that stands still does not make two of
// one name.
func TestConstantWork(t *testing.T) {
	k := KeeperConfig{Store: store(t), Copy: "c1", Keep: 2}
	a := filled(t, 1000, k, nil)
	sizes := map[uint64]bool{}
	for i := range uint64(5) {
		if err := a.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		kept := a.Kept()
		sizes[kept.Bytes] = true
		if kept.Written != i+1 {
			t.Errorf("%+v", kept)
		}
	}
	if len(sizes) != 1 {
		t.Errorf("the same content has sizes %v", sizes)
	}
	if refs, err := snapshot.List(t.Context(), k.Store); err != nil || len(refs) != 2 {
		t.Errorf("%v, %v", refs, err)
	}
}

// failing is a store that cannot be reached.
type failing struct{ objects.Store }

func (failing) List(context.Context, string) ([]string, error) {
	return nil, &cell.Error{Op: "objects.list", Kind: cell.Unavailable, Detail: "away"}
}
func (failing) Put(context.Context, string, []byte) error {
	return &cell.Error{Op: "objects.put", Kind: cell.Unavailable, Detail: "away"}
}

func TestStoreThatIsAway(t *testing.T) {
	a := filled(t, 10, KeeperConfig{Store: failing{}, Copy: "c1"}, nil)
	a.load(t.Context())
	if err := a.Save(t.Context()); !errors.Is(err, cell.Unavailable) {
		t.Errorf("%v", err)
	}
	if k := a.Kept(); k.Failed != 1 || k.Written != 0 || a.Stats().Cells != 10 {
		t.Errorf("%+v", k)
	}
}

// TestFilling: a copy that has just started says that what it does not know may exist, and one that waited long enough in
// vain says so no more.
func TestFilling(t *testing.T) {
	req := wire.LookupRequest{Cells: []cell.ID{"x"}}
	young, old := NewService(ServiceConfig{}), NewService(ServiceConfig{})
	old.began = time.Now().Add(-2 * time.Minute)
	a, err := young.Lookup(req)
	b, err2 := old.Lookup(req)
	if err != nil || err2 != nil || !a.Filling || b.Filling || len(a.Ages) != 1 || a.Ages[0] != wire.AgeNever {
		t.Errorf("young %+v %v, old %+v %v", a, err, b, err2)
	}
}

// BenchmarkMillion measures what a million cells of seven members cost: memory per cell, writing a snapshot, and starting
// from it. It is run with -benchtime 1x.
func BenchmarkMillion(b *testing.B) {
	const cells = 1_000_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	k := KeeperConfig{Store: store(b), Copy: "c1"}
	for b.Loop() {
		before := heap()
		a := filled(b, cells, k, nil)
		b.ReportMetric(float64(heap()-before)/cells, "B/cell")
		began := time.Now()
		if err := a.Save(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/save")
		b.ReportMetric(float64(a.Kept().Bytes)/(1<<20), "MiB/snapshot")
		began = time.Now()
		c := NewService(ServiceConfig{Keeper: k})
		c.load(b.Context())
		b.ReportMetric(time.Since(began).Seconds(), "s/load")
		if c.Stats().Cells != cells || c.cache.sums != a.cache.sums {
			b.Fatalf("%+v", c.Stats())
		}
	}
}
