package paxos

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/bits"
	"slices"
	"testing"
)

var deep = flag.Bool("deep", false, "go further where a space of TestEverySchedule is bounded; takes many minutes and gigabytes")

// TestEverySchedule enumerates instead of drawing: for tiny cells it visits every state that any order of deliveries can
// lead to. Messages are a set that only grows, and each of them may arrive at any time, again and again or never, which
// is every loss, duplication and reordering there is. In every state all that was delivered must agree, and be durable
// on a majority of the jury that keeps it.
func TestEverySchedule(t *testing.T) {
	const whole = 60
	for _, s := range []space{
		{name: "one rival", bound: whole, least: 3, rivals: []NodeNumber{2}, offers: []string{1: "a", 2: "b"}},
		{name: "the owner crashes and comes back", bound: whole, least: 2, rivals: []NodeNumber{1}, offers: []string{1: "a"}, crashes: []NodeNumber{1}},
		{name: "a rival, and an acceptor crashes", bound: whole, least: 1, rivals: []NodeNumber{2}, offers: []string{1: "a"}, crashes: []NodeNumber{3}},
		{name: "a rival, and everybody crashes", bound: 13, further: 3, least: 1, rivals: []NodeNumber{2}, offers: []string{1: "a"}, crashes: []NodeNumber{1, 2, 3}},
		{name: "a rival with an offer, and the owner crashes", bound: 15, further: 3, least: 2, rivals: []NodeNumber{2}, offers: []string{1: "a", 2: "b"}, crashes: []NodeNumber{1}},
		{name: "two rivals", bound: 11, further: 3, least: 2, rivals: []NodeNumber{2, 3}, offers: []string{1: "a", 2: "b"}},
		{name: "a seal and a rival", bound: whole, least: 2, rivals: []NodeNumber{2}, offers: []string{1: "seal", 2: "b"}},

		// Member 3 is replaced by the learner 4.
		{name: "a change", alpha: 1, bound: 14, further: 5, least: 2, reforms: true},
		{name: "a change, alpha 2", alpha: 2, bound: 12, further: 5, least: 2, reforms: true},
		{name: "a change and a rival", alpha: 1, bound: 12, further: 4, least: 3, reforms: true, rivals: []NodeNumber{2}, offers: []string{2: "b"}},
		{name: "a change and a rival, alpha 2", alpha: 2, bound: 11, further: 3, least: 2, reforms: true, rivals: []NodeNumber{2}, offers: []string{2: "b"}},
		{name: "a change, and who left campaigns", alpha: 1, bound: 12, further: 4, least: 3, reforms: true, rivals: []NodeNumber{3}},
		{name: "a change, and who came campaigns", alpha: 1, bound: 12, further: 4, least: 2, reforms: true, rivals: []NodeNumber{4}},
		{name: "a rival that missed the change", alpha: 1, bound: 12, further: 3, least: 2, missed: true, reforms: true, rivals: []NodeNumber{2}, offers: []string{2: "b"}},
		{name: "a change, and the proposer crashes", alpha: 1, bound: 11, further: 4, least: 1, reforms: true, rivals: []NodeNumber{2}, crashes: []NodeNumber{1}},
		{name: "a change, and who came crashes", alpha: 1, bound: 10, further: 4, least: 1, reforms: true, rivals: []NodeNumber{2}, crashes: []NodeNumber{4}},

		// Five members; the learner is 6.
		{name: "five members, one rival", jury: 5, bound: 12, further: 3, least: 1, rivals: []NodeNumber{2}, offers: []string{1: "a", 2: "b"}},
		{name: "five members, a change", jury: 5, bound: 13, further: 3, least: 1, reforms: true},
		{name: "five members, a change and a rival", jury: 5, bound: 10, further: 3, least: 1, reforms: true, rivals: []NodeNumber{2}, offers: []string{2: "b"}},
	} {
		t.Run(s.name, func(t *testing.T) { s.visit(t) })
	}
}

// visit goes through a space, one step further at a time.
func (s *space) visit(t *testing.T) {
	defer func() {
		if p := recover(); p != nil {
			t.Fatal(detected(p))
		}
	}()
	bound, depth := s.bound, 0
	if *deep {
		bound += s.further
	}
	start := s.found(t)
	s.visited = map[state]bool{start: true}
	level := []state{start}
	for ; len(level) > 0 && depth < bound; depth++ {
		var next []state
		for _, from := range level {
			for _, to := range s.successors(t, from) {
				if !s.visited[to] {
					s.visited[to] = true
					next = append(next, to)
				}
			}
		}
		level = next
	}
	extent := "whole"
	if len(level) > 0 {
		extent = "bounded"
	}
	t.Logf("%s: %d steps deep, %d states of %d member states and %d messages", extent, depth, len(s.visited), len(s.members)-1, len(s.messages))
	if len(s.delivered) < s.least {
		t.Errorf("only %v was ever delivered: the space is empty", s.delivered)
	}
}

// space is what may happen, and what was met. Members, messages and entries have numbers, and what a member does in a
// state is computed once, so that a step costs a look into a map.
type space struct {
	name    string
	jury    int          // zero: 3
	alpha   uint32       // zero: 1
	bound   int          // steps; a space that ends before is visited whole
	further int          // steps more with -deep
	least   int          // so many different deliveries at least must be met, or the space is empty
	rivals  []NodeNumber // each campaigns at most once
	offers  []string     // the command that a member proposes when it leads, by node number
	crashes []NodeNumber // each syncs its disk when it likes, and crashes and restarts at most once
	reforms bool         // there is a learner, ready, and member 1 replaces member 3 by it
	missed  bool         // it did already: 1 and 3 chose the change, 1 and 4 the next slot; 2 heard nothing, 4 not of the change

	visited   map[state]bool
	members   []*member
	messages  []Message
	delivered []Delivery
	number    map[string]int // of members, messages and deliveries, by description
	steps     map[step]outcome
	founding  Configuration
	before    []Delivery // what was delivered before the first state
	laws      map[uint32]*law
	sets      sets
}

const tinyMembers = 6

// state is one state of a tiny cell. The sets are of messages ever sent, which have numbers as well, and of entries ever
// delivered.
type state struct {
	members   [tinyMembers]uint16 // zero: there is none
	sent      setNumber
	delivered uint32
	used      [tinyMembers]uint8 // the things that a member does at most once
}

// step is something that happens to a member: a message, or one of the negative numbers.
type step struct{ member, what int }

const (
	stepCampaign = -1 - iota
	stepOffer
	stepSync
	stepCrash
	stepReform
)

// outcome is what came of a step.
type outcome struct {
	member    uint16
	sent      setNumber // of what this step sends
	delivered uint32
}

// found makes the first state.
func (s *space) found(t *testing.T) (start state) {
	s.number, s.steps, s.laws = map[string]int{}, map[step]outcome{}, map[uint32]*law{}
	s.sets = newSets()
	s.jury = max(s.jury, 3)
	s.founding = jury(s.jury, max(s.alpha, 1))
	w := newWorld(Config{Configuration: s.founding, Window: 4, BatchCommands: 1, BatchBytes: 64})
	if s.reforms {
		w.raise()
		if s.missed {
			w.change(t)
		}
		s.before = w.check.agreed
	}
	s.members = []*member{nil}
	for i, m := range w.members {
		m.slow = slices.Contains(s.crashes, m.cfg.Self)
		start.members[i] = s.internMember(m)
	}
	return start
}

// change replaces 3 by 4 with as few messages as that takes.
func (w *world) change(t *testing.T) {
	w.reform(w.member(1), Change{Kind: Replace, Number: 1, Old: 3, New: 4})
	w.obey(w.member(1))
	w.obey(w.pass(t, MsgAccept, 1, 3))
	w.obey(w.pass(t, MsgAccepted, 3, 1))
	w.network = nil
	w.member(1).replica.Nudge()
	w.obey(w.member(1))
	w.obey(w.pass(t, MsgAccept, 1, 4))
	w.obey(w.pass(t, MsgAccepted, 4, 1))
	w.network = nil
}

// intern gives a number to whatever has this description, by appending it to its list.
func intern[T any](s *space, kind, description string, list *[]T, x T) int {
	n, ok := s.number[kind+description]
	if !ok {
		n = len(*list)
		s.number[kind+description] = n
		*list = append(*list, x)
	}
	return n
}

// internMember numbers a member by everything that can make a difference later on.
func (s *space) internMember(m *member) uint16 {
	if m.pointer != nil {
		return uint16(intern(s, "member", fmt.Sprint("pointer ", m.cfg.Self), &s.members, m))
	}
	r := m.replica
	key := fmt.Append(nil, r.Describe(), saidBy(r.conf, r.pending), r.ballot, r.seen, r.from, holdersOf(r), r.tail, r.next, r.informed, r.asked,
		r.teacher, r.source, r.sealing, r.queue.commands, r.stored, r.freed, r.heir, r.settling, r.prod, r.handing, numberOf(r.backing), numberOf(r.canvassed), "|")
	for i := range r.open {
		key = fmt.Append(key, r.open[i].slot, numberOf(r.open[i].jury), r.open[i].votes, r.open[i].chosen, "|")
	}
	for i := range r.ring {
		key = fmt.Append(key, r.ring[i].Describe(), "|")
	}
	for i := range r.adopted {
		key = fmt.Append(key, r.adopted[i].record.Describe(), r.adopted[i].chosen, "|")
	}
	key = fmt.Append(key, m.disk.image.promised, snapshotOf(m.disk.image.snapshot))
	for i := range m.disk.image.ring {
		stored := &m.disk.image.ring[i]
		key = fmt.Append(key, stored.record.Describe(), stored.promised, stored.applied, "|")
	}
	for _, b := range m.disk.tail {
		key = fmt.Append(key, b.promised, b.persist.Applied, b.persist.Promised != nil, snapshotOf(b.snapshot))
		for i := range b.persist.Records {
			key = fmt.Append(key, b.persist.Records[i].Describe())
		}
	}
	for _, h := range m.held {
		key = fmt.Append(key, h.after-m.disk.durable, h.message.Describe())
	}
	return uint16(intern(s, "member", string(key), &s.members, m))
}

// numberOf names a configuration that may be none.
func numberOf(c *Configuration) ConfigurationNumber {
	if c == nil {
		return 0
	}
	return c.Number
}

// snapshotOf describes a snapshot that may be none.
func snapshotOf(s *Snapshot) string {
	if s == nil {
		return "none"
	}
	return fmt.Sprint(s.Applied, s.Sealed, saidBy(&s.Configuration, s.Pending))
}

// successors lists the states one step away, and checks them.
func (s *space) successors(t *testing.T, from state) (all []state) {
	for i := range from.members {
		if from.members[i] == 0 {
			continue
		}
		m := s.members[from.members[i]]
		if m.pointer != nil {
			continue
		}
		for _, number := range s.letters(from.sent, m.cfg.Self) {
			all = append(all, s.after(t, from, i, number))
		}
		for _, what := range s.initiatives(m, from.used[i]) {
			to := s.after(t, from, i, what)
			to.used[i] |= 1 << -what
			switch what {
			case stepSync: // any number of times
				to.used[i] = from.used[i]
			case stepCrash: // and then it may offer something else
				to.used[i] &^= 1 << -stepOffer
			}
			all = append(all, to)
		}
	}
	return all
}

// initiatives lists what a member may do by itself.
func (s *space) initiatives(m *member, used uint8) (all []int) {
	may := func(what int) bool { return used>>-what&1 == 0 }
	n := m.cfg.Self
	if may(stepCampaign) && slices.Contains(s.rivals, n) && m.replica.Role() == Follower {
		all = append(all, stepCampaign)
	}
	if may(stepReform) && s.reforms && n == 1 && m.replica.Role() == Proposer {
		all = append(all, stepReform)
	}
	if may(stepOffer) && int(n) < len(s.offers) && s.offers[n] != "" && m.replica.Role() == Proposer {
		all = append(all, stepOffer)
	}
	if len(m.disk.tail) > 0 || len(m.held) > 0 {
		all = append(all, stepSync)
	}
	if may(stepCrash) && slices.Contains(s.crashes, n) {
		all = append(all, stepCrash)
	}
	return all
}

// after is the state after one step of member i, checked.
func (s *space) after(t *testing.T, from state, i, what int) state {
	o, ok := s.steps[step{int(from.members[i]), what}]
	if !ok {
		o = s.take(s.members[from.members[i]].clone(), what)
		s.steps[step{int(from.members[i]), what}] = o
	}
	to := from
	to.members[i] = o.member
	to.delivered |= o.delivered
	to.sent = s.sets.union(to.sent, o.sent)
	if o.delivered != 0 || to.delivered != 0 && what == stepCrash {
		s.check(t, &to)
	}
	return to
}

// take lets a copy of a member do something, and obeys it until it rests.
func (s *space) take(m *member, what int) (o outcome) {
	switch what {
	case stepCampaign:
		m.replica.Campaign()
	case stepOffer:
		if command := s.offers[m.cfg.Self]; command == "seal" {
			m.replica.ProposeSeal()
		} else {
			m.replica.Propose(fmt.Append(nil, command, m.replica.ballot.Round), 1)
		}
	case stepReform:
		m.replica.ProposeChange(Change{Kind: Replace, Number: 1, Old: 3, New: NodeNumber(s.jury + 1)})
	case stepSync:
		m.disk.sync(min(1, len(m.disk.tail)))
	case stepCrash:
		m.disk.tail, m.held = nil, nil
		rec := m.disk.image.recovery()
		rec.Learner = m.learner
		r, err := Restore(m.cfg, rec)
		if err != nil {
			panic(err)
		}
		m.replica = r
	default:
		m.replica.Step(&s.messages[what])
	}
	s.obey(m, &o)
	o.member = s.internMember(m)
	return o
}

// obey does what the world does, for one member alone.
func (s *space) obey(m *member, o *outcome) {
	for {
		for len(m.held) > 0 && m.held[0].after <= m.disk.durable {
			message := m.held[0].message
			m.held = m.held[1:]
			if message.To == m.cfg.Self {
				m.replica.Step(&message)
			} else {
				s.send(message, m, o)
			}
		}
		e := m.replica.Effects()
		if e.IsEmpty() {
			return
		}
		for _, d := range e.Deliver {
			o.delivered |= 1 << intern(s, "delivered", fmt.Sprint(d.Slot, d.Entry.Describe()), &s.delivered, d)
		}
		if !e.Persist.IsEmpty() {
			b := diskBatch{persist: e.Persist, promised: m.replica.Promised()}
			if e.Persist.State {
				b.snapshot = m.replica.Snapshot(make([]byte, 8), 0)
			}
			m.disk.tail = append(m.disk.tail, b)
		}
		for _, message := range e.SendNow {
			if message.Kind == MsgTeachAll {
				message.Snapshot = m.replica.Snapshot(make([]byte, 8), 0)
			}
			s.send(message, m, o)
		}
		if e.Released {
			m.pointer = m.replica.Configuration()
			m.replica, m.held, m.disk = nil, nil, emptyDisk(m.cfg.Window)
			return
		}
		for _, message := range e.SendDurable {
			again := func(h heldMessage) bool {
				return h.message.Describe() == message.Describe() && h.after == m.disk.handed()
			}
			if !slices.ContainsFunc(m.held, again) { // sending it twice at the same moment tells nothing new
				m.held = append(m.held, heldMessage{m.disk.handed(), message})
			}
		}
		if !m.slow {
			m.disk.sync(len(m.disk.tail))
		}
	}
}

// send adds a message, one for every receiver, to the set.
func (s *space) send(message Message, m *member, o *outcome) {
	receivers := []NodeNumber{message.To}
	if message.To == 0 {
		receivers = audience(m.replica.Configuration())
	}
	for i, to := range receivers {
		if to == message.From || message.Spares(i) {
			continue
		}
		message := message
		message.To, message.spared = to, 0
		n := intern(s, "message", message.Describe()+snapshotOf(message.Snapshot), &s.messages, message)
		o.sent = s.sets.union(o.sent, s.sets.of(n))
	}
}

// setNumber names a set of messages; zero is the empty one.
type setNumber uint32

// sets gives numbers to sets, so that a state is small, and what was computed of a set is found again.
type sets struct {
	all     [][]uint64
	numbers map[string]setNumber
	unions  map[[2]setNumber]setNumber
	letters map[letterBox][]int
}

// letterBox is what a member finds in a set of messages.
type letterBox struct {
	set setNumber
	to  NodeNumber
}

func newSets() sets {
	return sets{all: [][]uint64{nil}, numbers: map[string]setNumber{"": 0}, unions: map[[2]setNumber]setNumber{}, letters: map[letterBox][]int{}}
}

// number finds or gives the number of a set that does not end with zeros.
func (s *sets) number(words []uint64) setNumber {
	key := make([]byte, 0, 8*len(words))
	for _, w := range words {
		key = binary.BigEndian.AppendUint64(key, w)
	}
	n, ok := s.numbers[string(key)]
	if !ok {
		n = setNumber(len(s.all))
		s.numbers[string(key)] = n
		s.all = append(s.all, words)
	}
	return n
}

// of is the set of one message.
func (s *sets) of(message int) setNumber {
	words := make([]uint64, message/64+1)
	words[message/64] = 1 << (message % 64)
	return s.number(words)
}

func (s *sets) union(a, b setNumber) setNumber {
	if a == b || b == 0 {
		return a
	}
	n, ok := s.unions[[2]setNumber{a, b}]
	if !ok {
		long, short := s.all[a], s.all[b]
		if len(long) < len(short) {
			long, short = short, long
		}
		words := slices.Clone(long)
		for i, w := range short {
			words[i] |= w
		}
		n = s.number(words)
		s.unions[[2]setNumber{a, b}] = n
	}
	return n
}

// letters lists the messages of a set to one member.
func (s *space) letters(set setNumber, to NodeNumber) []int {
	box := letterBox{set, to}
	found, ok := s.sets.letters[box]
	if !ok {
		for i, w := range s.sets.all[set] {
			for ; w != 0; w &= w - 1 {
				if n := i*64 + bits.TrailingZeros64(w); s.messages[n].To == to {
					found = append(found, n)
				}
			}
		}
		s.sets.letters[box] = found
	}
	return found
}

// law is what has to be true where certain entries were delivered.
type law struct {
	wrong string
	kept  []keeping
	twin  *twin
}

// keeping is one delivered entry and the jury of which a majority has to have it durably.
type keeping struct {
	delivery Delivery
	jury     *lawful
}

// lawOf says what has to be true, given who delivered what: one entry per slot, nothing behind a seal.
func (s *space) lawOf(delivered uint32) *law {
	if l := s.laws[delivered]; l != nil {
		return l
	}
	l := &law{twin: newTwin(&s.founding)}
	s.laws[delivered] = l
	slots := map[Slot]Delivery{}
	for _, d := range s.before {
		l.twin.append(d)
	}
	last, sealed := Slot(0), Slot(0)
	for n, d := range s.delivered {
		if delivered>>n&1 == 0 {
			continue
		}
		if int(d.Slot) <= len(s.before) {
			if was := s.before[d.Slot-1]; !was.Entry.Equal(d.Entry) {
				l.wrong = fmt.Sprintf("slot %d: %s is delivered, before it was %s", d.Slot, d.Entry.Describe(), was.Entry.Describe())
				return l
			}
			continue
		}
		if other, ok := slots[d.Slot]; ok {
			l.wrong = fmt.Sprintf("slot %d: %s and %s are both delivered", d.Slot, d.Entry.Describe(), other.Entry.Describe())
			return l
		}
		slots[d.Slot] = d
		last = max(last, d.Slot)
		if d.Entry.Kind == Seal {
			sealed = d.Slot
		}
	}
	if sealed != 0 && last > sealed {
		l.wrong = fmt.Sprintf("slot %d is delivered behind the seal at %d", last, sealed)
		return l
	}
	for slot := Slot(len(s.before) + 1); slot <= last; slot++ {
		if d := slots[slot]; l.twin.append(d) != d.Outcome {
			l.wrong = fmt.Sprintf("slot %d: %s came to %+v", slot, d.Entry.Describe(), d.Outcome)
		}
	}
	for _, d := range s.before {
		slots[d.Slot] = d
	}
	for slot := Slot(1); slot <= max(last, Slot(len(s.before))); slot++ {
		l.kept = append(l.kept, keeping{slots[slot], l.twin.keepers(slot)})
	}
	return l
}

// check checks one state: what was delivered agrees, a majority keeps it, and if a jury settled, a majority of it would restart
// with everything that came before it (P9).
func (s *space) check(t *testing.T, to *state) {
	l := s.lawOf(to.delivered)
	if l.wrong != "" {
		t.Fatal(l.wrong)
	}
	image := func(n NodeNumber) *image { return &s.members[to.members[n-1]].disk.image }
	for _, k := range l.kept {
		known := k.jury.count(func(n NodeNumber) bool { return image(n).knows(k.delivery.Slot, k.delivery.Entry) })
		if known < k.jury.majority() {
			t.Fatalf("slot %d: %s was delivered and is durable on %d of %v only", k.delivery.Slot, k.delivery.Entry.Describe(), known, k.jury.jury)
		}
	}
	if settled := &l.twin.juries[l.twin.settled-1]; settled.since > 0 {
		hold := settled.count(func(n NodeNumber) bool { return image(n).restartsAt()+1 >= settled.since })
		if hold < settled.majority() {
			t.Fatalf("#%d is settled, but only %d of %v would restart at slot %d", settled.number, hold, settled.jury, settled.since)
		}
	}
}

// clone copies a member; entries and records are immutable and shared.
func (m *member) clone() *member {
	copied, r := *m, *m.replica
	r.ring, r.adopted, r.open, r.holders = slices.Clone(r.ring), slices.Clone(r.adopted), slices.Clone(r.open), slices.Clone(r.holders)
	r.reads.rounds, r.reads.waiting = slices.Clone(r.reads.rounds), slices.Clone(r.reads.waiting)
	r.queue.commands, r.queue.proposals = slices.Clone(r.queue.commands), slices.Clone(r.queue.proposals)
	copied.replica = &r
	copied.disk.image.ring, copied.disk.tail = slices.Clone(m.disk.image.ring), slices.Clone(m.disk.tail)
	copied.held = slices.Clone(m.held)
	return &copied
}

// holdersOf describes what a replica knows of the others, whatever the order in which it heard of them.
func holdersOf(r *Replica) string {
	known := slices.Clone(r.holders)
	slices.SortFunc(known, func(a, b holder) int { return int(a.node) - int(b.node) })
	return fmt.Sprint(known)
}
