package mesh

import (
	"sync"

	"physalia/cell"
	"physalia/node/core"
)

// namesMax bounds the names that a mesh keeps, about 150 bytes each; beyond, they are forgotten and learned anew, at the price of a small
// allocation, the lock and a search for each.
const namesMax = 32 << 10

// names has one core.Name for each cell that peers spoke of, for all lanes together: what busy lanes look up for every message is small then, and
// often in the processor's caches already. It is safe for concurrent use.
type names struct {
	mu  sync.RWMutex
	all map[string]*core.Name
}

// of returns the name that is spelt so, nil when no cell can have it.
func (n *names) of(b []byte) *core.Name {
	n.mu.RLock()
	name := n.all[string(b)]
	n.mu.RUnlock()
	if name != nil {
		return name
	}
	id := cell.ID(b)
	if id.Check() != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if name = n.all[string(id)]; name == nil { // no other lane was faster
		if len(n.all) >= namesMax {
			clear(n.all)
		}
		name = &core.Name{ID: id}
		n.all[string(id)] = name
	}
	return name
}
