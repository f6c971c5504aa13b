package route

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// take begins as many writes as are allowed.
func (t *Turns) take() (n int) {
	for t.Take() {
		n++
	}
	return n
}

// The bound falls once for all the writes that one crowd made expire, never below the least, and comes back step by step.
func TestTurns(t *testing.T) {
	var x Turns
	if n := x.take(); n != TurnsMax {
		t.Fatalf("%d writes under way, want %d", n, TurnsMax)
	}
	for range TurnsMax {
		x.Done(true)
	}
	if x.Bound() != TurnsMax/2 {
		t.Errorf("after a crowd that expired %d may be under way, want %d", x.Bound(), TurnsMax/2)
	}
	for range 10 {
		n := x.take()
		for range n {
			x.Done(true)
		}
	}
	if x.Bound() != TurnsMin {
		t.Errorf("after crowd upon crowd %d may be under way, want %d", x.Bound(), TurnsMin)
	}
	for writes := 0; x.Bound() < TurnsMax; writes++ {
		before := x.Bound()
		if !x.Take() {
			t.Fatal("none is under way, and one is not allowed")
		}
		x.Done(false)
		if x.Bound() > before+1 || writes > TurnsMax*TurnsMax {
			t.Fatalf("after %d writes the bound went from %d to %d", writes, before, x.Bound())
		}
	}
	if x.Done(false); x.Bound() != TurnsMax {
		t.Errorf("the bound grew to %d", x.Bound())
	}
}

// A single expiry among writes that go well costs half, and the next half only those that began after it.
func TestTurnsFallOncePerCrowd(t *testing.T) {
	var x Turns
	x.take()
	x.Done(true)
	for range TurnsMax/2 - 1 {
		x.Done(true)
	}
	if x.Bound() != TurnsMax/2 {
		t.Errorf("the bound is %d, want %d", x.Bound(), TurnsMax/2)
	}
	for range TurnsMax / 2 {
		x.Done(false)
	}
	x.take()
	if x.Done(true); x.Bound() >= TurnsMax/2 {
		t.Errorf("the bound is %d after another crowd", x.Bound())
	}
}

// Calls that end before they got round the members go on where the last one stopped, so that some reach one that lives.
func TestShortCallsGetRound(t *testing.T) {
	rules := Rules{AttemptTimeout: 50 * time.Millisecond, BackoffMin: 20 * time.Millisecond, BackoffMax: 20 * time.Millisecond, FindTimeout: time.Second}
	place, budget, dice := NewPlace("vol"), NewBudget(1000), Dice(1)
	r := wire.Route{Cell: "vol", Incarnation: 1, Configuration: 1}
	for i := range 7 {
		name := string(rune('a' + i))
		r.Members = append(r.Members, wire.Founder{Node: uint64(i + 1), Server: cell.ServerID("S" + name), ClientAddr: name})
	}
	place.Accept(&r)
	asked := map[string]bool{}
	var now time.Duration
	for range 10 { // calls, each with time for two members
		var c Call
		c.Begin(Read, "client.test", place, 0, now, now+30*time.Millisecond, dice)
		for step := c.Next(now, place, &rules, &budget); step.Do != Stop; step = c.Next(now, place, &rules, &budget) {
			if step.Do != Ask {
				now = step.Until
				continue
			}
			asked[step.Addr] = true
			c.Answered(now, step.Addr, Answer{Fate: Unsent, Err: &cell.Error{Kind: cell.Unavailable}}, place, &rules)
			now += 10 * time.Millisecond
		}
	}
	if len(asked) != 7 {
		t.Errorf("asked %v only", asked)
	}
}
