package core

import (
	"time"

	"physalia/paxos"
)

// Waits reports whether anything waits for the time to pass, but for heartbeats and for nodes to go cold. While nothing does, ticks may
// come as rarely as half the time between two heartbeats.
func (c *Core) Waits() bool {
	if len(c.active) > 0 || len(c.leases) > 0 || len(c.forwards.waiting) > 0 || len(c.held) > 0 || len(c.loads) > 0 || !c.ready || c.crowd() > 0 || c.journal.waits(c.cfg.JournalBytes) {
		return true
	}
	for _, s := range c.roster {
		if len(s.rejoin.left) > 0 || len(s.sweep.left) > 0 {
			return true
		}
	}
	return false
}

// watched is a node that waits for something, and when it has to be looked at: most wait for the time at which they owe the others a
// notice, and are not looked at before.
type watched struct {
	node *hosted
	due  time.Duration
}

// nudge looks at the nodes that wait for something; those with nothing to wait for leave the list.
func (c *Core) nudge() {
	for i := 0; i < len(c.active); {
		if c.active[i].due > c.now {
			i++
			continue
		}
		h := c.active[i].node
		if due, waits := c.attend(h); waits {
			c.active[i].due = due
			i++
			continue
		}
		h.isActive = false
		last := len(c.active) - 1
		c.active[i] = c.active[last]
		c.active[i].node.watch = i
		c.active[last] = watched{}
		c.active = c.active[:last]
	}
}

// attend looks at a node that waits for something: one without progress repeats what may have been lost, ever more rarely. Losing a message
// is rare and asking again is never unsafe, so the first pause is a few round trips; a cell without a quorum ends at one question per
// NudgeMax. It reports when to look again, zero for the next tick, or that there is nothing to wait for.
func (c *Core) attend(h *hosted) (due time.Duration, waits bool) {
	if h.hot == nil {
		return 0, false
	}
	s := h.hot
	if !s.waiters.empty() {
		c.expire(h)
	}
	c.giveUp(h)
	if !s.replica.Unfinished() && s.waiters.empty() {
		return 0, false
	}
	wait := max(s.backoff, c.patience())
	if s.thrift.bereft {
		s.thrift.bereft, wait = false, 0
	}
	notice, owes := wait, s.replica.OwesNotice()
	if owes {
		notice = max(wait, c.cfg.NoticeAfter)
	}
	if s.replica.Undecided() && c.now-s.quiet >= notice || s.replica.Reading() && c.now-s.answered >= wait {
		s.quiet, s.answered = c.now, c.now
		s.backoff = min(2*s.backoff, c.cfg.NudgeMax)
		if s.replica.InFlight() > 0 || s.replica.Reading() {
			c.widen(h)
		}
		c.guard(h, s.replica.Nudge)
		c.touch(h)
		c.doubt(h)
		return 0, true
	}
	if owes && s.waiters.empty() && !s.replica.Reading() {
		return s.quiet + notice, true
	}
	return 0, true
}

// patience is how long a slot may take before anything of it is taken for lost: longer where slots take long, since whoever repeats
// what is merely slow makes it slower. It ends well before the support period, after which a proposer gives the cell up (giveUp): where
// one of the few that it asked does not answer, the others are asked before that.
func (c *Core) patience() time.Duration {
	return min(max(c.cfg.NudgeAfter, patienceShare*c.usual), c.cfg.NudgeMax, c.cfg.SupportPeriod/2)
}

// patienceShare is how many times the usual time a slot may take. The usual time follows what was seen last by a part in usualMemory.
const (
	patienceShare = 4
	usualMemory   = 32
)

// pace notes what a turn has decided, and whether a round of reads was confirmed, for those who repeat what may have been lost and
// for those who give up. Each kind has its own clock: a cell that is read all the time would otherwise never repeat an Accept that
// was lost, nor resign because it gets no slot chosen (rule 13), and one that is written all the time never a question for reads.
func (c *Core) pace(h *hosted, decided, confirmed bool) {
	s := h.hot
	undecided, owes := s.replica.Undecided(), s.replica.OwesNotice()
	if decided && !s.owes && s.led {
		c.usual += (min(c.now-s.quiet, c.cfg.NudgeMax) - c.usual) / usualMemory // a process that was paused would remember it for long
	}
	if decided || !undecided || s.owes && !owes { // what was proposed after a pause has not waited for as long as the notice has
		s.quiet = c.now
	}
	s.owes = owes
	if confirmed || !s.replica.Reading() {
		s.answered = c.now
	}
	if decided || confirmed && !undecided {
		s.backoff = c.cfg.NudgeAfter
	}
	c.watch(h, decided || confirmed && s.replica.InFlight() == 0 && !s.waiters.writing())
}

// coolPerTick bounds how many hot nodes one tick looks at for idleness, coolPerTickMax when there are more than Config.HotMax: as many
// as become hot in a tick under full load.
const (
	coolPerTick    = 64
	coolPerTickMax = 2048
)

// coolDown drops the hot part of nodes that nobody touched for a while. A proposer stays hot while there is room: dropped, it has to
// campaign again. A few nodes per tick, in turn, so that the cost does not depend on how many are hot.
func (c *Core) coolDown() {
	looks := coolPerTick
	if c.crowd() > 0 {
		looks = coolPerTickMax
	}
	for range min(looks, len(c.hotList)) {
		if c.hotAt >= len(c.hotList) {
			c.hotAt = 0
		}
		h := c.hotList[c.hotAt]
		if h.hot != nil && !c.isIdle(h) {
			c.tidy(h)
			c.hotAt++
			continue
		}
		current := c.makeCurrent(h)
		if current && !c.isShelved(h) {
			c.hotAt++ // it goes when that is durable
			continue
		}
		if current {
			c.setLed(h, false)
			c.freeze(h)
			h.hot = nil
			c.cooling = append(c.cooling, h)
		}
		last := len(c.hotList) - 1
		c.hotList[c.hotAt], c.hotList[last] = c.hotList[last], nil
		c.hotList = c.hotList[:last]
		if last == 0 {
			return
		}
	}
}

// tidy stores what can wait until a node's cell is not written any more, read or not. The lessons that it keeps in memory after four times
// NoticeAfter: at the notice itself it would be too early, a cell that is written every few hundred milliseconds would store a state each
// time (docs/decisions/0042). What stands in the journal after IdleAfter: a proposer may never go cold, and a restart would read all that
// was written since.
func (c *Core) tidy(h *hosted) {
	quiet := c.now - h.hot.learnt
	switch {
	case h.isActive || h.isDirty || quiet < 4*c.cfg.NoticeAfter:
	case h.hot.replica.Store():
		c.touch(h)
	case h.journaled != 0 && quiet >= c.cfg.IdleAfter:
		c.shelve(h)
	}
}

// crowd is how often more nodes are hot than there should be: 0 is not at all.
func (c *Core) crowd() int {
	if c.cfg.HotMax < 0 {
		return 0
	}
	return len(c.hotList) / (c.cfg.HotMax + 1)
}

// isIdle reports whether dropping a node from memory is no different from a restart of it alone. What it wrote is
// durable, so loading finds everything that it ever said; what others wrote since then does not concern it.
//
// A proposer that is dropped needs no successor, and frees nobody: its jury stands by its server, which sends whoever asks for the cell
// to this node, and it campaigns (rule 13 is kept by that campaign, which it gives up like any other). One with leases stays, since
// nobody else counts their time.
func (c *Core) isIdle(h *hosted) bool {
	s := h.hot
	if h.isActive || h.isDirty || !s.waiters.empty() || !s.replica.IsIdle() || s.batch > c.durable {
		return false
	}
	patience, role := c.cfg.IdleAfter, s.replica.Role()
	switch c.crowd() {
	case 0:
		return c.now-s.touched >= patience && role == paxos.Follower
	case 1: // not before it was told what was chosen by its vote, or it would be loaded again for that
		patience = min(patience, 4*c.cfg.NoticeAfter)
	default: // not before the answer to what it said last
		patience = min(patience, c.cfg.NudgeAfter)
	}
	if role == paxos.Proposer { // who asks for it may come back only after a while, and must not find it campaigning anew each time
		patience = max(c.cfg.IdleAfter, 4*c.cfg.SupportPeriod)
	}
	return c.now-s.touched >= patience && role != paxos.Candidate && len(s.leases) == 0 && s.lesson == nil
}
