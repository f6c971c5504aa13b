package core

import "physalia/paxos"

// A server that was away missed what was chosen meanwhile, and idle cells would not tell it: a follower's absence wakes
// nobody. When its support begins anew, each proposer's server walks once through the cells that are led from here, a bounded number
// per tick, and sends a notice for every one whose node there is not known to hold everything. The node asks for what it misses, and is
// taught. Cells without a write in the meantime cost a look, and those that nobody leads nothing: their next proposer will tell.

// rejoinPerTick bounds how many nodes one tick looks at, for all peers together.
const rejoinPerTick = 2048

// rejoining is a walk through nodes on behalf of one peer: those that led when its support began and were not looked at yet. Who leads
// since then has heard from its jury since then.
type rejoining struct{ left []*hosted }

// rejoined begins the walk for a peer whose support begins.
func (c *Core) rejoined(s *server) {
	s.rejoin.left = nil
	for _, h := range c.hotList {
		if h.hot != nil && h.hot.led {
			s.rejoin.left = append(s.rejoin.left, h)
		}
	}
}

// rejoin goes on with the walks.
func (c *Core) rejoin() {
	budget := rejoinPerTick
	for _, s := range c.roster {
		n := min(budget, len(s.rejoin.left))
		for _, h := range s.rejoin.left[:n] {
			c.catchUp(h, s)
		}
		budget -= n
		if s.rejoin.left = s.rejoin.left[n:]; len(s.rejoin.left) == 0 {
			s.rejoin.left = nil
		}
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
