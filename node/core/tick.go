package core

import "physalia/paxos"

// nudge looks at the nodes that wait for something: those without progress repeat what may have been lost, ever more
// rarely; those with nothing to wait for leave the list. Losing a message is rare and asking again is never unsafe, so the
// first pause is a few round trips; a cell without a quorum ends at one question per NudgeMax.
func (c *Core) nudge() {
	kept := c.active[:0]
	for _, h := range c.active {
		if h.hot == nil {
			h.isActive = false
			continue
		}
		s := h.hot
		if !s.waiters.empty() {
			c.expire(h)
		}
		c.giveUp(h)
		unfinished := s.replica.Unfinished()
		if !unfinished && s.waiters.empty() {
			h.isActive = false
			continue
		}
		wait := s.backoff
		if s.replica.OwesNotice() {
			wait = max(wait, c.cfg.NoticeAfter)
		}
		if unfinished && c.now-s.quiet >= wait {
			s.quiet = c.now
			s.backoff = min(2*s.backoff, c.cfg.NudgeMax)
			c.guard(h, s.replica.Nudge)
			c.touch(h)
			c.doubt(h)
		}
		kept = append(kept, h)
	}
	clear(c.active[len(kept):])
	c.active = kept
}

// coolPerTick bounds how many hot nodes one tick looks at for idleness.
const coolPerTick = 64

// coolDown drops the hot part of nodes that nobody touched for a while. A proposer stays hot: dropped, it would have to
// campaign again. A few nodes per tick, in turn, so that the cost does not depend on how many are hot.
func (c *Core) coolDown() {
	for range min(coolPerTick, len(c.hotList)) {
		if c.hotAt >= len(c.hotList) {
			c.hotAt = 0
		}
		h := c.hotList[c.hotAt]
		if h.hot != nil && !c.isIdle(h) {
			c.hotAt++
			continue
		}
		h.hot = nil
		last := len(c.hotList) - 1
		c.hotList[c.hotAt], c.hotList[last] = c.hotList[last], nil
		c.hotList = c.hotList[:last]
		if last == 0 {
			return
		}
	}
}

// isIdle reports whether dropping a node from memory is no different from a restart of it alone. What it wrote is
// durable, so loading finds everything that it ever said; what others wrote since then does not concern it.
func (c *Core) isIdle(h *hosted) bool {
	s := h.hot
	return c.now-s.touched >= c.cfg.IdleAfter && !h.isActive && !h.isDirty && s.waiters.empty() &&
		s.replica.Role() == paxos.Follower && s.replica.IsIdle() && s.batch <= c.durable
}
