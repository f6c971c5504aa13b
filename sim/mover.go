package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/core"
	"physalia/paxos"
)

// replacement is one member of a cell that is being replaced by a node on another server, whoever works at it.
type replacement struct {
	old, new *server
	managers int  // who have worked at it
	over     bool // it has come about, or the cell was sealed
}

// mover is a lifecycle manager at work on a replacement. It decides by what the cell shows, and by nothing else, as package
// lifecycle does: so it does not matter who did what before, or how many of them there are (hazard H13).
type mover struct {
	world   *World
	volume  *volume
	job     *replacement
	dice    *rand.Rand
	request uint64
	route   []cell.ServerID  // whom to ask
	asked   int              // of the route
	attempt uint32           // at the step
	seen    *wire.Configured // nil: look first
	created uint64           // node that the new server confirmed
	left    int              // steps until it dies; negative: it does not
	turn    uint64           // counts calls; what comes for an earlier one comes too late
}

// move begins a replacement, or sends another manager to the one that is under way; one member at a time. A cell never gets
// a damaged server: what was once on it is not planned again (rule 4).
func (w *World) move(f *Fault, who Servers) {
	v := w.cells[f.Cell]
	if v.sealing {
		return
	}
	if v.job == nil || v.job.over {
		job := &replacement{}
		w.each(who, func(s *server) {
			if job.old == nil && v.sits(s) {
				job.old = s
			}
		})
		w.each(f.Others, func(s *server) {
			if job.new == nil && !v.sits(s) && s.damaged == "" {
				job.new = s
			}
		})
		if job.old == nil || job.new == nil {
			return
		}
		v.job = job
		w.report.Moves++
	}
	w.manage(v, f)
}

// manage puts a manager to work, who dies after as many steps as the fault says, and is followed by another.
func (w *World) manage(v *volume, f *Fault) {
	v.job.managers++
	v.managers++
	m := &mover{world: w, volume: v, job: v.job, dice: w.stream(fmt.Sprintf("manager %d of %s", v.managers, v.id)), request: uint64(v.managers), left: -1}
	for _, x := range v.found.Members {
		m.route = append(m.route, x.Server)
	}
	if f != nil && f.Share > 0 {
		m.left = f.Share
		w.after(f.Delay, func() { w.manageMore(v, m) })
	}
	w.trace.note(w.now, "manager %d of %s begins to replace %s by %s", v.managers, v.id, m.job.old.id, m.job.new.id)
	m.step()
}

// manageMore lets a second manager take over from one that dies; it cannot know whether that one is dead.
func (w *World) manageMore(v *volume, first *mover) {
	if !first.job.over {
		w.manage(v, nil)
	}
}

// The patience of a manager with one call, and its pause before it asks again.
const (
	movePatience = 100 * time.Millisecond
	movePause    = 10 * time.Millisecond
)

// later takes the next step after a pause.
func (m *mover) later() {
	turn := m.turn
	m.world.after(movePause+between(m.dice, movePause), func() {
		if m.turn == turn {
			m.step()
		}
	})
}

// step does what comes next.
func (m *mover) step() {
	m.turn++
	v, w := m.volume, m.world
	switch {
	case m.job.over || v.sealed:
		m.job.over = true
		return
	case m.left == 0:
		w.trace.note(w.now, "a manager of %s dies", v.id)
		return
	case w.noControl > 0:
		m.later()
		return
	case m.left > 0:
		m.left--
	}
	c := m.seen
	change := &wire.ChangeCell{Cell: v.id, Incarnation: v.found.Incarnation, Timeout: 50, Attempt: m.attempt, Request: m.request}
	if c == nil {
		m.ask(change) // look
		return
	}
	old, isIn, learner := nodeOn(c.Members, m.job.old.id), nodeOn(c.Members, m.job.new.id) != 0, nodeOn(c.Learners, m.job.new.id)
	change.Number, change.Old, change.New, change.Server = c.Number, old, learner, m.job.new.id
	switch {
	case old == 0 && isIn && !c.Busy:
		m.job.over = true
		w.report.Moved++
		w.trace.note(w.now, "%s has replaced %s by %s", v.id, m.job.old.id, m.job.new.id)
	case c.Busy || old == 0 || isIn:
		m.lookAgain()
	case learner == 0:
		change.Kind = wire.AddLearner
		m.ask(change)
	case m.created != learner:
		m.createLearner(learner)
	default:
		change.Kind = wire.Replace
		m.ask(change)
	}
}

// lookAgain begins anew, with a look at the cell.
func (m *mover) lookAgain() {
	m.seen = nil
	m.later()
}

// nodeOn is the node on a server, or zero.
func nodeOn(list []wire.Founder, s cell.ServerID) uint64 {
	for i := range list {
		if list[i].Server == s {
			return list[i].Node
		}
	}
	return 0
}

// ask sends a change to one of the cell's members. Whatever the answer, the configuration in it says what is next; without one
// the manager looks again.
func (m *mover) ask(c *wire.ChangeCell) {
	to := m.world.serverNamed(m.route[m.asked%len(m.route)])
	m.attempt++
	m.call(to, func(k *call) { to.submit(k, c.Append(nil)) }, func(result []byte, err *cell.Error) {
		m.world.trace.note(m.world.now, "a manager of %s hears from %s about kind %d: %v", m.volume.id, to.id, c.Kind, err)
		var conf wire.Configured
		switch {
		case err == nil && wire.Unmarshal(result, &conf) == nil:
			m.seen, m.attempt, m.route, m.asked = &conf, 0, []cell.ServerID{to.id}, 0 // it answers next time, too
			for _, x := range conf.Members {
				m.route = append(m.route, x.Server)
			}
			m.volume.learnt(&conf)
			m.later()
			return
		case err == nil:
			m.world.fail("health", place{s: to, v: m.volume}, "it answered a change with something that cannot be read")
			return
		case err.Kind == cell.NotProposer && err.Leader != "":
			m.route = append(m.route, err.Leader)
			m.asked = len(m.route) - 1
		case err.Pointer != nil:
			m.route, m.asked = nil, 0
			for _, x := range err.Pointer.Servers {
				m.route = append(m.route, x.Server)
			}
		case err.RetryAfter == 0:
			m.asked++
		}
		m.lookAgain()
	})
}

// createLearner asks the new server for the node that the cell has issued. A server whose disk was damaged meanwhile is not
// asked: it could have been there before.
func (m *mover) createLearner(node uint64) {
	to, c := m.job.new, m.seen
	if to.damaged != "" {
		m.lookAgain()
		return
	}
	w := &wire.CreateLearner{Cell: m.volume.id, Incarnation: c.Incarnation, Node: node, Request: m.request, Number: c.Number, Alpha: c.Alpha, Members: c.Members}
	m.call(to, func(k *call) {
		to.inbox.calls = append(to.inbox.calls, func(at *core.Core) { at.CreateLearner(core.Origin{Conn: k}, w) })
		to.wake()
	}, func(_ []byte, err *cell.Error) {
		if err == nil {
			m.created = node
		}
		m.lookAgain()
	})
}

// call sends something to a server; the first of its answer and the end of the manager's patience counts. Answers get lost as
// those to clients do.
func (m *mover) call(to *server, send func(*call), answer func(result []byte, err *cell.Error)) {
	w, turn := m.world, m.turn
	once := func(result []byte, err *cell.Error) {
		if m.turn == turn {
			m.turn++
			answer(result, err)
		}
	}
	w.after(movePatience, func() { once(nil, &cell.Error{Kind: cell.UnknownResult}) })
	w.after(between(m.dice, wayMax), func() {
		if to.core == nil {
			return
		}
		send(&call{wire.MethodChange, func(result []byte, err *cell.Error) {
			if !percent(m.dice, w.lostReplies) {
				w.after(between(m.dice, wayMax), func() { once(result, err) })
			}
		}})
	})
}

// learnt is what managers tell discovery: routes only rise.
func (v *volume) learnt(c *wire.Configured) {
	if c.Number > v.routed.Configuration {
		v.routed.Configuration, v.routed.Members = c.Number, c.Members
	}
}

// watchJury notes the newest configuration of a cell that any replica has come to: who has a vote now.
func (w *World) watchJury(s *server, v *volume) {
	r, _ := s.core.Inspect(v.id)
	if r == nil || r.IsUntaught() || r.Applied() < v.juryAt || r.Configuration() == v.jury {
		return
	}
	if v.jury == nil || r.Configuration().Number != v.jury.Number {
		v.before = v.members
	}
	v.jury, v.juryAt = r.Configuration(), r.Applied()
	v.members = v.members[:0:0]
	for _, m := range v.jury.Members {
		v.members = append(v.members, w.serverNamed(cell.ServerID(m.Server)))
	}
}

// sits reports whether a server has a seat in the jury.
func (v *volume) sits(s *server) bool {
	for _, m := range v.members {
		if m == s {
			return true
		}
	}
	return false
}

// juries are the member sets that must keep a majority: the newest, the one before it while that is still needed (rule 11), and the
// one that a replacement under way leads to.
func (v *volume) juries() [][]*server {
	all := [][]*server{v.members}
	if v.jury != nil && v.jury.Unsettled {
		all = append(all, v.before)
	}
	if v.job == nil || !v.sits(v.job.old) || v.sits(v.job.new) {
		return all
	}
	next := make([]*server, 0, len(v.members))
	for _, s := range v.members {
		if s == v.job.old {
			s = v.job.new
		}
		next = append(next, s)
	}
	return append(all, next)
}

// moving reports whether a replacement is under way that a healed world must bring to its end.
func (v *volume) moving() bool {
	return v.job != nil && !v.job.over && !v.sealed && v.job.new.core != nil && v.job.new.damaged == ""
}

// hosts reports whether a server has a node of a cell that works: a member, a learner, or one that leaves.
func (w *World) hosts(v *volume, s *server) bool {
	return v.sits(s) || s.core != nil && s.node(v) != 0
}

// node is the number of the node that a server has of a cell and that is awake, or zero.
func (s *server) node(v *volume) paxos.NodeNumber {
	if r, _ := s.core.Inspect(v.id); r != nil {
		return r.Self()
	}
	return 0
}
