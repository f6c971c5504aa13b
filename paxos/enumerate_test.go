package paxos

import (
	"fmt"
	"slices"
	"testing"
)

// TestEverySchedule enumerates instead of drawing: for tiny cells it visits every state that any order of deliveries can
// lead to. Messages are a set that only grows, and each of them may arrive at any time, again and again or never, which
// is every loss, duplication and reordering there is. In every state all that was delivered must agree, and be durable
// on a majority.
func TestEverySchedule(t *testing.T) {
	for _, s := range []space{
		{name: "one rival", bound: 40, least: 3, rivals: []NodeNumber{2}, offers: []string{1: "a", 2: "b"}},
		{name: "the owner crashes and comes back", bound: 40, least: 2, rivals: []NodeNumber{1}, offers: []string{1: "a"}, crashes: []NodeNumber{1}},
		{name: "a rival, and an acceptor crashes", bound: 40, least: 1, rivals: []NodeNumber{2}, offers: []string{1: "a"}, crashes: []NodeNumber{3}},
		{name: "a rival, and everybody crashes", bound: 13, least: 1, rivals: []NodeNumber{2}, offers: []string{1: "a"}, crashes: []NodeNumber{1, 2, 3}},
		{name: "a rival with an offer, and the owner crashes", bound: 15, least: 2, rivals: []NodeNumber{2}, offers: []string{1: "a", 2: "b"}, crashes: []NodeNumber{1}},
		{name: "two rivals", bound: 11, least: 2, rivals: []NodeNumber{2, 3}, offers: []string{1: "a", 2: "b"}},
		{name: "a seal and a rival", bound: 40, least: 2, rivals: []NodeNumber{2}, offers: []string{1: "seal", 2: "b"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			start := s.found()
			s.visited = map[state]bool{start: true}
			depth := 0
			for level := []state{start}; len(level) > 0 && depth < s.bound; depth++ {
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
			t.Logf("%d steps deep: %d states of %d member states and %d messages", depth, len(s.visited), len(s.members), len(s.messages))
			if len(s.delivered) < s.least {
				t.Errorf("only %v was ever delivered: the space is empty", s.delivered)
			}
		})
	}
}

// space is what may happen, and what was met. Members, messages and entries have numbers, and what a member does in a
// state is computed once, so that a step costs a look into a map.
type space struct {
	name    string
	bound   int          // steps; a space that ends before is visited whole
	least   int          // so many different deliveries at least must be met, or the space is empty
	rivals  []NodeNumber // each campaigns at most once
	offers  []string     // the command that a member proposes when it leads, by node number
	crashes []NodeNumber // each syncs its disk when it likes, and crashes and restarts at most once

	visited   map[state]bool
	members   []*member
	messages  []Message
	delivered []Delivery
	number    map[string]int // of members, messages and deliveries, by description
	steps     map[step]outcome
}

const tinyMembers = 3

// state is one state of a tiny cell. The sets are of messages ever sent, and of entries ever delivered.
type state struct {
	members   [tinyMembers]int
	sent      [4]uint64
	delivered uint64
	used      [tinyMembers]uint8 // the things that a member does at most once
}

// step is something that happens to a member: a message, or one of the negative numbers.
type step struct{ member, what int }

const (
	stepCampaign = -1 - iota
	stepOffer
	stepSync
	stepCrash
)

// outcome is what came of a step.
type outcome struct {
	member    int
	sent      [4]uint64
	delivered uint64
}

// found makes the first state.
func (s *space) found() (start state) {
	s.number, s.steps = map[string]int{}, map[step]outcome{}
	w := newWorld(Config{Configuration: jury(tinyMembers, 1), Window: 4, BatchCommands: 1, BatchBytes: 64})
	for i, m := range w.members {
		m.slow = slices.Contains(s.crashes, m.cfg.Self)
		start.members[i] = s.internMember(m)
	}
	return start
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
func (s *space) internMember(m *member) int {
	r := m.replica
	key := fmt.Append(nil, r.Describe(), r.ballot, r.seen, r.from, r.promises, r.owed, r.tail, r.next, r.informed, r.asked, r.teacher,
		r.sealing, r.open, r.queue.commands, r.ring, r.adopted, m.disk.image)
	for _, b := range m.disk.tail {
		key = fmt.Append(key, b.promised, b.persist.Records, b.persist.Applied, b.persist.Promised != nil)
	}
	for _, h := range m.held {
		key = fmt.Append(key, h.after-m.disk.durable, h.message.Describe())
	}
	return intern(s, "member", string(key), &s.members, m)
}

// successors lists the states one step away, and checks them.
func (s *space) successors(t *testing.T, from state) (all []state) {
	for i := range from.members {
		m := s.members[from.members[i]]
		for number := range s.messages {
			if to := s.messages[number].To; from.sent[number/64]>>(number%64)&1 == 1 && to == m.cfg.Self {
				all = append(all, s.after(t, from, i, number))
			}
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
	o, ok := s.steps[step{from.members[i], what}]
	if !ok {
		o = s.take(s.members[from.members[i]].clone(), what)
		s.steps[step{from.members[i], what}] = o
	}
	to := from
	to.members[i] = o.member
	to.delivered |= o.delivered
	for k := range to.sent {
		to.sent[k] |= o.sent[k]
	}
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
	case stepSync:
		m.disk.sync(min(1, len(m.disk.tail)))
	case stepCrash:
		m.disk.tail, m.held = nil, nil
		r, err := Restore(m.cfg, m.disk.image.recovery())
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
				s.send(message, o)
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
			m.disk.tail = append(m.disk.tail, diskBatch{persist: e.Persist, promised: m.replica.Promised()})
		}
		for _, message := range e.SendNow {
			s.send(message, o)
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
func (s *space) send(message Message, o *outcome) {
	for to := NodeNumber(1); to <= tinyMembers; to++ {
		if to != message.From && (message.To == 0 || message.To == to) {
			copied := message
			copied.To = to
			n := intern(s, "message", copied.Describe(), &s.messages, copied)
			o.sent[n/64] |= 1 << (n % 64)
		}
	}
}

// check checks one state: one entry per slot, nothing behind a seal, and everything durable on a majority.
func (s *space) check(t *testing.T, to *state) {
	slots := map[Slot]Entry{}
	last, sealed := Slot(0), Slot(0)
	for n, d := range s.delivered {
		if to.delivered>>n&1 == 0 {
			continue
		}
		if other, ok := slots[d.Slot]; ok {
			t.Fatalf("slot %d: %s and %s are both delivered", d.Slot, d.Entry.Describe(), other.Describe())
		}
		slots[d.Slot] = d.Entry
		last = max(last, d.Slot)
		if d.Entry.Kind == Seal {
			sealed = d.Slot
		}
		known := 0
		for _, m := range to.members {
			if s.members[m].disk.image.knows(d.Slot, d.Entry) {
				known++
			}
		}
		if known <= tinyMembers/2 {
			t.Fatalf("slot %d: %s was delivered and is durable on %d members only", d.Slot, d.Entry.Describe(), known)
		}
	}
	if sealed != 0 && last > sealed {
		t.Fatalf("slot %d is delivered behind the seal at %d", last, sealed)
	}
}

// clone copies a member; entries and records are immutable and shared.
func (m *member) clone() *member {
	copied, r := *m, *m.replica
	r.ring, r.adopted, r.open = slices.Clone(r.ring), slices.Clone(r.adopted), slices.Clone(r.open)
	r.queue.commands, r.queue.proposals = slices.Clone(r.queue.commands), slices.Clone(r.queue.proposals)
	copied.replica = &r
	copied.disk.image.ring, copied.disk.tail = slices.Clone(m.disk.image.ring), slices.Clone(m.disk.tail)
	copied.held = slices.Clone(m.held)
	return &copied
}
