package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"physalia/cell"
)

// Many goroutines increment through one Client while servers drop replies, cut connections, bounce, and refuse at random
// and leadership wanders. At the end the counter is exactly the number of increments that succeeded or were resolved as
// applied, and every identity was applied at most once, with one content.
func TestExactlyOnceUnderChaos(t *testing.T) {
	const workers, rounds = 8, 40
	f := newColony(t)
	dice := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	faults := []rule{{applyCut, nil}, {cut, nil}, {applyMute, nil}, {mute, nil},
		{refuse, &cell.Error{Kind: cell.NotProposer}}, {refuse, &cell.Error{Kind: cell.Overloaded, RetryAfter: time.Millisecond}},
		{refuse, &cell.Error{Kind: cell.Unavailable}}, {applyError, &cell.Error{Kind: cell.UnknownResult}}, {refuse, &cell.Error{Kind: cell.UnknownHere}}}
	for _, s := range f.servers {
		s.random = func() rule {
			mu.Lock()
			defer mu.Unlock()
			if dice.IntN(20) == 0 {
				f.cell.mu.Lock()
				f.cell.leader = f.servers[dice.IntN(3)]
				f.cell.mu.Unlock()
			}
			if dice.IntN(4) > 0 {
				return rule{}
			}
			return faults[dice.IntN(len(faults))]
		}
	}
	c := newClient(t, Config{Control: []string{f.control.addr}, AttemptTimeout: 20 * time.Millisecond, RetryBudget: 1 << 20})
	h := c.Cell("vol-1")
	var wg sync.WaitGroup
	var applied, never, patience int64
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				limit := 20 * time.Second
				if (w+r)%5 == 0 {
					limit = 5 * time.Millisecond // gives up early, often with an unknown outcome
				}
				yes, no, again := increment(t, h, limit)
				mu.Lock()
				applied, never, patience = applied+yes, never+no, patience+again
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, s := range f.servers {
		s.mu.Lock()
		s.random = nil
		s.mu.Unlock()
	}
	if v, err := h.Increment(t.Context(), "n", 0); err != nil || !v.Equal(cell.Int(applied)) {
		t.Errorf("the counter is %v, %v; applied were %d", v, err, applied)
	}
	if applied+never != workers*rounds || applied == 0 || patience == 0 {
		t.Errorf("%d applied, %d never, %d resolved: the test proves nothing", applied, never, patience)
	}
	seen := map[uint64]bool{}
	for _, r := range f.cell.history() {
		if seen[r.Sequence] {
			t.Errorf("%v was applied twice", r)
		}
		seen[r.Sequence] = true
	}
}

// increment adds one, and settles what became of it.
func increment(t *testing.T, h *Cell, limit time.Duration) (yes, no, resolved int64) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err := h.Increment(ctx, "n", 1)
	var unknown *UnknownError
	for errors.As(err, &unknown) {
		resolved++
		_, err = h.Resolve(t.Context(), unknown)
	}
	switch {
	case err == nil:
		return 1, 0, resolved
	case cell.MaybeApplied(err):
		t.Errorf("unknown, and not an *UnknownError: %v", err)
	}
	return 0, 1, resolved
}
