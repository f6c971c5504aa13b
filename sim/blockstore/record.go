package blockstore

import (
	"slices"

	"physalia/cell"
	"physalia/internal/must"
)

// answered takes the outcome of an Ask. What is not a success, unknown outcomes included, is followed by a look at the
// record: it alone tells what holds.
func (c *Copy) answered(a Answer) {
	c.asking = false
	switch {
	case a.Failed == 0:
		if a.Ask.Kind == Lookup {
			c.look, c.lookedAt = false, c.now
		}
		c.adopt(a.Record, a.Fence)
	case plantedBelieveUnknown && a.Ask.Kind == Promote && a.Failed.MaybeApplied() && c.known:
		c.adopt(cell.VolumeRecord{Partition: c.cfg.Partition, Primary: c.cfg.Name, Generation: a.Ask.Expected + 1},
			cell.Fence{Incarnation: c.state.Fence.Incarnation, Number: uint64(a.Ask.Expected) + 1})
	default:
		c.look, c.lookAt = true, c.now+c.cfg.Timing.Resend
	}
}

// adopt takes note of a record that somebody read. One below the own fence is the past. One that only tells what the own
// fence is about makes nobody a primary who was not one already (B2).
func (c *Copy) adopt(record cell.VolumeRecord, fence cell.Fence) {
	if fence.Less(c.state.Fence) {
		return
	}
	if fence == c.state.Fence {
		if !c.known && plantedServeAfterRestart && record.Primary == c.cfg.Name && c.state.Whole {
			c.record = record
			c.serve()
			for _, b := range c.state.Blocks { // so that the bug is that proposals are forgotten, not that versions are
				if b.Version.Fence == fence {
					c.last = max(c.last, b.Version.Number)
				}
			}
		}
		c.record, c.known = record, true
		return
	}
	primary := record.Primary == c.cfg.Name
	// The founding primary of a partition holds all that there is: nothing.
	founding := primary && c.state.Fence == (cell.Fence{}) && record.Generation == 1
	c.raise(fence)
	c.record, c.known = record, true
	c.state.Whole = c.state.Whole || founding
	if primary && c.state.Whole {
		c.serve()
	} else {
		c.stop()
	}
}

// serve begins the role of a primary under the own fence, or continues it. A peer that stays has what it had.
func (c *Copy) serve() {
	c.serving = true
	switch replica := c.record.Replica; {
	case replica == "":
		c.peer = nil
	case c.peer == nil || c.peer.name != replica:
		c.peer = newPeer(replica, c.cfg.Blocks, c.now)
	default:
		c.peer.pong, c.peer.probed = 0, 0
	}
}

// decide asks the cell what there is to ask, one question at a time.
func (c *Copy) decide() {
	if c.asking {
		return
	}
	t := c.cfg.Timing
	silent := !c.serving && c.now-c.heard > t.Silence
	if c.now >= c.lookAt && (c.look || !c.known || silent || c.now-c.lookedAt > t.Lookup) {
		c.lookAt = c.now + t.Silence
		c.ask(Ask{Kind: Lookup})
		return
	}
	if !c.known || c.look {
		return
	}
	if c.proposal != nil {
		c.ask(*c.proposal)
	} else if a := c.want(); a.Kind != Lookup {
		c.propose(a)
	}
}

// want tells which change of the record this copy wishes for: none (a Lookup), or one that is its own to make.
func (c *Copy) want() Ask {
	g, silence := c.record.Generation, c.cfg.Timing.Silence
	switch {
	case !c.state.Whole:
	case c.record.Replica == c.cfg.Name && c.now-c.heard > silence*3/2:
		return Ask{Promote, g, c.cfg.Name}
	case c.record.Primary != c.cfg.Name:
	case !c.serving: // B2: the generation of an earlier life is burnt, and with it what that life may have proposed
		return Ask{Replace, g, c.record.Replica}
	case c.peer == nil:
	case c.record.Replica != "" && c.now-c.peer.heard > silence:
		return Ask{Replace, g, ""}
	case c.record.Replica == "" && (c.peer.full(c.state.Blocks) || plantedEarlyReplica && c.peer.pong > 0):
		return Ask{Replace, g, c.peer.name}
	}
	return Ask{}
}

// propose asks for a change. A Replace stays proposed until the record moves, since it may take effect at any time until then.
func (c *Copy) propose(a Ask) {
	if a.Kind == Replace {
		c.proposal = &a
		must.That(plantedEarlyReplica || !c.serving || a.Name == "" || c.peer.full(c.state.Blocks),
			"B4: %s is named before it holds everything", a.Name)
	}
	c.ask(a)
}

func (c *Copy) ask(a Ask) {
	c.asking = true
	c.out.Ask = &a
}

// recruit chooses a spare to fill, when there is no replica, and another one when that is silent.
func (c *Copy) recruit() {
	if len(c.cfg.Peers) == 0 || c.needsPeer() {
		return
	}
	if c.peer != nil && c.now-c.peer.heard > c.cfg.Timing.Silence {
		c.peer = nil
		c.candidate++
	}
	if c.peer == nil {
		c.peer = newPeer(c.cfg.Peers[c.candidate%len(c.cfg.Peers)], c.cfg.Blocks, c.now)
	}
}

// waits reports whether a request is among those that wait.
func waits(all []waiting, client string, number uint64) bool {
	return slices.ContainsFunc(all, func(w waiting) bool { return w.client == client && w.number == number })
}
