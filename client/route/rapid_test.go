package route

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"

	"pgregory.net/rapid"
)

// drive runs one call against servers that answer as they please, and checks the invariants at every step.
type drive struct {
	t        *rapid.T
	now      time.Duration
	rules    Rules
	place    *Place
	budget   Budget
	call     Call
	deadline time.Duration

	quiet    map[string]bool // asked since the last pause
	asks     int             // since the last pause
	sent     cell.Incarnation
	possible bool // the Write may have been applied, as the world sees it
}

func newDrive(t *rapid.T) *drive {
	d := &drive{t: t, place: NewPlace("vol"), budget: NewBudget(rapid.IntRange(0, 20).Draw(t, "budget")), quiet: map[string]bool{}}
	d.rules = Rules{AttemptTimeout: time.Second, BackoffMin: 10 * time.Millisecond, BackoffMax: time.Second, FindTimeout: time.Second,
		Discovery: rapid.Bool().Draw(t, "discovery"), Preference: rapid.Uint32().Draw(t, "preference")}
	for i := range rapid.IntRange(0, 10).Draw(t, "servers") {
		d.rules.Servers = append(d.rules.Servers, fmt.Sprintf("s%d", i))
	}
	return d
}

// route offers a random route and checks R1 from outside.
func (d *drive) route() {
	inc, conf := d.place.routeInc, d.place.routeConf
	r := wire.Route{Cell: "vol", Incarnation: cell.Incarnation(rapid.IntRange(0, 3).Draw(d.t, "incarnation")),
		Configuration: uint64(rapid.IntRange(0, 3).Draw(d.t, "configuration"))}
	for range rapid.IntRange(0, 9).Draw(d.t, "members") {
		r.Members = append(r.Members, wire.Founder{ClientAddr: d.addr()})
	}
	higher := r.Incarnation > inc || r.Incarnation == inc && r.Configuration > conf
	if d.place.Accept(&r) && !higher {
		d.t.Fatalf("R1: %d.%d replaced %d.%d", r.Incarnation, r.Configuration, inc, conf)
	}
}

func (d *drive) addr() string { return rapid.StringMatching("m[0-9]|s[0-9]").Draw(d.t, "addr") }

// answer makes up what became of an Ask, and remembers whether that leaves the Write possible.
func (d *drive) answer(purpose Purpose) Answer {
	switch rapid.IntRange(0, 9).Draw(d.t, "fate") {
	case 0:
		return Answer{Fate: Unsent, Err: &cell.Error{Kind: cell.Unavailable}}
	case 1:
		d.possible = d.possible || purpose == Write
		return Answer{Fate: Lost, Err: &cell.Error{Kind: cell.Unavailable}}
	case 2:
		return Answer{Fate: Replied, Incarnation: cell.Incarnation(rapid.IntRange(1, 3).Draw(d.t, "of")),
			Revision: cell.Revision(rapid.IntRange(0, 20).Draw(d.t, "revision"))}
	}
	e := &cell.Error{Kind: cell.Kind(rapid.IntRange(1, 25).Draw(d.t, "kind")),
		RetryAfter: time.Duration(rapid.Int64Range(-1, 1<<62).Draw(d.t, "after"))}
	if rapid.Bool().Draw(d.t, "named") {
		e.LeaderAddr = d.addr()
	}
	if purpose == Write && (e.Kind.MaybeApplied() && e.Kind != cell.Expired || !e.Kind.Valid()) {
		d.possible = true
	}
	return Answer{Fate: Replied, Err: e}
}

// counted counts what is paid from a budget.
type counted struct {
	*Budget
	paid int
}

func (c *counted) Spend(now time.Duration) bool {
	ok := c.Budget.Spend(now)
	if ok {
		c.paid++
	}
	return ok
}

// outcome lets time pass until there is an answer, or the Ask is lost; one that is overdue may be answered nonetheless. It is given up at
// the deadline, or for a retry that is paid, and nothing is paid for waiting.
func (d *drive) outcome(purpose Purpose, until time.Duration) Answer {
	d.now += time.Duration(rapid.Int64Range(0, int64(until-d.now)).Draw(d.t, "took"))
	for late := rapid.Bool().Draw(d.t, "late"); late; late = rapid.Bool().Draw(d.t, "later") {
		budget := counted{Budget: &d.budget}
		d.now, until = until, d.call.Overdue(until, &d.rules, &budget)
		givenUp := until <= d.now
		if until > d.deadline || givenUp != (budget.paid == 1 || d.now == d.deadline) {
			d.t.Fatalf("at %v waits until %v for an answer with deadline %v, and paid %d retries", d.now, until, d.deadline, budget.paid)
		}
		if givenUp {
			d.possible = d.possible || purpose == Write
			return Answer{Fate: Lost, Err: &cell.Error{Kind: cell.Unavailable}}
		}
	}
	return d.answer(purpose)
}

// R2: bounded haste; R4: one life.
func (d *drive) asked(st Step, purpose Purpose, first bool) {
	d.asks++
	if d.quiet[st.Addr] || d.asks > roundAsksMax {
		d.t.Fatalf("R2: %s asked again without a pause (%d asks)", st.Addr, d.asks)
	}
	d.quiet[st.Addr] = true
	if st.Until > d.deadline || st.Until <= d.now {
		d.t.Fatalf("an ask until %v at %v with deadline %v", st.Until, d.now, d.deadline)
	}
	if purpose == Write && !first && st.Incarnation != d.sent {
		d.t.Fatalf("R4: sent in incarnation %d, then %d", d.sent, st.Incarnation)
	}
	d.sent = st.Incarnation
}

// end checks R3.
func (d *drive) end(err *cell.Error, answered Answer) {
	if d.now > d.deadline {
		d.t.Fatalf("ended at %v, after the deadline %v", d.now, d.deadline)
	}
	verdict := answered.Err != nil && (answered.Err.Kind == cell.WrongType || answered.Err.Kind == cell.Void || answered.Err.Kind == cell.NoLease)
	if err != nil && d.possible && !verdict && !errors.Is(err, cell.UnknownResult) {
		d.t.Fatalf("R3: possibly applied, but the error is %v", err)
	}
	if err != nil && !d.possible && err.Kind != cell.Expired && err.Kind.MaybeApplied() {
		d.t.Fatalf("R3: not applied, but the error is %v", err)
	}
}

func (d *drive) run(purpose Purpose) {
	d.now = time.Duration(rapid.Int64Range(0, 1e12).Draw(d.t, "now"))
	d.deadline = d.now + time.Duration(rapid.Int64Range(1, 2e10).Draw(d.t, "timeout"))
	d.possible = false
	d.call.Begin(purpose, "test", d.place, d.place.Incarnation(), d.now, d.deadline, Dice(d.now))
	clear(d.quiet)
	d.asks = 0
	finding, first, last := false, true, Answer{}
	for steps := 0; ; steps++ {
		if steps > 1e5 {
			d.t.Fatal("the call does not end")
		}
		st := d.call.Next(d.now, d.place, &d.rules, &d.budget)
		if st.Find && finding {
			d.t.Fatal("two lookups of one cell at once")
		}
		finding = finding || st.Find
		switch st.Do {
		case Ask:
			d.asked(st, purpose, first)
			first = false
			last = d.outcome(purpose, st.Until)
			d.call.Answered(d.now, st.Addr, last, d.place, &d.rules)
		case Pause, Await:
			if st.Until <= d.now || st.Until > d.deadline {
				d.t.Fatalf("waits until %v at %v with deadline %v", st.Until, d.now, d.deadline)
			}
			if st.Do == Pause {
				clear(d.quiet)
				d.asks = 0
			}
			d.now = st.Until
		case Stop:
			d.end(st.Err, last)
			if again := d.call.Next(d.now, d.place, &d.rules, &d.budget); again.Do != Stop || again.Err != st.Err {
				d.t.Fatalf("a call that ended goes on: %v", again)
			}
			if finding {
				d.place.Found(d.now, &d.rules, &d.call.dice, false, false)
			}
			return
		}
		if finding && (st.Do == Await || rapid.Bool().Draw(d.t, "found")) {
			if rapid.Bool().Draw(d.t, "routed") {
				d.route()
			}
			d.place.Found(d.now, &d.rules, &d.call.dice, rapid.Bool().Draw(d.t, "improved"), rapid.Bool().Draw(d.t, "denied"))
			finding = false
		}
	}
}

// Whatever servers answer, a call keeps R1 to R4 and ends by its deadline, for many calls on one place.
func TestCallAgainstAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDrive(t)
		for range rapid.IntRange(1, 4).Draw(t, "calls") {
			if rapid.Bool().Draw(t, "know") {
				d.route()
			}
			purpose := rapid.SampledFrom([]Purpose{Write, Read, StaleRead}).Draw(t, "purpose")
			if purpose == Write && !d.place.Ready() {
				purpose = Read
			}
			d.run(purpose)
		}
	})
}

// A pause is never shorter than BackoffMin and honours what the server asked for, up to its bound.
func TestPauses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDrive(t)
		p, c := d.place, &d.call
		c.Begin(Read, "test", p, 0, 0, time.Hour, Dice(rapid.Uint64().Draw(t, "seed")))
		c.failures = rapid.IntRange(0, 200).Draw(t, "failures")
		after := time.Duration(rapid.Int64Range(-5, int64(time.Minute)).Draw(t, "after"))
		kind := rapid.SampledFrom([]cell.Kind{cell.Overloaded, cell.Unavailable, cell.Internal}).Draw(t, "kind")
		c.Answered(0, "x", Answer{Fate: Replied, Err: &cell.Error{Kind: kind, RetryAfter: after}}, p, &d.rules)
		least := max(d.rules.BackoffMin, min(after, retryAfterMax))
		if c.pauseUntil < least || c.pauseUntil > least+d.rules.BackoffMax {
			t.Fatalf("paused %v, want %v to %v", c.pauseUntil, least, least+d.rules.BackoffMax)
		}
	})
}

// search runs a Finder against copies that answer as they please, and checks it from outside.
type search struct {
	t           *rapid.T
	f           *Finder
	rules       Rules
	copies      int
	now         time.Duration
	silentUntil time.Duration               // nobody answered the last pass
	open        map[cell.ID]bool            // wanted and not ended
	asked       map[cell.ID]map[string]bool // copies asked about a cell in this lookup
}

func newSearch(t *rapid.T) *search {
	s := &search{t: t, rules: Rules{BackoffMin: 10 * time.Millisecond}, open: map[cell.ID]bool{}, asked: map[cell.ID]map[string]bool{}}
	var copies []string
	for i := range rapid.IntRange(0, 4).Draw(t, "copies") {
		copies = append(copies, fmt.Sprintf("c%d", i))
	}
	s.copies = len(copies)
	s.f = NewFinder(copies, &s.rules, Dice(rapid.Uint64().Draw(t, "seed")))
	return s
}

// ended checks that each lookup ends once, and after all copies were asked if any was.
func (s *search) ended(ends []FindEnd, asked bool) {
	for _, e := range ends {
		if !s.open[e.Cell] {
			s.t.Fatalf("%s ended without having begun", e.Cell)
		}
		if asked && !e.Improved && len(s.asked[e.Cell]) != s.copies {
			s.t.Fatalf("%s was given up after %d of %d copies", e.Cell, len(s.asked[e.Cell]), s.copies)
		}
		delete(s.open, e.Cell)
		delete(s.asked, e.Cell)
	}
}

// want adds some wishes.
func (s *search) want() {
	for range rapid.IntRange(0, 5).Draw(s.t, "wants") {
		id := cell.ID(rapid.StringMatching("v[0-9]").Draw(s.t, "id"))
		s.open[id] = true
		s.f.Want(id)
	}
}

// step takes one decision and answers it.
func (s *search) step() {
	st := s.f.Next(s.now)
	s.ended(st.Ended, false)
	if !st.Ask {
		return
	}
	if s.now < s.silentUntil {
		s.t.Fatalf("asked at %v, should be quiet until %v", s.now, s.silentUntil)
	}
	for _, id := range st.Cells {
		if s.asked[id] == nil {
			s.asked[id] = map[string]bool{}
		}
		if s.asked[id][st.Addr] {
			s.t.Fatalf("%s asked twice about %s in one lookup", st.Addr, id)
		}
		s.asked[id][st.Addr] = true
	}
	s.ended(s.f.Answered(s.now, s.answer(st.Cells), func(*wire.Route) bool { return rapid.Bool().Draw(s.t, "better") }), true)
	if len(s.f.batch) == 0 && s.f.heard == 0 {
		s.silentUntil = s.now + lookupPauseUnits*s.rules.BackoffMin
	}
}

// answer makes up what a copy says: nothing, nonsense, or a route for some of the cells.
func (s *search) answer(ids []cell.ID) *wire.Routes {
	switch rapid.IntRange(0, 3).Draw(s.t, "answers") {
	case 0:
		return nil
	case 1:
		return &wire.Routes{Routes: make([]wire.Route, len(ids)+1)}
	}
	routes := &wire.Routes{}
	for _, id := range ids {
		r := wire.Route{Cell: id}
		if rapid.Bool().Draw(s.t, "knows") {
			r.Members = []wire.Founder{{ClientAddr: "m"}}
		}
		routes.Routes = append(routes.Routes, r)
	}
	return routes
}

// The finder ends every lookup exactly once, asks every copy before it gives a cell up, and keeps quiet after a pass
// that nobody answered.
func TestFinder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSearch(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			s.want()
			s.now += time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond
			s.step()
		}
		for range 2 * (s.copies + 1) { // whatever is open ends in two passes
			s.now += lookupPauseMax + time.Second
			s.step()
		}
		if len(s.open) != 0 {
			t.Fatalf("never ended: %v", s.open)
		}
	})
}
