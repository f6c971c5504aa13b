package core

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// A node that left its cell, and that the cell does not need any more, becomes a pointer (rule 11): in one batch everything of
// it is wiped, and where the cell lives is noted. Clients and lagging members that come here are sent on.
//
// A pointer is two things. The configuration is a convenience, kept for Config.PointersKept and at most Config.PointersMax of
// them. The rest is a fence and stays until the incarnation has a tombstone: a founding that is told again must not create a
// node that was here and forgot what it promised, and a node number that left must not come back as a learner that knows
// nothing (hazard H13). A fence takes about a hundred bytes.
//
// Ages are counted in minutes of service of this data directory, never by a calendar: a clock that is set forward must not
// forget anything. Time in which the server is down does not count, nor do up to ageEvery minutes before a crash: a pointer
// lives longer for it, never shorter.

// pointer is what is kept of a node that left.
type pointer struct {
	incarnation   cell.Incarnation
	node          paxos.NodeNumber // no number up to it is created here again
	founding      uint64           // hash of the founding by which the first node here was created
	born          uint64           // minutes of service
	configuration *paxos.Configuration
}

// pointers are all of them, by cell.
type pointers struct {
	of    map[cell.ID]*pointer
	order []pointerAge // those with a configuration, oldest first; some may be gone
	live  int          // with a configuration
	base  uint64       // minutes of service before this start
	wrote uint64       // minutes of service as stored
}

type pointerAge struct {
	id      cell.ID
	pointer *pointer
}

const (
	// ageEvery is how often the minutes of service are written while there are pointers.
	ageEvery = 10
	// forgetPerTick bounds how many pointers one tick forgets.
	forgetPerTick = 64
)

// age is the minutes of service of the data directory.
func (c *Core) age() uint64 { return c.pointers.base + uint64((c.now-c.began)/time.Minute) }

// retire turns a node that is not needed any more into a pointer. The node's last messages are facts that are durable, so they
// may leave afterwards.
func (c *Core) retire(h *hosted) {
	p := &pointer{incarnation: h.incarnation, node: h.node, founding: h.founding, born: c.age(), configuration: h.configuration}
	c.remove(h, c.moved("node", h.id, h.incarnation, h.configuration))
	c.pointers.of[h.id] = p
	c.pointers.add(h.id, p)
	c.putPointer(h.id, p)
	for c.pointers.live > c.cfg.PointersMax && c.forgetOldest() {
		if c.cfg.Events.PointerEvicted != nil {
			c.cfg.Events.PointerEvicted()
		}
	}
}

// add lists a pointer by its age.
func (p *pointers) add(id cell.ID, x *pointer) {
	p.order = append(p.order, pointerAge{id, x})
	p.live++
}

// putPointer writes a pointer.
func (c *Core) putPointer(id cell.ID, p *pointer) {
	c.value = peer.AppendPointer(c.value[:0], &peer.Pointer{Cell: id, Incarnation: p.incarnation, Node: p.node, Founding: p.founding,
		Born: p.born, Configuration: p.configuration})
	c.key = pointerKey(c.key[:0], id)
	c.write().Set(c.key, c.value)
}

// forgetOldest leaves only the fence of the oldest pointer; it reports whether there was one.
func (c *Core) forgetOldest() bool {
	for ps := &c.pointers; len(ps.order) > 0; {
		oldest := ps.order[0]
		ps.order[0] = pointerAge{}
		ps.order = ps.order[1:]
		if ps.of[oldest.id] == oldest.pointer {
			oldest.pointer.configuration = nil
			ps.live--
			c.putPointer(oldest.id, oldest.pointer)
			return true
		}
	}
	return false
}

// dropPointer removes a pointer, fence and all: something better fences the cell from here on.
func (c *Core) dropPointer(id cell.ID) {
	if p := c.pointers.of[id]; p != nil {
		if p.configuration != nil {
			c.pointers.live--
		}
		delete(c.pointers.of, id)
		c.write().Delete(pointerKey(nil, id))
	}
}

// agePointers forgets the pointers whose time has come, and keeps the count of minutes.
func (c *Core) agePointers() {
	ps := &c.pointers
	now := c.age()
	if len(ps.order) == 0 || now == ps.wrote {
		return
	}
	kept := uint64(c.cfg.PointersKept / time.Minute)
	for n := 0; n < forgetPerTick && len(ps.order) > 0 && ps.order[0].pointer.born+kept <= now; n++ {
		c.forgetOldest()
	}
	if now-ps.wrote >= ageEvery {
		ps.wrote = now
		c.write().Set([]byte{keyAge}, binary.BigEndian.AppendUint64(nil, now))
	}
}

// restorePointer takes what the restart scan found.
func (c *Core) restorePointer(pair *storage.Pair) error {
	decoder := peer.Decoder{InternServer: c.internServer}
	p, err := decoder.DecodePointer(pair.Value)
	if err != nil {
		return fmt.Errorf("pointer %q: %w", pair.Key[1:], err)
	}
	x := &pointer{incarnation: p.Incarnation, node: p.Node, founding: p.Founding, born: p.Born, configuration: p.Configuration}
	c.pointers.of[p.Cell] = x
	if x.configuration != nil {
		c.pointers.add(p.Cell, x)
	}
	return nil
}

// restoredPointers brings them into order.
func (c *Core) restoredPointers() {
	slices.SortFunc(c.pointers.order, func(a, b pointerAge) int {
		return cmp.Or(cmp.Compare(a.pointer.born, b.pointer.born), cmp.Compare(a.id, b.id))
	})
	c.pointers.wrote = c.pointers.base
}

// Pointers counts the pointers, without those of which only the fence is left.
func (c *Core) Pointers() int { return c.pointers.live }

// moved is the answer of a server where a node used to be.
func (c *Core) moved(op string, id cell.ID, incarnation cell.Incarnation, conf *paxos.Configuration) *cell.Error {
	p := &cell.Pointer{Incarnation: incarnation, Configuration: uint64(conf.Number)}
	for _, m := range conf.Members {
		f := c.founder(m)
		p.Servers = append(p.Servers, cell.Location{Server: f.Server, ClientAddr: f.ClientAddr})
	}
	return &cell.Error{Op: op, Kind: cell.Moved, Cell: id, Pointer: p, Detail: fmt.Sprintf("server %s hosts no member of it; its configuration %d was elsewhere", c.cfg.Server, conf.Number)}
}

// stray answers a message for a cell of which no node is here.
func (c *Core) stray(from *server, m *PeerMessage) {
	p := c.pointers.of[m.Envelope.Cell]
	if p == nil || p.configuration == nil || p.incarnation != m.Envelope.Incarnation {
		c.drop("unknown cell")
		c.answerAbsent(from, m)
		return
	}
	c.drop("moved")
	c.tellMoved(from, m, p.configuration)
}
