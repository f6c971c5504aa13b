package lifecycle

import (
	"slices"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// stray is a node that is to be dropped although it is in no record: its incarnation is proven to have ended.
type stray struct {
	server      cell.ServerID
	cell        cell.ID
	incarnation cell.Incarnation
}

// strays are such nodes, by what they are: nil once they were told to the server, which has not answered yet.
type strays struct {
	nodes  map[stray]*server
	names  map[cell.ID]int // how many of each
	wanted bool            // some are to be told
}

func (x *strays) add(k stray, s *server) {
	if _, known := x.nodes[k]; !known {
		x.names[k.cell]++
	}
	x.nodes[k], x.wanted = s, true
}

func (x *strays) remove(k stray) {
	delete(x.nodes, k)
	if x.names[k.cell]--; x.names[k.cell] <= 0 {
		delete(x.names, k.cell)
	}
}

// dropClaimed has the nodes dropped that are left of an incarnation which has ended.
func (m *Manager) dropClaimed(name cell.ID, c *claim, inc cell.Incarnation) {
	for i := range c.reports {
		if r := &c.reports[i]; c.views[r.view].incarnation == inc {
			m.strays.add(stray{r.server.id, name, inc}, r.server)
		}
	}
	m.find("half-deleted", name, inc, "it has ended, and nodes are left, which will be dropped")
	c.forget(func(r *report) bool { return c.views[r.view].incarnation == inc })
}

// canDrop reports whether there is something to be dropped now.
func (m *Manager) canDrop() bool { return m.strays.wanted && m.pauses[DeleteCells] == nil }

// dropStrays sends what is to be dropped, a batch per server at a time. What fails, and what is on servers that are gone, is
// found again in a later round.
func (m *Manager) dropStrays() {
	if !m.canDrop() {
		return
	}
	m.strays.wanted = false
	by := map[*server][]stray{}
	for k, s := range m.strays.nodes {
		if s != nil {
			by[s] = append(by[s], k)
		}
	}
	list := make([]*server, 0, len(by))
	for s := range by {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *server) int { return strings.Compare(string(a.id), string(b.id)) })
	for _, s := range list {
		batch := by[s]
		slices.SortFunc(batch, func(a, b stray) int { return strings.Compare(string(a.cell), string(b.cell)) })
		switch {
		case !s.up:
			m.endStrays(batch)
			continue
		case len(batch) > m.config.Batch:
			batch, m.strays.wanted = batch[:m.config.Batch], true
		}
		p := &wire.DropNodes{Sealed: true}
		for _, k := range batch {
			m.strays.nodes[k] = nil
			p.Drops = append(p.Drops, wire.Drop{Cell: k.cell, Incarnation: k.incarnation})
		}
		m.call(&call{server: s, stray: batch}, wire.MethodDropNodes, p, m.config.CallTimeout)
	}
}

// straysDone takes the end of such a call, however it ended.
func (m *Manager) straysDone(id CallID, c *call) {
	delete(m.calls, id)
	m.endStrays(c.stray)
}

func (m *Manager) endStrays(list []stray) {
	for _, k := range list {
		m.strays.remove(k)
		m.free(k.cell)
	}
}
