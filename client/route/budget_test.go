package route

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
)

// TestBudgetBoundsRetries: over any history, retries are at most a full budget, a fifth of the calls and the trickle.
func TestBudgetBoundsRetries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		full := rapid.IntRange(0, 300).Draw(t, "budget")
		b := NewBudget(full)
		perSecond := float64(max(trickleMin, full/10))
		now, spent, calls := time.Duration(0), 0, 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				if b.Spend(now) {
					spent++
				}
			case 1:
				b.Earn()
				calls++
			case 2:
				now += time.Duration(rapid.IntRange(0, 500).Draw(t, "pause")) * time.Millisecond
			}
			if most := float64(full) + float64(calls)/5 + perSecond*now.Seconds(); float64(spent) > most {
				t.Fatalf("%d retries after %v and %d calls, allowed are %.1f", spent, now, calls, most)
			}
			if b.Left() > full {
				t.Fatalf("%d retries are left of %d", b.Left(), full)
			}
		}
		if full > 0 {
			if now += time.Second; !b.Spend(now) {
				t.Fatal("no retry after a second of silence")
			}
		}
	})
}

// brownout is a client's calls to a server that answers one half of what it is asked as Overloaded, until it is well.
type brownout struct {
	rules  Rules
	place  *Place
	budget Budget
	dice   Dice
	well   bool
	now    time.Duration
	flying []*flight

	begun, asks, done, failed int
}

type flight struct {
	call Call
	at   time.Duration // to be stepped
}

func (b *brownout) answer(f *flight, addr string) {
	b.asks++
	a := Answer{Fate: Replied, Err: &cell.Error{Kind: cell.Overloaded, RetryAfter: 20 * time.Millisecond}}
	if b.well || b.dice.roll()%2 == 0 {
		a = Answer{Fate: Replied, Incarnation: 1, Revision: 1}
	}
	f.call.Answered(b.now, addr, a, b.place, &b.rules)
}

// step does what a call wants done now, and reports whether it is over.
func (b *brownout) step(f *flight) (over bool) {
	for {
		switch s := f.call.Next(b.now, b.place, &b.rules, &b.budget); s.Do {
		case Ask:
			b.answer(f, s.Addr)
		case Stop:
			if b.done++; s.Err != nil {
				b.failed++
			}
			return true
		default:
			f.at = s.Until
			return false
		}
	}
}

// run lets time pass, with so many new calls every ten milliseconds; each has two seconds.
func (b *brownout) run(span time.Duration, arrivals int) {
	for end := b.now + span; b.now < end; b.now += 10 * time.Millisecond {
		for range arrivals {
			f := &flight{}
			f.call.Begin(Read, "test", b.place, 0, b.now, b.now+2*time.Second, Dice(b.begun))
			b.begun++
			b.budget.Earn()
			b.flying = append(b.flying, f)
		}
		b.flying = slices.DeleteFunc(b.flying, func(f *flight) bool { return b.now >= f.at && b.step(f) })
	}
}

// TestBrownOutIsNotAmplified: every second 1,000 calls begin, of which a server in trouble answers one half as Overloaded,
// each time that it is asked. Without a budget they would come back as often as their pauses allow. With it, the server gets
// a fifth more than there are calls, and a little; and when it is well again, all is as before.
func TestBrownOutIsNotAmplified(t *testing.T) {
	const full = 100
	b := &brownout{place: NewPlace("vol"), budget: NewBudget(full),
		rules: Rules{AttemptTimeout: time.Second, BackoffMin: 5 * time.Millisecond, BackoffMax: 250 * time.Millisecond, FindTimeout: time.Second}}
	b.place.proposer = "a"
	b.run(10*time.Second, 10)
	// A full budget, a fifth of the calls, and the trickle of ten per second.
	if most := b.begun + full + b.begun/5 + 10*trickleMin; b.asks > most {
		t.Errorf("%d calls were sent %d times, allowed are %d", b.begun, b.asks, most)
	}
	if b.asks < b.begun+full {
		t.Errorf("%d calls were sent %d times: the budget of %d was not used, so this proves nothing", b.begun, b.asks, full)
	}
	b.well = true
	b.run(3*time.Second, 0)
	if len(b.flying) > 0 {
		t.Errorf("%d calls are not over", len(b.flying))
	}
	b.asks, b.begun, b.failed = 0, 0, 0
	b.run(time.Second, 10)
	if b.asks != b.begun || b.failed > 0 {
		t.Errorf("when all is well again, %d calls were sent %d times, and %d failed", b.begun, b.asks, b.failed)
	}
}
