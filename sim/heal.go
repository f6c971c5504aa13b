package sim

import (
	"time"

	"physalia/node/core"
)

// revive starts a server again that crashed, unless it stays dead or has stopped for good.
func (w *World) revive(s *server) {
	if s.core == nil && !s.stopped && !(w.healed && w.dead.Has(s.at)) {
		s.start()
	}
}

// heal ends all faults at once, which is why none of them ends later by itself (see until). The dead of the schedule stay
// down, the others start again.
func (w *World) heal() {
	w.healed = true
	w.dead = w.mayDie(w.plan.Dead)
	w.trace.note(w.now, "healed, but %09b stay dead", w.dead)
	w.net.loss, w.net.twice, w.net.spread, w.lostReplies, w.noControl, w.faults = 0, 0, 0, 0, 0, 0
	w.net.lanes = [lanesCount][siteMax][siteMax]int{}
	w.net.clientCut = [sessionsMax][siteMax]int{}
	// The disk goes on first: a server that stays down loses what no sync had reached by now.
	for _, s := range w.servers {
		s.paused, s.slow, s.ambush = 0, 0, nil
		s.release()
		s.lacking = [core.Full + 1]int{}
		s.lack(core.Ample, 0)
		if w.dead.Has(s.at) {
			s.crash(0)
		}
		w.revive(s)
		s.wake()
	}
	if w.control != nil {
		w.control.heal()
	}
	w.eachSession(func(s *session) { s.paused = 0; s.wake() })
}

// mayDie leaves out of a set of servers those without whom a cell would have fewer than four sound members: damage counts.
func (w *World) mayDie(dead Servers) (most Servers) {
	w.each(dead, func(s *server) {
		if s.damaged == "" && w.spared(most|1<<s.at) {
			most |= 1 << s.at
		}
	})
	return most
}

// spared reports whether every cell keeps a majority of members that are neither in the set nor damaged.
func (w *World) spared(without Servers) bool {
	if w.control != nil { // seven servers must be left, whoever is moved to whom
		bad := without | w.in(func(s *server) bool { return s.damaged != "" })
		return len(w.servers)-bad.count() >= jurySize && w.control.spared(bad)
	}
	for _, v := range w.cells {
		for _, jury := range v.juries() {
			sound := 0
			for _, s := range jury {
				if s.damaged == "" && !without.Has(s.at) {
					sound++
				}
			}
			if sound < jurySize/2+1 {
				return false
			}
		}
	}
	return true
}

// powerCut crashes everybody at once, without mercy for what was not synced, and starts whoever is not dead. Whatever was
// acknowledged must be read by those who are left, from their disks alone.
func (w *World) powerCut() {
	for _, s := range w.servers {
		s.crash(0)
	}
	for _, s := range w.servers {
		w.revive(s)
	}
}

// settle lets every cell take a write now and then until all its sound members have caught up with what was chosen when
// the world was healed. A member that nobody writes to may sleep on, so somebody writes.
func (w *World) settle() bool {
	goal := make([]int, len(w.cells))
	for i, v := range w.cells {
		goal[i] = len(v.log)
		if !v.sealed {
			c := w.newClient(v, len(w.clients))
			c.left, c.settler = 0, true
			w.rouse(c, settlePause)
		}
	}
	caughtUp := func() bool {
		for i, v := range w.cells {
			if !v.sealed && (v.moving() || w.laggard(v, goal[i]) != nil) {
				return false
			}
		}
		return true
	}
	// A sealed cell takes no writes, so nobody can be expected to hear of what was chosen last.
	settled := w.runUntil(w.now+convergeTime, caughtUp)
	for _, c := range w.clients {
		c.left = 0
	}
	for _, v := range w.cells {
		if !settled && v.moving() {
			w.fail("convergence", place{s: v.job.new, v: v}, "it has not taken the place of %s in %v of a healed world", v.job.old.id, convergeTime)
		}
	}
	for i, v := range w.cells {
		if s := w.laggard(v, goal[i]); !settled && !v.sealed && s != nil {
			w.fail("convergence", place{s: s, v: v}, "it has not caught up with slot %d in %v of a healed world with writes", goal[i], convergeTime)
		}
	}
	return settled
}

// settlePause is between the first two writes of settle; it doubles.
const settlePause = 20 * time.Millisecond

// rouse lets a settler write once, and again later.
func (w *World) rouse(c *client, pause time.Duration) {
	c.left = 1
	c.start()
	w.after(pause, func() {
		if c.session.world.settling {
			w.rouse(c, 2*pause)
		}
	})
}

// laggard is a sound member of a cell that has not applied a slot, or is asleep; nil when there is none.
func (w *World) laggard(v *volume, slot int) *server {
	for _, s := range v.members {
		if s.core == nil || s.damaged != "" {
			continue
		}
		if r, _ := s.core.Inspect(v.id); r == nil || int(r.Applied()) < slot {
			return s
		}
	}
	return nil
}
