package blockstore

import (
	"time"

	"physalia/cell"
)

// ClientConfig describes who reads and writes a partition.
type ClientConfig struct {
	Name   string // no other client, and no earlier life of this one, has it
	Blocks int
	Timing Timing
}

// Client reads and writes blocks through whoever is primary. It has a single owner. It may have any number of operations
// under way; each ends when a primary has acknowledged it, however long that takes.
type Client struct {
	cfg    ClientConfig
	now    time.Duration
	record cell.VolumeRecord // newest that it has read
	fence  cell.Fence        // of that record; zero: none
	ops    []flight          // in the order in which they came
	asking bool
	look   bool
	lookAt time.Duration
	out    Effects
}

// flight is an operation under way.
type flight struct {
	op     Op
	sentAt time.Duration
}

// NewClient makes a client that knows nothing yet.
func NewClient(cfg ClientConfig) *Client { return &Client{cfg: cfg, look: true} }

// Step takes one input and returns what to do.
func (c *Client) Step(now time.Duration, in Input) Effects {
	c.now = max(c.now, now)
	c.out = Effects{}
	switch in := in.(type) {
	case Op:
		c.ops = append(c.ops, flight{op: in})
		c.send(&c.ops[len(c.ops)-1])
	case Message:
		if in.sound(c.cfg.Blocks) {
			c.hear(in)
		}
	case Answer:
		c.answered(in)
	}
	c.repeat()
	if c.look && !c.asking && c.now >= c.lookAt && len(c.ops) > 0 {
		c.asking, c.lookAt = true, c.now+c.cfg.Timing.Resend
		c.out.Ask = &Ask{Kind: Lookup}
	}
	return c.out
}

// hear takes the end of an operation, or a refusal. An acknowledgement under a lower fence than the client has read of is
// not taken: it may be true, but it may also come from before a lossy recovery.
func (c *Client) hear(m Message) {
	for i := range c.ops {
		o := c.ops[i].op
		if o.Number != m.Number || m.Fence.Less(c.fence) {
			continue
		}
		switch {
		case m.Kind == Refused:
			c.look = true
		case o.Block == m.Block && (o.Write && m.Kind == WriteDone || !o.Write && m.Kind == ReadDone):
			c.out.Done = append(c.out.Done, Done{Op: o, Fence: m.Fence, Version: m.Version, Data: m.Data})
			c.ops = append(c.ops[:i], c.ops[i+1:]...)
		}
		return
	}
}

// answered takes a record. Under a new fence everything is sent again, to whoever is primary now.
func (c *Client) answered(a Answer) {
	c.asking = false
	if a.Failed != 0 || a.Fence.Less(c.fence) {
		return // look again
	}
	c.look = false
	if c.fence.Less(a.Fence) {
		c.fence, c.record = a.Fence, a.Record
		for i := range c.ops {
			c.send(&c.ops[i])
		}
	}
}

// repeat sends what has waited for long once more, and doubts the record.
func (c *Client) repeat() {
	for i := range c.ops {
		if f := &c.ops[i]; c.now-f.sentAt >= c.cfg.Timing.Resend {
			c.look = true
			c.send(f)
		}
	}
}

// send sends an operation to the primary, if one is known.
func (c *Client) send(f *flight) {
	f.sentAt = c.now
	if c.fence == (cell.Fence{}) {
		return
	}
	m := Message{Kind: Read, From: c.cfg.Name, To: c.record.Primary, Fence: c.fence, Number: f.op.Number, Block: f.op.Block}
	if f.op.Write {
		m.Kind, m.Data = Write, f.op.Data
	} else if plantedReplicaAnswers && c.record.Replica != "" {
		m.To = c.record.Replica
	}
	c.out.Send = append(c.out.Send, m)
}
