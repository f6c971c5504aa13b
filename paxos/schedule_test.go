package paxos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"physalia/internal/must"
)

// schedule is a whole random run: the cell, and what happens to it one event after the other. It says everything, so a
// printed schedule is a bug report.
type schedule struct {
	jury   int
	alpha  uint32
	window int
	batch  int // commands per slot
	events []event
	heals  uint // at the end: which majority lives on, and who of it is asked first
}

// event is one thing that happens. Its numbers are reduced to what is possible when it happens, so that every schedule
// can be played, and stays playable when events are taken out.
type event struct {
	kind eventKind
	who  uint8
	pick uint8
	more bool // the host has not finished its turn: effects are asked for later, with those of the next event
}

type eventKind uint8

// The events. The comment says what pick means.
const (
	deliverAny    eventKind = iota // which message: it overtakes all others
	deliverOldest                  // how many of the oldest messages
	deliverTurn                    // how many messages to one member: the host steps them all in one turn
	repeatAny                      // which message: it is delivered and stays under way
	loseAny                        // which message
	loseAll                        // which message: all copies of it, or all messages to a member
	syncSome                       // how many batches
	syncAll                        // nothing: every member's disk
	proposeSome                    // how many commands
	readSome                       // how many reads
	sealCell                       // only every fourth pick does it
	campaignNow                    // nothing
	nudgeOne                       // nothing
	crashOne                       // how many of the batches handed over survive
	restartOne                     // every eighth: its window is larger from now on
	cutOff                         // which members are on the other side; every fourth heals
	settleAll                      // how many rounds of sync and delivery
	eventKinds
)

var eventNames = [...]string{"deliverAny", "deliverOldest", "deliverTurn", "repeatAny", "loseAny", "loseAll", "syncSome", "syncAll", "proposeSome",
	"readSome", "sealCell", "campaignNow", "nudgeOne", "crashOne", "restartOne", "cutOff", "settleAll"}

// String shows an event as in Go source.
func (e event) String() string {
	return fmt.Sprintf("{%s, %d, %d, %v}", eventNames[e.kind], e.who, e.pick, e.more)
}

// String shows a schedule as Go source, to be committed as a regression test.
func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule{jury: %d, alpha: %d, window: %d, batch: %d, heals: %d, events: []event{\n", s.jury, s.alpha, s.window, s.batch, s.heals)
	for _, e := range s.events {
		fmt.Fprintf(&b, "\t%v,\n", e)
	}
	b.WriteString("}}")
	return b.String()
}

// dice is where a generator takes its numbers from: a seed, or rapid, which can shrink them.
type dice func(n int) int

func seeded(seed uint64) dice {
	return rand.New(rand.NewPCG(seed, 0)).IntN
}

// drawSchedule draws a schedule. Every schedule has its own weights, some of them zero, its own number of members that
// ever campaign, and its own haste: a cell that never crashes, or never loses anything, or where two members take turns
// in leading, finds other things than the average of all.
func drawSchedule(d dice, events int) *schedule {
	s := &schedule{jury: []int{3, 3, 5, 5, 7}[d(5)], alpha: uint32(1 + d(4)), batch: 1 + d(3), heals: uint(d(1 << 16))}
	s.window = max(WindowMin, 2*int(s.alpha)) + d(4)
	base := [eventKinds]int{deliverAny: 12, deliverOldest: 20, deliverTurn: 12, repeatAny: 4, loseAny: 6, loseAll: 3, syncSome: 8, syncAll: 16, proposeSome: 20,
		readSome: 5, campaignNow: 4, nudgeOne: 10, crashOne: 2, restartOne: 8, cutOff: 2, settleAll: 5}
	rivals, unhurried := 1+d(s.jury), []int{0, 5, 5, 2}[d(4)]
	total := 0
	for kind := range base {
		base[kind] *= []int{0, 1, 1, 2, 5}[d(5)]
		if kind == int(restartOne) && base[crashOne] > 0 {
			base[kind] += 4 // a cell that only dies finds nothing
		}
		total += base[kind]
	}
	if d(6) == 0 {
		base[sealCell] = 1 + total/40
		total += base[sealCell]
	}
	if total == 0 {
		base[settleAll], total = 1, 1
	}
	for range events {
		at := d(total)
		var e event
		for at >= base[e.kind] {
			at -= base[e.kind]
			e.kind++
		}
		e.who, e.pick, e.more = uint8(d(s.jury)), uint8(d(256)), unhurried > 0 && d(unhurried) == 0
		if e.kind == campaignNow {
			e.who = uint8(int(e.who) % rivals)
		}
		s.events = append(s.events, e)
	}
	return s
}

// player plays a schedule.
type player struct {
	w        *world
	apart    uint8 // members on the other side of a partition
	delays   bool  // messages across it are late, not lost
	commands int
	markers  int
}

// run plays a schedule and returns what broke: a *broken of a checker, or a *must.Violation of the code under test. The
// world is told to prepare, if it is not nil, before anything happens.
func (s *schedule) run(prepare func(*world)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = detected(p)
		}
	}()
	p := &player{w: newWorld(Config{Configuration: jury(s.jury, s.alpha), Window: s.window, BatchCommands: s.batch, BatchBytes: 64})}
	for _, m := range p.w.members {
		m.slow = true
	}
	if prepare != nil {
		prepare(p.w)
	}
	for _, e := range s.events {
		p.play(e)
	}
	p.heal(s)
	return nil
}

// detected turns the panic of a checker or an assertion into an error, and repeats any other panic.
func detected(panicked any) error {
	err, ok := panicked.(error)
	var found *broken
	var violation *must.Violation
	if !ok || (!errors.As(err, &found) && !errors.As(err, &violation)) {
		panic(panicked)
	}
	return err
}

func (p *player) play(e event) {
	m := p.w.members[int(e.who)%len(p.w.members)]
	switch e.kind {
	case proposeSome, readSome, sealCell:
		p.ask(m, e)
	case deliverAny, repeatAny, loseAny, deliverOldest, deliverTurn, loseAll, cutOff:
		p.network(m, e)
	case syncAll:
		for _, m := range p.w.members {
			p.sync(m, len(m.disk.tail), e.more)
		}
	case settleAll:
		for range e.pick % 8 {
			for _, m := range p.w.members {
				p.sync(m, len(m.disk.tail), false)
			}
			p.deliverOldest(len(p.w.network), false)
		}
	case restartOne:
		if m.replica == nil {
			if e.pick%8 == 0 && m.cfg.Window < 3*len(p.w.members) {
				m.cfg.Window++
				m.disk.image.ring = append(m.disk.image.ring, storedRecord{})
			}
			p.w.restart(m)
			p.obey(m, e.more)
		}
	default:
		if m.replica != nil {
			p.onMember(m, e)
		}
	}
}

// ask plays what clients do. Mostly they find the proposer, or one that believes to be it.
func (p *player) ask(m *member, e event) {
	for i := range p.w.members {
		other := p.w.members[(i+int(e.pick))%len(p.w.members)]
		if e.pick%8 != 0 && other.replica != nil && other.replica.Role() == Proposer {
			m = other
			break
		}
	}
	if m.replica == nil {
		return
	}
	switch e.kind {
	case proposeSome:
		for range 1 + e.pick%4 {
			p.commands++
			p.w.propose(m, fmt.Sprint("c", p.commands))
		}
	case readSome:
		for range 1 + e.pick%2 {
			p.w.read(m)
		}
	case sealCell:
		if e.pick%4 == 1 {
			m.replica.ProposeSeal()
		}
	}
	p.obey(m, e.more)
}

// network plays what happens to messages.
func (p *player) network(m *member, e event) {
	w := p.w
	switch n := len(w.network); e.kind {
	case cutOff:
		p.apart, p.delays = e.pick, e.who%2 == 0
		if e.pick%4 == 0 {
			p.apart = 0
		}
	case loseAll:
		p.loseAll(m, e)
	case deliverOldest:
		p.deliverOldest(min(n, 1+int(e.pick)%(2*len(w.members))), e.more)
	case deliverTurn:
		left := 1 + int(e.pick)%16
		for i := 0; i < len(w.network) && left > 0; {
			if w.network[i].To == m.cfg.Self && p.deliver(i, true) {
				left--
			} else {
				i++
			}
		}
		p.obey(m, e.more)
	case deliverAny:
		if n > 0 {
			p.deliver(int(e.pick)%n, e.more)
		}
	case repeatAny:
		if n > 0 {
			message := w.network[int(e.pick)%n]
			if p.deliver(int(e.pick)%n, e.more) {
				w.network = append(w.network, message)
			}
		}
	case loseAny:
		if n > 0 {
			w.take(int(e.pick) % n)
		}
	}
}

// loseAll loses all messages to a member, or a broadcast, which leaves a hole in the log when the next one arrives.
func (p *player) loseAll(m *member, e event) {
	w := p.w
	if len(w.network) == 0 {
		return
	}
	like := w.network[int(e.pick)%len(w.network)]
	for i := len(w.network) - 1; i >= 0; i-- {
		x := &w.network[i]
		same := x.From == like.From && x.Kind == like.Kind && x.Slot == like.Slot && x.Ballot == like.Ballot
		if (e.who%2 == 0 && same) || (e.who%2 == 1 && x.To == m.cfg.Self) {
			w.take(i)
		}
	}
}

// deliverOldest delivers n messages in order, passing by those that a partition delays.
func (p *player) deliverOldest(n int, more bool) {
	for i := 0; n > 0 && i < len(p.w.network); n-- {
		if !p.deliver(i, more) {
			i++
		}
	}
}

// deliver takes a message from the network to its receiver, unless a partition is between. It reports whether the
// message is gone.
func (p *player) deliver(i int, more bool) bool {
	message := p.w.network[i]
	across := p.side(message.From) != p.side(message.To)
	if across && p.delays {
		return false
	}
	p.w.take(i)
	if !across {
		p.obey(p.w.step(message), more)
	}
	return true
}

func (p *player) side(n NodeNumber) uint8 { return p.apart >> (n - 1) & 1 }

// onMember plays what happens to a running member.
func (p *player) onMember(m *member, e event) {
	switch e.kind {
	case syncSome:
		p.sync(m, min(len(m.disk.tail), 1+int(e.pick)%4), e.more)
		return
	case campaignNow:
		m.replica.Campaign()
	case nudgeOne:
		m.replica.Nudge()
	case crashOne:
		p.w.crash(m, int(e.pick)%(len(m.disk.tail)+1))
		return
	}
	p.obey(m, e.more)
}

func (p *player) sync(m *member, n int, more bool) {
	if m.replica != nil {
		p.w.sync(m, n)
		p.obey(m, more)
	}
}

func (p *player) obey(m *member, more bool) {
	if !more {
		p.w.obey(m)
	}
}

// heal ends a schedule: a majority lives on, connected and with disks that work; the others are dead. Within a bounded
// number of nudges it must choose a new command, bring all of its members there, and answer everybody who waits.
func (p *player) heal(s *schedule) {
	w := p.w
	alive := p.survivors(s.heals)
	const nudges = 16
	for round := range nudges {
		w.settle(alive)
		if p.converged(alive) {
			return
		}
		p.lead(alive, round)
		for _, n := range alive {
			if r := w.member(n).replica; r.Unfinished() {
				r.Nudge()
			}
		}
	}
	text := ""
	for _, n := range alive {
		text += "\n  " + w.member(n).replica.Describe() + fmt.Sprint(" owes ", w.check.unanswered(w.member(n)))
	}
	w.check.holds(false, "liveness", "%v did not converge within %d nudges:%s", alive, nudges, text)
}

// survivors picks a majority, restarts those of it that are down, and crashes the others. What was under way may still
// arrive.
func (p *player) survivors(pick uint) (alive []NodeNumber) {
	w := p.w
	for i := range w.check.majority {
		alive = append(alive, NodeNumber((int(pick)+i*(1+int(pick>>8)%2))%len(w.members)+1))
	}
	for _, m := range w.members {
		switch lives := slices.Contains(alive, m.cfg.Self); {
		case !lives && m.replica != nil:
			w.crash(m, 0)
		case lives && m.replica == nil:
			w.restart(m)
		}
	}
	return alive
}

// converged reports whether all survivors delivered a marker or the seal, and owe nothing.
func (p *player) converged(alive []NodeNumber) bool {
	for _, n := range alive {
		m := p.w.member(n)
		done := m.replica.IsSealed() || (p.marked() > 0 && m.replica.Applied() >= p.marked())
		if !done || m.replica.Unfinished() || len(p.w.check.unanswered(m)) > 0 {
			return false
		}
	}
	return true
}

// marked is the slot of a chosen marker, zero when there is none.
func (p *player) marked() Slot {
	for i := range p.markers {
		if f := p.w.check.named[fmt.Sprint("marker", i+1)]; f.slot > 0 {
			return f.slot
		}
	}
	return 0
}

// lead does what hosts do: whoever leads gets a marker, and when nobody does, somebody campaigns. A marker whose outcome
// is unknown is followed by another one.
func (p *player) lead(alive []NodeNumber, round int) {
	w := p.w
	busy := false
	for _, n := range alive {
		m := w.member(n)
		if w.check.sealedAt != 0 && !m.replica.IsSealed() {
			m.replica.Campaign() // a sealed cell has nothing more to say to those who missed the seal; they have to ask
		}
		busy = busy || m.replica.Role() == Candidate
		if m.replica.Role() == Proposer && !m.replica.IsSealed() {
			if p.marked() == 0 && len(w.check.unanswered(m)) == 0 {
				p.markers++
				w.propose(m, fmt.Sprint("marker", p.markers))
			}
			return
		}
	}
	if !busy {
		w.member(alive[round%len(alive)]).replica.Campaign()
	}
}

// shrink takes out of a failing schedule what it fails without, in ever smaller pieces.
func (s *schedule) shrink() *schedule {
	small := *s
	for size := len(s.events) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(small.events); {
			without := small
			without.events = slices.Delete(slices.Clone(small.events), at, at+size)
			if without.run(nil) != nil {
				small = without
			} else {
				at += size
			}
		}
	}
	return &small
}
