package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// server is what the manager knows of one server, and what it still has to tell it.
type server struct {
	id     cell.ServerID
	reg    wire.Registration
	known  bool // reg is set
	up     bool
	listed bool // in Manager.active

	scan    *scan  // under way
	scanned uint32 // the last round in which everything that it hosts was heard
	first   uint32 // the first such round since the rebuild began, or since the start; 0: none
	graves  uint64 // how far its tombstones were read, of the boot below
	buried  uint64

	todo      []task // from head on; kept while the server is down
	head      int
	calls     int // batches in flight
	seals     int // seals in flight
	limits    buckets
	replacing int // replacements under way that take a member from here, or bring one
	stuck     int // of them, those that have not got on for long; they are in nobody's way
	failures  int // batches that failed in a row
	notBefore time.Duration
}

// task asks one member of one incarnation whatever its job is when the task comes up. It names the member, not its position: that
// changes when another member is replaced while the task waits.
type task struct {
	in     *incarnation
	member Member
}

// place is the member's position now, or -1: it is a member no more.
func (t *task) place() int { return slices.Index(t.in.Members, t.member) }

// call is a request in flight: a batch of one kind of job, a seal, or a question to a survivor.
type call struct {
	server *server
	job    job
	tasks  []task
	seal   *incarnation
	export *survey
	scan   *scan
	stray  []stray

	move    *moving // the replacement that it is a step of
	creates uint32  // the learner that is asked for
}

// server finds or makes the entry of a server.
func (m *Manager) server(id cell.ServerID) *server {
	s := m.servers[id]
	if s == nil {
		s = &server{id: id}
		m.servers[id] = s
	}
	return s
}

// wake makes the next Effects look at a server's queue.
func (m *Manager) wake(s *server) {
	if !s.listed {
		s.listed = true
		m.active = append(m.active, s)
	}
}

// queue adds a task to its server's queue. The queue outlives the server's absence, so nothing has to be searched for when
// it returns; a task that has become needless by then is dropped when it comes up.
func (m *Manager) queue(t task) {
	s := m.server(t.member.Server())
	if s.head > 64 && s.head > len(s.todo)/2 {
		s.todo = append(s.todo[:0], s.todo[s.head:]...)
		s.head = 0
	}
	s.todo = append(s.todo, t)
	m.wake(s)
}

// ready reports whether a server can be told something now.
func (m *Manager) ready(s *server) bool { return s.up && m.now >= s.notBefore && s.head < len(s.todo) }

// tell makes calls of what is queued, within the bounds. Servers that got nothing because of the total bound come first
// the next time.
func (m *Manager) tell() {
	var starved, served []*server
	for _, s := range m.active {
		told := false
		for m.ready(s) && s.calls < m.config.CallsPerServer && m.telling < m.config.Calls {
			m.tellServer(s)
			told = true
		}
		switch {
		case !m.ready(s):
			s.listed = false
		case told:
			served = append(served, s)
		default:
			starved = append(starved, s)
		}
	}
	m.active = append(starved, served...)
}

// tellServer takes one batch off a server's queue: at most one call of foundings, one of recoveries and one of drops.
func (m *Manager) tellServer(s *server) {
	var founding, recovering, dropping []task
	size := 0 // of the states
	for len(founding)+len(recovering)+len(dropping) < m.config.Batch && size < recoverBytes && s.head < len(s.todo) {
		t := s.todo[s.head]
		s.todo[s.head] = task{}
		s.head++
		i := t.place()
		if i < 0 {
			m.pursue(t.in)
			continue
		}
		switch j := t.in.job(i); {
		case j == found && t.in.recovery != nil:
			recovering = append(recovering, t)
			size += t.in.recovery.size()
		case j == found:
			founding = append(founding, t)
		case j == drop && m.pauses[DeleteCells] != nil:
			m.heldDrops = append(m.heldDrops, t)
		case j == drop:
			dropping = append(dropping, t)
		default:
			t.in.begin().queued.remove(i)
			m.pursue(t.in)
		}
	}
	if s.head == len(s.todo) {
		s.todo, s.head = s.todo[:0], 0
	}
	if len(founding) > 0 {
		p := &wire.CreateNodes{Foundings: make([]wire.Founding, len(founding))}
		for i, t := range founding {
			p.Foundings[i] = m.founding(t.in)
		}
		m.call(&call{server: s, job: found, tasks: founding}, wire.MethodCreateNodes, p, m.config.CallTimeout)
	}
	if len(recovering) > 0 {
		m.tellRecoveries(s, recovering)
	}
	if len(dropping) > 0 {
		p := &wire.DropNodes{Sealed: true, Drops: make([]wire.Drop, len(dropping))}
		for i, t := range dropping {
			p.Drops[i] = t.in.Record.drop()
		}
		m.call(&call{server: s, job: drop, tasks: dropping}, wire.MethodDropNodes, p, m.config.CallTimeout)
	}
}

// founding is what a server is told of an incarnation, with the addresses known now; the jury itself never changes.
func (m *Manager) founding(in *incarnation) wire.Founding {
	members := m.founders(in.Members)
	if in.Founding != nil {
		members = m.founders(in.founding())
	}
	return wire.Founding{Cell: in.Cell, Incarnation: in.Incarnation, Members: members, Owner: in.Owner, Alpha: in.Alpha}
}

// call registers a call and hands it out with the next Effects, behind everything that it relies on.
func (m *Manager) call(c *call, method string, params wire.Message, timeout time.Duration) {
	m.lastID++
	m.calls[m.lastID] = c
	switch {
	case c.export != nil, c.scan != nil, c.stray != nil: // bounded elsewhere
	case c.move != nil:
		m.moving++
	case c.seal != nil:
		m.sealing++
		c.server.seals++
	default:
		m.telling++
		c.server.calls++
	}
	m.out.Calls = append(m.out.Calls, Call{ID: m.lastID, Server: c.server.id, Method: method, Params: params, Timeout: timeout})
}

// Done reports how a call ended: with the outcomes of its batch, in order, or with an error for the whole of it. A seal
// ends with neither when it succeeded. Each call ends once; another report of it is ignored.
func (m *Manager) Done(now time.Duration, id CallID, outcomes []wire.Outcome, err *cell.Error) {
	m.now = now
	c := m.calls[id]
	if c == nil {
		return
	}
	switch {
	case c.export != nil:
		m.Exported(now, id, nil, err)
		return
	case c.scan != nil:
		m.Heard(now, id, nil, nil, err)
		return
	case c.stray != nil:
		m.straysDone(id, c)
		return
	case c.move != nil:
		m.moveDone(id, c, err)
		return
	}
	delete(m.calls, id)
	if c.seal != nil {
		m.sealing--
		c.server.seals--
		m.sealDone(c, err)
		return
	}
	m.telling--
	c.server.calls--
	if err == nil && len(outcomes) != len(c.tasks) {
		err = &cell.Error{Op: "lifecycle.call", Kind: cell.Internal,
			Detail: fmt.Sprintf("server %s answered %d of %d", c.server.id, len(outcomes), len(c.tasks))}
	}
	if err != nil {
		m.batchFailed(c, err)
		return
	}
	c.server.failures = 0
	for i, t := range c.tasks {
		k := t.place()
		if k < 0 {
			m.pursue(t.in)
			continue
		}
		t.in.begin().queued.remove(k)
		if c.job == found {
			m.foundDone(t, k, outcomes[i].Err)
		} else {
			m.dropDone(t, k, outcomes[i].Err)
		}
	}
	m.wake(c.server)
}

// batchFailed puts the tasks back and leaves the server alone for a while.
func (m *Manager) batchFailed(c *call, err *cell.Error) {
	s := c.server
	s.failures++
	pause := m.backoff(s.failures, err)
	s.notBefore = m.now + pause
	m.after(pause, func() { m.wake(s) })
	for _, t := range c.tasks {
		t.in.begin().note(s.id, err)
		m.queue(t)
	}
}

// foundDone takes a server's answer to a founding; i is the member's position.
func (m *Manager) foundDone(t task, i int, err *cell.Error) {
	in, w := t.in, t.in.work
	switch {
	case err == nil:
		in.Founded.add(i)
		in.seen.add(i)
		w.refused.remove(i)
	case err.Kind == cell.Deleted && in.Founded.has(i): // a census saw it meanwhile; the next one tells what became of it
	case err.Kind == cell.Deleted:
		in.Void.add(i)
	case err.Kind == cell.Stale || err.Kind == cell.Exists:
		w.foreign.add(i)
		if in.State == Wiping {
			in.Dropped.add(i) // it hosts nothing of this jury, and never will
		}
	default:
		if err.Kind != cell.Overloaded && err.Kind != cell.Unavailable {
			w.refused.add(i)
		}
		m.park(t, i, err)
	}
	if err != nil {
		w.note(in.Members[i].Server(), err)
		m.answerRefused(in)
	}
	m.advance(in)
}

// dropDone takes a server's answer to a drop. Only what leaves the server's tombstone behind counts: otherwise a
// founding that is still under way could bring the node back.
func (m *Manager) dropDone(t task, i int, err *cell.Error) {
	if err == nil || err.Kind == cell.Deleted {
		t.in.Dropped.add(i)
	} else {
		t.in.work.note(t.member.Server(), err)
		m.park(t, i, err)
	}
	m.advance(t.in)
}

// park asks again later what one member has declined.
func (m *Manager) park(t task, i int, err *cell.Error) {
	w := t.in.begin()
	w.queued.add(i)
	if w.tries[i] < 100 {
		w.tries[i]++
	}
	m.after(m.backoff(int(w.tries[i]), err), func() { m.queue(t) })
}

// note keeps the last thing that went wrong, for people.
func (w *work) note(by cell.ServerID, err *cell.Error) { w.lastBy, w.lastErr = by, err }

// backoff is the pause before try n+1: doubling from RetryMin to RetryMax, half of it at random, and never less than
// the other side asked for.
func (m *Manager) backoff(n int, err *cell.Error) time.Duration {
	d := m.config.RetryMax
	if n < 20 {
		d = min(d, m.config.RetryMin<<(n-1))
	}
	d = d/2 + time.Duration(m.dice.Int64N(int64(d)/2+1))
	if err != nil {
		d = max(d, min(err.RetryAfter, m.config.RetryMax))
	}
	return d
}
