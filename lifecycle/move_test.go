package lifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// fakeCell keeps the promises of a cell's log about its configuration.
type fakeCell struct {
	conf     wire.Configured
	next     uint64          // number to issue
	proposer cell.ServerID   // who answers
	requests map[uint64]bool // of learners
	behind   int             // how often a learner is found to be behind
	busy     int             // how often the cell is found to be unsettled
}

// cellOf is the log's view of a cell.
func (w *world) cellOf(k incKey) *fakeCell {
	c := w.cells[k]
	if c == nil {
		f := w.juries[k]
		c = &fakeCell{next: uint64(len(f.Members)) + 1, proposer: f.Members[0].Server, requests: map[uint64]bool{}, behind: 2,
			conf: wire.Configured{Incarnation: k.inc, Number: 1, Alpha: f.Alpha, Members: slices.Clone(f.Members)}}
		w.cells[k] = c
	}
	return c
}

// deliverMove carries a call about a replacement; it reports false for other calls.
func (w *world) deliverMove(s *fakeServer, c Call, answered bool) bool {
	lost := &cell.Error{Op: c.Method, Kind: cell.UnknownResult, Detail: "lost"}
	switch p := c.Params.(type) {
	case *wire.ChangeCell:
		conf, err := w.changeAt(s, p)
		switch {
		case !answered:
			w.m.Done(w.now, c.ID, nil, lost)
		case err != nil:
			w.m.Done(w.now, c.ID, nil, err)
		default:
			w.m.Configured(w.now, c.ID, conf)
		}
	case *wire.CreateLearner:
		err := w.learner(s, p)
		if !answered {
			err = lost
		}
		w.m.Done(w.now, c.ID, nil, err)
	default:
		return false
	}
	w.turn()
	return true
}

// learner makes a learner that the cell has issued a number to.
func (w *world) learner(s *fakeServer, p *wire.CreateLearner) *cell.Error {
	k := incKey{p.Cell, p.Incarnation}
	c := w.cellOf(k)
	if s.tombs[p.Cell] >= p.Incarnation {
		return &cell.Error{Kind: cell.Deleted}
	}
	if nodeOn(c.conf.Learners, s.reg.Server) != p.Node && nodeOn(c.conf.Members, s.reg.Server) != p.Node {
		w.fail("rule 4: %s shall create node %d of %v, which was not issued to it: %+v", s.reg.Server, p.Node, k, c.conf)
	}
	s.nodes[k] = w.juries[k]
	return nil
}

// changeAt is a member's answer.
func (w *world) changeAt(s *fakeServer, p *wire.ChangeCell) (*wire.Configured, *cell.Error) {
	k := incKey{p.Cell, p.Incarnation}
	c := w.cellOf(k)
	switch {
	case nodeOn(c.conf.Members, s.reg.Server) == 0:
		return nil, &cell.Error{Kind: cell.Moved, Pointer: &cell.Pointer{Incarnation: k.inc, Configuration: c.conf.Number}}
	case s.reg.Server != c.proposer && (w.byID[c.proposer].up || p.Attempt < 3):
		return nil, &cell.Error{Kind: cell.NotProposer, Leader: c.proposer}
	case s.reg.Server != c.proposer: // it takes over
		c.proposer = s.reg.Server
		return nil, &cell.Error{Kind: cell.Unavailable, RetryAfter: time.Millisecond}
	case p.Kind != wire.Look && p.Number != c.conf.Number:
		return nil, &cell.Error{Kind: cell.Stale}
	case c.busy > 0:
		c.busy--
	}
	c.conf.Busy, c.conf.Node = c.busy > 0, 0
	if err := c.apply(w, k, p); err != nil {
		return nil, err
	}
	out := c.conf
	out.Members, out.Learners = slices.Clone(out.Members), slices.Clone(out.Learners)
	return &out, nil
}

// apply does what the log does with one change.
func (c *fakeCell) apply(w *world, k incKey, p *wire.ChangeCell) *cell.Error {
	at := slices.IndexFunc(c.conf.Learners, func(f wire.Founder) bool { return f.Node == p.New })
	switch p.Kind {
	case wire.AddLearner:
		if n := nodeOn(c.conf.Learners, p.Server); n != 0 {
			c.conf.Node = n
			return nil
		}
		c.conf.Learners = append(c.conf.Learners, wire.Founder{Node: c.next, Server: p.Server})
		c.conf.Node = c.next
		c.next++
	case wire.DropLearner:
		c.conf.Learners = slices.Delete(c.conf.Learners, at, at+1)
	case wire.Replace:
		i := slices.IndexFunc(c.conf.Members, func(f wire.Founder) bool { return f.Node == p.Old })
		switch {
		case at < 0 || i < 0:
			return &cell.Error{Kind: cell.NotFound}
		case c.behind > 0:
			c.behind--
			return &cell.Error{Kind: cell.Unavailable, RetryAfter: time.Millisecond}
		case c.conf.Members[i].Server == c.proposer:
			c.proposer = c.conf.Members[(i+1)%len(c.conf.Members)].Server
			return &cell.Error{Kind: cell.NotProposer, Leader: c.proposer}
		}
		l := c.conf.Learners[at]
		if _, made := w.byID[l.Server].nodes[k]; !made {
			return &cell.Error{Kind: cell.Unavailable, RetryAfter: time.Millisecond}
		}
		delete(w.byID[c.conf.Members[i].Server].nodes, k)
		w.byID[c.conf.Members[i].Server].leave(k)
		c.conf.Members = append(slices.Delete(c.conf.Members, i, i+1), l)
		c.conf.Learners = slices.Delete(c.conf.Learners, at, at+1)
		c.conf.Number++
		c.behind, c.busy = 2, 3
		c.conf.Busy = true
	}
	return nil
}

func (w *world) replace(wait time.Duration, name cell.ID, remove, add cell.ServerID) RequestID {
	w.nextID++
	w.m.Replace(w.now, w.nextID, wire.ReplaceMember{Cell: name, Remove: remove, Add: add, Wait: uint32(wait / time.Millisecond)})
	w.turn()
	return w.nextID
}

// serversOf are the members that are listed, in order.
func serversOf(c wire.CellInfo) (list []cell.ServerID) {
	for _, m := range c.Members {
		list = append(list, m.Server)
	}
	return list
}

func TestReplaceAMember(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 8)
	w.create(time.Minute, "a")
	w.drain()
	before := serversOf(w.wantCell(t, "a", 1, "live", ""))
	spare := cell.ServerID("")
	for _, s := range w.servers {
		if !slices.Contains(before, s.reg.Server) {
			spare = s.reg.Server
		}
	}
	id := w.replace(time.Minute, "a", before[0], "")
	w.wantCell(t, "a", 1, "live", fmt.Sprintf("%s is being replaced by %s", before[0], spare))
	w.advance(20 * time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(before[1:]), spare)
	if c := w.wantCell(t, "a", 1, "live", ""); !slices.Equal(serversOf(c), want) {
		t.Fatalf("members are %v, want %v", serversOf(c), want)
	}
	if r := w.routes[len(w.routes)-1]; r.Configuration != 2 || len(r.Members) != 7 {
		t.Errorf("route is %+v", r)
	}
	if err := w.outcome(t, w.replace(0, "a", before[0], spare)); err != nil {
		t.Errorf("asked again: %v", err)
	}
	wantError(t, w.outcome(t, w.replace(0, "a", before[0], "")), cell.NotFound, "is no member")
	wantError(t, w.outcome(t, w.replace(0, "a", before[1], before[2])), cell.Exists, "a member already")
	wantError(t, w.outcome(t, w.replace(0, "a", before[1], "nobody")), cell.NotFound, "not known")
	wantError(t, w.outcome(t, w.replace(0, "b", before[1], "")), cell.NotFound, "no such cell")
	w.setUp(w.byID[before[0]], false)
	wantError(t, w.outcome(t, w.replace(0, "a", before[1], "")), cell.NoRoom, "0 live servers")
	w.setUp(w.byID[before[0]], true)
	w.crash()
	w.settle()
	w.checkSettled()
}

// The manager dies before each single effect of a replacement; its successor goes on from the store, or from nothing when the
// wish was not stored yet and is asked for again. The cell ends as it was wanted, with no learner left over.
func TestReplaceSurvivesACrashAtEveryEffect(t *testing.T) {
	run := func(dieAt int) *world {
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("crash before effect %d: %s", dieAt, fmt.Sprintf(format, args...))
		}
		w := newWorld(fail, smallConfig(), 4)
		w.create(time.Minute, "a")
		w.settle()
		before := serversOf(w.wantCell(t, "a", 1, "live", ""))
		w.steps, w.dieAt = 0, dieAt
		w.replace(time.Minute, "a", before[0], "")
		w.settle()
		steps := w.steps
		w.dieAt = 0
		if w.died {
			if !slices.Contains(serversOf(w.wantCell(t, "a", 1, "live", "")), before[0]) {
				steps = 0 // the successor finished it
			} else {
				w.replace(time.Minute, "a", before[0], "")
				w.settle()
			}
		}
		c := w.wantCell(t, "a", 1, "live", "")
		if log := w.cells[incKey{"a", 1}].conf; slices.Contains(serversOf(c), before[0]) || len(log.Learners) > 0 || log.Number != 2 {
			fail("it ends with %v in the store, and %+v in the log", serversOf(c), log)
		}
		w.checkSettled()
		w.steps = steps
		return w
	}
	calm := run(0)
	if calm.steps < 12 {
		t.Fatalf("a replacement has %d effects, too few to be one", calm.steps)
	}
	for k := 1; k <= calm.steps; k++ {
		if w := run(k); !w.died {
			t.Fatalf("no crash before effect %d of %d", k, calm.steps)
		}
	}
}

// Every message about a replacement may be lost on either way; the order of the losses is that of the calls.
func TestReplaceSurvivesLosses(t *testing.T) {
	for n := range 40 {
		w := newWorld(t.Fatalf, smallConfig(), 4)
		w.create(time.Minute, "a")
		w.settle()
		before := serversOf(w.wantCell(t, "a", 1, "live", ""))
		id := w.replace(5*time.Minute, "a", before[1], "")
		for i := 0; len(w.flight) > 0 || i < 30; i++ {
			if len(w.flight) > 0 {
				w.deliver(0, (n>>(i%3))&1 == 0, (n>>(3+i%3))&1 == 0)
			} else if at, ok := w.m.Next(); ok {
				w.now = max(w.now, at)
				w.turn()
			}
		}
		w.settle()
		if err := w.outcome(t, id); err != nil {
			t.Fatalf("losses %06b: %v", n, err)
		}
		w.checkSettled()
	}
}

// A member that was never founded is told of the founding that the cell began with, whatever became of the cell since.
func TestFoundingIsToldAsItWas(t *testing.T) {
	w := newWorld(t.Fatalf, seven(), 8)
	w.create(time.Minute, "a")
	late := w.byID[w.flight[6].Server]
	w.setUp(late, false)
	w.drain()
	members := serversOf(w.wantCell(t, "a", 1, "live", "6 of 7 nodes founded"))
	remove := members[0]
	if remove == late.reg.Server {
		remove = members[1]
	}
	w.replace(time.Minute, "a", remove, "")
	w.advance(20 * time.Second)
	w.crash()
	w.settle() // the world checks what is founded
	if _, ok := late.nodes[incKey{"a", 1}]; !ok {
		t.Error("the member that was down was not founded")
	}
	w.wantCell(t, "a", 1, "live", "")
}

// A founder is told of the founding, and while it is, another member is replaced: the founder has another position in the jury then,
// and its answer must be taken for its own and nobody else's, whatever it is.
func TestFoundingIsAnsweredAfterAReplacement(t *testing.T) {
	for _, answer := range []*cell.Error{nil, {Kind: cell.Deleted}, {Kind: cell.Exists}, {Kind: cell.Refused}, {Kind: cell.UnknownResult}} {
		w := newWorld(t.Fatalf, seven(), 8)
		w.create(time.Minute, "a")
		in := w.m.names["a"]
		late := w.byID[in.Members[6].Server()]
		held := slices.IndexFunc(w.flight, func(c Call) bool { return c.Server == late.reg.Server })
		asked := w.flight[held]
		w.flight = slices.Delete(w.flight, held, held+1)
		w.drain()
		w.replace(time.Minute, "a", in.Members[0].Server(), "")
		for i := 0; in.Configuration == 1; i++ {
			if i > 1000 {
				t.Fatal("no member is replaced")
			}
			w.someFlight()
			w.deliver(0, true, true)
		}
		at := slices.IndexFunc(in.Members, func(m Member) bool { return m.Server() == late.reg.Server })
		if at == 6 {
			t.Fatalf("the late founder is still at position %d", at)
		}
		if answer != nil && answer.Kind == cell.UnknownResult { // the call as a whole
			w.m.Done(w.now, asked.ID, nil, answer)
		} else {
			w.m.Done(w.now, asked.ID, []wire.Outcome{{Err: answer}}, nil)
		}
		w.turn()
		others := memberSet(0)
		if in.work != nil {
			others = in.work.foreign | in.work.refused
		}
		others |= in.Void | (in.all() &^ in.Founded)
		if err := in.Record.check(); err != nil || others&^(1<<at) != 0 || in.Founded.has(at) != (answer == nil) {
			t.Errorf("after %v: %v, %+v", answer, err, in.Record)
		}
	}
}

// A cell that is deleted while a member is being replaced leaves nothing on either server.
func TestDeleteWhileReplacing(t *testing.T) {
	for calls := range 8 {
		w := newWorld(t.Fatalf, seven(), 8)
		w.create(time.Minute, "a")
		w.settle()
		members := serversOf(w.wantCell(t, "a", 1, "live", ""))
		id := w.replace(time.Minute, "a", members[3], "")
		for range calls {
			if len(w.flight) == 0 {
				at, _ := w.m.Next()
				w.now = max(w.now, at)
				w.turn()
				continue
			}
			w.deliver(0, true, true)
		}
		w.delete(time.Minute, wire.Drop{Cell: "a"})
		w.settle()
		if err := w.outcome(t, id); err != nil {
			wantError(t, err, cell.Deleted, "is sealing meanwhile")
		}
		w.wantCell(t, "a", 1, "deleted", "")
		for _, s := range w.servers {
			if _, left := s.nodes[incKey{"a", 1}]; left {
				t.Errorf("after %d calls: %s hosts it still", calls, s.reg.Server)
			}
		}
	}
}
