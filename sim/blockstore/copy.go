package blockstore

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/must"
)

// Config describes one copy.
type Config struct {
	Name      string   // of this storage server, as in the volume record
	Peers     []string // the other servers that may hold a copy, in the order in which to try them as replica
	Partition uint32
	Blocks    int
	Timing    Timing
}

// Copy is one storage server's copy of one partition. It has a single owner.
type Copy struct {
	cfg   Config
	now   time.Duration
	state State

	record  cell.VolumeRecord // of state.Fence, if known
	known   bool
	serving bool // as primary of state.Fence (B2)

	heard    time.Duration // last word of the primary of this fence
	asking   bool          // an Ask is out
	look     bool          // there is reason to believe that the record has moved
	lookAt   time.Duration // not before
	lookedAt time.Duration
	proposal *Ask // a Replace of this fence that may or may not take effect; kept until the record moves

	peer      *peer // replica, or spare that is being filled; a primary's only
	candidate int   // in Config.Peers
	last      uint64
	probe     uint64
	writes    []waiting
	reads     []waiting

	placed []int // blocks changed in this step
	raised bool  // fence or Whole changed in this step
	out    Effects
}

// waiting is a request that is not answered yet. For a read, data is what it will show.
type waiting struct {
	client  string
	number  uint64
	block   int
	version Version
	data    []byte
	probe   uint64 // reads: the first probe sent after it arrived
}

// New makes the copy of a server that has this on its disk; the zero State is a new disk. The state is cloned.
func New(cfg Config, now time.Duration, disk State) *Copy {
	must.That(cfg.Blocks > 0 && cfg.Blocks <= BlocksMax, "a partition has 1 to %d blocks, not %d", BlocksMax, cfg.Blocks)
	disk.Blocks = slices.Clone(disk.Blocks)
	if len(disk.Blocks) == 0 {
		disk.Blocks = make([]Block, cfg.Blocks)
	}
	must.That(len(disk.Blocks) == cfg.Blocks, "the disk has %d blocks, the partition %d", len(disk.Blocks), cfg.Blocks)
	return &Copy{cfg: cfg, now: now, state: disk, heard: now, lookAt: now}
}

// Step takes one input and returns what to do. Time that goes back counts as standing still.
func (c *Copy) Step(now time.Duration, in Input) Effects {
	c.now = max(c.now, now)
	c.out, c.placed, c.raised = Effects{}, c.placed[:0], false
	switch in := in.(type) {
	case Message:
		c.receive(in)
	case Answer:
		c.answered(in)
	case Readmit:
		c.state.Whole, c.raised = true, true
	}
	c.settle()
	c.decide()
	c.push()
	return c.effects()
}

// effects collects what the step changed on the disk.
func (c *Copy) effects() Effects {
	if c.raised || len(c.placed) > 0 {
		change := &Change{Fence: c.state.Fence, Whole: c.state.Whole}
		for _, i := range c.placed {
			change.Blocks = append(change.Blocks, Placed{i, c.state.Blocks[i]})
		}
		c.out.Persist = change
	}
	return c.out
}

// receive takes a message from anybody.
func (c *Copy) receive(m Message) {
	if !m.sound(c.cfg.Blocks) || m.From == c.cfg.Name {
		return
	}
	switch m.Kind {
	case Write, Read:
		c.request(m)
	case Store, Probe:
		c.follow(m)
	case Stored, Probed:
		c.confirmed(m)
	case Refused:
		c.look = c.look || c.state.Fence.Less(m.Fence)
	}
}

// follow obeys the primary of a fence that is not below one's own (B5).
func (c *Copy) follow(m Message) {
	if m.Fence.Less(c.state.Fence) && !plantedLowerFence {
		c.send(Message{Kind: Refused, To: m.From, Number: m.Number, Fence: c.state.Fence})
		return
	}
	if c.state.Fence.Less(m.Fence) {
		c.raise(m.Fence)
		c.stop()
	}
	must.That(!c.serving || plantedLowerFence, "B1: %s serves under %v, and so does %s", c.cfg.Name, m.Fence, m.From)
	c.heard = c.now
	if m.Kind == Probe {
		c.send(Message{Kind: Probed, To: m.From, Number: m.Number, Fence: m.Fence, Whole: c.state.Whole})
		return
	}
	b := &c.state.Blocks[m.Block]
	if b.Synced.Less(m.Fence) || b.Synced == m.Fence && b.Version.Less(m.Version) {
		c.place(m.Block, Block{Synced: m.Fence, Version: m.Version, Data: m.Data, Writers: m.Writers})
	}
	c.send(Message{Kind: Stored, To: m.From, Fence: m.Fence, Block: m.Block, Version: b.Version})
}

// place changes a block (B8). The copy is whole once one primary has said of every block what it holds (B4).
func (c *Copy) place(i int, b Block) {
	old := &c.state.Blocks[i]
	must.That(old.Synced.Less(b.Synced) || old.Synced == b.Synced && old.Version.Less(b.Version),
		"B8: block %d goes from %v under %v to %v under %v", i, old.Version, old.Synced, b.Version, b.Synced)
	*old = b
	if !slices.Contains(c.placed, i) {
		c.placed = append(c.placed, i)
	}
	if c.state.Whole {
		return
	}
	filled := !slices.ContainsFunc(c.state.Blocks, func(b Block) bool { return b.Synced != c.state.Fence })
	c.state.Whole = filled || plantedEarlyReplica
}

// raise makes a higher fence the copy's own (B5). A higher incarnation than the one that it knows ends its wholeness.
func (c *Copy) raise(f cell.Fence) {
	must.That(c.state.Fence.Less(f), "B5: %s falls from fence %v to %v", c.cfg.Name, c.state.Fence, f)
	if c.state.Fence != (cell.Fence{}) && c.state.Fence.Incarnation != f.Incarnation {
		c.state.Whole = false
	}
	c.state.Fence, c.raised = f, true
	c.known, c.proposal, c.last = false, nil, 0
}

// stop ends the role of a primary. Whoever waits is told to read the record: his write may yet turn out to be done.
func (c *Copy) stop() {
	for _, all := range [][]waiting{c.writes, c.reads} {
		for _, w := range all {
			c.send(Message{Kind: Refused, To: w.client, Number: w.number, Block: w.block, Fence: c.state.Fence})
		}
	}
	c.serving, c.peer, c.writes, c.reads = false, nil, nil, nil
}

func (c *Copy) send(m Message) {
	m.From = c.cfg.Name
	c.out.Send = append(c.out.Send, m)
}

// Status is what a copy knows of itself, for people and checkers.
type Status struct {
	Fence   cell.Fence
	Record  cell.VolumeRecord // zero while it is not known
	Serving bool              // as primary
	Whole   bool
}

// Status tells how the copy stands.
func (c *Copy) Status() Status {
	s := Status{Fence: c.state.Fence, Serving: c.serving, Whole: c.state.Whole}
	if c.known {
		s.Record = c.record
	}
	return s
}

// String shows a copy as "a 1.7 serving, replica b".
func (c *Copy) String() string {
	role := "idle"
	switch {
	case c.serving:
		role = "serving"
	case c.known && c.record.Replica == c.cfg.Name:
		role = "replica"
	}
	text := fmt.Sprintf("%s %v %s", c.cfg.Name, c.state.Fence, role)
	if c.peer != nil {
		text += ", peer " + c.peer.name
	}
	if !c.state.Whole {
		text += ", not whole"
	}
	return text
}
