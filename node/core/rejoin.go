package core

import "physalia/paxos"

// A server that was away missed what was chosen meanwhile, and idle cells would not tell it: a follower's absence wakes
// nobody. When its support begins anew, each proposer's server walks once through the nodes it hosts, a bounded number per
// tick, and sends a notice for every cell that it leads and whose node there is not known to hold everything. The node asks
// for what it misses, and is taught. Cells without a write in the meantime cost a look.

// rejoinPerTick bounds how many nodes one tick looks at, for all peers together.
const rejoinPerTick = 2048

// rejoining is a walk through the nodes on behalf of one peer.
type rejoining struct {
	walking bool
	next    Handle // of the next node to look at
}

// rejoined begins the walk for a peer whose support begins.
func (c *Core) rejoined(s *server) { s.rejoin = rejoining{walking: true} }

// rejoin goes on with the walks.
func (c *Core) rejoin() {
	budget := rejoinPerTick
	for _, s := range c.roster {
		if !s.rejoin.walking {
			continue
		}
		i, _ := c.position(s.rejoin.next)
		for ; i < len(c.order) && budget > 0; i++ {
			budget--
			if h := c.order[i]; h != nil {
				s.rejoin.next = h.handle + 1
				c.catchUp(h, s)
			}
		}
		if i < len(c.order) {
			return
		}
		s.rejoin.walking = false
	}
}

// catchUp sends a notice of what is chosen to a cell's node on a server, if this node leads and that one seems to lag.
func (c *Core) catchUp(h *hosted, s *server) {
	if h.hot == nil || h.hot.replica.Role() != paxos.Proposer {
		return
	}
	replica := h.hot.replica
	for i, member := range h.members {
		if n := h.configuration.Members[i].Node; member == s && h.acked(n) < replica.Applied() {
			c.emit(h, &paxos.Message{Kind: paxos.MsgChosen, From: h.node, To: n, Ballot: replica.Ballot(), Through: replica.Applied()}, noEpoch)
		}
	}
}

// acked is the highest slot that a member is known to hold.
func (h *hosted) acked(n paxos.NodeNumber) paxos.Slot {
	for i := range h.hot.confirmed.of {
		if e := &h.hot.confirmed.of[i]; e.node == n {
			return e.acked
		}
	}
	return 0
}
