package paxos

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"testing"
)

// TestEverySchedule enumerates instead of drawing: for tiny cells it visits every state that any order of deliveries can
// lead to. Messages are a set that only grows, and each of them may arrive at any time, again and again or never, which
// is every loss, duplication and reordering there is. The checkers watch every step.
func TestEverySchedule(t *testing.T) {
	for _, space := range []space{
		{name: "one rival", rivals: []NodeNumber{2}, offers: []string{"", "a", "b", ""}},
		{name: "one rival, two slots, the owner crashes", rivals: []NodeNumber{2}, offers: []string{"", "a", "", ""}, crashes: []NodeNumber{1}, slow: []NodeNumber{1}},
		{name: "one rival, an acceptor crashes", rivals: []NodeNumber{2}, offers: []string{"", "a", "b", ""}, crashes: []NodeNumber{3}, slow: []NodeNumber{3}},
		{name: "two rivals", rivals: []NodeNumber{2, 3}, offers: []string{"", "a", "b", ""}},
		{name: "the owner comes back", rivals: []NodeNumber{1}, offers: []string{"", "a", "", ""}, crashes: []NodeNumber{1}, slow: []NodeNumber{1}},
	} {
		t.Run(space.name, func(t *testing.T) {
			space.seen = map[uint64]bool{}
			space.seed = maphash.MakeSeed()
			w := newWorld(Config{Configuration: jury(3, 1), Window: 4, BatchCommands: 1, BatchBytes: 64})
			for _, n := range space.slow {
				w.member(n).slow = true
			}
			defer func() {
				if p := recover(); p != nil {
					t.Fatalf("%v\nafter\n%v", detected(p), space.path)
				}
			}()
			space.visit(&node{w: w})
			t.Logf("%d states, %d steps", len(space.seen), space.steps)
		})
	}
}

// space is what may happen, and what was visited.
type space struct {
	name    string
	rivals  []NodeNumber // each campaigns at most once
	offers  []string     // the command that a member proposes, by node number
	crashes []NodeNumber // each crashes and restarts at most once
	slow    []NodeNumber // each syncs its disk when it likes

	seen  map[uint64]bool
	seed  maphash.Seed
	path  []string
	steps int
}

// node is one state.
type node struct {
	w    *world
	done [4]struct{ campaigned, offered, crashed bool }
}

// visit visits a state, unless it was visited before, and everything behind it.
func (s *space) visit(n *node) {
	key := maphash.Bytes(s.seed, n.key(nil))
	if s.seen[key] {
		return
	}
	s.seen[key] = true
	for i := range n.w.network {
		message := n.w.network[i]
		s.try(n, message.Describe(), func(x *node) { x.w.obey(x.w.step(message)) })
	}
	for _, who := range s.rivals {
		if m := n.w.member(who); !n.done[who].campaigned && m.replica.Role() == Follower {
			s.try(n, fmt.Sprint("campaign ", who), func(x *node) {
				x.done[who].campaigned = true
				x.w.member(who).replica.Campaign()
				x.w.obey(x.w.member(who))
			})
		}
	}
	for who, command := range s.offers {
		if command == "" || n.done[who].offered || n.w.members[who-1].replica.Role() == Follower {
			continue
		}
		s.try(n, "propose "+command, func(x *node) {
			x.done[who].offered = true
			x.w.propose(x.w.members[who-1], command)
			x.w.obey(x.w.members[who-1])
		})
	}
	s.disks(n)
}

// disks tries every sync and crash.
func (s *space) disks(n *node) {
	for _, who := range s.slow {
		if m := n.w.member(who); len(m.disk.tail) > 0 || len(m.held) > 0 {
			s.try(n, fmt.Sprint("sync ", who), func(x *node) {
				x.w.sync(x.w.member(who), min(1, len(m.disk.tail)))
				x.w.obey(x.w.member(who))
			})
		}
	}
	for _, who := range s.crashes {
		if !n.done[who].crashed {
			s.try(n, fmt.Sprint("crash ", who), func(x *node) {
				x.done[who].crashed = true
				x.w.crash(x.w.member(who), 0)
				x.w.restart(x.w.member(who))
				x.w.obey(x.w.member(who))
			})
		}
	}
}

// try takes one step in a copy of the state.
func (s *space) try(n *node, what string, step func(*node)) {
	s.steps++
	s.path = append(s.path, what)
	x := n.clone()
	sent := len(x.w.network)
	step(x)
	x.w.asSet(sent)
	s.visit(x)
	s.path = s.path[:len(s.path)-1]
}

// asSet drops the messages sent since that are under way already, and sorts, so that equal sets look equal.
func (w *world) asSet(since int) {
	known := w.network[:since:since]
	for _, message := range w.network[since:] {
		same := func(m Message) bool { return m.Describe() == message.Describe() }
		if !slices.ContainsFunc(known, same) {
			known = append(known, message)
		}
	}
	w.network = known
}

// key says everything about a state that can make a difference later on.
func (n *node) key(b []byte) []byte {
	b = fmt.Append(b, n.done)
	for _, m := range n.w.members {
		r := m.replica
		b = fmt.Append(b, r.Describe(), r.ballot, r.seen, r.from, r.promises, r.owed, r.tail, r.next, r.informed, r.asked, r.teacher,
			len(r.queue.commands), len(m.disk.tail), len(m.held))
		for i := range r.open {
			b = fmt.Append(b, r.open[i])
		}
		for _, record := range r.ring {
			b = append(b, record.Describe()...)
		}
		for _, a := range r.adopted {
			b = append(b, a.record.Describe()...)
		}
		for _, stored := range m.disk.image.ring {
			b = append(b, stored.record.Describe()...)
		}
		for _, h := range m.held {
			b = append(b, h.message.Describe()...)
		}
	}
	var under []string
	for i := range n.w.network {
		under = append(under, n.w.network[i].Describe())
	}
	slices.Sort(under)
	return fmt.Append(b, under, n.w.check.agreed)
}

// clone copies a state; entries and records are immutable and shared.
func (n *node) clone() *node {
	x := &node{w: &world{tell: n.w.tell, asked: n.w.asked, reads: n.w.reads, network: slices.Clone(n.w.network)}, done: n.done}
	for _, m := range n.w.members {
		copied := *m
		r := *m.replica
		r.ring, r.adopted, r.open = slices.Clone(r.ring), slices.Clone(r.adopted), slices.Clone(r.open)
		r.queue.commands, r.queue.proposals = slices.Clone(r.queue.commands), slices.Clone(r.queue.proposals)
		copied.replica = &r
		copied.disk.image.ring, copied.disk.tail = slices.Clone(m.disk.image.ring), slices.Clone(m.disk.tail)
		copied.held = slices.Clone(m.held)
		x.w.members = append(x.w.members, &copied)
	}
	x.w.check = n.w.check.clone(x.w)
	return x
}

// clone copies a checker for a copied world.
func (c *checker) clone(w *world) *checker {
	x := *c
	x.w, x.agreed, x.states = w, slices.Clone(c.agreed), slices.Clone(c.states)
	x.offers = make(map[Slot][]*offer, len(c.offers))
	for s, offers := range c.offers {
		for _, o := range offers {
			copied := *o
			x.offers[s] = append(x.offers[s], &copied)
		}
	}
	x.told, x.asked = maps.Clone(c.told), maps.Clone(c.asked)
	x.fates, x.named = make(map[Proposal]*fate, len(c.fates)), make(map[string]*fate, len(c.named))
	for p, f := range c.fates {
		copied := *f
		x.fates[p], x.named[f.command] = &copied, &copied
	}
	return &x
}
