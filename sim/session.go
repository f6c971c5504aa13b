package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/wire"
)

// session is a client process with one cell: package client's routes, calls, lookups, pauses and budget (client/route) on
// the world's clock and network. What is written here is the thin shell that package client has around the same code. It
// sends and waits; whom, when, how often, and what an answer means is not decided here.
type session struct {
	world   *World
	volume  *volume
	at      int // its number in the world, for faults between it and servers
	id      cell.ClientID
	dice    *rand.Rand // of its network
	clock   clock
	place   *route.Place
	rules   route.Rules
	budget  route.Budget
	finder  *route.Finder
	jitter  route.Dice
	looking bool       // a lookup is on its way
	stale   bool       // how the read that is being sent is to be answered
	waiting []awaiting // for the end of a lookup
	expired bool       // the cell has forgotten too much since the newest revision that is known here
	paused  int
	late    []func() // what happened while it stood still, in order
}

// The way of a packet between a client and a server, or a discovery copy.
const wayMax = 300 * time.Microsecond

// healedTime is how long a call may take once everything is repaired.
const healedTime = 30 * time.Second

// A real client shares one budget among thousands of cells, and one lookup among many.
//
// retryBudget is that of a client with one cell. It is small, so that some are slowed.
const retryBudget = 40

// newSession makes a client process that knows nothing yet.
func (w *World) newSession(v *volume, i int) *session {
	s := &session{world: w, volume: v, at: w.sessions, dice: w.stream(fmt.Sprintf("client %d of %s", i, v.id)), place: route.NewPlace(v.id),
		budget: route.NewBudget(retryBudget)}
	w.sessions++
	binary.BigEndian.PutUint64(s.id[:], uint64(v.at)<<32|uint64(i+1))
	s.clock = w.newClock(s.dice)
	s.jitter = route.Dice(s.dice.Uint64())
	p := &w.plan
	s.rules = route.Rules{Preference: uint32(s.jitter), Discovery: true, AttemptTimeout: p.Attempt, BackoffMin: p.Backoff,
		BackoffMax: 16 * p.Backoff, FindTimeout: 2 * p.Attempt}
	for _, server := range w.servers {
		s.rules.Servers = append(s.rules.Servers, string(server.id))
	}
	s.finder = route.NewFinder([]string{"d1", "d2"}, &s.rules, s.jitter)
	return s
}

// now is the session's own time.
func (s *session) now() time.Duration { return s.clock.at(s.world.now) }

// after plans something by the session's clock; it happens later if the session stands still then.
func (s *session) after(d time.Duration, do func()) {
	s.world.after(s.clock.real(d), func() { s.awake(do) })
}

// awake does something now, or once the session goes on.
func (s *session) awake(do func()) {
	if s.paused > 0 {
		s.late = append(s.late, do)
		return
	}
	do()
}

// wake ends a pause: everything that happened meanwhile is seen at once, in order.
func (s *session) wake() {
	late := s.late
	s.late = nil
	for _, do := range late {
		do()
	}
}

// deadline is until when a call that begins now may take. Nobody waits long for a cell that is being deleted.
func (s *session) deadline() time.Duration {
	if s.world.healed && !s.volume.sealing {
		return s.now() + healedTime
	}
	return s.now() + s.world.plan.Patience
}

// exchange is one call on its way.
type exchange struct {
	session  *session
	call     route.Call
	deadline time.Duration
	message  func(h wire.Header, least cell.Revision) (method string, params []byte)
	done     func(x *exchange, err *cell.Error)
	turn     uint64 // counts steps; whatever comes for an earlier step comes too late

	incarnation cell.Incarnation // of the reply
	result      cell.TxnResult
	about       bool            // of a lease: the reply has the shape of wire.LeaseReply
	lease       wire.LeaseReply // then
}

// awaiting is a call that waits for the end of a lookup, in one of its steps.
type awaiting struct {
	exchange *exchange
	turn     uint64
}

// begin starts a call; done is told how it ended.
func (s *session) begin(purpose route.Purpose, op string, inc cell.Incarnation, deadline time.Duration,
	message func(wire.Header, cell.Revision) (string, []byte), done func(*exchange, *cell.Error)) {
	s.newExchange(deadline, message, done).start(purpose, op, inc)
}

func (s *session) newExchange(deadline time.Duration, message func(wire.Header, cell.Revision) (string, []byte),
	done func(*exchange, *cell.Error)) *exchange {
	return &exchange{session: s, deadline: deadline, message: message, done: done}
}

func (x *exchange) start(purpose route.Purpose, op string, inc cell.Incarnation) {
	s := x.session
	s.jitter += 0x9e3779b97f4a7c15 // another sequence for every call
	s.budget.Earn()
	x.call.Begin(purpose, op, s.place, inc, s.now(), x.deadline, s.jitter)
	x.next()
}

// read runs one read.
func (s *session) read(txn *cell.Txn, stale bool, deadline time.Duration, done func(*exchange, *cell.Error)) {
	purpose := route.Read
	if stale {
		purpose = route.StaleRead
	}
	s.begin(purpose, "sim.read", 0, deadline, func(h wire.Header, least cell.Revision) (string, []byte) {
		m := wire.ReadRequest{Header: h, Txn: *txn, Stale: s.stale, Least: least}
		return wire.MethodRead, m.Append(nil)
	}, done)
}

// introduce makes sure that a revision of the living incarnation is known, as rule 14 wants it before a first send.
func (s *session) introduce(deadline time.Duration, done func(*cell.Error)) {
	if s.place.Ready() {
		done(nil)
		return
	}
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: keys[0]}}}
	s.read(&txn, true, deadline, func(_ *exchange, err *cell.Error) {
		if err == nil && !s.place.Ready() { // it was deleted just now
			err = &cell.Error{Op: "sim.introduce", Kind: cell.Deleted, Cell: s.volume.id}
		}
		done(err)
	})
}

// send runs a transaction under an identity that the place issued; the empty transaction resolves it.
func (s *session) send(request cell.Request, inc cell.Incarnation, txn *cell.Txn, deadline time.Duration, done func(*exchange, *cell.Error)) {
	purpose := route.Write
	if txn.IsResolve() {
		purpose = route.Resolve
	}
	s.begin(purpose, "sim.txn", inc, deadline, func(h wire.Header, _ cell.Revision) (string, []byte) {
		m := wire.TxnRequest{Header: h, Request: request, Txn: *txn}
		return wire.MethodTxn, m.Append(nil)
	}, done)
}

// about asks something of one lease, under an identity that the place issues now.
func (s *session) about(method string, want cell.LeaseOp, inc cell.Incarnation, deadline time.Duration, done func(*exchange, *cell.Error)) {
	request := s.place.Request(s.id)
	x := s.newExchange(deadline, func(h wire.Header, _ cell.Revision) (string, []byte) {
		m := wire.LeaseRequest{Header: h, Request: request, Lease: want}
		return method, m.Append(nil)
	}, done)
	x.about = true
	x.start(route.Write, "sim.lease", inc)
}

// next takes one decision and obeys it.
func (x *exchange) next() {
	s := x.session
	x.turn++
	step := x.call.Next(s.now(), s.place, &s.rules, &s.budget)
	if step.Do == route.Await {
		s.waiting = append(s.waiting, awaiting{x, x.turn})
	}
	// Whoever waits for a lookup is on the list before the lookup begins, since it may end at once.
	if step.Find {
		s.finder.Want(s.volume.id)
		s.lookUp()
	}
	switch step.Do {
	case route.Stop:
		x.done(x, step.Err)
	case route.Ask:
		x.ask(step)
	default:
		x.comeBack(step.Until)
	}
}

// comeBack takes the next decision at a time, unless it was taken before.
func (x *exchange) comeBack(at time.Duration) {
	turn := x.turn
	x.session.after(at-x.session.now(), func() {
		if x.turn == turn {
			x.next()
		}
	})
}

// ask sends once; the first of its answer and its timeout counts.
func (x *exchange) ask(step route.Step) {
	s, turn := x.session, x.turn
	patience := step.Until - s.now()
	s.stale = step.Stale
	method, params := x.message(wire.Header{Cell: s.volume.id, Incarnation: step.Incarnation, Attempt: step.Attempt,
		Timeout: uint32(max(1, (patience+time.Millisecond-1)/time.Millisecond))}, step.Least)
	s.world.report.Attempts++
	ended := func(a route.Answer) {
		if x.turn == turn {
			x.answered(step.Addr, a)
		}
	}
	// Whatever comes later is of an attempt that was given up: the library has left it to nobody, too.
	var overdue func()
	overdue = func() {
		if x.turn != turn {
			return
		}
		if more := x.call.Overdue(s.now(), &s.rules, &s.budget) - s.now(); more > 0 {
			s.after(more, overdue)
			return
		}
		ended(route.Answer{Fate: route.Lost, Err: &cell.Error{Op: method, Kind: cell.UnknownResult}})
	}
	s.after(patience, overdue)
	s.ask(step.Addr, method, params, func(result []byte, err *cell.Error, sent bool) {
		switch {
		case !sent:
			ended(route.Answer{Fate: route.Unsent, Err: err})
		case err != nil:
			ended(route.Answer{Fate: route.Replied, Err: err})
		default:
			if x.turn == turn {
				x.received(step.Addr, result)
			}
		}
	})
}

// received decodes a reply; all of them have the shape of wire.TxnReply, but for those about leases.
func (x *exchange) received(addr string, result []byte) {
	if x.about {
		if err := wire.Unmarshal(result, &x.lease); err != nil {
			x.session.world.fail("health", place{v: x.session.volume}, "a reply of %s cannot be read: %v", addr, err)
			return
		}
		x.incarnation = x.lease.Incarnation
		x.answered(addr, route.Answer{Fate: route.Replied, Incarnation: x.lease.Incarnation, Revision: x.lease.Revision})
		return
	}
	var m wire.TxnReply
	if err := wire.Unmarshal(result, &m); err != nil {
		x.session.world.fail("health", place{v: x.session.volume}, "a reply of %s cannot be read: %v", addr, err)
		return
	}
	x.incarnation, x.result = m.Incarnation, m.Result
	x.answered(addr, route.Answer{Fate: route.Replied, Incarnation: m.Incarnation, Revision: m.Result.Revision})
}

// answered reports what became of an Ask; an answer from off the route is the occasion to learn the route.
func (x *exchange) answered(addr string, a route.Answer) {
	s := x.session
	s.expired = a.Err != nil && (s.expired || a.Err.Kind == cell.Expired)
	if a.Err != nil {
		s.world.trace.add(uint64(s.world.now), uint64(a.Fate), uint64(a.Err.Kind))
		s.world.trace.note(s.world.now, "client %d hears from %s: %v", s.at, addr, a.Err)
	}
	x.call.Answered(s.now(), addr, a, s.place, &s.rules)
	if a.Fate == route.Replied && a.Err == nil && s.place.Learn(s.now(), addr) {
		s.learn(addr)
	}
	x.next()
}

// learn asks a member who the others are.
func (s *session) learn(addr string) {
	m := wire.ExplainRequest{Header: wire.Header{Cell: s.volume.id, Timeout: uint32(s.rules.AttemptTimeout / time.Millisecond)}}
	over := false
	learned := func(e *wire.Explanation) {
		if over {
			return
		}
		over = true
		improved := false
		if e != nil {
			r := route.FromExplanation(e)
			improved = s.place.Accept(&r)
		}
		s.place.Learned(s.now(), improved)
	}
	s.after(s.rules.AttemptTimeout, func() { learned(nil) })
	s.ask(addr, wire.MethodExplain, m.Append(nil), func(result []byte, err *cell.Error, _ bool) {
		var e wire.Explanation
		if err != nil || wire.Unmarshal(result, &e) != nil {
			learned(nil)
			return
		}
		learned(&e)
	})
}

// lookUp drives the finder until it has nothing to ask.
func (s *session) lookUp() {
	if s.looking {
		return
	}
	step := s.finder.Next(s.now())
	s.found(step.Ended)
	if !step.Ask {
		return
	}
	s.looking = true
	answered := func(routes *wire.Routes) {
		if !s.looking {
			return
		}
		s.looking = false
		s.found(s.finder.Answered(s.now(), routes, s.place.Accept))
		s.lookUp()
	}
	s.world.lookUp(s, step.Addr, slices.Clone(step.Cells), answered)
}

// found reports the end of lookups to the place and lets those go on who waited for one.
func (s *session) found(ends []route.FindEnd) {
	for _, e := range ends {
		s.place.Found(s.now(), &s.rules, &s.jitter, e.Improved, e.Denied)
		waiting := s.waiting
		s.waiting = nil
		for _, w := range waiting {
			// One that waited too long has gone on, and ended perhaps: a step too many would end it once more.
			if w.exchange.turn == w.turn {
				w.exchange.comeBack(s.now())
			}
		}
	}
}
