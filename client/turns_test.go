package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client/route"
)

// Writes of one cell beyond route.TurnsMax are not sent before others have ended. Whoever waits can leave, and was not applied.
func TestTurns(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	for _, s := range f.servers {
		s.mu.Lock()
		s.random = func() rule { return rule{mute, nil} }
		s.mu.Unlock()
	}
	crowd, disperse := context.WithCancel(t.Context())
	defer disperse()
	var wg sync.WaitGroup
	for range route.TurnsMax {
		wg.Go(func() {
			if _, err := h.Put(crowd, "n", cell.Int(1)); !cell.MaybeApplied(err) {
				t.Errorf("a write that was sent and given up: %v", err)
			}
		})
	}
	sent := map[uint64]bool{}
	look := func() int {
		for _, r := range f.received() {
			sent[r.Request.Sequence] = true
		}
		return len(sent)
	}
	waitFor(t, func() bool { return look() == route.TurnsMax })

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.Put(short, "n", cell.Int(2)); !errors.Is(err, cell.Overloaded) || !errors.Is(err, context.DeadlineExceeded) || cell.MaybeApplied(err) {
		t.Errorf("a write whose turn did not come in time: %v", err)
	}
	waits := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.queue.Len() == 1
	}
	leaving, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 1)
	go func() {
		_, err := h.Put(leaving, "n", cell.Int(2))
		left <- err
	}()
	waitFor(t, waits)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || cell.MaybeApplied(err) {
		t.Errorf("a write that left the queue: %v", err)
	}
	if n := look(); n != route.TurnsMax {
		t.Errorf("%d writes were sent, allowed are %d", n, route.TurnsMax)
	}

	last := make(chan error, 1)
	go func() {
		_, err := h.Put(t.Context(), "n", cell.Int(3))
		last <- err
	}()
	waitFor(t, waits)
	for _, s := range f.servers {
		s.mu.Lock()
		s.random = nil
		s.mu.Unlock()
	}
	disperse()
	wg.Wait()
	if err := <-last; err != nil {
		t.Errorf("a write whose turn came: %v", err)
	}
}
