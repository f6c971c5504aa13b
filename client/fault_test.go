package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/wire"
)

// sameRequests checks that all transactions received are the same request, sent with rising attempts.
func sameRequests(t *testing.T, txns []wire.TxnRequest) {
	t.Helper()
	for i, r := range txns {
		if r.Request != txns[0].Request || r.Header.Incarnation != txns[0].Header.Incarnation {
			t.Errorf("send %d is %v in incarnation %d, the first was %v in %d",
				i, r.Request, r.Header.Incarnation, txns[0].Request, txns[0].Header.Incarnation)
		}
		if !slices.Equal((&wire.Command{Txn: r.Txn}).Append(nil), (&wire.Command{Txn: txns[0].Txn}).Append(nil)) {
			t.Errorf("send %d carries another transaction", i)
		}
		if i > 0 && r.Header.Attempt <= txns[i-1].Header.Attempt {
			t.Errorf("send %d says attempt %d after %d", i, r.Header.Attempt, txns[i-1].Header.Attempt)
		}
	}
}

// received gathers the transactions that all servers of a colony received, in the order of their attempts.
func (f *colony) received() (txns []wire.TxnRequest) {
	for _, s := range f.servers {
		more, _ := s.requests()
		txns = append(txns, more...)
	}
	slices.SortStableFunc(txns, func(a, b wire.TxnRequest) int { return int(a.Header.Attempt) - int(b.Header.Attempt) })
	return txns
}

// Whatever happens to the first send, the transaction is applied once and the caller gets its result.
func TestOneEffect(t *testing.T) {
	unavailable := &cell.Error{Kind: cell.Unavailable, RetryAfter: time.Millisecond}
	overloaded := &cell.Error{Kind: cell.Overloaded, RetryAfter: time.Millisecond}
	for name, script := range map[string][]rule{
		"nothing":                   nil,
		"applied, reply lost":       {{applyCut, nil}},
		"applied, reply lost twice": {{applyCut, nil}, {applyCut, nil}},
		"not applied, cut":          {{cut, nil}},
		"applied, unknown":          {{applyError, &cell.Error{Kind: cell.UnknownResult}}},
		"applied, internal":         {{applyError, &cell.Error{Kind: cell.Internal}}},
		"unavailable":               {{refuse, unavailable}, {refuse, unavailable}},
		"overloaded":                {{refuse, overloaded}, {refuse, overloaded}, {refuse, overloaded}},
		"quarantined":               {{refuse, &cell.Error{Kind: cell.Quarantined}}},
		"refused":                   {{refuse, &cell.Error{Kind: cell.Refused}}},
		"no hint":                   {{refuse, &cell.Error{Kind: cell.NotProposer}}},
		"a newer kind":              {{applyError, &cell.Error{Kind: 200}}},
		"everything":                {{refuse, overloaded}, {applyCut, nil}, {refuse, unavailable}, {applyError, &cell.Error{Kind: cell.UnknownResult}}, {cut, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newColony(t)
			c := f.client(t)
			h := f.warm(t, c)
			f.servers[0].next(script...)
			v, err := h.Increment(t.Context(), "n", 1)
			if err != nil || !v.Equal(cell.Int(1)) {
				t.Fatalf("Increment: %v, %v", v, err)
			}
			txns := f.received()
			sameRequests(t, txns)
			if len(f.cell.history()) != 2 { // with the one of warm
				t.Errorf("applied %v", f.cell.history())
			}
			if len(txns) <= len(script) && name != "nothing" {
				t.Errorf("%d sends for %d faults", len(txns), len(script))
			}
			if v, err = h.Increment(t.Context(), "n", 1); err != nil || !v.Equal(cell.Int(2)) {
				t.Fatalf("the next Increment: %v, %v", v, err)
			}
		})
	}
}

// Steady state is one hop; a bounce teaches where.
func TestOneHop(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	for i := range 4 {
		f.cell.mu.Lock()
		f.cell.leader = f.servers[i%3]
		f.cell.mu.Unlock()
		for range 3 {
			if _, err := h.Put(t.Context(), "a", cell.Int(1)); err != nil {
				t.Fatal(err)
			}
		}
		want := 4 // three and a bounce
		if i == 0 {
			want = 3
		}
		if n := len(f.received()); n != want {
			t.Errorf("proposer %d: %d sends, want %d", i%3, n, want)
		}
	}
	f.control.mu.Lock()
	defer f.control.mu.Unlock()
	if n := len(f.control.lookups); n != 1 {
		t.Errorf("%d lookups", n)
	}
}

// A server that accepts requests and says nothing costs half as long again as one AttemptTimeout, for all who wait on it together.
func TestSilentServer(t *testing.T) {
	f := newColony(t)
	c := newClient(t, Config{Control: []string{f.control.addr}, AttemptTimeout: 50 * time.Millisecond})
	h := f.warm(t, c)
	s := f.servers[0]
	s.mu.Lock()
	s.deaf = true
	s.mu.Unlock()
	s.next(rule{applyMute, nil})
	s.next(slices.Repeat([]rule{{mute, nil}}, 100)...)
	done := incrementing(t, h)
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.dials == 2 }) // the silent connection was given up
	s.rewrite()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	txns := f.received()
	sameRequests(t, txns)
	if len(f.cell.history()) != 2 || len(txns) < 2 {
		t.Errorf("applied %v with %d sends", f.cell.history(), len(txns))
	}
}

// A server that owes an answer, and gives a sign of life, keeps its connection: whoever else waits on it need not send anew.
func TestBusyServer(t *testing.T) {
	f := newColony(t)
	c := newClient(t, Config{Control: []string{f.control.addr}, AttemptTimeout: 50 * time.Millisecond})
	h := f.warm(t, c)
	s := f.servers[0]
	s.next(rule{applyMute, nil})
	if err := <-incrementing(t, h); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return !c.link(s.addr).probing.Load() })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probes == 0 || s.dials != 1 {
		t.Errorf("%d connections, %d questions for a sign of life", s.dials, s.probes)
	}
}

// An answer that is late is taken, and nothing sent again, while there is nothing in the budget for it.
func TestLateAnswer(t *testing.T) {
	f := newColony(t)
	c := newClient(t, Config{Control: []string{f.control.addr}, AttemptTimeout: 20 * time.Millisecond})
	h := f.warm(t, c)
	c.budgetMu.Lock()
	c.budget = route.NewBudget(0)
	c.budgetMu.Unlock()
	s := f.servers[0]
	s.late = make(chan struct{})
	s.next(rule{applyLate, nil})
	done := incrementing(t, h)
	waitFor(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.probes > 0 }) // the answer is overdue
	close(s.late)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(f.received()); n != 1 {
		t.Errorf("%d sends", n)
	}
}

// incrementing adds one to the warm cell's counter, and tells when that is done, or why it was not.
func incrementing(t *testing.T, h *Cell) <-chan error {
	done := make(chan error, 1)
	go func() {
		v, err := h.Increment(t.Context(), "n", 1)
		if err == nil && !v.Equal(cell.Int(1)) {
			err = fmt.Errorf("the counter is %v", v)
		}
		done <- err
	}()
	return done
}

// An unknown outcome is told as such, with the request, and can be resolved: to "applied" or to "never".
func TestUnknownAndResolve(t *testing.T) {
	for name, c := range map[string]struct {
		fault   act
		applied bool
	}{"applied": {applyMute, true}, "not applied": {mute, false}} {
		t.Run(name, func(t *testing.T) {
			f := newColony(t)
			h := f.warm(t, f.client(t))
			f.servers[0].next(rule{c.fault, nil})
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			_, err := h.Increment(ctx, "n", 7)
			var unknown *UnknownError
			if !errors.As(err, &unknown) || !errors.Is(err, cell.UnknownResult) || !errors.Is(err, context.DeadlineExceeded) || !cell.MaybeApplied(err) {
				t.Fatalf("got %v", err)
			}
			sent := f.received()
			if len(sent) != 1 || sent[0].Request != unknown.Request || unknown.Incarnation != 1 || unknown.Cell != "vol-1" {
				t.Fatalf("error names %+v, sent was %+v", unknown, sent)
			}
			f.servers[0].next(rule{applyCut, nil}) // resolving survives faults, too
			r, err := h.Resolve(t.Context(), unknown)
			if c.applied && (err != nil || !r.Succeeded || !r.Results[0].Entry.Value.Equal(cell.Int(7))) {
				t.Errorf("Resolve: %+v, %v", r, err)
			}
			if !c.applied && (!errors.Is(err, cell.Void) || cell.MaybeApplied(err)) {
				t.Errorf("Resolve: %+v, %v", r, err)
			}
			sameRequests(t, f.received())
			// A copy of the request that arrives now changes nothing.
			f.cell.mu.Lock()
			f.cell.apply(sent[0].Request, &sent[0].Txn)
			f.cell.mu.Unlock()
			want := cell.Int(7)
			if !c.applied {
				want = cell.Int(0)
			}
			if v, err := h.Increment(t.Context(), "n", 0); err != nil || !v.Equal(want) {
				t.Errorf("afterwards: %v, %v; want %v", v, err, want)
			}
		})
	}
}

// The transaction of an unknown Put is the caller's, whatever the Client does next.
func TestUnknownPutKeepsItsTransaction(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	f.servers[0].next(rule{mute, nil})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := h.Put(ctx, "a", cell.Int(7))
	var unknown *UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v", err)
	}
	if _, err := h.Put(t.Context(), "b", cell.Int(8)); err != nil {
		t.Fatal(err)
	}
	if txn := unknown.Txn; len(txn.Then) != 1 || txn.Then[0] != Put("a", cell.Int(7)) {
		t.Errorf("the transaction is %+v now", txn)
	}
}

// While nobody answers, resolving stays unknown and keeps the transaction.
func TestResolveStaysUnknown(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	first := &UnknownError{Cell: "vol-1", Incarnation: 1, Request: cell.Request{Sequence: 99}, Txn: cell.Txn{Then: []cell.Op{Get("a")}}}
	f.servers[0].next(rule{refuse, &cell.Error{Kind: cell.Expired}})
	_, err := h.Resolve(t.Context(), first)
	var unknown *UnknownError
	if !errors.As(err, &unknown) || !errors.Is(err, cell.Expired) || unknown.Request != first.Request || len(unknown.Txn.Then) != 1 {
		t.Errorf("forgotten: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = h.Resolve(ctx, first); !errors.Is(err, cell.Unavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("not sent: %v", err)
	}
}

// Expired before anything can have been applied: another request, with a newer since. After a lost reply: unknown.
func TestExpired(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	f.cell.mu.Lock()
	f.cell.revision += 1000
	f.cell.mu.Unlock()
	expired := rule{refuse, &cell.Error{Kind: cell.Expired}}
	f.servers[0].next(expired)
	if v, err := h.Increment(t.Context(), "n", 1); err != nil || !v.Equal(cell.Int(1)) {
		t.Fatalf("Increment: %v, %v", v, err)
	}
	txns, _ := f.servers[0].requests()
	if len(txns) != 2 || txns[0].Request.Sequence == txns[1].Request.Sequence || txns[1].Request.Since < 1001 || txns[1].Header.Attempt != 0 {
		t.Errorf("sends: %+v", txns)
	}
	f.servers[0].next(rule{applyCut, nil}, expired) // the reply is lost, and whoever is asked next has forgotten
	f.servers[1].next(expired)
	f.servers[2].next(expired)
	_, err := h.Increment(t.Context(), "n", 1)
	var unknown *UnknownError
	if !errors.As(err, &unknown) || !errors.Is(err, cell.UnknownResult) || !errors.Is(err, cell.Expired) {
		t.Errorf("after a lost reply: %v", err)
	}
	f.servers[0].rewrite(expired, rule{}, expired, rule{}, expired, rule{}, expired) // reads between
	f.servers[1].rewrite()
	f.servers[2].rewrite()
	if _, err = h.Put(t.Context(), "a", cell.Int(1)); !errors.Is(err, cell.Unavailable) || cell.MaybeApplied(err) {
		t.Errorf("always expired: %v", err)
	}
}

// The caller, or the Client, goes away while a request is under way.
func TestLeaving(t *testing.T) {
	for name, leave := range map[string]func(c *Client, cancel func()){
		"cancel": func(_ *Client, cancel func()) { cancel() },
		"close":  func(c *Client, _ func()) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newColony(t)
			c := f.client(t)
			h := f.warm(t, c)
			f.servers[0].next(rule{mute, nil}, rule{mute, nil})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			errs := make(chan error, 2)
			go func() { _, err := h.Put(ctx, "a", cell.Int(1)); errs <- err }()
			go func() { _, err := h.Get(ctx, "a"); errs <- err }()
			waitFor(t, func() bool { f.servers[0].mu.Lock(); defer f.servers[0].mu.Unlock(); return len(f.servers[0].log) == 2 })
			leave(c, cancel)
			unknown := 0
			for range 2 {
				err := <-errs
				switch {
				case errors.Is(err, cell.UnknownResult):
					unknown++
				case !errors.Is(err, cell.Unavailable):
					t.Errorf("got %v", err)
				}
				if name == "cancel" && !errors.Is(err, context.Canceled) {
					t.Errorf("the cause is missing: %v", err)
				}
			}
			if unknown != 1 {
				t.Errorf("%d of a write and a read are unknown", unknown)
			}
		})
	}
}

// waitFor waits for a condition.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("the condition does not come true")
		}
	}
}

// A retry whose answer holds only the fate still tells what the fate alone can tell; an increment's sum it cannot.
func TestForgottenResults(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	lose := func() {
		f.servers[0].next(rule{applyCut, nil})
		f.cell.mu.Lock()
		f.cell.forgetful = true
		f.cell.mu.Unlock()
	}
	lose()
	if r, err := h.Put(t.Context(), "a", cell.Int(1)); err != nil || r != 2 {
		t.Errorf("Put: revision %d, %v", r, err)
	}
	lose()
	if found, err := h.Delete(t.Context(), "a"); err != nil || !found {
		t.Errorf("Delete: %v, %v", found, err)
	}
	lose()
	_, err := h.Increment(t.Context(), "n", 1)
	var unknown *UnknownError
	if !errors.Is(err, cell.UnknownResult) || errors.As(err, &unknown) {
		t.Errorf("Increment: %v", err)
	}
	if v, err := h.Increment(t.Context(), "n", 0); err != nil || !v.Equal(cell.Int(1)) {
		t.Errorf("afterwards: %v, %v", v, err)
	}
}

// Errors that no repetition cures come at once, and say "not applied".
func TestFinalErrors(t *testing.T) {
	for _, k := range []cell.Kind{cell.Invalid, cell.WrongType, cell.TooLarge, cell.Deleted, cell.Stale, cell.NoRoom, cell.Void} {
		f := newColony(t)
		h := f.warm(t, f.client(t))
		f.servers[0].next(rule{refuse, &cell.Error{Op: "fake", Kind: k, Detail: "because"}})
		_, err := h.Put(t.Context(), "a", cell.Int(1))
		if !errors.Is(err, k) || cell.MaybeApplied(err) || len(f.received()) != 1 {
			t.Errorf("%v: got %v", k, err)
		}
		var e *cell.Error
		if !errors.As(err, &e) || e.Cell != "vol-1" || e.Detail != "because" {
			t.Errorf("%v: the error lost its content: %#v", k, e)
		}
	}
}

// A cell that is deleted and created again answers "stale" once; then the client speaks of the new one, with a since of
// its own.
func TestRecreated(t *testing.T) {
	f := newColony(t)
	h := f.warm(t, f.client(t))
	for range 5 {
		if _, err := h.Increment(t.Context(), "n", 1); err != nil {
			t.Fatal(err)
		}
	}
	again := newFakeCell("vol-1")
	again.incarnation = 2
	for _, s := range f.servers {
		s.mu.Lock()
		s.cells["vol-1"] = again
		s.mu.Unlock()
	}
	again.leader = f.servers[1]
	f.control.place("vol-1", 2, 1, f.servers...)
	f.received()
	if _, err := h.Increment(t.Context(), "n", 1); !errors.Is(err, cell.Stale) || cell.MaybeApplied(err) {
		t.Fatalf("the first call after: %v", err)
	}
	f.received()
	if v, err := h.Increment(t.Context(), "n", 1); err != nil || !v.Equal(cell.Int(1)) {
		t.Fatalf("the second call after: %v, %v", v, err)
	}
	for _, r := range f.received() {
		if r.Header.Incarnation != 2 || r.Request.Since != 0 {
			t.Errorf("sent %+v", r)
		}
	}
	again.mu.Lock()
	again.sealed = true
	again.mu.Unlock()
	for range 2 {
		if _, err := h.Put(t.Context(), "n", cell.Int(1)); !errors.Is(err, cell.Deleted) || cell.MaybeApplied(err) {
			t.Errorf("sealed: %v", err)
		}
	}
}
