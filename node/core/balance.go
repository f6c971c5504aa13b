package core

import (
	"time"
)

// A server that was away leads nothing when it comes back: its cells went to others, and stay there. Leadership spreads back by itself,
// slowly: once a server has been well for Config.BalanceAfter, everybody who leads more of the cells that they share than it does hands
// some over, Config.BalancePerSecond at most, until the difference is not worth a ballot.
//
// Both counts are about what this server hosts: of the cells that are led from here and have a member there, and of those led from there,
// as the chains of the table have it. No message tells them, and everybody's gifts show in the second.
//
// Only a cell in use is handed over, and only to a node that is known to be well: one that has voted or promised in the present ballot
// since it came back. A cell that nobody writes has no need of another proposer. One with client leases stays where their time is counted.
// The heir is a candidate from the moment at which the proposer resigns, and takes requests, so clients are only sent on.

// balancing is what a server shall be given.
type balancing struct {
	due   time.Duration // not before; 0: it is not well, or leads its share
	pause time.Duration // before it is looked again whether there are cells to give
	mine  int           // cells led from here that have a member there, when last counted, minus those handed over
	left  []*hosted     // of these, to be looked at
}

const (
	// balanceLooksPerTick bounds how many cells one tick looks at.
	balanceLooksPerTick = 256
	// balancePauses is for how many Config.BalanceAfter it is not looked again at most.
	balancePauses = 16
	// balanceSlack is how many cells more than another one a server leads before it gives any, and balanceShare the part of what it leads.
	balanceSlack = 8
	balanceShare = 8
)

// owes reports whether a server leads so much less than this one that something is to be done about it.
func (c *Core) owes(s *server) bool {
	b := &s.balance
	return b.mine > c.cold.Count(s.chain())+max(balanceSlack, b.mine/balanceShare)
}

// balance hands cells over to servers that came back: one server's turn at a time.
func (c *Core) balance() {
	if c.cfg.BalancePerSecond <= 0 || c.now < c.handing || c.led <= balanceSlack {
		return
	}
	for _, s := range c.roster {
		b := &s.balance
		if b.due == 0 || c.now < b.due || s.id == c.cfg.Server || !c.isAlive(s) {
			continue
		}
		if len(b.left) == 0 {
			c.weigh(s)
		}
		for looks := 0; looks < balanceLooksPerTick && len(b.left) > 0 && c.owes(s); looks++ {
			h := b.left[0]
			if b.left = b.left[1:]; c.handTo(h, s) {
				b.mine--
				c.handing = c.now + time.Second/time.Duration(c.cfg.BalancePerSecond)
				return
			}
		}
		switch {
		case !c.owes(s):
			*b = balancing{} // until it comes back once more
		case len(b.left) == 0: // cells that come into use later are found then
			b.pause = min(max(2*b.pause, c.cfg.BalanceAfter), balancePauses*c.cfg.BalanceAfter)
			b.left, b.due = nil, c.now+b.pause
		}
		return
	}
}

// weigh counts the cells that are led from here and have a member on a server.
func (c *Core) weigh(s *server) {
	b := &s.balance
	b.mine, b.left = 0, nil
	for _, h := range c.hotList {
		if h.hot != nil && h.hot.led && h.hosts(s) {
			b.mine++
			b.left = append(b.left, h)
		}
	}
}

// hosts reports whether a member is on a server.
func (h *hosted) hosts(s *server) bool {
	for _, m := range h.members {
		if m == s {
			return true
		}
	}
	return false
}

// handTo hands a cell over, if it is in use and its node there is well.
func (c *Core) handTo(h *hosted, s *server) bool {
	if h.hot == nil || !h.hot.led || len(h.hot.leases) > 0 || !c.supports(s) || !c.supportedBy(s) {
		return false
	}
	replica := h.hot.replica
	for i, member := range h.members {
		n := h.configuration.Members[i].Node
		if member != s || !c.confirmedBy(h, n) || h.acked(n) < replica.Applied() || replica.Pending() != nil || h.configuration.Unsettled {
			continue
		}
		c.guard(h, func() { replica.HandOver(n) })
		c.touch(h)
		c.activate(h)
		if c.cfg.Events.HandedOver != nil {
			c.cfg.Events.HandedOver(h.id, s.id)
		}
		return true
	}
	return false
}
