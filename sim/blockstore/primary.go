package blockstore

import (
	"time"

	"physalia/internal/must"
)

// peer is what a primary knows of its replica, or of the spare that it fills.
type peer struct {
	name     string
	heard    time.Duration // last word from it, under whichever fence of this primary
	pong     uint64        // highest probe that it has answered under this fence
	probed   uint64        // highest probe sent under this fence
	probedAt time.Duration
	blocks   []progress
}

// progress is what is known of one block on a peer.
type progress struct {
	sent   Version
	sentAt time.Duration
	isSent bool
	held   Version // durable there
	isHeld bool
}

// window is how many blocks are on their way to a spare or a reconciled replica; new writes are not counted.
const window = 16

func newPeer(name string, blocks int, now time.Duration) *peer {
	return &peer{name: name, heard: now, probedAt: now - time.Hour, blocks: make([]progress, blocks)}
}

// full reports whether the peer holds every block as it now is.
func (p *peer) full(blocks []Block) bool {
	for i := range blocks {
		if !p.holds(i, blocks[i].Version) {
			return false
		}
	}
	return true
}

// holds reports whether the peer holds at least this version of a block.
func (p *peer) holds(i int, v Version) bool {
	return p.blocks[i].isHeld && !p.blocks[i].held.Less(v)
}

// needsPeer reports whether anybody but this primary could be promoted next: the replica of the record, or the spare that
// an open proposal may have made the replica (B3).
func (c *Copy) needsPeer() bool {
	return c.record.Replica != "" || c.proposal != nil && c.proposal.Name != "" && !plantedAloneTooLong
}

// held reports whether a version is durable wherever it must be before anybody may learn of it (B3).
func (c *Copy) held(block int, v Version) bool {
	return !c.needsPeer() || c.peer.holds(block, v)
}

// request takes a Write or Read of a client. Both speak under the fence of a record that the client has read.
func (c *Copy) request(m Message) {
	if plantedReplicaAnswers && m.Kind == Read && m.Fence == c.state.Fence && !c.serving {
		b := &c.state.Blocks[m.Block]
		c.send(Message{Kind: ReadDone, To: m.From, Number: m.Number, Block: m.Block, Fence: c.state.Fence, Version: b.Version, Data: b.Data})
		return
	}
	if !c.serving || m.Fence != c.state.Fence {
		c.look = c.look || c.state.Fence.Less(m.Fence)
		c.send(Message{Kind: Refused, To: m.From, Number: m.Number, Block: m.Block, Fence: c.state.Fence})
		return
	}
	switch {
	case waits(c.writes, m.From, m.Number) || waits(c.reads, m.From, m.Number) || len(c.writes)+len(c.reads) >= waitingMax:
	case m.Kind == Write:
		c.write(m)
	default:
		b := &c.state.Blocks[m.Block]
		c.probe++
		c.reads = append(c.reads, waiting{m.From, m.Number, m.Block, b.Version, b.Data, c.probe})
	}
}

// write gives a write its version, once (B7).
func (c *Copy) write(m Message) {
	b := &c.state.Blocks[m.Block]
	w, repeated := b.writer(m.From)
	switch {
	case repeated && w.Number > m.Number && !plantedForgetWriters:
		return // a late copy of what the client has long left behind
	case repeated && w.Number == m.Number && !plantedForgetWriters:
	case !repeated && len(b.Writers) == WritersMax:
		return
	default:
		c.last++
		w = Writer{m.From, m.Number, Version{c.state.Fence, c.last}}
		c.place(m.Block, Block{Synced: c.state.Fence, Version: w.Version, Data: m.Data, Writers: b.with(w)})
	}
	c.writes = append(c.writes, waiting{client: m.From, number: m.Number, block: m.Block, version: w.Version})
}

// settle answers every request that may be answered now.
func (c *Copy) settle() {
	if !c.serving {
		return
	}
	c.writes = c.answer(c.writes, func(w waiting) bool {
		return plantedAckEarly || c.held(w.block, w.version)
	}, WriteDone)
	c.reads = c.answer(c.reads, func(w waiting) bool {
		proven := !c.needsPeer() || c.peer.pong >= w.probe
		return (proven || plantedUnprovenRead) && (c.held(w.block, w.version) || plantedDirtyRead)
	}, ReadDone)
}

// answer answers those of the waiting that are ready, and returns the others.
func (c *Copy) answer(all []waiting, ready func(waiting) bool, kind Kind) (rest []waiting) {
	for _, w := range all {
		if !ready(w) {
			rest = append(rest, w)
			continue
		}
		must.That(c.record.Replica == "" || c.peer.holds(w.block, w.version) || plantedAckEarly || plantedDirtyRead,
			"B3: %v of %s under %v is not on %s", kind, w.client, c.state.Fence, c.record.Replica)
		c.send(Message{Kind: kind, To: w.client, Number: w.number, Block: w.block, Fence: c.state.Fence, Version: w.version, Data: w.data})
	}
	return rest
}

// confirmed takes the peer's word. A peer that should hold everything but says that it was never filled has lost its disk,
// or has not heard of the rest yet: it gets everything again.
func (c *Copy) confirmed(m Message) {
	p := c.peer
	if !c.serving || p == nil || m.From != p.name || m.Fence != c.state.Fence {
		return
	}
	p.heard = c.now
	if m.Kind == Probed {
		p.pong = max(p.pong, m.Number)
		if !m.Whole && p.full(c.state.Blocks) {
			clear(p.blocks)
		}
		return
	}
	if b := &p.blocks[m.Block]; !b.isHeld || b.held.Less(m.Version) {
		b.held, b.isHeld = m.Version, true
	}
}

// push sends the peer what it lacks, and asks for its word when a read needs it or nothing else shows that this primary
// is alive.
func (c *Copy) push() {
	if !c.serving {
		return
	}
	c.recruit()
	p := c.peer
	if p == nil {
		return
	}
	under, room := c.state.Fence, window
	for i := range c.state.Blocks {
		b, at := &c.state.Blocks[i], &p.blocks[i]
		if p.holds(i, b.Version) {
			continue
		}
		older := b.Version.Fence != under // not written lately: it can wait its turn
		if older && room == 0 {
			continue
		}
		if older {
			room--
		}
		if at.isSent && at.sent == b.Version && c.now-at.sentAt < c.cfg.Timing.Resend {
			continue
		}
		at.sent, at.sentAt, at.isSent = b.Version, c.now, true
		c.send(Message{Kind: Store, To: p.name, Fence: under, Block: i, Version: b.Version, Data: b.Data, Writers: b.Writers})
	}
	if waits := len(c.reads) > 0 && c.probe > p.probed; waits || c.now-p.probedAt >= c.cfg.Timing.Resend {
		p.probed, p.probedAt = c.probe, c.now
		c.send(Message{Kind: Probe, To: p.name, Fence: under, Number: c.probe})
	}
}
