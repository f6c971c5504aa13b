package core

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/must"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// hosted is one node. A cold one is only this.
type hosted struct {
	id            cell.ID
	incarnation   cell.Incarnation
	node          paxos.NodeNumber
	handle        Handle
	configuration *paxos.Configuration
	members       []*server    // the configuration's servers, in its order
	promised      paxos.Ballot // as the stored row says: a lower bound (rule 7)
	sealed        bool
	quarantined   string // why; empty when it is well
	creating      bool   // its row is not durable yet: it does not serve
	virgin        bool   // created in this life of the process and never touched: nothing is stored but the row
	loading       bool
	isDirty       bool
	isActive      bool
	hot           *hot
	queue         []input // what waits for creation or loading, bounded
}

// hot is what a node has in memory while it is used.
type hot struct {
	replica *paxos.Replica
	machine *machine.Machine
	waiters waiters
	touched time.Duration // last input
	quiet   time.Duration // last progress, or last nudge
	backoff time.Duration
	led     bool
}

// input is what a node may have to wait for being hot.
type input struct {
	peer    *PeerMessage
	request *Request
}

func (s *hot) snapshot() *paxos.Snapshot {
	state := s.machine.Snapshot(nil)
	return s.replica.Snapshot(state, machine.HashOf(state))
}

// touch marks a node as changed in this turn.
func (c *Core) touch(h *hosted) {
	if !h.isDirty {
		h.isDirty = true
		c.dirty = append(c.dirty, h)
	}
}

// activate puts a node on the list that Tick looks at.
func (c *Core) activate(h *hosted) {
	if !h.isActive && h.hot != nil {
		h.isActive = true
		h.hot.quiet, h.hot.backoff = c.now, c.cfg.NudgeAfter
		c.active = append(c.active, h)
	}
}

// whenHot handles an input now, or once the node is hot.
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

func (c *Core) enqueueInput(h *hosted, in input) {
	if len(h.queue) >= c.cfg.LoadingMax {
		if in.request == nil {
			c.drop("node is loading")
			return
		}
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
	if in.request != nil {
		c.serve(h, in.request)
		return
	}
	c.step(h, &in.peer.Message)
}

// step gives a message to a node's replica.
func (c *Core) step(h *hosted, m *paxos.Message) {
	c.guard(h, func() { h.hot.replica.Step(m) })
	c.touch(h)
}

// drain gives a node that became hot what waited for it.
func (c *Core) drain(h *hosted) {
	queue := h.queue
	h.queue = nil
	for _, in := range queue {
		c.whenHot(h, in)
	}
}

// bear makes the replica of a node that was created in this life and never touched.
func (c *Core) bear(h *hosted) {
	replica, err := paxos.New(c.paxosConfig(h))
	must.That(err == nil, "a founding that was checked makes a replica: %v", err)
	h.virgin = false
	c.heat(h, &hot{replica: replica, machine: machine.New()})
}

func (c *Core) paxosConfig(h *hosted) paxos.Config {
	return paxos.Config{Self: h.node, Configuration: *h.configuration, Window: c.cfg.Window,
		BatchCommands: c.cfg.BatchCommands, BatchBytes: c.cfg.BatchBytes}
}

func (c *Core) heat(h *hosted, s *hot) {
	s.touched, s.quiet, s.backoff = c.now, c.now, c.cfg.NudgeAfter
	h.hot = s

	c.hotList = append(c.hotList, h)
	c.touch(h)
}

// guard runs a step of one node and quarantines the node if it panics; it reports whether it did not.
func (c *Core) guard(h *hosted, f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			c.quarantine(h, fmt.Sprint(p))
			ok = false
		}
	}()
	f()
	return true
}

// quarantine takes a node out of service: it answers nothing, keeps its data, and says why. The server goes on.
func (c *Core) quarantine(h *hosted, why string) {
	if h.quarantined != "" {
		return
	}
	if len(why) > 512 {
		why = why[:512]
	}
	h.quarantined = why
	if c.cfg.Events.Quarantined != nil {
		c.cfg.Events.Quarantined(h.id, why)
	}
	c.cool(h, &cell.Error{Op: "node", Kind: cell.Quarantined, Cell: h.id, Detail: why, Hint: quarantineHint})
	c.putRow(h)
	c.routeChanged(h, false)
}

const quarantineHint = "this node is out of service and kept for inspection; the other members go on"

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

func (c *Core) refuseInput(h *hosted, in input) {
	if in.request == nil {
		c.drop("node is quarantined")
		return
	}
	if in.request.Kind == RequestExplain && h.quarantined != "" {
		c.reply(in.request.Origin, &wire.Explanation{Server: c.cfg.Server, Cell: h.id, Incarnation: h.incarnation, Node: uint64(h.node),
			State: "quarantined", Note: h.quarantined, Configuration: uint64(h.configuration.Number)}, nil)
		return
	}
	kind, detail, hint := cell.Quarantined, h.quarantined, quarantineHint
	if h.quarantined == "" {
		kind, detail, hint = cell.Unavailable, "this node went out of service", ""
	}
	c.reply(in.request.Origin, nil, &cell.Error{Op: in.request.op(), Kind: kind, Cell: h.id, Detail: detail, Hint: hint})
}

// putRow writes a node's row.
func (c *Core) putRow(h *hosted) {
	row := peer.Row{Cell: h.id, Incarnation: h.incarnation, Node: h.node, Promised: h.promised, Sealed: h.sealed,
		Quarantined: h.quarantined, Configuration: *h.configuration}
	c.value = peer.AppendRow(c.value[:0], &row)
	c.key = handleKey(c.key[:0], keyRow, h.handle)
	c.write().Set(c.key, c.value)
}

func (c *Core) setLed(h *hosted, leads bool) {
	if h.hot.led == leads {
		return
	}
	h.hot.led = leads
	if leads {
		c.led++
	} else {
		c.led--
	}
}
