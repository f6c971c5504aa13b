package machine

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"physalia/cell"
)

// others applies n transactions of other clients.
func (h *host) others(n int) {
	for range n {
		h.must(increment("others", 1))
	}
}

// number reads an integer key, zero when it is absent.
func (h *host) number(key string) int64 {
	e, _ := h.look(key)
	n, _ := e.Value.AsInt64()
	return n
}

func TestRepeatedRequestIsAppliedOnce(t *testing.T) {
	h := newHost(t)
	h.others(3)
	r, txn := request(1, 5, h.Revision()), increment("n", 4)
	first := h.send(r, txn)
	for _, between := range []int{0, 1, 100, cell.WindowMax - 1 - 101} {
		h.others(between)
		revision := h.Revision()
		if again := h.send(r, txn); !reflect.DeepEqual(again, first) {
			t.Fatalf("got %+v, first %+v", again, first)
		}
		if h.Revision() != revision || h.number("n") != 4 {
			t.Fatalf("M3: revision %d -> %d, n is %d", revision, h.Revision(), h.number("n"))
		}
	}
	h.others(1) // the window has moved past it
	out := h.send(r, txn)
	if cell.KindOf(out.Err) != cell.Expired || h.number("n") != 4 {
		t.Fatalf("got %+v, n is %d", out, h.number("n"))
	}
	if !errors.Is(out.Err, cell.Expired) || !cell.MaybeApplied(out.Err) || out.Err.Hint == "" {
		t.Errorf("an expired retry must not read as not applied: %v", out.Err)
	}
}

// TestH14RetryOutsideTheWindow is hazard H14: the reply of an applied transaction is lost, other clients evict its entry,
// and the retry looks new.
func TestH14RetryOutsideTheWindow(t *testing.T) {
	h := newHost(t)
	h.others(10)
	r := request(1, 1, h.Revision())
	h.send(r, increment("n", 1)) // its reply is lost
	h.others(1000)
	out, known := h.Recall(r)
	if !known || cell.KindOf(out.Err) != cell.Expired {
		t.Fatalf("recall says %+v, %t", out, known)
	}
	for range 3 {
		if out := h.send(r, increment("n", 1)); cell.KindOf(out.Err) != cell.Expired {
			t.Fatalf("got %+v", out)
		}
	}
	if h.number("n") != 1 {
		t.Errorf("applied %d times", h.number("n"))
	}
}

// TestH14ResolveBeforeTheCopy is the second half of H14: Resolve says "not applied" while a copy of the request sits in a
// paused server's inbox, and the copy is then proposed.
func TestH14ResolveBeforeTheCopy(t *testing.T) {
	for _, between := range []int{0, 200, cell.WindowMax - 1, cell.WindowMax, 1000} {
		h := newHost(t)
		h.others(10)
		r := request(1, 1, h.Revision())
		resolved := h.send(r, cell.Txn{})
		if cell.KindOf(resolved.Err) != cell.Void || cell.MaybeApplied(resolved.Err) {
			t.Fatalf("resolve says %+v", resolved)
		}
		h.others(between)
		copied := h.send(r, increment("n", 1))
		if k := cell.KindOf(copied.Err); k != cell.Void && (k != cell.Expired || between < cell.WindowMax) {
			t.Errorf("after %d others the copy is %+v", between, copied)
		}
		if h.number("n") != 0 {
			t.Errorf("after %d others the copy was applied", between)
		}
	}
}

func TestResolveTellsTheRecordedOutcome(t *testing.T) {
	h := newHost(t)
	h.must(put("s", cell.String("text")))
	applied, aborted := request(1, 1, 1), request(1, 2, 1)
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "k", Value: cell.Int(3)}, {Kind: cell.OpIncrement, Key: "k", Value: cell.Int(1)}}}
	first := h.send(applied, txn)
	h.send(aborted, increment("s", 1))
	out := h.send(applied, cell.Txn{})
	if out.Err != nil || out.Result.Revision != 2 || len(out.Result.Results) != 2 {
		t.Fatalf("got %+v", out)
	}
	if !out.Result.Complete(&txn) || !reflect.DeepEqual(out, first) {
		t.Errorf("completed %+v\nfirst     %+v", out, first)
	}
	if out := h.send(aborted, cell.Txn{}); cell.KindOf(out.Err) != cell.WrongType || out.Result.Revision != 3 {
		t.Errorf("got %+v", out)
	}
	if h.Revision() != 3 {
		t.Errorf("resolving what is recorded raised the revision to %d", h.Revision())
	}
}

func TestSinceAtTheFloorIsFine(t *testing.T) {
	h := newHost(t)
	h.others(cell.WindowMax + 50)
	const floor = 50
	for since, want := range map[cell.Revision]cell.Kind{floor - 1: cell.Expired, 0: cell.Expired} {
		if out := h.send(request(1, uint64(since), since), increment("n", 1)); cell.KindOf(out.Err) != want {
			t.Errorf("since %d: %+v", since, out)
		}
	}
	// The floor moves with every transaction that is applied, so each needs a machine of its own; beyond the present
	// is the server's business, the machine is total.
	for _, since := range []cell.Revision{floor, floor + 1, cell.WindowMax + 50, 1 << 60} {
		m, err := Restore(h.Snapshot(nil))
		if err != nil {
			t.Fatal(err)
		}
		g := &host{TB: t, Machine: m}
		if out := g.send(request(1, uint64(since), since), increment("n", 1)); out.Err != nil || g.number("n") != 1 {
			t.Errorf("since %d: %+v", since, out)
		}
	}
}

func TestRequestsOfDifferentClientsAreDifferent(t *testing.T) {
	h := newHost(t)
	a, b := request(1, 7, 0), request(2, 7, 0)
	// Equal marks must not make equal requests: b2 differs from a in both halves of the identity by the same bits.
	b2 := a
	b2.Client[0] ^= 0xff
	b2.Client[8] ^= 0xff
	if mark(&a.Client, 7) != mark(&b2.Client, 7) {
		t.Fatal("the marks differ, so this test tests nothing")
	}
	// So does a sequence that is further by the inverse of the mark's multiplier, found here by Newton's method.
	inverse := uint64(markSpread)
	for range 6 {
		inverse *= 2 - markSpread*inverse
	}
	a2 := a
	a2.Sequence += inverse
	if mark(&a.Client, a.Sequence) != mark(&a2.Client, a2.Sequence) {
		t.Fatal("the marks differ, so this test tests nothing")
	}
	for _, r := range []cell.Request{a, b, b2, a2, request(1, 8, 0)} {
		h.send(r, increment("n", 1))
	}
	if h.number("n") != 5 {
		t.Errorf("5 requests, applied %d", h.number("n"))
	}
}

func TestFailedAndAbortedOutcomesAreRemembered(t *testing.T) {
	h := newHost(t)
	h.must(put("s", cell.String("text")))
	abort := h.send(request(1, 1, 1), increment("s", 1))
	h.must(put("s", cell.Int(1))) // now it would work
	again := h.send(request(1, 1, 1), increment("s", 1))
	if cell.KindOf(again.Err) != cell.WrongType || again.Result.Revision != abort.Result.Revision || h.number("s") != 1 {
		t.Errorf("got %+v, first %+v", again, abort)
	}
	guarded := increment("s", 1)
	guarded.If = []cell.Condition{{Key: "flag", Target: cell.OnExistence, Compare: cell.Equal}}
	failed := h.send(request(1, 2, 1), guarded)
	h.must(put("flag", cell.Int(1)))
	if again := h.send(request(1, 2, 1), guarded); !reflect.DeepEqual(again, failed) || again.Result.Succeeded || h.number("s") != 1 {
		t.Errorf("got %+v, first %+v", again, failed)
	}
}

func TestRecallChangesNothingAndSharesNothing(t *testing.T) {
	h := newHost(t)
	r, txn := request(1, 1, 0), put("k", cell.String("value"))
	if _, known := h.Recall(r); known {
		t.Error("recalled what was never applied")
	}
	first := h.send(r, txn)
	before := string(h.Snapshot(nil))
	out, known := h.Recall(r)
	if !known || !out.Result.Complete(&txn) || !reflect.DeepEqual(out, first) {
		t.Fatalf("got %+v, %t", out, known)
	}
	out.Result.Results[0].Entry.Version = 77
	if string(h.Snapshot(nil)) != before {
		t.Error("a recalled outcome shares memory with the window")
	}
	// The window reuses the memory of what it forgets; an outcome handed out must survive that.
	out, _ = h.Recall(r)
	h.others(3 * cell.WindowMax)
	if !out.Result.Complete(&txn) || !reflect.DeepEqual(out, first) {
		t.Errorf("the outcome changed to %+v", out)
	}
}

// TestLargeResultsGiveWayToFates checks that a client with large results cannot shorten the window of others.
func TestLargeResultsGiveWayToFates(t *testing.T) {
	h := newHost(t)
	h.must(put("large", cell.String(strings.Repeat("x", 10<<10))))
	h.must(put("medium", cell.String(strings.Repeat("x", 7<<10))))
	read := func(keys ...string) (txn cell.Txn) {
		for _, k := range keys {
			txn.Then = append(txn.Then, cell.Op{Kind: cell.OpGet, Key: k})
		}
		return txn
	}
	since := h.Revision()
	small, large, medium := increment("n", 1), read("large"), read("medium")
	h.send(request(1, 1, since), small)
	h.send(request(1, 2, since), large)
	for i := range uint64(4) {
		h.send(request(1, 3+i, since), medium)
	}
	kept := func(sequence uint64, txn cell.Txn) bool {
		out := h.send(request(1, sequence, since), txn)
		if out.Err != nil || !out.Result.Succeeded || out.Result.Failed != -1 || out.Result.Revision != since+cell.Revision(sequence) {
			t.Fatalf("the fate of %d is lost: %+v", sequence, out)
		}
		return out.Result.Complete(&txn)
	}
	if !kept(1, small) || kept(2, large) || !kept(3, medium) || !kept(6, medium) {
		t.Error("want all results kept but the large one")
	}
	h.send(request(1, 7, since), medium) // over the bound: the oldest results give way
	if kept(1, small) || kept(3, medium) || !kept(4, medium) || !kept(7, medium) {
		t.Error("want the newest four medium results kept")
	}
	if h.number("n") != 1 {
		t.Errorf("n is %d", h.number("n"))
	}
	h.others(cell.WindowMax - 7)
	if kept(1, small) { // kept fails the test if even the fate is gone
		t.Error("results came back")
	}
}
