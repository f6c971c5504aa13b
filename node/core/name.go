package core

import (
	"physalia/cell"
	"physalia/internal/must"
)

// Name is the name of a cell for those who decode messages: they keep one for each cell, and give it along with every message that names
// the cell. The core notes in it whom it found, and need not search again. A Name belongs to one Core.
type Name struct {
	ID   cell.ID
	node *hosted // it is warm, and knows of this; nil: to be searched. The core's alone
}

// named is find for the cell of a message.
func (c *Core) named(m *PeerMessage) *hosted {
	n := m.Name
	if n == nil {
		return c.find(m.Envelope.Cell)
	}
	if n.ID != m.Envelope.Cell { // guarded: That's arguments allocate
		must.That(false, "a message to %q comes with the name %q", m.Envelope.Cell, n.ID)
	}
	if n.node == nil {
		if h := c.find(n.ID); h != nil {
			h.unname()
			n.node, h.name = h, n
		}
	}
	return n.node
}

// unname is what must come before a node is no longer warm, and before another Name leads to it: at most one does.
func (h *hosted) unname() {
	if h.name != nil {
		h.name.node, h.name = nil, nil
	}
}
