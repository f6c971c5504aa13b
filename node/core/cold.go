package core

import (
	"encoding/binary"
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire/peer"
	"physalia/node/slab"
	"physalia/node/storage"
	"physalia/paxos"
)

// A server hosts far more nodes than are in use, so what it keeps of each counts (DESIGN.md, section 6). Every node has a row in
// Core.cold: its numbers, its name and its configuration, some hundred bytes without a pointer. A node that somebody speaks to is warm:
// it has a hosted besides, which alone is right then, and the row only holds its place in the order of handles. It is what every
// other file here works with. At the end of the turn in which a node has become useless, its hosted is written back and forgotten.
//
// Forgetting is no different from a restart of this node alone, as cooling is: nothing is in the hosted that is not in the row, but what
// is asked for anew (recalled). So only a node may be forgotten that nothing refers to: it is neither hot nor on its way to it, no
// input waits for it, it is on no list of this turn, and it is well. What it has held back until a batch is durable is no
// obstacle: it went cold only after that (isIdle).

// The flags of a row. isWarm is the only one that holds while the node is warm.
const (
	isWarm slab.Flags = 1 << iota
	isSealed
	isVirgin
	isTaught // created as a learner
	isPlain  // coldvote.go
	isFreed
)

// find is the node of a cell, nil when there is none. A node that was not warm is now, until the end of the turn at least.
func (c *Core) find(id cell.ID) *hosted {
	if h := c.warm[id]; h != nil {
		return h
	}
	at, ok := c.cold.Find(string(id))
	if !ok {
		return nil
	}
	h := c.fromRow(at, new(paxos.Configuration))
	c.connect(h)
	c.warm[h.id] = h
	c.cold.At(at).Flags |= isWarm
	c.cooling = append(c.cooling, h)
	return h
}

// peek is the node in a row, nil for a gap. One that is not warm is a copy for looking at until the next peek, without its servers: pages
// of many nodes are made of them (ListNodes, Census), all the time where a manager has few servers.
func (c *Core) peek(at int) *hosted {
	row := c.cold.At(at)
	switch {
	case row.Flags&slab.Gone != 0:
		return nil
	case row.Flags&isWarm != 0:
		return c.warm[cell.ID(c.cold.Name(at))]
	}
	return c.fromRow(at, &c.peeked)
}

// fromRow makes a hosted of a row, and its configuration in a place that is given.
func (c *Core) fromRow(at int, conf *paxos.Configuration) *hosted {
	row := c.cold.At(at)
	rest := c.unpack(c.cold.Kept(at), conf)
	h := &hosted{id: cell.ID(c.cold.Name(at)), incarnation: cell.Incarnation(row.Incarnation), node: paxos.NodeNumber(row.Node), handle: Handle(row.Handle),
		founding: row.Founding, promised: paxos.Ballot{Round: paxos.Round(row.Round), Node: paxos.NodeNumber(row.Promised)},
		sealed: row.Flags&isSealed != 0, virgin: row.Flags&isVirgin != 0, learner: row.Flags&isTaught != 0, configuration: conf,
		plain: row.Flags&isPlain != 0, freed: row.Flags&isFreed != 0}
	if h.plain {
		h.unpackPlain(rest)
	}
	return h
}

// row is what is kept of a node that is not warm.
func (h *hosted) row() slab.Row {
	r := slab.Row{Handle: uint64(h.handle), Incarnation: uint64(h.incarnation), Node: uint32(h.node), Founding: h.founding,
		Round: uint64(h.promised.Round), Promised: uint32(h.promised.Node)}
	for _, f := range [...]struct {
		is   bool
		flag slab.Flags
	}{{h.sealed, isSealed}, {h.virgin, isVirgin}, {h.learner, isTaught}, {h.plain, isPlain}, {h.freed, isFreed}} {
		if f.is {
			r.Flags |= f.flag
		}
	}
	return r
}

// forget writes back what has become useless in this turn. It comes last in a turn, when nobody holds a hosted any more but its Name.
func (c *Core) forget() {
	kept := c.cooling[:0]
	for _, h := range c.cooling {
		switch {
		case c.warm[h.id] != h, h.hot != nil, h.loading, h.quarantined != "":
			// It is gone, or will come by again when it goes cold, or stays for inspection.
		case h.creating || h.isDirty || h.isActive || len(h.queue) > 0:
			kept = append(kept, h)
		default:
			at, ok := c.position(h.handle)
			must.That(ok, "node %d has no row", h.handle)
			c.kept = c.pack(c.kept[:0], h.configuration)
			if h.plain {
				c.kept = h.packPlain(c.kept)
			}
			c.cold.Keep(at, c.kept)
			c.cold.Put(at, h.row())
			h.unname()
			delete(c.warm, h.id)
		}
	}
	clear(c.cooling[len(kept):])
	c.cooling = kept
}

// add puts a new node into the table; it is warm until it serves. There is at most one node per cell: a new incarnation is created
// only after the old one was wiped.
func (c *Core) add(h *hosted) {
	row := h.row()
	row.Flags |= isWarm
	at := c.cold.Add(row, string(h.id), c.pack(c.kept[:0], h.configuration))
	c.cold.Link(at, c.chainOf(h.configuration, h.promised.Node))
	c.warm[h.id] = h
	c.connect(h)
	c.share(h, 1)
	c.routeChanged(h, false)
}

// nodes is how many nodes are hosted.
func (c *Core) nodes() int { return c.cold.Len() }

// position finds a handle in the table.
func (c *Core) position(handle Handle) (int, bool) {
	at := c.cold.After(uint64(handle))
	return at, at < c.cold.Span() && c.cold.At(at).Handle == uint64(handle) && c.cold.At(at).Flags&slab.Gone == 0
}

// pack appends a configuration as it is kept in memory: numbers of variable length, servers by their place in the roster, which never
// changes while the process lives. It is never stored, nor sent.
func (c *Core) pack(b []byte, conf *paxos.Configuration) []byte {
	u := func(n uint64) { b = binary.AppendUvarint(b, n) }
	member := func(m paxos.Member) {
		u(uint64(m.Node))
		if m.Server == "" { // nobody left yet
			u(0)
			return
		}
		u(uint64(c.server(cell.ServerID(m.Server)).place) + 1)
	}
	unsettled := uint64(0)
	if conf.Unsettled {
		unsettled = 1
	}
	u(uint64(conf.Number))
	u(uint64(conf.Since))
	u(uint64(conf.Alpha))
	u(uint64(conf.Owner))
	u(uint64(conf.Next))
	u(uint64(len(conf.Members)))
	for _, m := range conf.Members {
		member(m)
	}
	u(uint64(len(conf.Learners)))
	for _, l := range conf.Learners {
		member(l.Member)
		u(l.Request)
	}
	member(conf.Left)
	u(unsettled)
	return b
}

// unpack reads what pack made, and uses the memory of what it overwrites again. It returns what comes behind that.
func (c *Core) unpack(b []byte, conf *paxos.Configuration) []byte {
	u := func() uint64 {
		n, size := binary.Uvarint(b)
		must.That(size > 0, "a configuration in memory ends early")
		b = b[size:]
		return n
	}
	member := func() (m paxos.Member) {
		m.Node = paxos.NodeNumber(u())
		if place := u(); place > 0 {
			m.Server = paxos.ServerID(c.roster[place-1].id)
		}
		return m
	}
	members, learners := conf.Members[:0], conf.Learners[:0]
	*conf = paxos.Configuration{Number: paxos.ConfigurationNumber(u()), Since: paxos.Slot(u()), Alpha: uint32(u()),
		Owner: paxos.NodeNumber(u()), Next: paxos.NodeNumber(u())}
	n := int(u())
	conf.Members = slices.Grow(members, n)[:n]
	for i := range conf.Members {
		conf.Members[i] = member()
	}
	if n = int(u()); n > 0 {
		conf.Learners = slices.Grow(learners, n)[:n]
	}
	for i := range conf.Learners {
		conf.Learners[i] = paxos.Learner{Member: member(), Request: u()}
	}
	conf.Left = member()
	conf.Unsettled = u() == 1
	return b
}

// The restart scan reads the rows some thousand handles at a time: they are in memory twice while they are read, and what a server needs
// for a moment at its start it has for good.
const bootHandles = 4096

// bootRows asks for the next rows of the restart scan. The ranges of all questions together are that of the kind of key, so a
// key that is none of ours is found, wherever it is.
func (c *Core) bootRows() {
	rows := kindRange(keyRow)
	if c.booting > 0 {
		rows.Start = handleKey(nil, keyRow, c.booting)
	}
	if c.booting += bootHandles; c.booting < c.nextHandle {
		rows.End = handleKey(nil, keyRow, c.booting)
	}
	c.out.Loads = append(c.out.Loads, Load{ID: bootLoad, Ranges: []storage.Range{rows}})
}

// restoreRow takes one row of the restart scan.
func (c *Core) restoreRow(pair *storage.Pair, decoder *peer.Decoder, row *peer.Row) error {
	handle := Handle(binary.BigEndian.Uint64(pair.Key[1:]))
	if err := decoder.DecodeRowInto(pair.Value, row); err != nil {
		return fmt.Errorf("row of node %d: %w", handle, err)
	}
	if at, ok := c.cold.Find(string(row.Cell)); ok {
		return fmt.Errorf("nodes %d and %d are both of %s", c.cold.At(at).Handle, handle, row.Cell)
	}
	h := hosted{id: row.Cell, incarnation: row.Incarnation, node: row.Node, promised: row.Promised, sealed: row.Sealed,
		learner: row.Learner, founding: row.Founding, configuration: &row.Configuration, handle: handle}
	c.kept = c.pack(c.kept[:0], h.configuration)
	at := c.cold.Add(h.row(), string(h.id), c.kept)
	c.cold.Link(at, c.chainOf(h.configuration, h.promised.Node))
	for _, m := range row.Configuration.Members {
		c.shareWith(c.server(cell.ServerID(m.Server)), 1)
	}
	for _, l := range row.Configuration.Learners {
		c.shareWith(c.server(cell.ServerID(l.Server)), 1)
	}
	switch {
	case row.Quarantined == "":
	case c.healed(row.Quarantined):
		c.putRow(c.find(row.Cell))
	default:
		c.mark(c.find(row.Cell), row.Quarantined)
	}
	c.tellRoute(&h, false)
	return nil
}

// internServer is one string per server.
func (c *Core) internServer(b []byte) paxos.ServerID {
	if s := c.servers[cell.ServerID(b)]; s != nil {
		return paxos.ServerID(s.id)
	}
	return paxos.ServerID(c.server(cell.ServerID(b)).id)
}
