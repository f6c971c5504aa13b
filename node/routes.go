package node

import (
	"sync"

	"physalia/internal/wire"
	"physalia/node/core"
)

// routePage is how many routes go into one push: with seven members each about 100 KB.
const routePage = 256

// changedMax bounds the nodes noted one by one; with more, telling everything again is cheaper than remembering them.
const changedMax = 16 << 10

// outbox knows which routes discovery has not been told of: all of them when a session begins, then those that change. It
// holds handles, not routes, so that a control plane that is away for two weeks costs no memory, and each push tells the
// newest state. What is taken is the taker's to deliver, or to call everything after losing it.
//
// It works without knowing what was acknowledged: everything is a walk in order of handles, and a change is noted on its
// own only when the walk has passed its node already.
type outbox struct {
	wake chan struct{} // capacity 1: there is something to take

	mu      sync.Mutex
	walking bool
	walked  uint64              // the walk has taken every node up to this handle
	changed map[uint64]struct{} // nodes to take beside the walk, by handle
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), walking: true, changed: make(map[uint64]struct{})}
}

// note says that the route of a node changed. The loop calls it.
func (o *outbox) note(handle uint64) {
	o.mu.Lock()
	switch {
	case o.walking && handle > o.walked:
		// the walk gets there
	case len(o.changed) >= changedMax:
		clear(o.changed)
		o.walking, o.walked = true, 0
	default:
		o.changed[handle] = struct{}{}
	}
	o.mu.Unlock()
	poke(o.wake)
}

// everything makes the walk begin anew.
func (o *outbox) everything() {
	o.mu.Lock()
	clear(o.changed)
	o.walking, o.walked = true, 0
	o.mu.Unlock()
	poke(o.wake)
}

// take removes up to a page of nodes; none means that nothing is left. It runs on the loop, so that no change can fall
// between reading a node and noting that it was read.
func (o *outbox) take(c *core.Core) []wire.NodeInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.walking {
		page := c.ListNodes(&wire.ListNodes{After: o.walked, Limit: routePage})
		o.walking = page.More
		if n := len(page.Nodes); n > 0 {
			o.walked = page.Nodes[n-1].Handle
			return page.Nodes
		}
	}
	var nodes []wire.NodeInfo
	for handle := range o.changed {
		if len(nodes) == routePage {
			break
		}
		delete(o.changed, handle)
		page := c.ListNodes(&wire.ListNodes{After: handle - 1, Limit: 1})
		if len(page.Nodes) == 1 && page.Nodes[0].Handle == handle { // else it was wiped meanwhile
			nodes = append(nodes, page.Nodes[0])
		}
	}
	return nodes
}

// routes turns nodes into what discovery is told, with the addresses that are known now.
func (s *Server) routes(nodes []wire.NodeInfo) *wire.RoutePush {
	push := &wire.RoutePush{Routes: make([]wire.Route, len(nodes))}
	for i := range nodes {
		n := &nodes[i]
		push.Routes[i] = wire.Route{Cell: n.Cell, Incarnation: n.Incarnation, Configuration: n.Configuration, Members: n.Members, Deleted: n.Sealed}
		for j := range n.Members {
			n.Members[j].PeerAddr = s.addresses.peer(n.Members[j].Server)
		}
	}
	return push
}
