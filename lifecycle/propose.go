package lifecycle

import (
	"fmt"
	"time"

	"physalia/cell"
)

// Cause is what a replacement is for. The numbers are stored and never change.
type Cause uint8

// The causes. Repairs answer to other limits, and another red button, than moves.
const (
	ByOperator Cause = 1 // somebody asked for this very replacement
	ByRepair   Cause = 2 // the member is dead
	ByRaise    Cause = 3 // the cell is at the brink while repairs are held back: raised by one, and no further
	ByDrain    Cause = 4 // the server shall be empty
	ByNear     Cause = 5 // to be close to the cell's users
	ByBalance  Cause = 6 // for a better placement

	causeMax = ByBalance
)

var causeNames = [...]string{ByOperator: "operator", ByRepair: "repair", ByRaise: "raise", ByDrain: "drain", ByNear: "near", ByBalance: "balance"}

// String names a cause for people.
func (c Cause) String() string {
	if c.valid() {
		return causeNames[c]
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

func (c Cause) valid() bool { return c >= ByOperator && c <= causeMax }

// isRepair reports whether the cause is that a cell has lost members.
func (c Cause) isRepair() bool { return c == ByRepair || c == ByRaise }

// Proposal is what somebody who watches cells would like to have replaced. He proposes; the Manager disposes.
type Proposal struct {
	Cell        cell.ID
	Incarnation cell.Incarnation // zero: the current one
	Remove      cell.ServerID    // whose member shall go
	Add         cell.ServerID    // whose member shall come; empty: placement chooses
	Cause       Cause
	Why         string // for people
}

// Propose begins a replacement, or says why not now. Nil: it has begun, or the same was under way. The errors, of which none
// leaves anything behind: Overloaded with RetryAfter, when a limit or a pause forbids it now; Exists, when another replacement of
// this cell is under way, or Add is a member already; Stale, when it is for another incarnation; NotFound, when the cell or the
// member does not exist; Unavailable, when the cell is not live; NoRoom, when there is no server to add; Refused, when Add is of
// another pool.
func (m *Manager) Propose(now time.Duration, p Proposal) *cell.Error {
	m.now = now
	in, err := m.movable(&p)
	if err == nil && m.mode.rebuilding {
		err = m.mode.refuse("lifecycle.propose")
	}
	if err == nil {
		err = m.beginMove(in, &p)
	}
	if err != nil {
		err.Op, err.Cell = "lifecycle.propose", p.Cell
	}
	return err
}

// Withdraw gives a proposed replacement up while nothing but planning has happened, and reports whether it did. What an operator
// asked for is not given up.
func (m *Manager) Withdraw(now time.Duration, c cell.ID, remove cell.ServerID) bool {
	m.now = now
	in := m.names[c]
	if in == nil || in.Moving().isZero() || in.Moving().Remove != remove || in.Moving().Cause == ByOperator || in.Moving().Node != 0 {
		return false
	}
	if v := in.begin().move; v != nil && v.begun {
		return false
	}
	m.setMove(in, Move{})
	m.pursue(in)
	return true
}

// movable finds the cell that a proposal is about, or says why none of its members can be replaced.
func (m *Manager) movable(p *Proposal) (*incarnation, *cell.Error) {
	in := m.names[p.Cell]
	switch {
	case !p.Cause.valid():
		return nil, &cell.Error{Kind: cell.Invalid, Detail: fmt.Sprintf("%s is no cause of a replacement", p.Cause)}
	case in == nil || in.is(Wiping, Deleted):
		return nil, &cell.Error{Kind: cell.NotFound, Detail: "there is no such cell"}
	case p.Incarnation != 0 && p.Incarnation != in.Incarnation:
		return nil, &cell.Error{Kind: cell.Stale, Detail: fmt.Sprintf("this is incarnation %d, not %d", in.Incarnation, p.Incarnation)}
	case in.State != Live:
		return nil, &cell.Error{Kind: cell.Unavailable, Detail: fmt.Sprintf("incarnation %d is %s", in.Incarnation, in.State)}
	}
	return in, nil
}

// beginMove makes a proposal the cell's replacement, or says why not. Another wish than the one under way is refused, save to
// give up a new member whose server has died meanwhile: it would else keep a dead member from being repaired until it returns.
func (m *Manager) beginMove(in *incarnation, p *Proposal) *cell.Error {
	if under := in.Moving(); !under.isZero() {
		lost := !m.server(under.Add).up
		switch {
		case under.Remove == p.Remove && (p.Add == under.Add || p.Add == "" && (!lost || p.Cause == ByOperator)):
			return m.join(in, p)
		case lost && under.Remove != p.Remove && p.Cause.isRepair():
			m.settle(in, toMove, &cell.Error{Op: "lifecycle.replace", Kind: cell.Conflict, Cell: in.Cell,
				Detail: fmt.Sprintf("server %s, which was to come, is down, and the dead member on %s is replaced first", under.Add, p.Remove), Hint: "ask again"})
		case under.Remove != p.Remove || !lost:
			return &cell.Error{Kind: cell.Exists, Detail: fmt.Sprintf("%s is being replaced by %s (%s)", under.Remove, under.Add, under.Cause),
				Hint: "one member at a time; a new member whose server is down can be given up for another"}
		}
	}
	if !in.hosts(p.Remove) {
		return &cell.Error{Kind: cell.NotFound, Detail: fmt.Sprintf("server %s is no member", p.Remove), Hint: "physalia cell show tells the members"}
	}
	add := p.Add
	if add != "" {
		if err := m.checkMember(in, add); err != nil {
			return err
		}
	} else {
		if err := m.allowMove(in, p, nil, false); err != nil { // before a server is looked for
			return err
		}
		chosen, err := m.planner.substitute(&in.Record, p.Remove, m.hintsOf(in))
		if err != nil {
			return asError(err)
		}
		add = chosen
	}
	if err := m.allowMove(in, p, m.server(add), true); err != nil {
		return err
	}
	in.Plan++
	m.setMove(in, Move{Remove: p.Remove, Add: add, Cause: p.Cause})
	m.drive(in)
	in.work.move.why = p.Why
	return nil
}

// join finds the same replacement under way. What an operator asks for, too, is his from then on.
func (m *Manager) join(in *incarnation, p *Proposal) *cell.Error {
	// So nobody withdraws it any more, and the pause that could stop it is that of moves.
	if p.Cause == ByOperator && in.Moving().Cause != ByOperator {
		m.causes[in.Moving().Cause]--
		m.causes[ByOperator]++
		moving := in.Moving()
		moving.Cause = ByOperator
		in.setMoving(moving)
		m.save(in)
		m.moves, m.heldMoves = append(m.moves, m.heldMoves...), nil // those whose kind is still paused come back
	}
	return nil
}

// checkMember says why the server that was asked for cannot become a member.
func (m *Manager) checkMember(in *incarnation, add cell.ServerID) *cell.Error {
	where, known := m.planner.servers[add]
	switch {
	case !known:
		return &cell.Error{Kind: cell.NotFound, Detail: fmt.Sprintf("server %s is not known", add), Hint: "physalia server list tells the servers"}
	case in.hosts(add):
		return &cell.Error{Kind: cell.Exists, Detail: fmt.Sprintf("server %s is a member already", add)}
	case m.drainOf(add) != nil || m.retired[add]:
		return &cell.Error{Kind: cell.Refused, Detail: fmt.Sprintf("server %s is to be emptied, or retired", add), Hint: "physalia server list tells which are not"}
	case string(where.Brick) != in.Brick.String() || string(where.Color) != in.Color.String():
		return &cell.Error{Kind: cell.Refused, Detail: fmt.Sprintf("server %s is of brick %s color %s, the cell of brick %s color %s",
			add, where.Brick, where.Color, in.Brick, in.Color)}
	}
	return nil
}

// setMove changes which replacement is under way, or that none is; whatever was known of the one before is forgotten.
func (m *Manager) setMove(in *incarnation, next Move) {
	w := in.begin()
	if !in.Moving().isZero() {
		m.progress(in, w.move) // it is in somebody's way until the end
		m.countMove(in, -1)
		m.wakeMoves(in.Moving().Remove)
	}
	in.setMoving(next)
	w.move = nil
	if !next.isZero() {
		m.countMove(in, 1)
	}
	m.open.note(in, m.now)
	m.save(in)
	if next.isZero() {
		m.followCell(in)
	}
}

// countMove counts the replacement under way, by cause and at both servers.
func (m *Manager) countMove(in *incarnation, n int) {
	m.causes[in.Moving().Cause] += n
	m.server(in.Moving().Remove).replacing += n
	m.server(in.Moving().Add).replacing += n
	if m.planner.coming[in.Moving().Add] += n; m.planner.coming[in.Moving().Add] == 0 {
		delete(m.planner.coming, in.Moving().Add)
	}
}

// wakeMoves has what waits for the end of a replacement looked at again.
func (m *Manager) wakeMoves(left cell.ServerID) {
	m.petitionsAt = m.now
	if d := m.drainOf(left); d != nil {
		d.at = m.now
	}
}

// stuckAfter is how many pauses in a row, none of which brought anything new, make a replacement one that gets nowhere: its cell
// has lost its majority, or its new server is down. It is in nobody's way then, and is looked at all the same.
const stuckAfter = 16

// stall counts a pause of a replacement.
func (m *Manager) stall(in *incarnation, v *moving) {
	if v.stalled++; v.stalled == stuckAfter {
		m.server(in.Moving().Remove).stuck++
		m.server(in.Moving().Add).stuck++
		m.wakeMoves(in.Moving().Remove)
	}
}

// progress notes that a replacement has got on.
func (m *Manager) progress(in *incarnation, v *moving) {
	if v == nil {
		return
	}
	if v.stalled >= stuckAfter {
		m.server(in.Moving().Remove).stuck--
		m.server(in.Moving().Add).stuck--
	}
	v.stalled = 0
}

// Propose asks for a replacement; reply is called once, on another goroutine, and must not block. Its error is that of
// Manager.Propose; it is nil once what was planned is durable.
func (s *Service) Propose(p Proposal, reply func(*cell.Error)) {
	s.request("lifecycle.propose", func(r Reply) { reply(r.Err) }, func(now time.Duration, id RequestID) {
		s.m.out.Replies = append(s.m.out.Replies, Reply{Request: id, Err: s.m.Propose(now, p)})
	})
}

// Withdraw gives a proposed replacement up; reply is told, as of Propose, whether it was. An error means that nothing is known.
func (s *Service) Withdraw(c cell.ID, remove cell.ServerID, reply func(withdrawn bool, err *cell.Error)) {
	done := false // written and read by the loop
	s.request("lifecycle.withdraw", func(r Reply) { reply(done, r.Err) }, func(now time.Duration, id RequestID) {
		done = s.m.Withdraw(now, c, remove)
		s.m.out.Replies = append(s.m.out.Replies, Reply{Request: id})
	})
}
