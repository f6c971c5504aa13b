package duty

import (
	"reflect"
	"testing"
	"time"

	"physalia/internal/wire"
)

func seeker(c SeekerConfig) *Seeker {
	c.Dice = dice(1)
	return NewSeeker(c)
}

func same(t *testing.T, what string, got []Action, want ...Action) {
	t.Helper()
	if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("%s: it does %+v, want %+v", what, got, want)
	}
}

// due is the next moment at which the seeker wants to be called.
func due(t *testing.T, s *Seeker, now time.Duration) time.Duration {
	t.Helper()
	at, ok := s.Next()
	if !ok || at <= now {
		t.Fatalf("nothing is due after %v: %v", now, at)
	}
	return at
}

func takes(name string, d wire.Duties, elsewhere ...wire.DutyHolder) *wire.Registered {
	return &wire.Registered{Control: name, Takes: d, Elsewhere: elsewhere}
}

const brickDuties = wire.DutyDiscovery | wire.DutyHealth

// A server asks one instance for everything, follows its pointers over one connection each, and stays when one moves.
func TestSeekerFollowsPointers(t *testing.T) {
	s := seeker(SeekerConfig{Control: []string{"a"}})
	same(t, "first", s.Tick(0), Action{Ask, "a", wire.AllDuties})
	same(t, "while it is asked", s.Tick(time.Minute))
	b := wire.DutyHolder{Duties: brickDuties, Name: "B", Addr: "b"}
	same(t, "a points to b", s.Answered(0, "a", takes("A", wire.DutyLifecycle, b)), Action{Ask, "b", brickDuties})
	same(t, "b takes", s.Answered(0, "b", takes("B", brickDuties)))
	if s.Held() != wire.AllDuties || s.HeldAt("a") != wire.DutyLifecycle || s.HeldAt("b") != brickDuties {
		t.Errorf("it holds %v: %v at a, %v at b", s.Held(), s.HeldAt("a"), s.HeldAt("b"))
	}
	if at, ok := s.Next(); ok {
		t.Errorf("with everything held, something is due at %v", at)
	}
	// The name says that A is meant, whatever its other address; b serves nothing any more.
	same(t, "b gives its duties to a", s.Moved(time.Hour, "b", &wire.DutiesMoved{Duties: brickDuties,
		Elsewhere: []wire.DutyHolder{{Duties: brickDuties, Name: "A", Addr: "a.example"}}}), Action{Ask, "a", brickDuties})
	same(t, "a takes", s.Answered(time.Hour, "a", takes("A", brickDuties)), Action{Close, "b", 0})
}

// A busy instance is asked again at the time that it named, and keeps what it has.
func TestSeekerKeepsAppointments(t *testing.T) {
	s := seeker(SeekerConfig{Control: []string{"a"}})
	s.Tick(0)
	same(t, "refused", s.Failed(0, "a", 8*time.Second))
	now := time.Duration(0)
	for s.HeldAt("a") == 0 {
		now = due(t, s, now)
		if todo := s.Tick(now); len(todo) > 0 {
			same(t, "again", todo, Action{Ask, "a", wire.AllDuties})
			if now < 8*time.Second || now > 9*time.Second+100*time.Millisecond {
				t.Errorf("the appointment was after 8s, it comes after %v", now)
			}
			s.Answered(now, "a", takes("A", wire.DutyLifecycle))
		}
	}
	now = due(t, s, now)
	same(t, "for the rest", s.Tick(now), Action{Ask, "a", brickDuties})
	same(t, "busy", s.Busy(now, "a", time.Second))
	if s.HeldAt("a") != wire.DutyLifecycle {
		t.Errorf("a busy instance lost %v", wire.DutyLifecycle&^s.HeldAt("a"))
	}
}

// Knocks are repeated, less and less often; then a connection is opened after all. An answer that comes late counts.
func TestSeekerKnocks(t *testing.T) {
	s := seeker(SeekerConfig{Control: []string{"a"}, Knocks: 3})
	var did []Do
	now, last := time.Duration(0), time.Duration(-1)
	for range 200 {
		for _, do := range s.Tick(now) {
			did = append(did, do.Do)
			if do.Do == Ask {
				s.Failed(now, "a", 0)
			} else if wait := now - last; last >= 0 && len(did) <= 3 && wait < knockWaitMin/2<<(len(did)-2) {
				t.Errorf("knock %d comes %v after the one before", len(did), wait)
			}
			last = now
		}
		if len(did) >= 5 {
			break
		}
		now = due(t, s, now)
	}
	if want := []Do{Knock, Knock, Knock, Ask, Knock}; !reflect.DeepEqual(did, want) {
		t.Fatalf("it did %v, want %v", did, want)
	}
	same(t, "called", s.Opened(now+time.Second, "a"), Action{Ask, "a", wire.AllDuties})
	same(t, "taken", s.Answered(now+time.Second, "a", takes("A", wire.AllDuties)))
	same(t, "called once more", s.Opened(now+time.Minute, "a"), Action{Ask, "a", wire.AllDuties})
}

func TestStrangersConnectFirst(t *testing.T) {
	s := seeker(SeekerConfig{Control: []string{"a"}, Knocks: 3, Stranger: true})
	same(t, "first", s.Tick(0), Action{Ask, "a", wire.AllDuties})
	s.Answered(0, "a", takes("A", wire.AllDuties))
	same(t, "the connection is lost", s.Ended(time.Hour, "a"))
	now := time.Hour
	for {
		now = due(t, s, now)
		if todo := s.Tick(now); len(todo) > 0 {
			same(t, "now it is known", todo, Action{Knock, "a", 0})
			return
		}
	}
}

// What instances say costs a bounded memory, also when each points to another one that does not exist.
func TestSeekerForgetsAddresses(t *testing.T) {
	s := seeker(SeekerConfig{Control: []string{"a"}})
	now := time.Duration(0)
	todo := s.Tick(now)
	for i := range 2000 {
		for _, do := range todo {
			if do.Addr != "a" {
				todo = s.Failed(now, do.Addr, 0)
				continue
			}
			todo = s.Answered(now, "a", takes("A", 0, wire.DutyHolder{Duties: wire.AllDuties, Name: "X", Addr: string(rune(0x4e00 + i))}))
		}
		if len(todo) == 0 {
			now = due(t, s, now)
			todo = s.Tick(now)
		}
	}
	if len(s.places) > 20 {
		t.Errorf("it remembers %d addresses", len(s.places))
	}
}

// What becomes due between an input and the question when the next one is due is not forgotten, however late the question.
func TestSeekerIsNotLostBetweenTwoMoments(t *testing.T) {
	s := seeker(SeekerConfig{Control: []string{"a"}})
	s.Tick(0)
	s.Failed(0, "a", 0)
	for range 3 { // a duty and its address may become due one after the other
		at, ok := s.Next()
		if !ok {
			t.Fatal("a server without anybody waits for nothing")
		}
		if todo := s.Tick(max(at, time.Hour)); len(todo) > 0 {
			return
		}
	}
	t.Fatal("it does nothing")
}

// Whatever happens at moments that nobody chose, a server that lacks somebody waits for an answer or for a time.
func TestSeekerAlwaysWaitsForSomething(t *testing.T) {
	dice := dice(5)
	for seed := range 200 {
		s := seeker(SeekerConfig{Control: []string{"a", "b", "c"}, Knocks: seed % 3})
		var asked []string // and not answered
		now := time.Duration(0)
		obey := func(todo []Action) {
			for _, do := range todo {
				if do.Do == Ask {
					asked = append(asked, do.Addr)
				}
			}
		}
		obey(s.Tick(now))
		for range 300 {
			at, due := s.Next()
			if !due && len(asked) == 0 && s.Held() != wire.AllDuties {
				t.Fatalf("seed %d: after %v it waits for nothing and holds %v", seed, now, s.Held())
			}
			now += time.Duration(dice.Int64N(int64(time.Second)))
			if due && now >= at {
				obey(s.Tick(now))
			}
			if len(asked) == 0 || dice.IntN(2) == 0 {
				continue
			}
			addr := asked[0]
			asked = asked[1:]
			switch dice.IntN(3) {
			case 0:
				obey(s.Failed(now, addr, time.Duration(dice.IntN(2))*time.Second))
			case 1:
				obey(s.Answered(now, addr, takes(addr, wire.Duties(dice.IntN(8)), wire.DutyHolder{Duties: brickDuties, Name: "c", Addr: "c"})))
			case 2:
				obey(s.Ended(now, addr))
			}
		}
	}
}
