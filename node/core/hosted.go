package core

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/must"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// hosted is one node that is warm (cold.go). The pointer is the node's identity inside the core while it is: a cell that is dropped
// and created again gets another one, so whatever still refers to the former life (loads, held items) finds itself alone.
type hosted struct {
	// What every message looks at, side by side: on a busy server it comes from memory, 64 bytes at a time.
	hot         *hot // nil: cold, loading, creating or quarantined
	incarnation cell.Incarnation
	seats       []seat // the members' nodes and servers, side by side: who sent this, asks every message
	node        paxos.NodeNumber
	leader      paxos.NodeNumber // for whom it is chained: see sweep.go
	isDirty     bool
	isActive    bool
	creating    bool // its row is not durable yet: it does not serve
	loading     bool
	recalled    bool // enough was heard of what this server may have forgotten (rule 8)
	virgin      bool // created in this life of the process and never touched: nothing is stored but the row
	learner     bool // created as one; without a stored state it knows nothing of the cell
	sealed      bool // the seal was applied here; a fact about the cell, so it may be told before it is durable

	id            cell.ID
	handle        Handle
	configuration *paxos.Configuration
	quarantined   string       // why; empty when it is well
	promised      paxos.Ballot // as the stored row says: a lower bound (rule 7); only persist raises it, so the row never falls
	watch         int          // while it is active: its place in Core.active
	journaled     uint64       // number of the journal's segment since which it has records there; 0: it has none

	name       *Name      // leads here; nil: none does
	members    []*server  // the configuration's servers, in its order
	learners   []*server  // those of its learners
	founding   uint64     // hash of the founding, see foundingHash
	rowLost    bool       // quarantined: its stored row is damaged, and stays as it is
	given      *given     // quarantined: the ballot that it led in
	plain      bool       // what it holds above its promise is known though it is cold: see coldvote.go
	freed      bool       // plain: the owner of the promised ballot gave it up
	applied    paxos.Slot // plain: nothing above it was accepted
	checkpoint mark       // plain: the newest, to be told (rule 19)
	queue      []input    // what waits for creation or loading, bounded
}

// seat is a member's node and server.
type seat struct {
	node   paxos.NodeNumber
	server *server
}

// hot is what a node has in memory while it is used. Dropping it is as good as a crash of this node alone, provided that
// everything it ever said was durable: see coolDown for when that is so.
type hot struct {
	// What every turn of a busy node looks at, side by side as in hosted.
	replica  *paxos.Replica
	state    lagging
	touched  time.Duration       // last input
	learnt   time.Duration       // last slot that became known to be chosen
	quiet    time.Duration       // something was last decided here, or repeated; now while nothing is to be
	answered time.Duration       // the same of rounds of reads: see pace
	backoff  time.Duration       // until what may have been lost is repeated
	batch    storage.BatchNumber // the newest when it last wrote or promised something
	owes     bool                // all that was undecided when it was last looked at is a notice to the others
	led      bool                // as last counted in Core.led
	shelving bool                // what it stores next goes to keys of its own, and is all that a restart needs (journal.go)

	waiters waiters
	leases  map[cell.LeaseID]*leaseTimer // while it leads; nil without leases

	confirmed confirmations     // of the own ballot, by the members
	reading   []paxos.ReadToken // local reads that wait for the end of the turn
	bound     binding           // to whom this member confirmed its promised ballot
	inherited paxos.Ballot      // what it had promised when it was loaded; it may have confirmed that in an earlier heat
	question  question          // to the owner of that ballot
	service   service           // of how much use it is as candidate or proposer

	thrift thrifty       // whom its proposer need not ask
	known  acquaintances // who the configuration does not know
	proof  proof         // that the members' states are one (rule 19)
	lesson *lesson       // taught, and not yet confirmed by a second member
}

// input is what a node may have to wait for being hot. Exactly one field is set.
type input struct {
	peer    *PeerMessage
	request *Request
	sweep   bool // its proposer's server is dead, and it is the successor
}

// snapshot is the state as of the replica's applied slot. It may be taken only when everything delivered was applied, that
// is after the deliveries of the Effects that ask for it (rule 2). Its State lies in scratch memory: it must be encoded
// before the next one is taken.
func (c *Core) snapshot(h *hosted) *paxos.Snapshot {
	m := c.current(h)
	c.state = m.Snapshot(c.state[:0])
	return h.hot.replica.Snapshot(c.state, m.Hash())
}

// touch marks a node as changed in this turn. Whoever calls the replica must call it too, or what the replica decided
// would wait for the next input.
func (c *Core) touch(h *hosted) {
	if !h.isDirty {
		h.isDirty = true
		c.dirty = append(c.dirty, h)
	}
}

// activate puts a node on the list that Tick looks at.
func (c *Core) activate(h *hosted) {
	switch {
	case h.isActive:
		c.active[h.watch].due = 0
	case h.hot != nil:
		h.isActive, h.watch = true, len(c.active)
		h.hot.quiet, h.hot.answered, h.hot.backoff = c.now, c.now, c.cfg.NudgeAfter
		c.active = append(c.active, watched{node: h})
	}
}

// whenHot handles an input now, or once the node is hot. It is the only way to a replica: a node that was not read answers
// nothing (rule 7), one whose row is not durable yet neither (it must be able to vanish in a crash without having spoken),
// and one that is quarantined says so.
func (c *Core) whenHot(h *hosted, in input) {
	switch {
	case h.quarantined != "":
		c.refuseInput(h, in)
	case h.hot != nil:
		c.handle(h, in)
	case h.virgin && !h.creating:
		if c.guard(h, func() { c.bear(h) }) {
			c.handle(h, in)
		} else {
			c.refuseInput(h, in)
		}
	default:
		c.enqueueInput(h, in)
		if !h.loading && !h.creating {
			c.load(h)
		}
	}
}

// enqueueInput lets an input wait. Peers' messages beyond the bound are lost, which Paxos expects; requests are refused.
func (c *Core) enqueueInput(h *hosted, in input) {
	if len(h.queue) >= c.cfg.LoadingMax {
		if in.request == nil {
			c.drop("node is loading")
			return
		}
		c.refused("node is loading")
		c.reply(in.request.Origin, nil, &cell.Error{Op: in.request.op(), Kind: cell.Overloaded, Cell: h.id,
			Detail: fmt.Sprintf("%d inputs wait for this node to load", len(h.queue)), RetryAfter: 20 * time.Millisecond})
		return
	}
	if in.peer != nil {
		kept := *in.peer // the shell reuses the memory of its batches
		in.peer = &kept
	}
	h.queue = append(h.queue, in)
}

// handle gives an input to a hot node.
func (c *Core) handle(h *hosted, in input) {
	h.hot.touched = c.now
	if in.sweep {
		c.succeed(h)
		return
	}
	if in.request == nil {
		if c.noVote(&in.peer.Message) {
			c.drop("disk is full")
		} else if !c.host(h, in.peer) {
			c.stepPeer(h, in.peer)
		}
		return
	}
	c.serving = in.request
	if !c.guard(h, func() { c.serve(h, in.request) }) && c.serving != nil {
		c.refuseInput(h, in) // neither answered nor among the waiters that the quarantine answered
	}
	c.serving = nil
}

// step gives a message to a node's replica. A vote that decides nothing changes nothing that anybody here looks at: most votes are such.
func (c *Core) step(h *hosted, m *paxos.Message) {
	vote := m.Kind == paxos.MsgAccepted && m.Through == 0
	c.guard(h, func() { h.hot.replica.Step(m) })
	if !vote || h.hot == nil || h.hot.replica.HasEffects() {
		c.touch(h)
	}
}

// drain gives a node that became hot what waited for it. An input may quarantine the node; the rest is refused then.
func (c *Core) drain(h *hosted) {
	queue := h.queue
	h.queue = nil
	for _, in := range queue {
		c.whenHot(h, in)
	}
}

// bear makes the replica of a node that was created in this life and never touched. It happens once per node: from here on
// the owner of ballot 1 may have used it, so it must never be made by paxos.New again (hazard H7). After a restart nobody
// is virgin, whether or not anything was written.
func (c *Core) bear(h *hosted) {
	replica, err := paxos.New(c.paxosConfig(h))
	must.That(err == nil, "a founding that was checked makes a replica: %v", err)
	h.virgin = false
	c.heat(h, &hot{replica: replica, state: lagging{machine: machine.New()}})
}

func (c *Core) paxosConfig(h *hosted) paxos.Config {
	return paxos.Config{Self: h.node, Configuration: *h.configuration, Window: c.cfg.Window,
		BatchCommands: c.cfg.BatchCommands, BatchBytes: c.cfg.BatchBytes, Scratch: &c.scratch}
}

// heat makes a node hot.
func (c *Core) heat(h *hosted, s *hot) {
	s.touched, s.quiet, s.answered, s.backoff = c.now, c.now, c.now, c.cfg.NudgeAfter
	h.hot, h.plain = s, false
	s.state.machine.Use(&c.applying)
	c.hotList = append(c.hotList, h)
	c.touch(h)
}

// cool drops the hot part; waiters are answered with err, but a transaction may be on its way, and its outcome is unknown.
func (c *Core) cool(h *hosted, err *cell.Error) {
	queue := h.queue
	h.queue = nil
	for _, in := range queue {
		c.refuseInput(h, in)
	}
	if h.hot == nil {
		return
	}
	s := &h.hot.waiters
	for _, w := range s.inOrder(func(w *waiter) bool { return w.request.Kind == RequestTxn }) {
		unknown := *err
		unknown.Kind, unknown.Hint = cell.UnknownResult, "repeat the same request"
		delete(s.txns, w.key())
		c.fail(w, &unknown)
	}
	c.failAll(s, err)
	c.setLed(h, false)
	h.hot = nil
}

// putRow writes a node's row. The promise in it may be below one that a ring record carries; that is harmless, since a
// restart takes the highest of row and ring, and a record is only ever overwritten by one that carries at least as much.
func (c *Core) putRow(h *hosted) {
	if h.rowLost {
		return
	}
	row := peer.Row{Cell: h.id, Incarnation: h.incarnation, Node: h.node, Promised: h.promised, Sealed: h.sealed,
		Quarantined: h.quarantined, Learner: h.learner, Founding: h.founding, Configuration: *h.configuration}
	c.value = peer.AppendRow(c.value[:0], &row)
	c.key = handleKey(c.key[:0], keyRow, h.handle)
	c.write().Set(c.key, c.value)
}

// setLed keeps the count of the cells led from here, and counts the time of the leases in those alone.
func (c *Core) setLed(h *hosted, leads bool) {
	if h.hot.led == leads {
		return
	}
	h.hot.led = leads
	if leads {
		c.led++
		c.countLeases(h)
	} else {
		c.led--
		c.forgetLeases(h)
	}
}
