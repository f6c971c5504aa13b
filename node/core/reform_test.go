package core

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// The tests' control plane: it asks, waits where it is told to, and goes by what it sees.

// settled is long enough for anything to be repeated that was lost.
const settled = 3 * time.Second

// roundsMax is how often the tests' control plane asks before it gives up.
const roundsMax = 400

// reach finds somebody who answers a request about a cell for good, as a client does; ok is false when there is nobody now.
// A server that does not answer at all is one to be asked again.
func (c *colony) reach(method string, ask func(attempt uint32) wire.Message) (Reply, bool) {
	c.t.Helper()
	next := 0
	for attempt := range uint32(3 * len(c.servers)) {
		i := next
		next = (i + 1) % len(c.servers)
		if c.servers[i].core == nil {
			continue
		}
		to := c.send(i, method, ask(attempt))
		r, answered := c.replies[to.ID]
		if !answered {
			return Reply{}, false
		}
		switch {
		case r.Err == nil:
			return r, true
		case r.Err.Kind == cell.NotProposer:
			for j := range c.servers {
				if serverID(j) == r.Err.Leader && c.servers[j].core != nil {
					next = j
				}
			}
		case r.Err.Kind == cell.UnknownHere || r.Err.Kind == cell.Moved || r.Err.Kind == cell.Quarantined:
		default:
			return r, true
		}
	}
	return Reply{}, false
}

// ask asks a cell's proposer for a change.
func (c *colony) ask(m wire.ChangeCell) (*wire.Configured, *cell.Error) {
	c.t.Helper()
	r, ok := c.reach(wire.MethodChange, func(attempt uint32) wire.Message {
		m.Timeout, m.Attempt = 100, attempt
		return &m
	})
	switch {
	case !ok:
		return nil, &cell.Error{Kind: cell.Unavailable}
	case r.Err != nil:
		return nil, r.Err
	}
	return r.Result.(*wire.Configured), nil
}

// learnerAt asks a server for a learner.
func (c *colony) learnerAt(i int, id cell.ID, conf *wire.Configured, node, request uint64) *cell.Error {
	c.t.Helper()
	to := c.origin()
	c.servers[i].core.CreateLearner(to, &wire.CreateLearner{Cell: id, Incarnation: conf.Incarnation, Node: node, Request: request, Number: conf.Number,
		Alpha: conf.Alpha, Members: conf.Members})
	c.settle()
	return c.answer(to).Err
}

// hostOf is the node that a server hosts in a list, or zero.
func hostOf(list []wire.Founder, i int) uint64 {
	for _, f := range list {
		if f.Server == serverID(i) {
			return f.Node
		}
	}
	return 0
}

// step does the next thing that replacing a member needs, from what the cell shows, and reports whether it is done.
func (c *colony) step(id cell.ID, old, fresh int) bool {
	conf, err := c.ask(wire.ChangeCell{Cell: id, Kind: wire.Look})
	if err != nil || conf.Busy {
		return false
	}
	change := wire.ChangeCell{Cell: id, Number: conf.Number, Request: uint64(fresh + 1), Old: hostOf(conf.Members, old)}
	switch learner := hostOf(conf.Learners, fresh); {
	case change.Old == 0 && hostOf(conf.Members, fresh) != 0:
		return true
	case learner == 0:
		change.Kind, change.Server = wire.AddLearner, serverID(fresh)
		c.ask(change)
	case c.servers[fresh].core != nil && c.learnerAt(fresh, id, conf, learner, change.Request) == nil:
		change.Kind, change.New = wire.Replace, learner
		c.ask(change)
	}
	return false
}

// replace replaces the member on one server by one on another.
func (c *colony) replace(id cell.ID, old, fresh int) {
	c.t.Helper()
	for range roundsMax {
		if c.step(id, old, fresh) {
			return
		}
		c.wait(40 * time.Millisecond)
	}
	conf, err := c.ask(wire.ChangeCell{Cell: id, Kind: wire.Look})
	c.t.Fatalf("%s: s%d was not replaced by s%d: %+v, %v", id, old+1, fresh+1, conf, err)
}

// add adds one to "n", wherever the cell is led and however often it has to be asked.
func (c *colony) add(id cell.ID, sequence uint64) {
	c.t.Helper()
	for range roundsMax {
		r, ok := c.reach(wire.MethodTxn, func(attempt uint32) wire.Message {
			m := &wire.TxnRequest{Header: header(id), Request: requestOf(sequence), Txn: increment("n")}
			m.Header.Attempt = attempt
			return m
		})
		if ok && r.Err == nil {
			var reply wire.TxnReply // it may have been forwarded
			if err := wire.Unmarshal(r.Result.Append(nil), &reply); err != nil {
				c.t.Fatal(err)
			}
			if got := reply.Result.Results[0].Entry.Value; !got.Equal(cell.Int(int64(sequence))) {
				c.t.Fatalf("write %d came to %v", sequence, got)
			}
			return
		}
		if ok && r.Err.Kind != cell.Unavailable && r.Err.Kind != cell.UnknownResult && r.Err.Kind != cell.Overloaded {
			c.t.Fatalf("write %d: %v", sequence, r.Err)
		}
		c.wait(100 * time.Millisecond)
	}
	c.t.Fatalf("write %d was not answered", sequence)
}

// hosts reports what number a server's node of a cell has, or zero.
func (c *colony) hosts(i int, id cell.ID) paxos.NodeNumber {
	if h := c.servers[i].core.find(id); h != nil {
		return h.node
	}
	return 0
}

// mustBeMoved checks that a server knows only where the cell went.
func (c *colony) mustBeMoved(i int, id cell.ID, configuration uint64) {
	c.t.Helper()
	if n := c.hosts(i, id); n != 0 {
		c.t.Errorf("s%d hosts node %d still", i+1, n)
	}
	e := c.mustFail(c.count(i, id, 1<<40), cell.Moved)
	if e.Pointer == nil || e.Pointer.Configuration != configuration || e.Pointer.Incarnation != 1 || len(e.Pointer.Servers) != 7 {
		c.t.Errorf("s%d points to %+v, want configuration %d", i+1, e.Pointer, configuration)
	}
}

func TestReplaceAMember(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.replace("vol-1", 2, 7)
	c.mustCount(0, "vol-1", 2, 2)
	c.wait(settled)
	c.mustBe(c.read(7, "vol-1", true), 2)
	c.mustBeMoved(2, "vol-1", 2)
	c.restart(2)
	c.mustBeMoved(2, "vol-1", 2)
	if got := c.servers[2].core.Pointers(); got != 1 {
		t.Errorf("%d pointers after a restart, want 1", got)
	}
	for i := range 8 {
		c.restart(i)
	}
	c.wait(settled)
	c.add("vol-1", 3)
	if h := c.servers[0].core.find("vol-1"); h.configuration.Number != 2 || len(h.members) != 7 || h.members[6].id != serverID(7) {
		t.Errorf("s1 goes by %s", h.configuration.Describe())
	}
}

// The proposer itself is replaced: it hands over first.
func TestReplaceTheProposer(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.replace("vol-1", 0, 7)
	c.add("vol-1", 2)
	c.wait(settled)
	c.mustBeMoved(0, "vol-1", 2)
}

// Every member is replaced, one after the other, while the cell is written and servers crash at any moment. The seeds stand
// for the moments.
func TestAllSevenReplacedUnderLoad(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := newColony(t, 14)
			c.create("vol-1")
			dice := rand.New(rand.NewPCG(seed, 7))
			written, down := uint64(0), -1
			for i := range 7 {
				done := false
				for round := 0; !done; round++ {
					if round > roundsMax {
						t.Fatalf("member %d was not replaced", i+1)
					}
					switch {
					case down < 0 && dice.IntN(4) == 0:
						down = dice.IntN(14)
						c.crash(down, dice.IntN(2) == 0)
					case down >= 0 && dice.IntN(4) == 0:
						c.start(down)
						down = -1
					}
					done = c.step("vol-1", i, 7+i)
					written++
					c.add("vol-1", written)
					c.wait(40 * time.Millisecond)
				}
			}
			if down >= 0 {
				c.start(down)
			}
			c.wait(settled)
			c.add("vol-1", written+1)
			c.wait(settled)
			for i := range 14 {
				if len(c.servers[i].sick) > 0 {
					t.Errorf("s%d: %q", i+1, c.servers[i].sick)
				}
				if i < 7 {
					if e := c.mustFail(c.count(i, "vol-1", 1<<40), cell.Moved); e.Pointer.Configuration < uint64(i+2) {
						t.Errorf("s%d points to configuration %d", i+1, e.Pointer.Configuration)
					}
				} else {
					c.mustBe(c.read(i, "vol-1", true), int64(written+1))
				}
			}
		})
	}
}

// Hazard H12: a change is chosen by members 1 to 4 while 5, 6 and 7 hear nothing. The proposer and the new member die; the
// others need 5 and 6, who know nothing of the change, and must not refuse what would teach them.
func TestH12LaggardsTakeMessagesOfTheFuture(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.only(0, 1, 2, 3, 7)
	c.replace("vol-1", 6, 7)
	for n := uint64(2); n <= 40; n++ { // beyond the ring
		c.add("vol-1", n)
	}
	c.crash(0, false)
	c.crash(7, false)
	c.lost = nil
	c.wait(settled)
	c.add("vol-1", 41)
	c.wait(settled)
	for _, i := range []int{4, 5} {
		c.mustBe(c.read(i, "vol-1", true), 41)
	}
	// Member 7 was not heard of while it was dismissed; when it asks for its cell, it is told.
	for range 7 {
		c.send(6, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1 << 40), Txn: increment("n")})
		c.wait(settled)
	}
	c.mustBeMoved(6, "vol-1", 2)
}

// Hazard H13: two managers, and one that was restored from a backup. Numbers come from the cell, and a number that was given
// to one server is nothing on another.
func TestH13NumbersAreIssuedOnce(t *testing.T) {
	c := newColony(t, 10)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	add := func(request uint64, i int) (*wire.Configured, *cell.Error) {
		return c.ask(wire.ChangeCell{Cell: "vol-1", Kind: wire.AddLearner, Number: 1, Request: request, Server: serverID(i)})
	}
	first, err := add(1, 7)
	if err != nil || first.Node != 8 {
		t.Fatalf("first learner: %+v, %v", first, err)
	}
	if again, err := add(1, 7); err != nil || again.Node != 8 {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	if _, err := add(2, 7); err == nil || err.Kind != cell.Exists {
		t.Errorf("another request for the same server: %v", err)
	}
	second, err := add(2, 8)
	if err != nil || second.Node != 9 {
		t.Fatalf("second learner: %+v, %v", second, err)
	}
	// A manager that remembers wrongly creates node 8 on the tenth server, and asks for it to vote.
	if err := c.learnerAt(9, "vol-1", second, 8, 1); err != nil {
		t.Fatal(err)
	}
	c.wait(settled)
	if _, err := c.ask(wire.ChangeCell{Cell: "vol-1", Kind: wire.Replace, Number: 1, Old: 7, New: 8}); err == nil || err.Kind != cell.Unavailable {
		t.Errorf("a number that is nobody's became a member: %v", err)
	}
	if h := c.servers[9].core.find("vol-1"); h.hot != nil && !h.hot.replica.IsUntaught() {
		t.Error("the impostor was taught")
	}
	if err := c.learnerAt(7, "vol-1", second, 8, 1); err != nil {
		t.Fatal(err)
	}
	c.replace("vol-1", 6, 7)
	if _, err := c.ask(wire.ChangeCell{Cell: "vol-1", Kind: wire.Replace, Number: 1, Old: 5, New: 9}); err == nil || err.Kind != cell.Stale {
		t.Errorf("a plan for the configuration before: %v", err)
	}
	c.add("vol-1", 2)
}

// Hazard H13, second form, and what is left of a node that went: a founding or a learner that is asked for again never makes a
// node anew that forgot what it promised.
func TestNothingComesBackThatLeft(t *testing.T) {
	c := newColony(t, 9)
	c.create("vol-1")
	founded := foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)
	conf, err := c.ask(wire.ChangeCell{Cell: "vol-1", Kind: wire.Look})
	if err != nil {
		t.Fatal(err)
	}
	c.replace("vol-1", 2, 7)
	c.replace("vol-1", 7, 8)
	c.wait(settled)
	for restarted := range 2 {
		for _, i := range []int{0, 2} { // one moved on with the cell, the other left
			if err := c.createAt(i, founded); err != nil {
				t.Errorf("founding told again to s%d: %v", i+1, err)
			}
			if err := c.createAt(i, foundingOf("vol-1", 1, 2, 1, 0, 3, 4, 5, 6)); err == nil || err.Kind != cell.Stale {
				t.Errorf("another founding told to s%d: %v", i+1, err)
			}
		}
		if err := c.learnerAt(7, "vol-1", conf, 8, 8); err == nil || err.Kind != cell.Stale {
			t.Errorf("learner that left: %v", err)
		}
		if c.hosts(2, "vol-1") != 0 || c.hosts(7, "vol-1") != 0 {
			t.Error("a node came back")
		}
		if restarted == 0 {
			c.restart(2)
			c.restart(7)
			c.restart(0)
		}
	}
	c.servers[2].core.pointers.forgetAll(c, 2)
	if err := c.createAt(2, founded); err != nil || c.hosts(2, "vol-1") != 0 {
		t.Errorf("the fence did not outlive the pointer: %v, node %d", err, c.hosts(2, "vol-1"))
	}
	c.mustFail(c.count(2, "vol-1", 1<<40), cell.UnknownHere)
}

// forgetAll makes a server forget where its former cells are.
func (ps *pointers) forgetAll(c *colony, i int) {
	for c.servers[i].core.forgetOldest() {
	}
	c.settle()
}

// A cell moves away from a server and back: the new node has another number and another handle, what is meant for the old one
// does not reach it, and the lagging sender is told.
func TestMoveAwayAndBack(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	for n := uint64(1); n <= 10; n++ {
		c.add("vol-1", n)
	}
	before := c.servers[2].core.find("vol-1").handle
	c.replace("vol-1", 2, 7)
	c.replace("vol-1", 7, 2)
	c.wait(settled)
	h := c.servers[2].core.find("vol-1")
	if h.node != 9 || h.handle == before || c.servers[2].core.Pointers() != 0 {
		t.Fatalf("back as node %d under handle %d (before %d), %d pointers", h.node, h.handle, before, c.servers[2].core.Pointers())
	}
	c.mustBeMoved(7, "vol-1", 3)
	old := PeerMessage{From: serverID(1), Message: paxos.Message{Kind: paxos.MsgLearn, From: 2, To: 3, Slot: 5}}
	old.Envelope.Cell, old.Envelope.Incarnation, old.Envelope.Configuration = "vol-1", 1, 1
	told := 0
	c.lost = func(from, to int, m *paxos.Message) bool {
		if from == 2 && to == 1 && m.Kind >= 100 {
			told++
		}
		return false
	}
	c.servers[2].core.OnPeer(&old)
	c.settle()
	if told != 1 {
		t.Errorf("the sender was told %d times that node 3 is gone", told)
	}
	c.lost = nil
	for i := range 8 {
		c.restart(i)
	}
	c.wait(settled)
	c.add("vol-1", 11)
	c.wait(settled)
	c.mustBe(c.read(2, "vol-1", true), 11)
}

// learn brings a learner to where it could become a member at once, and returns the change that would do it.
func (c *colony) learn(id cell.ID, old, fresh int) wire.ChangeCell {
	c.t.Helper()
	conf, err := c.ask(wire.ChangeCell{Cell: id, Kind: wire.AddLearner, Number: 1, Request: 1, Server: serverID(fresh)})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.learnerAt(fresh, id, conf, conf.Node, 1); err != nil {
		c.t.Fatal(err)
	}
	change := wire.ChangeCell{Cell: id, Kind: wire.Replace, Number: 1, Old: hostOf(conf.Members, old), New: conf.Node}
	for range 2 { // it is taught first, and promises then
		c.mustBeUnready(change)
		c.wait(settled)
	}
	return change
}

// mustBeUnready asks for a change that cannot be yet.
func (c *colony) mustBeUnready(change wire.ChangeCell) {
	c.t.Helper()
	if _, err := c.ask(change); err == nil || err.Kind != cell.Unavailable || err.RetryAfter == 0 {
		c.t.Fatalf("a learner that knows nothing: %v", err)
	}
}

// Hazard H19: the slots before the new jury's first are chosen by members 1, 2, 3 and by 7, who leaves; the new member is cut
// off, and then 1, 2 and 3 die. What was chosen is known to nobody but node 7, which must not have gone.
func TestH19RemovedMemberAnswersWhileItIsNeeded(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.add("vol-1", 1)
	change := c.learn("vol-1", 6, 7)
	c.only(0, 1, 2, 6)
	if _, err := c.ask(change); err != nil {
		t.Fatal(err)
	}
	c.wait(settled)
	h := c.servers[0].core.find("vol-1")
	if h.configuration.Number != 2 || !h.configuration.Unsettled || c.hosts(6, "vol-1") != 7 {
		t.Fatalf("s1 is at %s, s7 hosts node %d", h.configuration.Describe(), c.hosts(6, "vol-1"))
	}
	for i := range 3 {
		c.crash(i, false)
	}
	c.restart(6)
	c.lost = nil
	c.wait(settled)
	c.add("vol-1", 2)
	c.wait(settled)
	c.mustBeMoved(6, "vol-1", 2)
	c.mustBe(c.read(7, "vol-1", true), 2)
}

// Hazard H21: who is taught the whole state between the choice of a change and its effect learns both juries.
func TestH21TaughtInsideTheWindow(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.add("vol-1", 1)
	change := c.learn("vol-1", 6, 7)
	cut := func(from, to int) bool { return from == 5 || to == 5 }
	c.lost = func(from, to int, _ *paxos.Message) bool { return cut(from, to) }
	for n := uint64(2); n <= 40; n++ {
		c.add("vol-1", n)
	}
	open := true // the window: what would close it reaches s2 and s6 only
	c.lost = func(from, to int, m *paxos.Message) bool {
		return cut(from, to) || open && m.Kind == paxos.MsgAccept && m.Entry.Kind == paxos.NoOp && to != 5 && to != 1
	}
	if _, err := c.ask(change); err != nil {
		t.Fatal(err)
	}
	cut = func(int, int) bool { return false }
	c.wait(settled)
	r, _ := c.servers[5].core.Inspect("vol-1")
	if r == nil || r.Pending() == nil || r.Pending().Number != 2 || r.Configuration().Number != 1 || r.Floor() < 40 {
		t.Fatalf("s6 was not taught inside the window: applied %d, floor %d, pending %v, %s", r.Applied(), r.Floor(), r.Pending(), r.Configuration().Describe())
	}
	c.crash(5, false)
	c.start(5)
	open = false
	c.wait(settled)
	c.add("vol-1", 41)
	c.wait(settled)
	for i := range 8 {
		if i != 6 && c.servers[i].core.find("vol-1").configuration.Number != 2 {
			t.Errorf("s%d is at %s", i+1, c.servers[i].core.find("vol-1").configuration.Describe())
		}
	}
	c.mustBeMoved(6, "vol-1", 2)
}

// A learner that knows nothing yet answers nobody, and survives a restart as what it is.
func TestUntaughtLearnerRestarts(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.add("vol-1", 1)
	c.only(0, 1, 2, 3, 4, 5, 6)
	conf, err := c.ask(wire.ChangeCell{Cell: "vol-1", Kind: wire.AddLearner, Number: 1, Request: 1, Server: serverID(7)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.learnerAt(7, "vol-1", conf, 8, 1); err != nil {
			t.Fatal(err)
		}
		e := c.mustFail(c.read(7, "vol-1", true), cell.Moved)
		if e.Pointer.Configuration != 1 || len(e.Pointer.Servers) != 7 {
			t.Errorf("a learner that knows nothing points to %+v", e.Pointer)
		}
		c.restart(7)
	}
	c.lost = nil
	c.replace("vol-1", 6, 7)
	c.wait(settled)
	c.add("vol-1", 2)
	c.wait(settled)
	c.mustBe(c.read(7, "vol-1", true), 2)
}

// A pointer is forgotten when its time has come, or for lack of room, the oldest first; what it fences is not.
func TestPointersAreForgotten(t *testing.T) {
	c := newColony(t, 8)
	evicted := 0
	c.tune = func(cfg *Config) {
		cfg.PointersMax, cfg.PointersKept = 2, time.Hour
		cfg.Events.PointerEvicted = func() { evicted++ }
	}
	for i := range 8 {
		c.restart(i)
	}
	for n := range 3 {
		id := cell.ID(fmt.Sprintf("vol-%d", n))
		c.create(id)
		c.replace(id, 6, 7)
		c.wait(settled)
	}
	b := c.servers[6].core
	if b.Pointers() != 2 || evicted != 1 {
		t.Fatalf("%d pointers, %d evicted, want 2 and 1", b.Pointers(), evicted)
	}
	c.mustFail(c.count(6, "vol-0", 1), cell.UnknownHere)
	c.mustBeMoved(6, "vol-1", 2)
	c.now += 59 * time.Minute
	c.wait(100 * time.Millisecond)
	c.restart(6) // time before a restart counts, but for a few minutes
	c.mustBeMoved(6, "vol-2", 2)
	c.now += 12 * time.Minute
	c.wait(100 * time.Millisecond)
	if got := c.servers[6].core.Pointers(); got != 0 || evicted != 1 {
		t.Errorf("%d pointers after their time, %d evicted", got, evicted)
	}
	for n := range 3 {
		id := cell.ID(fmt.Sprintf("vol-%d", n))
		if err := c.createAt(6, foundingOf(id, 1, 0, 1, 2, 3, 4, 5, 6)); err != nil || c.hosts(6, id) != 0 {
			t.Errorf("%s: founded again: %v, node %d", id, err, c.hosts(6, id))
		}
	}
}
