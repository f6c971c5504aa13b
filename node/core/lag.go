package core

import (
	"fmt"

	"physalia/cell/machine"
	"physalia/paxos"
)

// A follower is told what is chosen slot by slot, and nobody looks at its state meanwhile. To apply each slot when it is delivered would
// fetch the whole machine into the processor's caches for one command. So the slots that are delivered to a follower wait until there are
// lagMax of them, or until somebody looks: every way to the machine and to its hashes leads over applyWaiting.
//
// What must hold although slots wait:
//
//   - Nobody can tell. Whoever leads or campaigns, or has anybody waiting, applies at once, before what it decided in the turn leaves. So
//     do slots that are no commands, and those after which hashes are compared. A stored or taught state is asked for by current.
//   - The slots stay known (P4). What is stored says "applied through" a slot once it was delivered; a restart replays it from the ring,
//     and the ring on disk gives a slot up only to a stored state that covers it, so that waiting slots are applied before anything of that
//     turn is written. The list here holds the entries beside the ring, since the ring in memory gives them up earlier.
//   - Nothing is skipped (rule 9). A command that is not understood, or that panics, takes the node out of service when it is applied, with
//     the turn or the request that looked. Until then, for less than lagMax slots, the node has voted as one that did not know the slot to
//     be chosen. What it promised, accepted and taught in that time does not depend on its state and stays true; what is stored is the
//     state and the ring, as after a crash, and holds the slot for whoever inspects it or understands it later.
//   - A node that goes cold has applied everything, so what is not understood is found then at the latest.

// lagMax is how many delivered slots wait at most: few enough to be applied while somebody waits, and no fewer than a window of the default
// size and the default distance of checkpoints, which end the waiting anyway.
const lagMax = 64

// promptMax is how many slots somebody who applies at once has room for at most, but while more arrive together.
const promptMax = 16

// lagging is a node's machine, with the slots that were delivered and not applied yet.
type lagging struct {
	machine  *machine.Machine // its state is that before the first of waiting: to be had by Core.current
	waiting  []paxos.Delivery // ordered by slot, without gaps, up to the replica's applied slot
	catching bool             // they are being applied
}

// mayLag reports whether what was just delivered may wait.
func (c *Core) mayLag(h *hosted, delivered []paxos.Delivery) bool {
	s := h.hot
	if s.replica.Role() != paxos.Follower || s.led || !s.waiters.empty() || len(s.state.waiting) >= lagMax {
		return false
	}
	for i := range delivered {
		d := &delivered[i]
		if d.Entry.Kind != paxos.Commands && d.Entry.Kind != paxos.NoOp || c.isCheckpoint(d.Slot) {
			return false
		}
	}
	return true
}

// applyWaiting applies what waits. It reports false when the node went out of service over it. It runs under guard.
func (c *Core) applyWaiting(h *hosted) bool {
	s := &h.hot.state
	if len(s.waiting) == 0 || s.catching {
		return true
	}
	s.catching = true
	for i := range s.waiting {
		if c.apply(h, &s.waiting[i]); h.hot == nil {
			return false
		}
	}
	s.waiting, s.catching = s.waiting[:0], false // not cleared: what a follower's refers to, up to a window ago, the ring mostly holds, too
	if cap(s.waiting) > promptMax && h.hot.replica.Role() != paxos.Follower {
		s.waiting = nil // it was a follower's
	}
	return true
}

// makeCurrent is applyWaiting for whoever is not under guard; it reports false when the node is out of service.
func (c *Core) makeCurrent(h *hosted) bool {
	if h.hot != nil && len(h.hot.state.waiting) > 0 {
		c.guard(h, func() { c.applyWaiting(h) })
	}
	return h.hot != nil
}

// current is a node's machine with everything applied that was delivered. It is called under guard: when the node goes out of service
// over a slot that waited, it panics, and whoever asked is answered like anybody else whose step panicked.
func (c *Core) current(h *hosted) *machine.Machine {
	s := h.hot
	if !c.applyWaiting(h) {
		panic(fmt.Sprintf("%s is out of service: %s", h.id, h.quarantined))
	}
	return s.state.machine
}
