package mesh

import (
	"sync"

	"physalia/cell"
	"physalia/node/core"
)

// namesMax bounds the names that a mesh keeps, about 150 bytes each; beyond, they are forgotten and learned anew, at the price of a small
// allocation and a search for each.
const namesMax = 32 << 10

// names has one core.Name for each cell that peers spoke of, for all lanes together: what busy lanes look up for every message is small then, and
// often in the processor's caches already.
type names struct {
	mu  sync.RWMutex // held for reading while a frame is decoded
	all map[string]*core.Name
}

// of returns the name that is spelt so, nil when no cell can have it. The caller holds mu for reading; it is given up for a moment when
// the name is new.
func (n *names) of(b []byte) *core.Name {
	if name := n.all[string(b)]; name != nil {
		return name
	}
	id := cell.ID(b)
	if id.Check() != nil {
		return nil
	}
	n.mu.RUnlock()
	defer n.mu.RLock()
	n.mu.Lock()
	defer n.mu.Unlock()
	name := n.all[string(id)]
	if name == nil { // no other lane was faster
		if len(n.all) >= namesMax {
			clear(n.all)
		}
		name = &core.Name{ID: id}
		n.all[string(id)] = name
	}
	return name
}
