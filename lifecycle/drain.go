package lifecycle

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"physalia/cell"
)

// Duty is what an operator wants of a server. The numbers are stored and never change.
type Duty uint8

// The duties.
const (
	Serving         Duty = 0 // nothing special; not stored
	Draining        Duty = 1 // takes no new node, and is emptied
	Decommissioning Duty = 2 // the same, and its identity is retired once it is empty
	retiredDuty     Duty = 3 // its identity is retired; stored as that

	dutyMax = Decommissioning
)

var dutyNames = [...]string{Serving: "serving", Draining: "draining", Decommissioning: "decommissioning", retiredDuty: "retired"}

// String names a duty for people.
func (d Duty) String() string { return dutyNames[d] }

// drain is a server that is being emptied. Order and duty are stored; where the next look at its cells begins is not.
type drain struct {
	server *server
	duty   Duty
	order  *Order

	at       time.Duration // not before
	cursor   int           // cells of the server below this position are still to be looked at in this round
	round    bool          // a round has begun
	begun    int           // replacements begun in this round
	standing int           // cells met in this round of which something may still be chosen
	waits    *cell.Error   // why nothing begins at present
	problem  *cell.Error   // of the last cell of this round that cannot be moved; Cell names it
}

// never is later than any time.
const never = time.Duration(math.MaxInt64)

// looksPerTurn bounds the cells that one turn looks at for one server.
const looksPerTurn = 64

func drainKey(id cell.ServerID) []byte { return append([]byte{keyDrain}, id...) }

// restoreDrain takes a stored duty. Duties come behind the servers that they are of, in the order of keys, and before cells.
func (m *Manager) restoreDrain(key, value []byte) error {
	what, o, err := decodeOrder(value, uint8(dutyMax))
	if err != nil {
		return err
	}
	id := cell.ServerID(key[1:])
	if err := id.Check(); err != nil {
		return damaged(fmt.Sprintf("key %q", key))
	}
	m.drainServer(id, Duty(what), o)
	return nil
}

// drainServer begins or changes a drain.
func (m *Manager) drainServer(id cell.ServerID, duty Duty, o *Order) {
	d := m.drainOf(id)
	if d == nil {
		d = &drain{server: m.server(id)}
		i, _ := slices.BinarySearchFunc(m.drains, id, byServer)
		m.drains = slices.Insert(m.drains, i, d)
	}
	d.duty, d.order, d.at = duty, o, m.now
	m.planner.close(id, true)
}

func byServer(d *drain, id cell.ServerID) int {
	return strings.Compare(string(d.server.id), string(id))
}

// drainOf finds a drain, or nil.
func (m *Manager) drainOf(id cell.ServerID) *drain {
	if i, ok := slices.BinarySearchFunc(m.drains, id, byServer); ok {
		return m.drains[i]
	}
	return nil
}

// SetDuty takes an operator's word for what a server is to be: emptied, emptied and retired, or used again. It is answered when
// that is durable; emptying takes its time, and Status shows how far it is. Repeating it is harmless. The errors: NotFound, when
// the server has never registered; Refused, when its identity is retired.
func (m *Manager) SetDuty(now time.Duration, id RequestID, server cell.ServerID, duty Duty, o Order) {
	m.now = now
	// Whatever is ordered twice is done once; the first order stays, with its reason.
	reply := Reply{Request: id}
	d := m.drainOf(server)
	s := m.servers[server]
	switch {
	case m.retired[server] && duty == Decommissioning: // done
	case m.retired[server]:
		reply.Err = Retired(server)
	case s == nil || !s.known:
		reply.Err = &cell.Error{Op: "server.duty", Kind: cell.NotFound, Detail: fmt.Sprintf("server %q has never registered", server),
			Hint: "physalia server list tells the servers"}
	case d == nil && duty == Serving || d != nil && d.duty == duty: // as it is
	case duty == Serving:
		m.endDrain(d)
	default:
		m.drainServer(server, duty, &o)
		m.out.Persist = append(m.out.Persist, Write{drainKey(server), appendOrder(nil, uint8(duty), &o)})
	}
	m.out.Replies = append(m.out.Replies, reply)
}

// endDrain forgets a drain. Replacements that it has begun go on: each of them leaves a whole cell.
func (m *Manager) endDrain(d *drain) {
	m.out.Persist = append(m.out.Persist, Write{Key: drainKey(d.server.id)})
	m.drains = slices.DeleteFunc(m.drains, func(x *drain) bool { return x == d })
	m.planner.close(d.server.id, false)
}

// empty moves cells off the servers that are drained, within the limits.
func (m *Manager) empty() {
	for _, d := range slices.Clone(m.drains) {
		if d.at <= m.now {
			m.emptyServer(d)
		}
	}
}

// pauseDrain leaves a drain alone for so much time.
func (m *Manager) pauseDrain(d *drain, pause time.Duration) {
	d.at = m.now + max(pause, time.Millisecond)
	m.after(d.at-m.now, func() {})
}

// emptyServer looks at some of the cells that have a node on a server, the last ones first: what leaves meanwhile is replaced in
// the list by one that was looked at already, and what is missed comes in the next round.
func (m *Manager) emptyServer(d *drain) {
	id := d.server.id
	if m.planner.book.Nodes(id) == 0 && d.server.replacing == 0 {
		d.waits, d.problem = nil, nil
		if d.duty == Decommissioning {
			m.tryDecommission(d)
			return
		}
		d.at = never // the end of a replacement has it looked at again
		return
	}
	// A turn has other things to do, so it looks at a few cells only; a big server takes several turns for a round.
	for range looksPerTurn {
		if d.cursor = min(d.cursor, m.planner.book.Nodes(id)); d.cursor == 0 {
			m.newRound(d)
			return
		}
		d.cursor--
		// The book has a cell's name, and the newest incarnation of it may be another one than the node's.
		in := m.names[m.planner.book.CellAt(id, d.cursor)]
		if in == nil || in.State != Live || !in.Moving().isZero() || !in.hosts(id) {
			if in != nil && !in.is(Wiping, Deleted) {
				d.standing++
			}
			continue
		}
		d.standing++
		err := m.beginMove(in, &Proposal{Cell: in.Cell, Remove: id, Cause: ByDrain, Why: d.duty.String()})
		switch {
		case err == nil:
			d.begun++
			d.waits = nil
		case err.Kind == cell.Overloaded:
			// The limits are the same for the next cell, so this one is tried again, and first.
			d.cursor++
			d.standing--
			d.waits = err
			if m.pauseDrain(d, err.RetryAfter); m.pauses[MoveCells] != nil {
				d.at = never // until it is resumed
			}
			return
		default:
			err.Cell = in.Cell
			d.problem = err
		}
	}
	m.pauseDrain(d, 0)
}

// newRound begins to look at the cells from the start, after a pause when the last round found nothing to do. A server that is
// down and only has nodes to be wiped cannot be asked for anything more: it is empty for who wants to retire it.
func (m *Manager) newRound(d *drain) {
	if d.duty == Decommissioning && d.cursor == 0 && d.standing == 0 && d.round && !d.server.up && d.server.replacing == 0 {
		if m.tryDecommission(d) {
			return
		}
	} else if d.begun > 0 {
		d.problem = nil
	}
	if pause := m.config.RetryMax; d.round && d.begun == 0 {
		m.pauseDrain(d, pause)
	} else {
		m.pauseDrain(d, 0)
	}
	d.cursor, d.begun, d.standing, d.round = m.planner.book.Nodes(d.server.id), 0, 0, true
}

// tryDecommission retires an identity, unless something says that the server still has a part in a cell. It reports whether it did;
// if not, it looks again later.
func (m *Manager) tryDecommission(d *drain) bool {
	if d.problem = m.partOf(d.server); d.problem != nil {
		m.pauseDrain(d, m.config.RetryMax)
		return false
	}
	m.decommission(d)
	return true
}

// partOf says in which cell a server has a part although the drain has found nothing more to do, or nil. The book does not count
// what nobody could decide about, nor a jury that contradicts another; and while a round lasts, cells come. It costs a look at
// every cell, as retiring does: an identity that is gone does not come back.
func (m *Manager) partOf(s *server) (why *cell.Error) {
	if m.config.ScanEvery > 0 && s.up && s.first == 0 {
		return &cell.Error{Kind: cell.Unavailable, Detail: "the server was not asked yet what it hosts"}
	}
	for name, c := range m.claims {
		for i := range c.reports {
			if c.reports[i].server == s && (why == nil || name < why.Cell) {
				why = &cell.Error{Kind: cell.Conflict, Cell: name, Detail: "the server hosts a node of it, and this store does not know the cell"}
			}
		}
	}
	if why != nil {
		return why
	}
	m.order.scan("", "", func(name cell.ID) bool {
		for in := m.names[name]; in != nil && why == nil; in = in.older {
			if in.is(Creating, Live, Sealing) && in.hosts(s.id) {
				why = &cell.Error{Kind: cell.Conflict, Cell: name, Detail: fmt.Sprintf("the server is a member of incarnation %d, which is %s", in.Incarnation, in.State)}
			}
		}
		return why == nil
	})
	return why
}

// decommission retires an identity that hosts nothing any more.
func (m *Manager) decommission(d *drain) {
	// The connection may stay: the process answers with pointers until it is stopped. For placement and calls the server is gone.
	id := d.server.id
	m.endDrain(d)
	m.ServerDown(m.now, id)
	m.retire([]cell.ServerID{id})
}
