package core

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// learnerAgain is when a learner may be asked for again whose server still hosts an older node of its cell.
const learnerAgain = 200 * time.Millisecond

// CreateLearner creates a node that its cell has issued a number to. It is answered once that is durable, alike however often
// it is asked. The node begins to ask for the cell's state at once, and has no vote before the cell's log says so.
func (c *Core) CreateLearner(to Origin, m *wire.CreateLearner) {
	c.hold(heldItem{reply: &Reply{To: to, Err: c.createLearner(m)}})
}

// createLearner makes the row, unless a node of the cell is here, or was: a number that lived here and left would come back
// without what it promised.
func (c *Core) createLearner(m *wire.CreateLearner) *cell.Error {
	refuse := func(kind cell.Kind, format string, args ...any) *cell.Error {
		return &cell.Error{Op: wire.MethodCreateLearner, Kind: kind, Cell: m.Cell, Detail: fmt.Sprintf(format, args...)}
	}
	conf, err := learnerConfiguration(m, c.cfg.Server)
	h, p := c.find(m.Cell), c.pointers.of[m.Cell]
	switch dead, isDead := c.tombstones[m.Cell]; {
	case !c.ready:
		return refuse(cell.Unavailable, "the server is starting")
	case err != nil:
		return refuse(cell.Invalid, "%v", err)
	case isDead && m.Incarnation <= dead:
		return refuse(cell.Deleted, "incarnation %d was deleted here, up to %d", m.Incarnation, dead)
	case h != nil && !h.isOver(m):
		return c.besideNode(h, m, refuse)
	case p != nil && (p.incarnation > m.Incarnation || p.incarnation == m.Incarnation && uint64(p.node) >= m.Node):
		return refuse(cell.Stale, "node %d of incarnation %d was here and left", p.node, p.incarnation)
	case h == nil && c.nodes() >= c.cfg.Capacity:
		return refuse(cell.NoRoom, "the server hosts %d nodes, its capacity", c.nodes())
	}
	if err := c.noPlace(refuse); err != nil {
		return err
	}
	if h != nil {
		c.remove(h, &cell.Error{Op: "node", Kind: cell.Quarantined, Cell: h.id, Detail: h.quarantined, Hint: quarantineHint})
	}
	h = &hosted{id: m.Cell, incarnation: m.Incarnation, node: paxos.NodeNumber(m.Node), configuration: conf, learner: true, creating: true}
	if p != nil && p.incarnation == m.Incarnation {
		h.founding = p.founding
	}
	c.dropPointer(m.Cell)
	c.settleIn(h, m.Members)
	return nil
}

// isOver reports whether a node that is out of service makes room for a learner of its cell: the cell's log issues a number to a
// server only when that has no member or learner of it any more.
func (h *hosted) isOver(m *wire.CreateLearner) bool {
	return h.quarantined != "" && h.incarnation == m.Incarnation && uint64(h.node) < m.Node
}

// besideNode answers for a learner of a cell of which a node is here already.
func (c *Core) besideNode(h *hosted, m *wire.CreateLearner, refuse func(cell.Kind, string, ...any) *cell.Error) *cell.Error {
	switch {
	case h.incarnation > m.Incarnation || h.incarnation == m.Incarnation && uint64(h.node) > m.Node:
		return refuse(cell.Stale, "node %d of incarnation %d is here", h.node, h.incarnation)
	case h.incarnation == m.Incarnation && h.sealed:
		return refuse(cell.Deleted, "incarnation %d is sealed", h.incarnation)
	case h.incarnation == m.Incarnation && uint64(h.node) == m.Node:
		return nil // asked again
	}
	e := refuse(cell.Unavailable, "node %d of incarnation %d is here, and its cell may still need it", h.node, h.incarnation)
	e.RetryAfter = learnerAgain
	return e
}

// learnerConfiguration is what a learner goes by until it was taught: whom to ask, and who it is.
func learnerConfiguration(m *wire.CreateLearner, self cell.ServerID) (*paxos.Configuration, error) {
	if err := m.Cell.Check(); err != nil {
		return nil, err
	}
	if m.Incarnation == 0 || m.Node == 0 || m.Node >= nodeNumberMax {
		return nil, fmt.Errorf("incarnation %d, node %d", m.Incarnation, m.Node)
	}
	conf := &paxos.Configuration{Number: paxos.ConfigurationNumber(m.Number), Alpha: m.Alpha, Next: paxos.NodeNumber(m.Node) + 1}
	for _, f := range m.Members {
		if f.Node == 0 || f.Node >= nodeNumberMax || f.Node == m.Node || f.Server == self {
			return nil, fmt.Errorf("member %d on %s, learner %d on %s", f.Node, f.Server, m.Node, self)
		}
		conf.Members = append(conf.Members, paxos.Member{Node: paxos.NodeNumber(f.Node), Server: paxos.ServerID(f.Server)})
		conf.Next = max(conf.Next, paxos.NodeNumber(f.Node)+1)
	}
	slices.SortFunc(conf.Members, func(a, b paxos.Member) int { return int(a.Node) - int(b.Node) })
	if conf.Number == 1 && len(conf.Members) > 0 {
		conf.Owner = conf.Members[0].Node // of no meaning here: a learner never owned ballot 1
	}
	conf.Learners = []paxos.Learner{{Member: paxos.Member{Node: paxos.NodeNumber(m.Node), Server: paxos.ServerID(self)}, Request: m.Request}}
	return conf, conf.Check()
}
