package core

import (
	"physalia/cell"
	"physalia/node/slab"
	"physalia/paxos"
)

// Every row of the table is in the chain of the server that leads its cell, as far as this node knows. So when a server dies, only the
// cells that it led are looked at, however many are hosted here: once, a bounded number per tick. For those whose successor this server is
// it campaigns, before any client asks. A client that does ask is not kept waiting by that: its request campaigns at once, as ever.
//
// A cell costs its new proposer one load and everybody else a look at a row (coldvote.go). The messages of a turn travel in one frame
// per peer, and its writes in one batch, so what is left per cell is some fifty bytes each way and a row on each disk.
//
// The sweep is a convenience: a cell that it passes over, for whatever reason, waits for a client. It is never the reason for a second
// ballot: it begins a little after the support for the dead server has run out here, so that it has run out everywhere.

// sweeping is how far the cells that a server led were looked at since it died.
type sweeping struct {
	done bool     // since this death, and that of others
	left []Handle // to be looked at, those in use first
}

// SweepResult is what came of looking at a cell that a dead server led.
type SweepResult uint8

// The results.
const (
	SweptAsked     SweepResult = iota // this node asks for the cell
	SweptOther                        // another server is the successor, or leads it by now
	SweptForbidden                    // this node must not ask now; a client will make somebody ask
	SweepResults
)

// String names a result, for metrics.
func (r SweepResult) String() string { return [...]string{"asked", "other", "forbidden"}[r] }

// sweepLooksPerTick bounds how many cells one tick looks at, sweepLoadsMax how many reads, of up to loadTogether nodes each, may be under way
// when another one is asked for: what clients wait for is read by the same readers.
//
// sweepSilent is for how many support periods a server must have been silent whose address does not refuse connections.
const (
	sweepSilent       = 3
	sweepLooksPerTick = 2048
	sweepLoadsMax     = 8
)

// chainOf is the chain of cells that are led by a node.
func (c *Core) chainOf(conf *paxos.Configuration, leader paxos.NodeNumber) slab.Chain {
	if i := conf.Index(leader); i >= 0 {
		return c.server(cell.ServerID(conf.Members[i].Server)).chain()
	}
	return 0
}

// chain is the chain of cells that are led from a server.
func (s *server) chain() slab.Chain {
	if s.place >= slab.ChainMax {
		return 0
	}
	return slab.Chain(s.place + 1)
}

// follows notes who leads a node's cell.
func (c *Core) follows(h *hosted, leader paxos.NodeNumber) {
	h.leader = leader
	if at, ok := c.position(h.handle); ok {
		c.cold.Link(at, c.chainOf(h.configuration, leader))
	}
}

// Sweeping is how many cells of dead servers are to be looked at.
func (c *Core) Sweeping() (left int) {
	for _, s := range c.roster {
		left += len(s.sweep.left)
	}
	return left
}

// sweep begins with servers that died, and goes on with those that it began with. Who dies later may have been taken for a successor, so
// the cells of all the dead are looked at again.
func (c *Core) sweep() {
	if c.cfg.SweepPerTick <= 0 || !c.ready {
		return
	}
	again := false
	for _, s := range c.roster {
		switch {
		case s.id == c.cfg.Server || s.shared == 0 || s.proven == 0 || c.isAlive(s): // who was dead when this server started is old news
			s.sweep = sweeping{}
		case !s.sweep.done && c.isOver(s):
			s.sweep.done, again = true, true
		}
	}
	looks, asks := sweepLooksPerTick, c.cfg.SweepPerTick
	for _, s := range c.roster {
		if again && s.sweep.done {
			c.gather(s)
		}
		n := 0
		for ; n < len(s.sweep.left) && looks > 0 && asks > 0 && len(c.loads) < sweepLoadsMax; n++ {
			looks--
			result := c.look(s, s.sweep.left[n])
			if result == SweptAsked {
				asks--
			}
			if c.cfg.Events.Swept != nil {
				c.cfg.Events.Swept(result)
			}
		}
		if s.sweep.left = s.sweep.left[n:]; len(s.sweep.left) == 0 {
			s.sweep.left = nil
		}
	}
}

// isOver reports whether support for a server has run out here, and as good as everywhere. One that is merely silent may be out of breath,
// as may this one be; to take all its cells then would only make it worse, so it is given some more time than one at whose address nothing
// listens.
func (c *Core) isOver(s *server) bool {
	wait := c.cfg.HeartbeatEvery
	if !s.gone {
		wait = sweepSilent * c.cfg.SupportPeriod
	}
	return !c.supports(s) && c.now >= max(s.given, c.began+c.support.longest)+wait
}

// gather lists the cells that a server led, those that are hot here first.
func (c *Core) gather(s *server) {
	s.sweep.left = make([]Handle, 0, c.cold.Count(s.chain()))
	for _, warm := range [...]bool{true, false} {
		c.cold.Each(s.chain(), func(at int) bool {
			if row := c.cold.At(at); row.Flags&isWarm != 0 == warm {
				s.sweep.left = append(s.sweep.left, Handle(row.Handle))
			}
			return true
		})
	}
}

// look campaigns for a cell if that falls to this server. A node that has to be loaded first does so then (succeed).
func (c *Core) look(dead *server, handle Handle) SweepResult {
	at, ok := c.position(handle)
	if !ok || c.cold.Chained(at) != dead.chain() {
		return SweptOther
	}
	h := c.peek(at)
	if h == nil || h.sealed || h.quarantined != "" || h.configuration.Hosts(paxos.ServerID(c.cfg.Server)) != h.node ||
		c.successor(h, h.configuration.Hosts(paxos.ServerID(dead.id))) != c.cfg.Server {
		return SweptOther
	}
	if !c.reaches(h.configuration) { // nothing is loaded in vain by a server that is cut off
		return SweptForbidden
	}
	h = c.find(h.id)
	switch {
	case h.hot != nil:
		return c.succeed(h)
	case !c.mayVote(h) || h.plain && !c.mayPromiseCold(h, c.server(c.cfg.Server)):
		return SweptForbidden
	}
	c.whenHot(h, input{sweep: true})
	return SweptAsked
}

// succeed campaigns for a cell whose proposer's server is dead, unless somebody leads by now.
func (c *Core) succeed(h *hosted) SweepResult {
	switch {
	case h.hot.replica.Role() != paxos.Follower || !h.isMember() || c.whoLeads(h, 0) != c.cfg.Server:
		return SweptOther
	case c.mayCampaign(h) != nil:
		return SweptForbidden
	}
	c.campaign(h)
	c.activate(h)
	return SweptAsked
}
