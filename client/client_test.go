package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"physalia/cell"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The sugar does what it says, against a cell that has everything.
func TestSugar(t *testing.T) {
	f := newColony(t)
	h := f.client(t).Cell("vol-1")
	ctx := t.Context()
	if _, err := h.Get(ctx, "a"); !errors.Is(err, cell.NotFound) || cell.MaybeApplied(err) {
		t.Errorf("Get of an absent key: %v", err)
	}
	if r, err := h.Put(ctx, "a", cell.String("x")); err != nil || r != 1 {
		t.Errorf("Put: revision %d, %v", r, err)
	}
	if e, err := h.Get(ctx, "a"); err != nil || !e.Value.Equal(cell.String("x")) || e.ModRevision != 1 {
		t.Errorf("Get: %+v, %v", e, err)
	}
	for _, o := range []ReadOption{Linearizable, Stale} {
		if e, err := h.Get(ctx, "a", o); err != nil || !e.Value.Equal(cell.String("x")) {
			t.Errorf("Get with option %d: %+v, %v", o, e, err)
		}
	}
	for _, c := range []struct {
		old  string
		want bool
	}{{"y", false}, {"x", true}, {"x", false}} {
		if ok, err := h.CompareAndSwap(ctx, "a", cell.String(c.old), cell.String("z")); err != nil || ok != c.want {
			t.Errorf("CompareAndSwap from %q: %v, %v", c.old, ok, err)
		}
	}
	for _, want := range []int64{5, 10} {
		if v, err := h.Increment(ctx, "n", 5); err != nil || !v.Equal(cell.Int(want)) {
			t.Errorf("Increment: %v, %v", v, err)
		}
	}
	if _, err := h.Increment(ctx, "a", 5); !errors.Is(err, cell.WrongType) || cell.MaybeApplied(err) {
		t.Errorf("Increment of a string: %v", err)
	}
	for _, want := range []bool{true, false} {
		if found, err := h.Delete(ctx, "a"); err != nil || found != want {
			t.Errorf("Delete: %v, %v", found, err)
		}
	}
}

// What people see names the cell, the route, the reason and the way out.
func TestTexts(t *testing.T) {
	f := newColony(t)
	c := f.client(t)
	h := f.warm(t, c)
	if s := h.String(); !strings.Contains(s, "vol-1 route 1.1") || !strings.Contains(s, f.servers[0].addr+"*") {
		t.Errorf("handle: %s", s)
	}
	if s := c.Cell("no good").String(); !strings.Contains(s, "not allowed") {
		t.Errorf("bad handle: %s", s)
	}
	f.servers[0].next(rule{mute, nil})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := h.Put(ctx, "a", cell.Int(1))
	for _, part := range []string{"client.put vol-1: unknown result", "and 1 sends", "resolve the request", "[request "} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in %v", part, err)
		}
	}
	if r, err := h.Read(t.Context(), h.Then(Get("warm")).Txn(), Stale); err != nil || !r.Results[0].Found {
		t.Errorf("Read: %+v, %v", r, err)
	}
}

func TestScanAndAll(t *testing.T) {
	f := newColony(t)
	h := f.client(t).Cell("vol-1")
	ctx := t.Context()
	want := ""
	for i := range 10 {
		key := fmt.Sprintf("k/%d", i)
		want += key + " "
		if _, err := h.Put(ctx, key, cell.Int(int64(i))); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := h.Scan(ctx, "k/", ScanOptions{After: "k/3", Limit: 2}); err != nil || len(p.Entries) != 2 || !p.More || p.Entries[0].Key != "k/4" {
		t.Errorf("Scan: %+v, %v", p, err)
	}
	got := ""
	for e, err := range h.All(ctx, "k/") { // the fake's pages have four entries
		if err != nil {
			t.Fatal(err)
		}
		got += e.Key + " "
	}
	if got != want {
		t.Errorf("All: %q, want %q", got, want)
	}
	for e := range h.All(ctx, "k/", Stale) {
		if e.Key == "k/5" {
			break
		}
	}
	f.servers[0].next(rule{refuse, &cell.Error{Kind: cell.Invalid}})
	for e, err := range h.All(ctx, "k/") {
		if err == nil || e.Key != "" {
			t.Errorf("All with an error: %v, %v", e, err)
		}
	}
}

func TestBuilder(t *testing.T) {
	f := newColony(t)
	h := f.client(t).Cell("vol-1")
	ctx := t.Context()
	base := h.If(Absent("a"))
	create := base.Then(Put("a", cell.Int(1)), Get("a")).Else(Get("a"))
	other := base.Then(Put("b", cell.Int(2)))
	if len(create.Txn().Then) != 2 || len(other.Txn().Then) != 1 || len(base.Txn().Then) != 0 {
		t.Errorf("builders share their operations: %+v %+v", create.Txn(), other.Txn())
	}
	for _, succeeded := range []bool{true, false} {
		r, err := create.Commit(ctx)
		if err != nil || r.Succeeded != succeeded {
			t.Errorf("Commit: %+v, %v; want succeeded %v", r, err, succeeded)
		}
	}
	all := h.If(Exists("a"), Compare("a", cell.Equal, cell.Int(1)), Version("a", cell.Equal, 1), ModRevision("a", cell.Equal, 1),
		CreateRevision("a", cell.LessEqual, 1)).Then(Increment("a", 1), Scan("", 10), Delete("a"))
	if r, err := all.Commit(ctx); err != nil || !r.Succeeded || len(r.Results) != 3 {
		t.Errorf("Commit: %+v, %v", r, err)
	}
	if _, err := h.Then().Commit(ctx); !errors.Is(err, cell.Invalid) {
		t.Errorf("an empty transaction: %v", err)
	}
	if _, err := h.Then(Put("", cell.Int(1))).Commit(ctx); !errors.Is(err, cell.Invalid) || !strings.Contains(err.Error(), "vol-1") {
		t.Errorf("an empty key: %v", err)
	}
	if _, err := h.Read(ctx, other.Txn(), Stale); !errors.Is(err, cell.Invalid) {
		t.Errorf("Read of a write: %v", err)
	}
}

func TestVolume(t *testing.T) {
	f := newColony(t)
	v := f.client(t).Volume("vol-1")
	ctx := t.Context()
	if _, err := v.Lookup(ctx, 3); !errors.Is(err, cell.NotFound) {
		t.Errorf("Lookup before Attach: %v", err)
	}
	s, err := v.Attach(ctx, 3, "a", "b")
	if err != nil || s.Primary != "a" || s.Replica != "b" || s.Fence != (cell.Fence{Incarnation: 1, Number: 1}) {
		t.Errorf("Attach: %+v, %v", s, err)
	}
	var conflict *cell.VolumeConflict
	if _, err = v.Attach(ctx, 3, "c", "d"); !errors.Is(err, cell.Conflict) || !errors.As(err, &conflict) || conflict.Actual.Primary != "a" {
		t.Errorf("second Attach: %v", err)
	}
	if s, err = v.Promote(ctx, 3, 1, "b"); err != nil || s.Primary != "b" || s.Replica != "" || s.Fence.Number != 2 {
		t.Errorf("Promote: %+v, %v", s, err)
	}
	if _, err = v.Promote(ctx, 3, 1, "b"); !errors.Is(err, cell.Conflict) {
		t.Errorf("Promote of a past generation: %v", err)
	}
	if s, err = v.Replace(ctx, 3, 2, "c"); err != nil || s.Replica != "c" || s.Fence.Number != 3 {
		t.Errorf("Replace: %+v, %v", s, err)
	}
	for _, o := range []ReadOption{Linearizable, Stale} {
		if s, err = v.Lookup(ctx, 3, o); err != nil || s.Generation != 3 {
			t.Errorf("Lookup: %+v, %v", s, err)
		}
	}
	if _, err = v.Promote(ctx, 3, 3, "no name"); !errors.Is(err, cell.Invalid) {
		t.Errorf("Promote to a bad name: %v", err)
	}
	if v.Cell().ID() != "vol-1" {
		t.Errorf("cell is %q", v.Cell().ID())
	}
}

// New connects to nobody; bad configurations and bad names are refused before anything is sent.
func TestGates(t *testing.T) {
	f := newColony(t)
	c := f.client(t)
	if first, second := c.Cell("vol-1"), c.Cell("vol-1"); first != second {
		t.Error("two handles for one cell")
	}
	for _, err := range []error{
		func() error { _, err := c.Cell("/bad").Get(t.Context(), "a"); return err }(),
		func() error { _, err := c.Cell("").Put(t.Context(), "a", cell.Int(1)); return err }(),
		func() error { _, err := c.Cell("vol-1").Put(t.Context(), "a", cell.Value{}); return err }(),
		func() error { _, err := c.Cell("").Resolve(t.Context(), &UnknownError{}); return err }(),
		func() error { _, err := c.Cell("vol-1").Resolve(t.Context(), &UnknownError{}); return err }(),
	} {
		if !errors.Is(err, cell.Invalid) || cell.MaybeApplied(err) {
			t.Errorf("got %v", err)
		}
	}
	f.servers[0].mu.Lock()
	defer f.servers[0].mu.Unlock()
	f.control.mu.Lock()
	defer f.control.mu.Unlock()
	if f.servers[0].dials != 0 || len(f.control.lookups) != 0 {
		t.Error("somebody was contacted")
	}
	for _, cfg := range []Config{
		{}, {Servers: []string{"nowhere"}}, {Control: make([]string, 5000)}, {Servers: []string{"a:1"}, CallTimeout: -1},
		{Servers: []string{"a:1"}, BackoffMin: 5e9}, {Servers: []string{"a:1"}, MaxInFlight: -1}, {Servers: []string{"a:1"}, Colony: strings.Repeat("x", 65)},
		{Servers: []string{strings.Repeat("x", 300) + ":1"}}, {Servers: []string{"a:1"}, Rand: strings.NewReader("short")},
	} {
		if _, err := New(context.Background(), cfg); !errors.Is(err, cell.Invalid) {
			t.Errorf("New with a bad config: %v", err)
		}
	}
	d, err := New(context.Background(), Config{Servers: []string{"a:1"}, Rand: strings.NewReader(strings.Repeat("x", 24))})
	if err != nil || d.ID() != cell.ClientID([]byte(strings.Repeat("x", 16))) {
		t.Errorf("New: %v", err)
	}
	d.Close()
	d.Close()
	if _, err := d.Cell("a").Get(t.Context(), "k"); !errors.Is(err, cell.Unavailable) {
		t.Errorf("Get on a closed client: %v", err)
	}
}
