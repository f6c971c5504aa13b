package client

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"physalia/cell"
)

// Thousands of new cells cost a handful of lookups, and a copy that does not answer or does not know is passed over.
func TestLookups(t *testing.T) {
	f := newColony(t)
	var ids []cell.ID
	for i := range 300 {
		id := cell.ID(fmt.Sprintf("vol-%d", i))
		ids = append(ids, id)
		host := newFakeCell(id)
		for _, s := range f.servers {
			s.cells[id] = host
		}
		host.leader = f.servers[i%3]
		f.control.place(id, 1, 1, f.servers...)
	}
	empty, silent := newFakeControl(t), newFakeControl(t)
	silent.silent = true
	c := newClient(t, Config{Control: []string{silent.addr, empty.addr, "127.0.0.1:1", f.control.addr}, AttemptTimeout: 200 * time.Millisecond})
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			if _, err := c.Cell(id).Put(t.Context(), "a", cell.Int(1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f.control.mu.Lock()
	defer f.control.mu.Unlock()
	if n := len(f.control.lookups); n > 100 {
		t.Errorf("%d lookups for %d cells", n, len(ids))
	}
}

// A cell that has moved away from all known members is found again by discovery.
func TestMoved(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	to := []*fakeServer{newFakeServer(t, "t0", f.cell), newFakeServer(t, "t1", f.cell)}
	for _, s := range f.servers {
		s.mu.Lock()
		delete(s.cells, "vol-1")
		s.mu.Unlock()
	}
	f.cell.mu.Lock()
	f.cell.leader = to[1]
	f.cell.mu.Unlock()
	f.control.place("vol-1", 1, 2, to...)
	if _, err := h.Put(t.Context(), "a", cell.Int(1)); err != nil {
		t.Fatal(err)
	}
	txns, _ := to[1].requests()
	sameRequests(t, append(f.received(), txns...))
}

// Nobody knows the name: that is said soon, and as "not applied".
func TestNobodyKnows(t *testing.T) {
	f := newColony(t)
	c := newClient(t, Config{Control: []string{f.control.addr}, Servers: []string{f.servers[0].addr}})
	for _, call := range []func() error{
		func() error { _, err := c.Cell("nobody").Put(t.Context(), "a", cell.Int(1)); return err },
		func() error { _, err := c.Cell("nobody").Get(t.Context(), "a", Stale); return err },
	} {
		if err := call(); !errors.Is(err, cell.UnknownHere) || cell.MaybeApplied(err) {
			t.Errorf("got %v", err)
		}
	}
}

// Without any discovery, a server that hosts a member teaches the others, and the client survives its death.
func TestServersOnly(t *testing.T) {
	f := newColony(t)
	c := newClient(t, Config{Servers: []string{f.servers[0].addr}, AttemptTimeout: 200 * time.Millisecond})
	h := c.Cell("vol-1")
	if _, err := h.Put(t.Context(), "a", cell.Int(1)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.place.Members()) == 3
	})
	f.servers[0].stop()
	f.cell.mu.Lock()
	f.cell.leader = f.servers[2]
	f.cell.mu.Unlock()
	if _, err := h.Put(t.Context(), "a", cell.Int(2)); err != nil {
		t.Fatal(err)
	}
}

// The control plane dies after the first lookup; a server dies, too; calls go on. When the server comes back under its
// address, it is used again.
func TestStaticStability(t *testing.T) {
	f := newColony(t)
	c := f.client(t)
	h := f.warm(t, c)
	f.control.rpc.Close()
	f.servers[0].stop()
	f.cell.mu.Lock()
	f.cell.leader = f.servers[1]
	f.cell.mu.Unlock()
	for range 3 {
		if _, err := h.Increment(t.Context(), "n", 1); err != nil {
			t.Fatal(err)
		}
	}
	f.servers[0].listen(t, f.servers[0].addr)
	f.cell.mu.Lock()
	f.cell.leader = f.servers[0]
	f.cell.mu.Unlock()
	if v, err := h.Increment(t.Context(), "n", 1); err != nil || !v.Equal(cell.Int(4)) {
		t.Fatalf("after the return: %v, %v", v, err)
	}
}

// Stale reads go to one member, pass over one that is behind, and never see less than the client has seen.
func TestStaleReads(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	for i := range 3 {
		f.servers[i].mu.Lock()
		f.servers[i].behind = cell.Revision(1 + 100*(i/2)) // only the last has caught up
		f.servers[i].mu.Unlock()
	}
	if _, err := h.Put(t.Context(), "a", cell.Int(1)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if e, err := h.Get(t.Context(), "a", Stale); err != nil || !e.Value.Equal(cell.Int(1)) {
			t.Fatalf("stale Get: %+v, %v", e, err)
		}
	}
	_, reads := f.servers[2].requests()
	if len(reads) != 5 || !reads[0].Stale || reads[0].Least != 2 {
		t.Errorf("the member that is not behind got %+v", reads)
	}
}

// Beyond MaxInFlight calls are refused at once.
func TestMaxInFlight(t *testing.T) {
	f := newColony(t)
	c := newClient(t, Config{Control: []string{f.control.addr}, MaxInFlight: 1})
	h := f.warm(t, c)
	f.servers[0].next(rule{mute, nil})
	done := make(chan error)
	go func() { _, err := h.Put(t.Context(), "a", cell.Int(1)); done <- err }()
	waitFor(t, func() bool { f.servers[0].mu.Lock(); defer f.servers[0].mu.Unlock(); return len(f.servers[0].log) == 1 })
	var e *cell.Error
	if _, err := h.Get(t.Context(), "a"); !errors.As(err, &e) || e.Kind != cell.Overloaded || e.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	c.Close()
	if err := <-done; !errors.Is(err, cell.UnknownResult) {
		t.Errorf("got %v", err)
	}
}
