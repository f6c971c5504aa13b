package duty

import (
	"math/rand/v2"
	"slices"
	"time"

	"physalia/internal/must"
	"physalia/internal/wire"
)

// SeekerConfig says how a server seeks. Control and Dice are required.
type SeekerConfig struct {
	Control []string      // addresses of control instances, any order; the start is drawn
	Least   time.Duration // the wait after a first failure; default 100 ms
	Most    time.Duration // bounds the wait after many; default 3 s
	Spread  time.Duration // after the end of a connection that was in use, the first attempt waits up to this; default 1 s
	Steady  time.Duration // a duty held for so long was held well: earlier failures are forgotten; default 8 s
	Knocks  int           // knocks without an answer before a connection is opened after all; 0: never knock
	// Stranger says that no instance can know this server's address yet: it connects to each address before it knocks there.
	Stranger bool
	Dice     *rand.Rand
}

// Waits that are not worth a field.
const (
	againMax       = 2 * time.Minute  // bounds what an instance may ask for
	knockWaitMin   = 2 * time.Second  // for the answer to a first knock; twice as long for each further one
	knockWaitMax   = 64 * time.Second // and not longer than this
	againJitterPer = 8                // an appointment is kept up to one eighth late
)

// Do is what the shell has to do.
type Do uint8

// The things to do.
const (
	// Ask: register over the connection to this address, for these duties, and open one if there is none. The shell
	// answers with Answered or Failed.
	Ask Do = iota + 1
	// Knock: send a knock to this address. The shell reports Opened when a connection comes of it.
	Knock
	// Close: close the connection to this address; its end is not reported.
	Close
)

// Action is one thing to do, in order.
type Action struct {
	Do    Do
	Addr  string
	Wants wire.Duties // of Ask
}

// Seeker finds an instance for every duty of one server. It belongs to one owner. Times are durations since a moment of the
// shell's choice; each input returns what to do now.
type Seeker struct {
	cfg    SeekerConfig
	seats  [len(all)]seat
	places []*place // those of the configuration first
	cursor int      // where the rotation goes on
	now    time.Duration
}

// seat is one duty.
type seat struct {
	at       *place        // who has it, or is asked for it; nil: neither
	held     bool          // at has it
	since    time.Duration // held
	pointer  string        // where it is said to be; empty: unknown
	hops     int           // pointers followed since it was held
	failures int           // in a row
	after    time.Duration // no attempt before
}

// place is one address.
type place struct {
	addr     string
	name     string // of the instance, once it has told
	fixed    bool   // it is configured
	up       bool   // there is a connection
	asked    wire.Duties
	knocking bool
	until    time.Duration // when the knock counts as unanswered
	knocks   int           // unanswered, in a row
	failures int
	after    time.Duration // no attempt before
}

// NewSeeker makes the seeker of a server that has nobody yet.
func NewSeeker(c SeekerConfig) *Seeker {
	must.That(len(c.Control) > 0 && c.Dice != nil, "duty: a seeker needs addresses and dice")
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.Least, 100 * time.Millisecond}, {&c.Most, 3 * time.Second}, {&c.Spread, time.Second}, {&c.Steady, 8 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	s := &Seeker{cfg: c, cursor: c.Dice.IntN(len(c.Control))}
	for _, addr := range c.Control {
		p := s.place(addr)
		if p.fixed = true; c.Stranger {
			p.knocks = c.Knocks
		}
	}
	return s
}

// Held is what this server has somebody for.
func (s *Seeker) Held() (d wire.Duties) {
	for i := range s.seats {
		if s.seats[i].held {
			d |= all[i]
		}
	}
	return d
}

// HeldAt is what the instance at an address does for this server.
func (s *Seeker) HeldAt(addr string) (d wire.Duties) {
	for i := range s.seats {
		if s.seats[i].held && s.seats[i].at.addr == addr {
			d |= all[i]
		}
	}
	return d
}

// Tick tells the time.
func (s *Seeker) Tick(now time.Duration) []Action {
	for _, p := range s.places {
		if p.knocking && now >= p.until {
			s.fail(now, p, 0)
		}
	}
	return s.decide(now)
}

// Next is when Tick is due, by the time of the last input; false when only an input can change anything. It may have passed
// already: what was not due at the last input and is now must not be forgotten.
func (s *Seeker) Next() (at time.Duration, ok bool) {
	soonest := func(t time.Duration) {
		if t > s.now && (!ok || t < at) {
			at, ok = t, true
		}
	}
	waiting := false
	for i := range s.seats {
		if s.seats[i].at == nil {
			waiting = true
			soonest(s.seats[i].after)
		}
	}
	for _, p := range s.places {
		if p.knocking {
			soonest(p.until)
		} else if waiting {
			soonest(p.after)
		}
	}
	return at, ok
}

// Opened tells that a connection to an address has come of a knock.
func (s *Seeker) Opened(now time.Duration, addr string) []Action {
	p := s.place(addr)
	p.up, p.knocking, p.knocks = true, false, 0
	wants := p.asked
	for i := range s.seats {
		if t := &s.seats[i]; t.at == nil || t.at == p { // what an earlier connection held, this one has to ask for
			t.at, t.held = p, false
			wants |= all[i]
		}
	}
	if p.asked = wants; wants == 0 {
		return s.decide(now)
	}
	return append([]Action{{Ask, addr, wants}}, s.decide(now)...)
}

// Answered tells what an instance said to an Ask.
func (s *Seeker) Answered(now time.Duration, addr string, r *wire.Registered) []Action {
	p := s.place(addr)
	asked := p.asked
	p.up, p.name, p.asked, p.failures, p.after = true, r.Control, 0, 0, now
	for i, one := range all {
		t := &s.seats[i]
		switch {
		case asked&one == 0 || t.at != p:
		case r.Takes&one != 0:
			t.held, t.since, t.pointer, t.hops = true, now, "", 0
		default:
			t.at = nil
			s.point(now, t, one, r.Elsewhere)
		}
	}
	return s.decide(now)
}

// point sends a duty where an instance says that it is.
func (s *Seeker) point(now time.Duration, t *seat, one wire.Duties, holders []wire.DutyHolder) {
	t.pointer = ""
	for _, h := range holders {
		if h.Duties&one != 0 && h.Addr != "" {
			t.pointer = h.Addr
			for _, p := range s.places { // one connection per instance, by whatever address
				if p.up && p.name == h.Name {
					t.pointer = p.addr
				}
			}
			break
		}
	}
	t.after = now
	if t.hops++; t.pointer == "" || t.hops > 1 {
		s.later(now, t)
	}
}

// later lets a duty wait after a failure.
func (s *Seeker) later(now time.Duration, t *seat) {
	t.failures++
	t.after = now + s.backoff(t.failures)
}

// backoff doubles from Least to Most; what is returned is drawn from its second half.
func (s *Seeker) backoff(failures int) time.Duration {
	limit := min(s.cfg.Least<<min(failures-1, 20), s.cfg.Most)
	return limit/2 + s.draw(limit/2)
}

// draw is uniform in [0, most).
func (s *Seeker) draw(most time.Duration) time.Duration {
	return time.Duration(s.cfg.Dice.Int64N(max(int64(most), 1)))
}

// Failed tells that an Ask got no useful answer, and that the connection, if there was one, is closed. again is what the
// instance asked for when it was busy, else 0.
func (s *Seeker) Failed(now time.Duration, addr string, again time.Duration) []Action {
	s.fail(now, s.place(addr), again)
	return s.decide(now)
}

// Busy is Failed with a connection that stays open: an instance that does something for this server already cannot take more
// just now.
func (s *Seeker) Busy(now time.Duration, addr string, again time.Duration) []Action {
	p := s.place(addr)
	s.unask(now, p, again)
	p.up = true
	return s.decide(now)
}

// fail ends what an address did and was asked for.
func (s *Seeker) fail(now time.Duration, p *place, again time.Duration) {
	if p.knocking {
		p.knocking = false
		p.knocks++
	}
	s.unask(now, p, again)
	s.down(now, p)
}

// unask takes back what an address was asked for.
func (s *Seeker) unask(now time.Duration, p *place, again time.Duration) {
	p.asked = 0
	p.failures++
	p.after = now + s.backoff(p.failures)
	if again > 0 {
		again = min(again, againMax)
		p.after = now + again + s.draw(again/againJitterPer)
	}
	for i := range s.seats {
		t := &s.seats[i]
		if t.at != p || t.held {
			continue
		}
		t.at = nil
		if again == 0 {
			t.pointer = "" // a busy instance has what it is said to have; one that does not answer may be dead
		}
		s.later(now, t)
	}
}

// Ended tells that a connection has ended by itself.
func (s *Seeker) Ended(now time.Duration, addr string) []Action {
	p := s.place(addr)
	if p.asked != 0 && !p.knocking {
		s.unask(now, p, 0)
	}
	s.down(now, p)
	return s.decide(now)
}

// down takes away what an address held. The first attempt to replace it is spread: everybody else has lost it too.
func (s *Seeker) down(now time.Duration, p *place) {
	p.up = false
	for i := range s.seats {
		t := &s.seats[i]
		if t.at != p || !t.held {
			continue
		}
		steady := now-t.since >= s.cfg.Steady
		*t = seat{failures: t.failures}
		if steady {
			t.failures = 0
		}
		s.later(now, t)
		t.after = max(t.after, now+s.draw(s.cfg.Spread))
		p.after = max(p.after, t.after)
	}
}

// Moved tells that an instance has given duties away.
func (s *Seeker) Moved(now time.Duration, addr string, m *wire.DutiesMoved) []Action {
	p := s.place(addr)
	for i, one := range all {
		t := &s.seats[i]
		if t.at == p && t.held && m.Duties&one != 0 {
			failures := t.failures
			if now-t.since >= s.cfg.Steady {
				failures = 0
			}
			*t = seat{failures: failures}
			s.point(now, t, one, m.Elsewhere)
		}
	}
	return s.decide(now)
}

// decide asks for every duty that nobody has or is asked for, where and when that may be.
func (s *Seeker) decide(now time.Duration) (todo []Action) {
	s.now = now
	var chosen []*place // in this round: they may be asked for several duties at once
	var turn *place     // of the rotation in this round
	for i := range s.seats {
		t := &s.seats[i]
		if t.at != nil || now < t.after {
			continue
		}
		free := func(p *place) bool { return now >= p.after && (p.asked == 0 || slices.Contains(chosen, p)) }
		p := s.target(t, free, &turn)
		if p == nil || !free(p) {
			continue
		}
		if p.asked == 0 {
			chosen = append(chosen, p)
		}
		t.at = p
		p.asked |= all[i]
	}
	for _, p := range chosen {
		s.join(p)
		todo = append(todo, s.approach(now, p))
	}
	return append(todo, s.tidy(now)...)
}

// join adds to a request what would be asked of the same address a moment later: one request costs as much as two duties in it.
func (s *Seeker) join(p *place) {
	for i := range s.seats {
		if t := &s.seats[i]; t.at == nil && (t.pointer == "" || t.pointer == p.addr) {
			t.at = p
			p.asked |= all[i]
		}
	}
}

// approach knocks at an address that has no connection, if this server knocks, or asks.
func (s *Seeker) approach(now time.Duration, p *place) Action {
	if p.up || s.cfg.Knocks == 0 {
		return Action{Ask, p.addr, p.asked}
	}
	if p.knocks >= s.cfg.Knocks {
		p.knocks = 0
		return Action{Ask, p.addr, p.asked}
	}
	wait := min(knockWaitMin<<min(p.knocks, 20), knockWaitMax)
	p.knocking, p.until = true, now+wait/2+s.draw(wait/2)
	return Action{Knock, p.addr, 0}
}

// target picks whom to ask for a duty: whom it was said to be at, else, in turn, a connected instance, which knows the
// others, and the next configured address.
func (s *Seeker) target(t *seat, free func(*place) bool, turn **place) *place {
	if t.pointer != "" {
		return s.place(t.pointer)
	}
	if t.failures%2 == 1 {
		for _, p := range s.places {
			if p.up && free(p) {
				return p
			}
		}
	}
	if *turn == nil {
		*turn = s.rotate(free)
	}
	return *turn
}

// rotate is the next configured address that may be tried, or nil.
func (s *Seeker) rotate(free func(*place) bool) *place {
	n := len(s.cfg.Control)
	for i := range n {
		p := s.place(s.cfg.Control[(s.cursor+i)%n])
		if free(p) {
			s.cursor = (s.cursor + i + 1) % n
			return p
		}
	}
	return nil
}

// tidy closes connections that serve nothing once every duty is held, and forgets addresses without a meaning.
func (s *Seeker) tidy(now time.Duration) (todo []Action) {
	if s.Held() == wire.AllDuties {
		for _, p := range s.places {
			if p.up && p.asked == 0 && s.HeldAt(p.addr) == 0 {
				p.up = false
				todo = append(todo, Action{Close, p.addr, 0})
			}
		}
	}
	s.places = slices.DeleteFunc(s.places, func(p *place) bool {
		pointed := slices.ContainsFunc(s.seats[:], func(t seat) bool { return t.pointer == p.addr })
		return !p.fixed && !p.up && p.asked == 0 && !pointed && now >= p.after
	})
	return todo
}

// place finds or makes what is known of an address.
func (s *Seeker) place(addr string) *place {
	for _, p := range s.places {
		if p.addr == addr {
			return p
		}
	}
	p := &place{addr: addr}
	s.places = append(s.places, p)
	return p
}
