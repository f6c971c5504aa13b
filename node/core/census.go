package core

import (
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// The census is what a manager that lost its store, or fears to have, learns from: every node that is hosted, and every
// tombstone. It is made from memory, a page at a time, and makes no node hot. What memory has may not be durable yet, and a
// manager takes a tombstone for proof that a node will never come back: so a page is answered with Tell.

// Tell answers with a page once everything that it may rest on is durable.
func (c *Core) Tell(to Origin, page wire.Message) {
	c.hold(heldItem{reply: &Reply{To: to, Result: page}})
}

// Census pages through the hosted nodes in order of their handles. A node that is created meanwhile has a higher handle, so
// it is not missed.
func (c *Core) Census(m *wire.Census) *wire.CensusPage {
	limit := pageLimit(m.Limit)
	page := &wire.CensusPage{Nodes: make([]wire.CensusNode, 0, min(limit, c.nodes()))}
	members := make([]wire.CensusMember, 0, usualMembers*cap(page.Nodes)) // of all nodes of the page; it may be moved when it grows
	i, _ := c.position(Handle(m.After) + 1)
	for ; i < c.cold.Span(); i++ {
		h := c.peek(i)
		if h == nil || h.creating { // what is not durable is not there
			continue
		}
		if len(page.Nodes) == limit {
			page.More = true
			break
		}
		page.Nodes = append(page.Nodes, h.census(&members))
	}
	return page
}

// SickNodes is Census for the nodes that are out of service, whatever else is hosted.
func (c *Core) SickNodes(m *wire.Census) *wire.CensusPage {
	handles := make([]Handle, 0, len(c.sick))
	for handle := range c.sick {
		if uint64(handle) > m.After {
			handles = append(handles, handle)
		}
	}
	slices.Sort(handles)
	limit := pageLimit(m.Limit)
	page := &wire.CensusPage{More: len(handles) > limit}
	var members []wire.CensusMember
	for _, handle := range handles[:min(limit, len(handles))] {
		page.Nodes = append(page.Nodes, c.sick[handle].census(&members))
	}
	return page
}

// usualMembers is the size of most juries.
const usualMembers = 7

// census describes a node by its row; its members are added to those of the page.
func (h *hosted) census(members *[]wire.CensusMember) wire.CensusNode {
	conf := h.configuration
	n := wire.CensusNode{Handle: uint64(h.handle), Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node), Configuration: uint64(conf.Number),
		Alpha: conf.Alpha, Learner: !h.isMember(), Sealed: h.sealed, Quarantined: h.quarantined}
	if conf.Number == 1 {
		n.Owner = uint64(conf.Owner)
	}
	first := len(*members)
	for _, m := range conf.Members {
		*members = append(*members, wire.CensusMember{Node: uint64(m.Node), Server: cell.ServerID(m.Server)})
	}
	n.Members = (*members)[first:len(*members):len(*members)]
	return n
}

// Graves pages through the tombstones. One that is raised while they are read may be told with either number.
func (c *Core) Graves(m *wire.Census) *wire.GravePage {
	limit := pageLimit(m.Limit)
	page := &wire.GravePage{Next: min(m.After, uint64(len(c.graves)))}
	for _, id := range c.graves[page.Next:] {
		if len(page.Graves) == limit {
			page.More = true
			break
		}
		page.Graves = append(page.Graves, wire.Grave{Cell: id, Incarnation: c.tombstones[id]})
		page.Next++
	}
	return page
}

// pageLimit is how many entries a page may have.
func pageLimit(asked uint32) int {
	if asked == 0 || asked > wire.ListLimitMax {
		return wire.ListLimitMax
	}
	return int(asked)
}

// dig notes a tombstone in memory.
func (c *Core) dig(id cell.ID, incarnation cell.Incarnation) {
	if _, known := c.tombstones[id]; !known {
		c.graves = append(c.graves, id)
	}
	c.tombstones[id] = incarnation
}
