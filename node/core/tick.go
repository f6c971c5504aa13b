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
		if !s.replica.Unfinished() && s.waiters.empty() {
			h.isActive = false
			continue
		}
		wait := s.backoff
		if s.replica.OwesNotice() {
			wait = max(wait, c.cfg.NoticeAfter)
		}
		if s.replica.Undecided() && c.now-s.quiet >= wait || s.replica.Reading() && c.now-s.answered >= s.backoff {
			s.quiet, s.answered = c.now, c.now
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

// pace notes what a turn has decided, and whether a round of reads was confirmed, for those who repeat what may have been lost and
// for those who give up. Each kind has its own clock: a cell that is read all the time would otherwise never repeat an Accept that
// was lost, nor resign because it gets no slot chosen (rule 13), and one that is written all the time never a question for reads.
func (c *Core) pace(h *hosted, decided, confirmed bool) {
	s := h.hot
	undecided := s.replica.Undecided()
	if decided || !undecided {
		s.quiet = c.now
	}
	if confirmed || !s.replica.Reading() {
		s.answered = c.now
	}
	if decided || confirmed && !undecided {
		s.backoff = c.cfg.NudgeAfter
	}
	c.watch(h, decided || confirmed && s.replica.InFlight() == 0 && !s.waiters.writing())
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
