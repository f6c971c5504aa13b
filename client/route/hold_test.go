package route

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
)

const holdTTL = 12 * time.Second

// world is a holder and a proposer, each with a clock that runs at its own rate, and messages that take as long as they
// like between them. Time is true time in microseconds.
type world struct {
	t                *rapid.T
	now              time.Duration
	holder, proposer time.Duration // clock rates: ticks per true microsecond
	hold             Hold

	deadline time.Duration // by the proposer's clock
	expired  bool
	calls    []*call
	began    []time.Duration // of keep-alives, by the holder's clock
	acked    time.Duration   // when the newest acknowledged request was begun, by the holder's clock
	lost     bool            // the holder was once seen not to hold
}

// call is one keep-alive under way.
type call struct {
	sent      time.Duration // by the holder's clock
	until     time.Duration
	arrives   time.Duration // zero: never
	answers   time.Duration // zero: never
	held      bool          // what the answer will say
	delivered bool
}

func (w *world) holderNow() time.Duration { return w.now * w.holder }

// count begins the proposer's count anew, as when it applies a renewal or begins to lead.
func (w *world) count() { w.deadline = w.now*w.proposer + cell.LeaseRateBound*holdTTL }

// advance moves true time on to the next thing that happens, or part of the way.
func (w *world) advance() {
	step := time.Duration(rapid.Int64Range(1, int64(holdTTL)/int64(w.holder)/4).Draw(w.t, "step"))
	next := w.now + step
	if due := (w.deadline + w.proposer - 1) / w.proposer; !w.expired && due > w.now {
		next = min(next, due) // the proposer is as quick as it may be
	}
	w.now = next
	if !w.expired && w.now*w.proposer >= w.deadline {
		w.expired = true
	}
	for _, c := range w.calls {
		if c.arrives != 0 && c.arrives <= w.now && !c.delivered {
			c.delivered = true
			if c.held = !w.expired; c.held {
				w.count()
			}
		}
	}
}

// send makes up what the network does to a keep-alive.
func (w *world) send(until time.Duration) {
	c := &call{sent: w.holderNow(), until: until}
	if rapid.IntRange(0, 3).Draw(w.t, "arrives") > 0 {
		c.arrives = w.now + w.delay()
		if rapid.IntRange(0, 3).Draw(w.t, "answers") > 0 {
			c.answers = c.arrives + w.delay()
		}
	}
	w.calls = append(w.calls, c)
	w.began = append(w.began, c.sent)
}

func (w *world) delay() time.Duration {
	longest := rapid.SampledFrom([]int64{1000, int64(holdTTL) / 3, 2 * int64(holdTTL)}).Draw(w.t, "longest")
	return time.Duration(rapid.Int64Range(1, longest).Draw(w.t, "delay"))
}

// TestHolderIsThroughFirst (R5, rule 18): whatever the network and both clocks do within the bound, nobody holds a lease
// that its proposer has expired; belief lasts no longer than from the last acknowledged request; it ends once.
func TestHolderIsThroughFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, now: 1}
		w.holder = time.Duration(rapid.IntRange(1, 4).Draw(t, "holder's rate"))
		w.proposer = time.Duration(rapid.IntRange(1, int(cell.LeaseRateBound*w.holder)).Draw(t, "proposer's rate"))
		w.acked = w.holderNow()
		w.hold.Begin(holdTTL, w.acked, Dice(rapid.Uint64().Draw(t, "dice")))
		w.count()
		var asking *call
		for range rapid.IntRange(10, 80).Draw(t, "steps") {
			w.advance()
			if rapid.IntRange(0, 30).Draw(t, "takeover") == 0 && !w.expired {
				w.count() // a new proposer counts the full time
			}
			w.check()
			asking = w.serve(asking)
			w.check()
		}
	})
}

// serve lets the holder take a step, with at most one keep-alive under way.
func (w *world) serve(asking *call) *call {
	now := w.holderNow()
	if c := asking; c != nil {
		switch {
		case c.answers != 0 && c.answers <= w.now && c.held:
			if w.hold.Held(now) {
				w.acked = c.sent
			}
			w.hold.Renewed(now, nil)
		case c.answers != 0 && c.answers <= w.now && c.delivered:
			w.hold.Renewed(now, &cell.Error{Kind: cell.NoLease})
		case now >= c.until:
			w.hold.Renewed(now, &cell.Error{Kind: cell.Unavailable})
		default:
			return asking
		}
	}
	if step := w.hold.Next(now); step.Do == HoldRenew {
		if step.Until <= now || step.Until > w.hold.Until() {
			w.t.Fatalf("a keep-alive at %v until %v, belief until %v", now, step.Until, w.hold.Until())
		}
		w.send(step.Until)
		return w.calls[len(w.calls)-1]
	} else if step.Do == HoldWait && step.Until <= now {
		w.t.Fatalf("told at %v to wait until %v", now, step.Until)
	}
	return nil
}

func (w *world) check() {
	held := w.hold.Held(w.holderNow())
	end, _ := w.hold.Ended()
	switch {
	case held && w.expired:
		w.t.Fatalf("held at %v, and the proposer has expired it (rates %d and %d)", w.holderNow(), w.holder, w.proposer)
	case held && w.holderNow() >= w.acked+holdTTL:
		w.t.Fatalf("R5: held at %v, %v after the last acknowledged request", w.holderNow(), w.holderNow()-w.acked)
	case held && w.lost:
		w.t.Fatal("R5: held again after it was lost")
	case held && end != 0:
		w.t.Fatalf("held, and over: %v", end)
	}
	w.lost = w.lost || !held
	for i := 1; i < len(w.began); i++ {
		if w.began[i]-w.began[i-1] < holdTTL/pauseParts {
			w.t.Fatalf("keep-alives at %v and %v", w.began[i-1], w.began[i])
		}
	}
}

// TestHoldTellsWhyItEnded: each end has its cause, and the first one stays.
func TestHoldTellsWhyItEnded(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(l *Hold)
		want HoldEnd
		kind cell.Kind
	}{
		{"never answered", func(l *Hold) { l.Renewed(13*time.Second, &cell.Error{Kind: cell.Unavailable}) }, HoldLapsed, cell.NoLease},
		{"answered too late", func(l *Hold) { l.Renewed(13*time.Second, nil) }, HoldLapsed, cell.NoLease},
		{"nobody looked", func(l *Hold) { l.Next(12 * time.Second) }, HoldLapsed, cell.NoLease},
		{"revoked", func(l *Hold) { l.Renewed(5*time.Second, &cell.Error{Kind: cell.NoLease}) }, HoldGone, cell.NoLease},
		{"deleted", func(l *Hold) { l.Renewed(5*time.Second, &cell.Error{Kind: cell.Deleted}) }, HoldNoCell, cell.Deleted},
		{"created again", func(l *Hold) { l.Renewed(5*time.Second, &cell.Error{Kind: cell.Stale}) }, HoldNoCell, cell.Stale},
		{"closed", func(l *Hold) { l.End(HoldClosed, nil) }, HoldClosed, 0},
	} {
		var l Hold
		l.Begin(holdTTL, 0, 1)
		if step := l.Next(4 * time.Second); step != (HoldStep{HoldRenew, 8 * time.Second}) {
			t.Fatalf("at a third of its time: %+v", step)
		}
		if end, err := l.Ended(); end != 0 || err != nil {
			t.Fatalf("over already: %v, %v", end, err)
		}
		c.do(&l)
		end, err := l.Ended()
		if end != c.want || (c.kind == 0) != (err == nil) || err != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v, %v", c.name, end, err)
		}
		l.End(HoldClosed, nil)
		l.Renewed(5*time.Second, &cell.Error{Kind: cell.Deleted})
		if again, _ := l.Ended(); again != end || l.Held(0) || l.Next(5*time.Second).Do != HoldOver {
			t.Errorf("%s: ended as %v, then as %v", c.name, end, again)
		}
	}
}

// TestHoldCountsFromBeforeItSent: a renewal lengthens belief from when it was begun, not from its answer.
func TestHoldCountsFromBeforeItSent(t *testing.T) {
	var l Hold
	l.Begin(holdTTL, time.Second, 1)
	if l.Until() != 13*time.Second || l.Next(time.Second).Until != 5*time.Second {
		t.Fatalf("believed until %v", l.Until())
	}
	l.Next(6 * time.Second)
	l.Renewed(9*time.Second, nil)
	if l.Until() != 18*time.Second || l.Renewals() != 1 {
		t.Fatalf("believed until %v", l.Until())
	}
	if step := l.Next(9 * time.Second); step != (HoldStep{HoldWait, 10 * time.Second}) {
		t.Fatalf("then %+v", step)
	}
	if l.Held(18*time.Second) || !l.Held(18*time.Second-1) {
		t.Fatal("belief does not end at its end")
	}
}
