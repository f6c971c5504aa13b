package core

import (
	"cmp"
	"slices"
	"time"

	"physalia/paxos"
)

// A proposer asks no more members than it needs (paxos.Replica.Spare), and the core says which: servers that are well, and among them
// its neighbours in the order of the servers' identities, in turn above and below. So all cells that two servers share make the same
// choice, the pairs that choose each other exchange one frame where others would exchange two, and everybody is chosen as often.
//
// Where a member that was asked does not answer, the replica asks everybody, and is left at that for a while; whoever has not voted until
// then either is not chosen again in that ballot. A server that ceases to prove itself useful is not chosen any more by any cell. All that
// only ever falls back to asking all, which is what it would cost anyway.

// thrifty is whom a hot node's replica was told to spare.
type thrifty struct {
	fitness int                  // Core.fitness when it was; zero: it was not
	conf    *paxos.Configuration // the configuration then
	ballot  paxos.Ballot         // the ballot then
	wide    time.Duration        // until when everybody is asked
	silent  paxos.Slot           // whoever did not vote since this slot was late does not answer; zero: none was
	in      paxos.Ballot         // the ballot of silent
	bereft  bool                 // somebody who may have been asked is dead: what is in flight is repeated at once
}

// fitBeats is how many heartbeats' time a server may not prove itself useful and still be chosen.
const fitBeats = 3

// judgeFitness looks at who may be chosen. It costs a look at each server that shares cells, per tick.
func (c *Core) judgeFitness() {
	for _, s := range c.roster {
		fit := s.shared > 0 && !s.gone && s.ailment == 0 && c.now-s.proven <= max(fitBeats*c.cfg.HeartbeatEvery, c.patience())
		if s.fit == fit {
			continue
		}
		s.fit = fit
		c.fitness++
		for i := 0; s.gone && i < len(c.active); i++ {
			if h := c.active[i].node; h.hot != nil && h.hot.led && h.hot.thrift.fitness != 0 && slices.Contains(h.members, s) {
				h.hot.thrift.bereft, c.active[i].due = true, 0
			}
		}
	}
}

// spare tells a proposer whom it need not ask, when that may have changed. It comes before whatever asks.
func (c *Core) spare(h *hosted) {
	r, t := h.hot.replica, &h.hot.thrift
	if !c.cfg.Thrifty || t.fitness == c.fitness && t.conf == r.Configuration() && t.ballot == r.Ballot() || c.now < t.wide || r.Role() != paxos.Proposer {
		return
	}
	t.fitness, t.conf, t.ballot = c.fitness, r.Configuration(), r.Ballot()
	if t.in != t.ballot {
		t.silent = 0
	}
	dispensable := c.dispensable(h)
	r.Spare(dispensable)
	if len(dispensable) == 0 && t.silent != 0 {
		c.widen(h) // some may be slow and not silent: they are looked at again
	}
}

// widen notes that a replica asks everybody again.
func (c *Core) widen(h *hosted) {
	r, t := h.hot.replica, thrifty{wide: c.now + c.cfg.SupportPeriod, silent: h.hot.thrift.silent, in: h.hot.thrift.in}
	if r.InFlight() > 0 {
		t.silent, t.in = r.Applied()+1, r.Ballot()
	}
	h.hot.thrift = t
}

// dispensable are the members that a proposer can do without.
func (c *Core) dispensable(h *hosted) []paxos.NodeNumber {
	type candidate struct {
		node paxos.NodeNumber
		of   *server
	}
	ring := make([]candidate, len(h.members))
	for i, s := range h.members {
		ring[i] = candidate{h.configuration.Members[i].Node, s}
	}
	slices.SortFunc(ring, func(a, b candidate) int { return cmp.Compare(a.of.id, b.of.id) })
	self := slices.IndexFunc(ring, func(x candidate) bool { return x.node == h.node })
	wanted := h.configuration.Majority() - 1
	var spared []paxos.NodeNumber
	for i := 1; i < len(ring) && self >= 0; i++ {
		step := (i + 1) / 2
		if i%2 == 0 {
			step = len(ring) - step
		}
		x := ring[(self+step)%len(ring)]
		if wanted > 0 && x.of.fit && h.acked(x.node) >= h.hot.thrift.silent {
			wanted--
			continue
		}
		spared = append(spared, x.node)
	}
	if wanted > 0 {
		return nil // there are not as many who are well: everybody may be needed
	}
	return spared
}
