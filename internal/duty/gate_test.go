package duty

import (
	"math/rand/v2"
	"testing"
	"time"
)

func dice(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestGateKeepsItsPace(t *testing.T) {
	g := NewGate(0, 100, 10, dice(1))
	admitted := 0
	for now := time.Duration(0); now < 10*time.Second; now += time.Millisecond { // ten times as many as it admits
		if ok, _ := g.Admit(now); ok {
			admitted++
		}
	}
	if admitted < 1000 || admitted > 1010 {
		t.Errorf("%d were admitted in ten seconds, want the burst of 10 and 100 per second", admitted)
	}
}

// Those refused at once are spread over the time that it takes to admit them, and every one of them is told another time.
func TestAppointmentsAreOnePaceApart(t *testing.T) {
	g := NewGate(0, 100, 10, dice(1))
	var last time.Duration
	for i := range 1010 {
		ok, again := g.Admit(0)
		if i < 10 {
			if !ok {
				t.Fatalf("the %dth of a burst of 10 is refused", i+1)
			}
			continue
		}
		if ok || again != last+10*time.Millisecond {
			t.Fatalf("appointment %d is after %v, the one before after %v", i, again, last)
		}
		last = again
	}
	if last != 10*time.Second {
		t.Errorf("1000 appointments end after %v", last)
	}
	if w := g.Wait(0); w != 10*time.Millisecond {
		t.Errorf("the next token comes after %v", w)
	}
}

func TestAppointmentsAreBounded(t *testing.T) {
	g := NewGate(0, 1, 1, dice(1))
	seen := map[time.Duration]bool{}
	for range 1000 {
		if _, again := g.Admit(0); again > horizon+time.Second {
			t.Fatalf("told to come after %v", again)
		} else if again > 0 {
			seen[again] = true
		}
	}
	if len(seen) < 900 {
		t.Errorf("only %d different times for 999 servers", len(seen))
	}
	if ok, _ := g.Admit(time.Hour); !ok {
		t.Error("nobody is admitted after an hour without anybody")
	}
}
