package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// survey asks everybody alive who may hold something of one lost cell what that is. It changes nothing.
//
// Its life: inquire queues it, survey starts it within Config.Surveys, ask sends a question to each member and to everybody whom
// an answer names, Exported takes the answers, and after the last one answered hands the verdict to then, exactly once.
type survey struct {
	in        *incarnation
	plan      uint64 // plan number of in when it began; whatever happens to the cell meanwhile raises it
	dead      map[cell.ServerID]bool
	content   bool
	open      int // questions without an answer
	tries     map[cell.ServerID]int
	witnesses []witness
	then      func(verdict)
}

// surveyTries is how often a server is asked that does not answer.
const surveyTries = 3

// survey starts the surveys that are due, within the bound.
func (m *Manager) survey() {
	for len(m.surveys) > 0 && m.surveying < m.config.Surveys {
		y := m.surveys[0]
		m.surveys[0] = nil
		m.surveys = m.surveys[1:]
		m.surveying++
		y.open++ // until everybody was asked
		for _, mem := range y.in.Members {
			m.ask(y, mem.Server())
		}
		m.answered(y)
	}
}

// ask asks one server, unless it is dead or was asked before.
func (m *Manager) ask(y *survey, id cell.ServerID) {
	if y.dead[id] || y.tries[id] > 0 {
		return
	}
	y.open++
	m.askAgain(y, id)
}

// askAgain sends the question. A server that is not connected has answered by that: whoever wants to go on without it must name
// it dead.
func (m *Manager) askAgain(y *survey, id cell.ServerID) {
	y.tries[id]++
	s := m.server(id)
	if !s.up {
		y.witnesses = append(y.witnesses, witness{server: id, err: &cell.Error{Op: wire.MethodExport, Kind: cell.Unavailable, Cell: y.in.Cell,
			Detail: "the server is not connected", Hint: "bring it back, or name it dead as well"}})
		m.answered(y)
		return
	}
	m.call(&call{server: s, export: y}, wire.MethodExport, &wire.ExportNode{Cell: y.in.Cell, Incarnation: y.in.Incarnation,
		Timeout: uint32(m.config.SealTimeout / time.Millisecond), Content: y.content}, m.config.SealTimeout+time.Second)
}

// Exported reports how a call of cell.export ended: with what the server's node holds, or with an error. Whom the node's own
// configuration names is asked, too: the manager's record may be behind the cell's log.
func (m *Manager) Exported(now time.Duration, id CallID, x *wire.NodeExport, err *cell.Error) {
	m.now = now
	c := m.calls[id]
	if c == nil || c.export == nil {
		return
	}
	delete(m.calls, id)
	y, server := c.export, c.server.id
	switch {
	case err == nil && x == nil:
		err = &cell.Error{Op: wire.MethodExport, Kind: cell.Internal, Cell: y.in.Cell, Detail: "an empty answer"}
	case err == nil && (x.Cell != y.in.Cell || x.Incarnation != y.in.Incarnation):
		x, err = nil, &cell.Error{Op: wire.MethodExport, Kind: cell.Internal, Cell: y.in.Cell,
			Detail: fmt.Sprintf("the answer is of %s incarnation %d", x.Cell, x.Incarnation)}
	}
	transient := err != nil && (err.Kind == cell.Unavailable || err.Kind == cell.Overloaded || err.Kind == cell.UnknownResult)
	if transient && y.tries[server] < surveyTries {
		m.after(m.backoff(y.tries[server], err), func() { m.askAgain(y, server) })
		return
	}
	for i, mem := range y.in.Members {
		if err != nil && err.Kind == cell.Deleted && mem.Server() == server && y.in.Void.has(i) {
			err = &cell.Error{Op: err.Op, Kind: cell.UnknownHere, Cell: err.Cell, Detail: "it never hosted its node: a tombstone forbids it"}
		}
	}
	y.witnesses = append(y.witnesses, witness{server: server, export: x, err: err})
	if x != nil {
		for _, other := range slices.Concat(x.Jury, x.Others) {
			m.ask(y, other)
		}
	}
	if err != nil && err.Pointer != nil { // it left the cell and knows where that lives
		for _, other := range err.Pointer.Servers {
			m.ask(y, other.Server)
		}
	}
	m.answered(y)
}

// answered counts an answer, and judges after the last. The witnesses are put in order, so that the verdict does not depend on
// who was quicker. A plan number that has changed means that what the survivors said is about the past.
func (m *Manager) answered(y *survey) {
	if y.open--; y.open > 0 {
		return
	}
	m.surveying--
	if r := y.in.recovery; r != nil { // it was recovered before, and lost again before every member had the state
		y.witnesses = append(y.witnesses, witness{export: &wire.NodeExport{Jury: y.in.servers(), Applied: r.applied, StateHash: r.hash,
			State: r.state, Accepted: r.kept}})
	}
	slices.SortFunc(y.witnesses, func(a, b witness) int { return strings.Compare(string(a.server), string(b.server)) })
	v := judge(y.in.servers(), y.dead, y.witnesses)
	if m.names[y.in.Cell] != y.in || y.in.Plan != y.plan {
		v.problem = "it was decided about while its survivors were asked: plan again"
	}
	y.then(v)
}

// servers lists the members' servers.
func (r *Record) servers() []cell.ServerID {
	list := make([]cell.ServerID, len(r.Members))
	for i, mem := range r.Members {
		list[i] = mem.Server()
	}
	return list
}

// inquire queues a survey.
func (m *Manager) inquire(in *incarnation, dead map[cell.ServerID]bool, content bool, then func(y *survey, v verdict)) {
	y := &survey{in: in, plan: in.Plan, dead: dead, content: content, tries: map[cell.ServerID]int{}}
	y.then = func(v verdict) { then(y, v) }
	m.surveys = append(m.surveys, y)
}

// unfit says why an incarnation is in no state to be recovered, or "".
func (m *Manager) unfit(in *incarnation) string {
	if in == nil {
		return "the lifecycle manager does not know this cell"
	}
	// The recovered incarnation is the next one. If servers know that already, there would be two juries of one number.
	if c := m.claims[in.Cell]; c != nil && (c.deepest() > in.Incarnation || len(c.reports) > 0 && c.incarnations()[0] >= in.Incarnation) {
		return fmt.Sprintf("servers tell of what this store does not know; see `physalia control rebuild --look`: %s", m.claimed(in.Cell))
	}
	switch {
	case in.State == Sealing:
		return "its deletion is pending; a cell that shall be deleted is not recovered"
	case !in.is(Creating, Live):
		return fmt.Sprintf("incarnation %d is %s", in.Incarnation, in.State)
	}
	return ""
}

// checkDead refuses a list of dead servers that cannot be right. A server that is connected is alive.
func (m *Manager) checkDead(op string, list []cell.ServerID) (map[cell.ServerID]bool, *cell.Error) {
	refuse := func(kind cell.Kind, hint, format string, args ...any) (map[cell.ServerID]bool, *cell.Error) {
		return nil, &cell.Error{Op: op, Kind: kind, Detail: fmt.Sprintf(format, args...), Hint: hint}
	}
	if len(list) == 0 || len(list) > wire.BatchMax {
		return refuse(cell.Invalid, "name every server that is lost for good", "%d dead servers, allowed are 1 to %d", len(list), wire.BatchMax)
	}
	dead := make(map[cell.ServerID]bool, len(list))
	for _, id := range list {
		s := m.servers[id]
		switch {
		case s == nil || !s.known && !m.retired[id]:
			return refuse(cell.Invalid, "name the identity, as `physalia cell show` does", "server %q has never registered", id)
		case s.up:
			return refuse(cell.Refused, "a server that is connected is not dead: stop it first, if its disk is lost", "server %s is connected", id)
		}
		dead[id] = true
	}
	return dead, nil
}

// planning is a page of a recovery plan that waits for its surveys.
type planning struct {
	id       RequestID
	page     wire.RecoveryPlan
	verdicts []verdict
	open     int
}

// namesPerPage bounds the names that are looked at for one page.
const namesPerPage = 100_000

// PlanRecovery takes a request to say what could be recovered without the servers named dead. It changes nothing. It is
// answered when everybody who may hold something has answered, or did not in several tries.
func (m *Manager) PlanRecovery(now time.Duration, id RequestID, req wire.PlanRecovery) {
	m.now = now
	const op = "recovery.plan"
	dead, err := m.checkDead(op, req.Dead)
	if n := len(req.Cells); err == nil && (n > wire.RecoveryPageMax || n == 0 && (req.Limit < 1 || req.Limit > wire.RecoveryPageMax)) {
		err = &cell.Error{Op: op, Kind: cell.Invalid, Detail: fmt.Sprintf("%d cells, limit %d, allowed are 1 to %d", n, req.Limit, wire.RecoveryPageMax)}
	}
	if err == nil && m.mode.rebuilding {
		err = m.mode.refuse(op)
	}
	if err != nil {
		m.out.Replies = append(m.out.Replies, Reply{Request: id, Err: err})
		return
	}
	p := &planning{id: id}
	names := req.Cells
	if len(names) == 0 {
		names, p.page.Last, p.page.More = m.lostBehind(req.After, int(req.Limit), dead)
	}
	p.page.Cells, p.verdicts = make([]wire.RecoveryCell, len(names)), make([]verdict, len(names))
	p.open = 1 // until all are queued
	for i, name := range names {
		c, in := &p.page.Cells[i], m.names[name]
		c.Cell = name
		if c.Problem = m.unfit(in); c.Problem != "" {
			continue
		}
		c.Incarnation, c.Plan, c.Brick, c.Color = in.Incarnation, in.Plan, in.Brick.String(), in.Color.String()
		p.open++
		m.inquire(in, dead, false, func(y *survey, v verdict) {
			describe(c, y, &v)
			p.verdicts[i] = v
			m.planned(p)
		})
	}
	m.planned(p)
}

// lostBehind lists the cells behind a name of which the manager's records say that no majority is left.
func (m *Manager) lostBehind(after cell.ID, limit int, dead map[cell.ServerID]bool) (names []cell.ID, last cell.ID, more bool) {
	looked := 0
	last = after
	m.order.scan(after, after, func(name cell.ID) bool {
		if looked++; looked > namesPerPage || len(names) == limit {
			more = true
			return false
		}
		last = name
		in := m.names[name]
		left := 0
		for _, mem := range in.Members {
			if !dead[mem.Server()] {
				left++
			}
		}
		if in.is(Creating, Live, Sealing) && left < in.majority() {
			names = append(names, name)
		}
		return true
	})
	return names, last, more
}

// describe fills in what a survey came to.
func describe(c *wire.RecoveryCell, y *survey, v *verdict) {
	c.Problem, c.Lost, c.Known = v.problem, v.lost, v.known
	for i := range y.witnesses {
		c.Survivors = append(c.Survivors, y.witnesses[i].describe())
	}
	if v.source != nil {
		c.Source, c.Applied, c.Slot, c.Revision = v.server, v.source.Applied, v.slot, v.source.Revision
	}
}

// planned counts a finished survey of a plan; after the last it places the new juries and answers. The juries of one page are
// placed beside each other, so that they spread, and then forgotten: a plan reserves nothing.
func (m *Manager) planned(p *planning) {
	if p.open--; p.open > 0 {
		return
	}
	var tentative []Record
	for i := range p.page.Cells {
		c := &p.page.Cells[i]
		if c.Problem != "" {
			continue
		}
		in := m.names[c.Cell]
		m.planner.forget(&in.Record) // its old nodes do not stand in the way of the new ones
		jury, err := m.planner.place(len(in.Members), in.Brick.String(), in.Color.String(), survivors(c)...)
		if err != nil {
			c.Problem = err.Error()
			m.replan(in)
			continue
		}
		rec := in.Record
		rec.Incarnation, rec.Owner, rec.Members, rec.Founding = in.Incarnation+1, uint64(jury.Owner)+1, nil, nil
		for k, s := range jury.Members {
			rec.Members = append(rec.Members, NewMember(uint32(k)+1, s))
		}
		must.That(m.planner.keep(&rec) == nil, "placement plans what its own book accepts: %v", &rec)
		tentative = append(tentative, rec)
		c.Members, c.Owner = m.founders(rec.Members), rec.Owner
	}
	for i := range tentative {
		m.planner.forget(&tentative[i])
		m.replan(m.names[tentative[i].Cell])
	}
	m.out.Replies = append(m.out.Replies, Reply{Request: p.id, Plan: &p.page})
}

// replan counts an incarnation's nodes again.
func (m *Manager) replan(in *incarnation) {
	err := m.planner.keep(&in.Record)
	must.That(err == nil, "what was in the book fits it: %v: %v", in, err)
}

// survivors lists the servers that can help, the source first.
func survivors(c *wire.RecoveryCell) []cell.ServerID {
	var list []cell.ServerID
	for i := range c.Survivors {
		switch s := &c.Survivors[i]; {
		case s.Node == 0: // no export
		case s.Server == c.Source:
			list = slices.Insert(list, 0, s.Server)
		default:
			list = append(list, s.Server)
		}
	}
	return list
}
