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
	ready  int // learners that are ready to become members when it begins
	events []event
	heals  uint // at the end: who dies, and who of the others is asked first
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
	reformCell                     // which change
	createOne                      // which of the learners that do not exist yet, or that may be created again
	handOver                       // to whom
	resignOne                      // nothing
	refuseOne                      // which Prepare: its receiver stands by another ballot
	spareSome                      // which members a proposer need not ask
	eventKinds
)

var eventNames = [...]string{"deliverAny", "deliverOldest", "deliverTurn", "repeatAny", "loseAny", "loseAll", "syncSome", "syncAll", "proposeSome",
	"readSome", "sealCell", "campaignNow", "nudgeOne", "crashOne", "restartOne", "cutOff", "settleAll", "reformCell", "createOne", "handOver", "resignOne", "refuseOne", "spareSome"}

// String shows an event as in Go source.
func (e event) String() string {
	return fmt.Sprintf("{%s, %d, %d, %v}", eventNames[e.kind], e.who, e.pick, e.more)
}

// String shows a schedule as Go source, to be committed as a regression test.
func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "schedule{jury: %d, alpha: %d, window: %d, batch: %d, ready: %d, heals: %d, events: []event{\n", s.jury, s.alpha, s.window, s.batch, s.ready, s.heals)
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
		readSome: 5, campaignNow: 4, nudgeOne: 10, crashOne: 2, restartOne: 8, cutOff: 2, settleAll: 5, reformCell: 12, createOne: 8, handOver: 1, resignOne: 1, refuseOne: 2, spareSome: 4}
	if d(2) == 0 { // members come and go
		base[reformCell], base[createOne], base[settleAll] = 20, 10, 8
		s.ready = d(4)
	}
	rivals, unhurried := 1+d(s.jury), []int{0, 5, 5, 2}[d(4)]
	total := 0
	for kind := range base {
		base[kind] *= []int{0, 1, 1, 2, 5}[d(5)]
		if kind == int(restartOne) && base[crashOne] > 0 {
			base[kind] += 4 // a cell that only dies finds nothing
		}
		if kind == int(createOne) && base[reformCell] > 0 {
			base[kind] += 4 // and neither does one whose learners are never born
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
		if e.kind == campaignNow && base[reformCell] == 0 {
			e.who = uint8(int(e.who) % rivals)
		} else if base[reformCell] > 0 {
			e.who += uint8(d(s.jury)) // nodes that come later have their turns, too
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
	asked    Change // the last change that was taken
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
	p.w.numbers = s.heals&32 != 0
	for range s.ready {
		p.w.raise()
	}
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
	case proposeSome, readSome, sealCell, reformCell, handOver, resignOne, spareSome:
		p.ask(m, e)
	case createOne:
		p.create(e)
	case deliverAny, repeatAny, loseAny, deliverOldest, deliverTurn, loseAll, cutOff, refuseOne:
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
		if m.replica == nil && m.isThere() {
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
	case reformCell:
		p.reform(m, e)
	case handOver:
		m.replica.HandOver(p.w.members[int(e.pick/8)%len(p.w.members)].cfg.Self)
	case resignOne:
		m.replica.Resign()
	case spareSome:
		var spared []NodeNumber
		for i, other := range m.replica.Configuration().Members {
			if e.pick>>(i%8)&1 == 1 {
				spared = append(spared, other.Node)
			}
		}
		m.replica.Spare(spared)
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
	case refuseOne:
		p.refuse(e)
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

// reform plays an operator with plans that are sometimes out of date.
func (p *player) reform(m *member, e event) {
	const nodesMax = 40
	c, w := m.replica.Configuration(), p.w
	change := Change{Kind: Replace, Number: c.Number, Old: c.Members[int(e.pick/8)%len(c.Members)].Node}
	if len(c.Learners) > 0 {
		change.New = c.Learners[int(e.who)%len(c.Learners)].Node
	}
	switch spare := ServerID(fmt.Sprintf("s%d", 1+int(e.pick/8)%(len(c.Members)+4))); {
	case e.pick%16 == 1:
		change = p.asked
	case e.pick%16 == 2 || len(c.Learners) == 0:
		change = Change{Kind: AddLearner, Server: spare}
	case e.pick%16 == 3:
		change.Kind = DropLearner
	case e.pick%16 == 4:
		change.Number += ConfigurationNumber(e.who%3) - 1
	}
	if change.Kind == 0 || (change.Kind == AddLearner && len(w.members) >= nodesMax) {
		return
	}
	if w.reform(m, change) == Accepted {
		if change.Request == 0 {
			change.Request = w.request
		}
		p.asked = change
	}
}

// create creates a learner that the log issued, or one that forgot everything because its host crashed before it had stored
// anything, again.
func (p *player) create(e event) {
	var unborn []*member
	for _, m := range p.w.members {
		if m.unborn || (m.learner && m.replica != nil && m.replica.IsUntaught()) {
			unborn = append(unborn, m)
		}
	}
	if len(unborn) > 0 {
		m := unborn[int(e.pick)%len(unborn)]
		p.w.create(m)
		m.replica.Nudge()
		p.obey(m, e.more)
	}
}

// refuse lets a member stand by the ballot that it promised, for once.
func (p *player) refuse(e event) {
	w := p.w
	for k := range w.network {
		i := (k + int(e.pick)) % len(w.network)
		if message := w.network[i]; message.Kind == MsgPrepare {
			w.take(i)
			if m := w.member(message.To); m.replica != nil && !m.replica.IsUntaught() {
				m.replica.Refuse(&message)
				p.obey(m, e.more)
			}
			return
		}
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
