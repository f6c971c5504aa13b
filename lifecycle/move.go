package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// moveStep is the next thing that replacing a member takes.
type moveStep uint8

const (
	moveDone   moveStep = iota
	moveWait            // the cell is busy with the change before
	moveAdd             // have a number issued for the new server
	moveCreate          // have the new server create its node
	moveSwap            // have the learner take the member's place
	moveDrop            // give up a learner that nobody wants, for lack of room
	moveLost            // neither of the two servers is a member
)

// A cell that is busy is left alone even if it looks as wanted: before the change is settled, the member that left is still needed,
// and another change would be refused. One that lost both servers was changed by somebody else, whose wish is not undone here.
//
// nextMove decides by what the cell shows, and by nothing else: so it does not matter who did what before, or how often, or
// whether anybody knows. created says that the new server has confirmed its node.
func nextMove(c *wire.Configured, m Move, created bool) (step moveStep, old, learner uint64) {
	old, learner = nodeOn(c.Members, m.Remove), nodeOn(c.Learners, m.Add)
	switch isIn := nodeOn(c.Members, m.Add) != 0; {
	case old == 0 && isIn && !c.Busy:
		return moveDone, 0, 0
	case c.Busy:
		return moveWait, old, learner
	case old == 0 || isIn:
		return moveLost, old, learner
	case learner == 0 && len(c.Learners) >= learnersMax:
		return moveDrop, old, c.Learners[0].Node
	case learner == 0:
		return moveAdd, old, 0
	case !created:
		return moveCreate, old, learner
	}
	return moveSwap, old, learner
}

// learnersMax is how many learners a cell has at most.
const learnersMax = 4

// nodeOn is the node on a server, or zero.
func nodeOn(list []wire.Founder, s cell.ServerID) uint64 {
	for i := range list {
		if list[i].Server == s {
			return list[i].Node
		}
	}
	return 0
}

// moving is what the manager does about one replacement now. None of it is stored.
type moving struct {
	in      *incarnation
	queued  bool // the next step is queued, in flight or parked
	looking bool // the next step is to look at the cell
	// Whom to ask: the member at position asked answered last, and hint was named by it as the proposer. Attempts in a row
	// let a member take over from a proposer that is dead, as a client's do.
	asked   int
	hint    cell.ServerID
	attempt uint32
	tries   int              // pauses in a row; each doubles the next
	created uint32           // node that Add has confirmed
	seen    *wire.Configured // the cell's configuration as last told
	stalled int              // pauses in a row that brought nothing new
	begun   bool             // something beyond planning has happened, or may have before this manager started
	why     string           // what its proposer says, for people
}

// Replace takes a request to replace one member of a cell. It is answered when the cell runs without the old member, or after
// its Wait with what is missing; asked again, it goes on. One member at a time: another replacement is refused meanwhile.
func (m *Manager) Replace(now time.Duration, id RequestID, req wire.ReplaceMember) {
	m.now = now
	r := m.begin(id, "lifecycle.replace", 1, req.Wait)
	if r == nil {
		return
	}
	r.cells[0] = req.Cell
	w := waiter{r, 0, toMove}
	if err := m.replaceOne(w, Proposal{Cell: req.Cell, Remove: req.Remove, Add: req.Add, Cause: ByOperator}); err != nil {
		err.Op, err.Cell = "lifecycle.replace", req.Cell
		w.resolve(err)
	}
	m.finish(r)
}

// hosts reports whether a server is one of the members that are wanted.
func (in *incarnation) hosts(s cell.ServerID) bool {
	for _, m := range in.Members {
		if m.Server() == s {
			return true
		}
	}
	return false
}

// It is called after every change, as pursue is, and for every stored wish when the manager starts.
//
// drive queues the next step of a replacement, unless one is queued, in flight or parked.
func (m *Manager) drive(in *incarnation) {
	if in.Moving().isZero() || in.State != Live {
		return
	}
	w := in.begin()
	if w.move == nil {
		w.move = &moving{in: in, looking: true, asked: -1}
	}
	if !w.move.queued {
		w.move.queued = true
		m.moves = append(m.moves, w.move)
	}
}

// current reports whether this is the cell's replacement now, and not one that was given up.
func (v *moving) current() bool {
	return v.in.work != nil && v.in.work.move == v && v.in.State == Live && !v.in.Moving().isZero()
}

// move makes calls of the replacements that are due, within the bounds.
func (m *Manager) move() {
	for len(m.moves) > 0 && m.moving < m.config.Moves {
		v := m.moves[0]
		m.moves[0] = nil
		m.moves = m.moves[1:]
		if v.current() {
			m.takeStep(v.in, v)
		}
	}
}

// takeStep makes the call that comes next.
func (m *Manager) takeStep(in *incarnation, v *moving) {
	step := moveWait
	var old, learner uint64
	if !v.looking {
		step, old, learner = nextMove(v.seen, in.Moving(), in.Moving().Node != 0 && v.created == in.Moving().Node)
	}
	change := &wire.ChangeCell{Cell: in.Cell, Incarnation: in.Incarnation, Timeout: moveTimeoutMS, Attempt: v.attempt, Request: in.Plan, Old: old, New: learner}
	if v.seen != nil {
		change.Number = v.seen.Number
	}
	// Old and New are set where the step uses them; the cell refuses what was planned for another configuration.
	switch {
	case v.looking:
		change.Kind = wire.Look
	case (step == moveAdd || step == moveDrop) && m.pauses[in.Moving().Cause.action()] != nil: // nothing but planning has happened
		m.heldMoves = append(m.heldMoves, v)
		return
	case step == moveAdd:
		change.Kind, change.Old, change.Server = wire.AddLearner, 0, in.Moving().Add
	case step == moveDrop:
		change.Kind, change.Old = wire.DropLearner, 0
	case step == moveSwap:
		change.Kind = wire.Replace
	case step == moveCreate: // not a change of the cell: the new server is asked
		m.createLearner(in, v, learner)
		return
	case step == moveDone: // seen at the cell itself, by this manager
		m.moved(in)
		return
	default:
		m.parkMove(in, v, nil)
		return
	}
	s := m.moveServer(in, v)
	if s == nil {
		m.parkMove(in, v, nil)
		return
	}
	v.attempt++
	v.begun = v.begun || !v.looking
	m.call(&call{server: s, move: v}, wire.MethodChange, change, moveTimeout)
}

// createLearner asks the new server for its node; the number that it was issued is durable here before.
func (m *Manager) createLearner(in *incarnation, v *moving, node uint64) {
	if in.Moving().Node != uint32(node) {
		moving := in.Moving()
		moving.Node = uint32(node)
		in.setMoving(moving)
		m.save(in)
	}
	s := m.server(in.Moving().Add)
	if !s.up {
		m.parkMove(in, v, nil)
		return
	}
	m.call(&call{server: s, move: v, creates: uint32(node)}, wire.MethodCreateLearner, &wire.CreateLearner{Cell: in.Cell,
		Incarnation: in.Incarnation, Node: node, Request: in.Plan, Number: v.seen.Number, Alpha: v.seen.Alpha, Members: v.seen.Members}, moveTimeout)
}

// The patience with one step: of the server that is asked, in which it may find no majority, and of the manager.
const (
	moveTimeoutMS = 2000
	moveTimeout   = 3 * time.Second
)

// moveServer picks whom to ask for a change: the member that another one named, else the next in turn that is up.
func (m *Manager) moveServer(in *incarnation, v *moving) *server {
	n := len(in.Members)
	first := (v.asked + 1) % n
	if v.hint == "" && v.tries == 0 && v.asked >= 0 {
		first = v.asked // it answered last time
	}
	for i, mem := range in.Members {
		if mem.Server() == v.hint {
			first = i
		}
	}
	v.hint = ""
	for k := range n {
		i := (first + k) % n
		if s := m.servers[in.Members[i].Server()]; s != nil && s.up {
			v.asked = i
			return s
		}
	}
	return nil
}

// parkMove goes on later; who is only waited for, is soon.
func (m *Manager) parkMove(in *incarnation, v *moving, err *cell.Error) {
	v.looking, v.queued = true, true
	v.tries++
	m.stall(in, v)
	if v.stalled >= hopelessAfter && in.Moving().Cause != ByOperator && !m.server(in.Moving().Add).up {
		m.giveUpMove(in)
		return
	}
	pause := m.backoff(v.tries, err)
	if err == nil || err.RetryAfter > 0 {
		pause = min(pause, movePauseMax)
	}
	m.after(pause, func() {
		if v.current() {
			m.moves = append(m.moves, v)
		}
	})
}

// hopelessAfter is how many pauses in a row that brought nothing new, about half a minute, make a replacement be given up whose
// new server is down. It would hold up every other replacement of its cell, repairs of dead members included, for as long as that
// server is gone.
const hopelessAfter = 4 * stuckAfter

// giveUpMove ends a replacement that nobody asked for by name; whoever wanted it chooses again, among the servers that are up.
func (m *Manager) giveUpMove(in *incarnation) {
	add := in.Moving().Add
	in.Plan++
	m.abandonMove(in, &cell.Error{Op: "lifecycle.replace", Kind: cell.Unavailable, Cell: in.Cell,
		Detail: fmt.Sprintf("server %s, which was to come, is down", add), Hint: "ask again: another one is chosen"})
	m.pursue(in)
}

// movePauseMax bounds the pause before a cell is looked at again that is busy, or teaches.
const movePauseMax = 500 * time.Millisecond

// Configured takes the answer to a change, or to a question for the configuration; how such a call ends otherwise, Done is told.
// A change was chosen or nothing was asked, and either way the configuration says what is next.
func (m *Manager) Configured(now time.Duration, id CallID, c *wire.Configured) {
	m.now = now
	call := m.calls[id]
	if call == nil || call.move == nil {
		return
	}
	m.endMoveCall(id, call)
	v, in := call.move, call.move.in
	// The answer to a call of a replacement that was given up is about a cell that is looked at anew anyway.
	if !v.current() || c.Incarnation != in.Incarnation {
		return
	}
	v.attempt, v.tries = 0, 0
	if v.seen == nil || v.seen.Number != c.Number || nodeOn(v.seen.Learners, in.Moving().Add) != nodeOn(c.Learners, in.Moving().Add) {
		m.progress(in, v)
	}
	v.seen = c
	m.adopt(in, c)
	step, _, _ := nextMove(c, in.Moving(), in.Moving().Node != 0 && v.created == in.Moving().Node)
	switch {
	case step == moveWait:
		m.parkMove(in, v, &cell.Error{RetryAfter: m.config.RetryMin})
	case step == moveLost:
		m.abandonMove(in, &cell.Error{Op: "lifecycle.replace", Kind: cell.Conflict, Cell: in.Cell,
			Detail: fmt.Sprintf("somebody else has changed its members: it is at configuration %d", c.Number), Hint: "physalia cell show tells the members"})
		m.pursue(in)
	default:
		v.looking, v.queued = false, false
		m.drive(in)
	}
}

// endMoveCall forgets a call that has ended.
func (m *Manager) endMoveCall(id CallID, c *call) {
	delete(m.calls, id)
	m.moving--
}

// A refusal is never the end of a replacement: what passes is asked again soon, what needs an operator shows in the cell's
// description until he asks for something else.
//
// moveDone takes the end of a call about a replacement without a configuration.
func (m *Manager) moveDone(id CallID, c *call, err *cell.Error) {
	m.endMoveCall(id, c)
	v, in := c.move, c.move.in
	switch {
	case !v.current():
	case c.creates != 0 && err == nil:
		v.created = c.creates
		m.progress(in, v)
		v.queued = false
		m.drive(in)
	default:
		if err == nil {
			err = &cell.Error{Kind: cell.Internal, Detail: "no configuration in the answer"}
		}
		in.work.note(c.server.id, err)
		if err.Kind == cell.NotProposer && err.Leader != "" && err.Leader != c.server.id {
			v.hint = err.Leader
		}
		// A learner that is behind, a change that is pending, a proposer that hands over: all of that passes.
		if err.Pointer != nil {
			v.asked++ // it has left; the next in turn
		}
		m.parkMove(in, v, err)
	}
}

// adopt takes the cell's own word for who its members are. The book of placement follows; what it refuses it counts no more.
func (m *Manager) adopt(in *incarnation, c *wire.Configured) {
	// An older word than the one that is known comes from an answer that was overtaken.
	if c.Number <= in.Configuration || len(c.Members) == 0 {
		return
	}
	if in.Founding == nil && in.Founded|in.Absent != in.all() {
		founding := in.Members
		in.Founding = &founding
	}
	var founded, void, absent memberSet
	members := make([]Member, len(c.Members))
	for k, f := range c.Members {
		members[k] = NewMember(uint32(f.Node), f.Server)
		switch i := slices.IndexFunc(in.Members, func(m Member) bool { return m.Server() == f.Server }); {
		case i < 0: // who became a member by the log is there
			founded.add(k)
		case in.Absent.has(i):
			absent.add(k)
			if in.Founded.has(i) {
				founded.add(k)
			}
		case in.Founded.has(i):
			founded.add(k)
		case in.Void.has(i):
			void.add(k)
		}
	}
	m.planner.forget(&in.Record)
	in.reseat(members)
	in.Configuration, in.Founded, in.Void, in.Absent = c.Number, founded, void, absent
	in.seen, in.unended, in.hosting, in.since = 0, 0, 0, m.observer.round
	if in.Founded|in.Absent == in.all() {
		in.Founding = nil
	}
	if err := m.account(in); err != nil && in.work != nil {
		in.work.note(c.Members[0].Server, asError(err))
	}
	in.Plan++
	m.save(in)
	m.route(in)
}

// moved ends a replacement that has come about.
func (m *Manager) moved(in *incarnation) {
	m.setMove(in, Move{})
	m.settle(in, toMove, nil)
	m.pursue(in)
}

// abandonMove gives a replacement up, if there is one. Its learner, if a server was told of one, is counted among the members of
// an incarnation that ends, so that it is dropped with them; in a living cell it stays a learner until its room is needed.
func (m *Manager) abandonMove(in *incarnation, why *cell.Error) {
	if in.Moving().isZero() {
		return
	}
	if in.State != Live && in.Moving().Node != 0 && !in.hosts(in.Moving().Add) && len(in.Members) < wire.MembersMax {
		if in.Founding == nil && in.Founded != in.all() {
			founding := in.Members
			in.Founding = &founding // who is not told yet is told of the founding as it was
		}
		in.Founded.add(len(in.Members))
		in.Members = append(in.Members[:len(in.Members):len(in.Members)], NewMember(in.Moving().Node, in.Moving().Add))
	}
	m.setMove(in, Move{})
	m.settle(in, toMove, why)
}
