package core

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// CreateNodes creates this server's nodes of new cells and answers once all of them are durable. Repeating it is
// harmless; another jury for an incarnation that is known here is refused (rule 4). Refusals wait for the batch as well:
// they may rest on a node or a tombstone of this very turn.
func (c *Core) CreateNodes(to Origin, m *wire.CreateNodes) {
	outcomes := &wire.Outcomes{Outcomes: make([]wire.Outcome, len(m.Foundings))}
	for i := range m.Foundings {
		outcomes.Outcomes[i].Err = c.create(&m.Foundings[i])
	}
	c.hold(heldItem{reply: &Reply{To: to, Result: outcomes}})
}

// create makes one node, which serves once its row is durable: a member that promised ballot 1 by being created must not
// forget that in a crash (hazards H7, H13). The row and the next handle are in one batch, so no handle is issued twice.
func (c *Core) create(f *wire.Founding) *cell.Error {
	refuse := func(kind cell.Kind, format string, args ...any) *cell.Error {
		return &cell.Error{Op: wire.MethodCreateNodes, Kind: kind, Cell: f.Cell, Detail: fmt.Sprintf(format, args...)}
	}
	if !c.ready {
		return refuse(cell.Unavailable, "the server is starting")
	}
	configuration, self, err := founding(f, c.cfg.Server)
	if err != nil {
		return refuse(cell.Invalid, "%v", err)
	}
	if dead, ok := c.tombstones[f.Cell]; ok && f.Incarnation <= dead {
		return refuse(cell.Deleted, "incarnation %d was deleted here, up to %d", f.Incarnation, dead)
	}
	if h := c.find(f.Cell); h != nil {
		if h.incarnation == f.Incarnation && h.sealed {
			return refuse(cell.Deleted, "incarnation %d is sealed", f.Incarnation)
		}
		if h.incarnation == f.Incarnation && h.founding == foundingHash(configuration) {
			return nil // asked again; the reply waits for the newest batch, so it is durable
		}
		return refuse(cell.Stale, "incarnation %d of it is hosted here with jury %s", h.incarnation, h.configuration.Describe())
	}
	if p := c.pointers.of[f.Cell]; p != nil && p.incarnation >= f.Incarnation {
		if p.incarnation == f.Incarnation && p.founding == foundingHash(configuration) {
			return nil // its node was here, and left: it must not come back without what it promised
		}
		return refuse(cell.Stale, "a node of incarnation %d of it was here and left", p.incarnation)
	}
	if n := c.nodes(); n >= c.cfg.Capacity {
		return refuse(cell.NoRoom, "the server hosts %d nodes, its capacity", n)
	}
	if err := c.noPlace(refuse); err != nil {
		return err
	}
	c.dropPointer(f.Cell)
	c.settleIn(&hosted{id: f.Cell, incarnation: f.Incarnation, node: self, configuration: configuration, founding: foundingHash(configuration),
		promised: paxos.FoundingBallot(configuration), creating: true, virgin: true}, f.Members)
	return nil
}

// settleIn gives a new node its handle, its row and its place in the index; it serves once that is durable.
func (c *Core) settleIn(h *hosted, members []wire.Founder) {
	h.handle = c.nextHandle
	c.nextHandle++
	c.write().Set([]byte{keyHandles}, peer.AppendHandles(nil, uint64(c.nextHandle)))
	c.putRow(h)
	c.putName(h)
	for _, member := range members {
		if s := c.server(member.Server); s.clientAddr == "" {
			s.clientAddr = member.ClientAddr
		}
	}
	c.add(h)
	c.hold(heldItem{opens: h})
}

// founding turns a founding from the wire into a checked configuration and finds this server in it.
func founding(f *wire.Founding, server cell.ServerID) (*paxos.Configuration, paxos.NodeNumber, error) {
	if err := f.Cell.Check(); err != nil {
		return nil, 0, err
	}
	if f.Incarnation == 0 {
		return nil, 0, fmt.Errorf("incarnation is 0, the first is 1")
	}
	c := &paxos.Configuration{Number: 1, Alpha: f.Alpha, Owner: paxos.NodeNumber(f.Owner)}
	self := paxos.NodeNumber(0)
	for _, m := range f.Members {
		if m.Node == 0 || m.Node > wire.MembersMax {
			return nil, 0, fmt.Errorf("founding node number is %d, allowed are 1 to %d", m.Node, wire.MembersMax)
		}
		n := paxos.NodeNumber(m.Node)
		c.Members = append(c.Members, paxos.Member{Node: n, Server: paxos.ServerID(m.Server)})
		c.Next = max(c.Next, n+1)
		if m.Server == server {
			self = n
		}
	}
	if self == 0 {
		return nil, 0, fmt.Errorf("server %s is not in the jury", server)
	}
	return c, self, c.Check()
}

// open lets a node serve whose row became durable. It is still virgin: the first input bears it. A learner begins to ask.
func (c *Core) open(h *hosted) {
	h.creating = false
	c.cooling = append(c.cooling, h) // until somebody speaks to it
	switch {
	case len(h.queue) > 0:
		c.drain(h)
	case h.learner && c.warm[h.id] == h:
		c.load(h)
	}
}

// DropNodes wipes nodes of sealed incarnations (rules 15 and 16) and answers once that is durable. A tombstone stays, so
// that a late creation of the same incarnation finds it dead.
func (c *Core) DropNodes(to Origin, m *wire.DropNodes) {
	outcomes := &wire.Outcomes{Outcomes: make([]wire.Outcome, len(m.Drops))}
	for i := range m.Drops {
		outcomes.Outcomes[i].Err = c.dropNode(&m.Drops[i], m.Sealed)
	}
	c.hold(heldItem{reply: &Reply{To: to, Result: outcomes}})
}

// dropNode wipes one node, on one of two proofs that nothing is ever chosen in its incarnation again: this node applied
// the seal itself, or the caller vouches for it. Success leaves a tombstone also where there was no node, since a creation
// of the same incarnation may still be on its way; a younger incarnation is as good as one.
func (c *Core) dropNode(d *wire.Drop, sealed bool) *cell.Error {
	e := &cell.Error{Op: wire.MethodDropNodes, Cell: d.Cell}
	h := c.find(d.Cell)
	switch {
	case !c.ready:
		e.Kind, e.Detail = cell.Unavailable, "the server is starting"
		return e
	case d.Cell.Check() != nil || d.Incarnation == 0:
		e.Kind, e.Detail = cell.Invalid, "cell name or incarnation is missing"
		return e
	case h != nil && h.incarnation > d.Incarnation:
		return nil // a younger life of the name lives here; the older one is gone already
	case h == nil && c.tombstones[d.Cell] >= d.Incarnation:
		return nil // asked again
	case !sealed && (h == nil || h.incarnation != d.Incarnation || !h.sealed):
		e.Kind, e.Detail, e.Hint = cell.Refused, "the incarnation is not known to be sealed", "seal it first"
		return e
	}
	if h != nil && h.incarnation == d.Incarnation {
		c.wipe(h)
	}
	c.bury(d.Cell, d.Incarnation)
	return nil
}

// wipe removes everything of a node; its handle is never issued again, so nothing that storage failed to forget can be
// taken for part of another node (hazard H19).
func (c *Core) wipe(h *hosted) {
	h.sealed = true
	c.remove(h, c.deleted("node", h))
}

// remove wipes a node; whoever waits for it is told why.
func (c *Core) remove(h *hosted, why *cell.Error) {
	c.cool(h, why)
	h.unname()
	delete(c.warm, h.id)
	c.unmark(h)
	c.unstrand(h)
	if at, ok := c.position(h.handle); ok {
		c.cold.Remove(at)
	}
	c.share(h, -1)
	b := c.write()
	b.Delete(handleKey(nil, keyRow, h.handle))
	b.Delete(handleKey(nil, keyState, h.handle))
	b.Delete(handleKey(nil, keyName, h.handle))
	ring := handleRange(keyRing, h.handle)
	b.DeleteRange(ring.Start, ring.End)
	c.routeChanged(h, true)
}

// ListNodes pages through the hosted nodes in order of their handles.
func (c *Core) ListNodes(m *wire.ListNodes) *wire.NodeList {
	limit := int(m.Limit)
	if limit == 0 || limit > wire.ListLimitMax {
		limit = wire.ListLimitMax
	}
	list := &wire.NodeList{}
	i, _ := c.position(Handle(m.After) + 1)
	for ; i < c.cold.Span(); i++ {
		h := c.peek(i)
		if h == nil {
			continue
		}
		if len(list.Nodes) == limit {
			list.More = true
			break
		}
		list.Nodes = append(list.Nodes, c.info(h))
	}
	return list
}

// info describes a node from what is in memory, without making it hot.
func (c *Core) info(h *hosted) wire.NodeInfo {
	return wire.NodeInfo{Handle: uint64(h.handle), Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node),
		Configuration: uint64(h.configuration.Number), Sealed: h.sealed, Quarantined: h.quarantined, Members: c.founders(h)}
}

// tellRoute is routeChanged without the members, for the restart scan: whoever listens then asks for what it does not know.
func (c *Core) tellRoute(h *hosted, gone bool) {
	if c.cfg.Events.Routes != nil {
		c.cfg.Events.Routes(wire.NodeInfo{Handle: uint64(h.handle), Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node),
			Configuration: uint64(h.configuration.Number), Sealed: h.sealed}, gone)
	}
}

// routeChanged tells whoever feeds the discovery cache. It may run ahead of the disk: a route is a hint.
func (c *Core) routeChanged(h *hosted, gone bool) {
	if c.cfg.Events.Routes != nil {
		c.cfg.Events.Routes(c.info(h), gone)
	}
}

// Counts tells how many nodes are hosted, how many of them are hot, and how many lead their cell.
func (c *Core) Counts() (nodes, hot, led int) { return c.nodes(), len(c.hotList), c.led }

// Handed is the newest batch that was handed to storage.
func (c *Core) Handed() storage.BatchNumber { return c.handed }

// Durable is the newest batch that is on disk.
func (c *Core) Durable() storage.BatchNumber { return c.durable }

// explain shows what this server knows of a cell.
func (c *Core) explain(h *hosted) *wire.Explanation {
	r, m := h.hot.replica, c.current(h)
	x := &wire.Explanation{Server: c.cfg.Server, Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node), State: "hot",
		Role: r.Role().String(), Promised: r.Promised().String(), Leader: cell.ServerID(h.configuration.Server(r.Leader())),
		Applied: uint64(r.Applied()), Chosen: uint64(r.Known()), Floor: uint64(r.Floor()),
		Configuration: uint64(h.configuration.Number), Revision: m.Revision(), Keys: uint64(m.Keys()), Bytes: uint64(m.Bytes()),
		StateHash: m.Hash()}
	x.ReadLease = c.readLease(h)
	switch {
	case h.sealed:
		x.State = "sealed"
	case !h.isMember():
		x.State = "learner"
	}
	if d := h.hot.proof.disputed; d != 0 {
		x.Note = disputeNote(d)
	}
	for _, f := range c.founders(h) {
		s := c.server(f.Server)
		x.Members = append(x.Members, wire.ExplainedMember{Node: f.Node, Server: f.Server, Addr: f.ClientAddr, Alive: c.alive(f.Server),
			Supported: c.supports(s), Supports: c.supportedBy(s), Confirmed: c.confirmedBy(h, paxos.NodeNumber(f.Node))})
	}
	return x
}
