package sim

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/core"
	"physalia/paxos"
)

// story is a world that a test tells step by step: one cell on seven servers, s1 to s7, with a client or two that do what
// the test says. Every story ends with heal-and-judge, like every other world.
type story struct {
	*World
	t    *testing.T
	cell *volume
	me   *client
}

// scenario begins a story. Options change its schedule. The cell exists, and s1 leads it.
func scenario(t *testing.T, options ...func(*Schedule)) *story {
	t.Helper()
	p := Schedule{Seed: 1, Servers: 7, Cells: 1, Alpha: 4, Batch: 2, Ops: 1, Span: time.Hour, Sync: millisecond, Turn: millisecond / 10,
		Idle: time.Minute, Attempt: 50 * millisecond, Patience: 10 * time.Second}
	for _, option := range options {
		option(&p)
	}
	w := newWorld(p)
	s := &story{World: w, t: t, cell: w.cells[0], me: w.newClient(w.cells[0], 0)}
	s.me.left = 0
	s.until("creation", func() bool {
		for _, x := range s.cell.members {
			if !s.cell.created[x.at] {
				return false
			}
		}
		return true
	})
	s.lead(1)
	s.write()
	return s
}

// anotherClient has a route, a session and a luck of its own.
func (s *story) anotherClient() *client {
	c := s.newClient(s.cell, len(s.clients))
	c.left = 0
	return c
}

// pass lets time pass.
func (s *story) pass(d time.Duration) {
	s.t.Helper()
	if s.runUntil(s.now+d, never); s.failure != nil {
		s.t.Fatal(s.failure)
	}
}

// until lets time pass until something is so; it must be so within three seconds, the time that a cell may take to be
// writable again.
func (s *story) until(what string, so func() bool) {
	s.t.Helper()
	if !s.runUntil(s.now+3*time.Second, so) {
		s.t.Fatalf("%s: not within 3 s; %v", what, s.failure)
	}
}

// begins lets a client begin an operation and does not wait.
func (s *story) begins(c *client, kind opKind) *op {
	o, key := c.newOp(), 0
	if kind == opPut {
		key = 1 // the first is for counting
	}
	c.shape(o, kind, key)
	c.run(o)
	return o
}

// does lets a client do an operation; it must be answered, within the time that a cell may take to find a new proposer.
func (s *story) does(c *client, kind opKind) *op {
	s.t.Helper()
	o := s.begins(c, kind)
	s.until(kind.String(), func() bool { return o.fate != pending })
	if o.fate != answered {
		s.t.Fatalf("%s ended as %v at %v", kind, o.fate, s.now)
	}
	return o
}

// write adds one to the counter.
func (s *story) write() { s.t.Helper(); s.does(s.me, opIncrement) }

// expectRead reads the counter, linearizably.
func (s *story) expectRead(c *client, want int64) {
	s.t.Helper()
	if got, _ := s.does(c, opGet).seen(); got != want {
		s.t.Fatalf("read %d, want %d", got, want)
	}
}

// isolate cuts servers (by number, from 1 on) off from the others until mend.
func (s *story) isolate(servers ...int) {
	s.cut(allLanes, names(servers), ^names(servers))
	s.cut(allLanes, ^names(servers), names(servers))
}

// cut cuts lanes one way until mend.
func (s *story) cut(lanes Lanes, from, to Servers) {
	for a := range s.servers {
		for b := range s.servers {
			if from.Has(a) && to.Has(b) && a != b {
				s.net.change(a, b, lanes, 1)
			}
		}
	}
}

// names are servers as stories call them.
func names(servers []int) (set Servers) {
	for _, n := range servers {
		set |= 1 << (n - 1)
	}
	return set
}

// reach lets a client reach these servers and no others.
func (s *story) reach(c *client, servers ...int) {
	for i := range s.servers {
		s.net.clientCut[c.session.at][i] = 1
		if names(servers).Has(i) {
			s.net.clientCut[c.session.at][i] = 0
		}
	}
}

// mend ends all cuts.
func (s *story) mend() { s.net.lanes = [lanesCount][siteMax][siteMax]int{} }

// server is found by its number.
func (s *story) server(n int) *server { return s.servers[n-1] }

// restart crashes a server, which loses what it had not synced, and starts it again.
func (s *story) restart(servers ...int) {
	s.each(names(servers), func(x *server) { x.crash(0) })
	s.each(names(servers), func(x *server) { s.revive(x) })
	s.pass(5 * millisecond)
}

// lead makes a server campaign, or be handed the cell, until it leads.
func (s *story) lead(n int) {
	s.t.Helper()
	next := time.Duration(0)
	s.until("lead", func() bool {
		if s.now >= next {
			next = s.now + 50*millisecond
			s.handOver(s.cell, s.server(n))
			s.provoke(s.cell, s.server(n))
		}
		return s.proposer(s.cell) == s.server(n)
	})
}

// pause lets a server stand still; resume lets it go on.
func (s *story) pause(n int)  { s.server(n).paused++ }
func (s *story) resume(n int) { s.server(n).paused--; s.server(n).wake() }

// drop wipes a server's node of the sealed cell, as the control plane does.
func (s *story) drop(n int) {
	s.t.Helper()
	done := false
	x := s.server(n)
	x.inbox.calls = append(x.inbox.calls, func(k *core.Core) {
		k.DropNodes(core.Origin{Conn: &call{wire.MethodDropNodes, func([]byte, *cell.Error) { done = true }}},
			&wire.DropNodes{Sealed: true, Drops: []wire.Drop{{Cell: s.cell.id, Incarnation: 1}}})
	})
	x.wake()
	s.until("drop", func() bool { return done })
}

// over heals the world and asks every checker.
func (s *story) over() {
	s.t.Helper()
	if s.end(); s.failure != nil {
		s.t.Fatal(s.failure)
	}
}

// sent counts messages of a kind so far.
func (s *story) sent(kind paxos.MessageKind) int { return s.report.Messages[kind] }
