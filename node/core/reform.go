package core

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// follow makes what the server keeps of a node's cell follow the replica's configuration: whom messages go to, with whom
// heartbeats are exchanged, what discovery is told, and the row.
//
// The row is written in the batch of the turn that changed the configuration. A change stores the state in that very batch,
// and what was pending comes into force in that batch or in a later one; so a row is never ahead of the stored state and ring
// that it belongs to, which alone are what a restart goes by (Snapshot.Configuration). It may be behind: when a pending
// configuration came into force by a mere notice, and the batch with the row was lost in a crash. Until the node is hot again,
// which heals it, an older configuration then says who a sender is not (rule 10: numbers are never reused, so it cannot
// contradict a newer one), and whom to exchange heartbeats with.
func (c *Core) follow(h *hosted) {
	conf := h.hot.replica.Configuration()
	switch {
	case conf == h.configuration:
		return
	case sameConfiguration(conf, h.configuration):
		h.configuration = conf // one copy is enough
		return
	}
	c.share(h, -1)
	h.configuration = conf
	c.connect(h)
	c.share(h, 1)
	c.putRow(h)
	c.routeChanged(h, false)
}

// sameConfiguration reports whether nothing has changed, numbered or not.
func sameConfiguration(a, b *paxos.Configuration) bool {
	return a.Number == b.Number && a.Since == b.Since && a.Alpha == b.Alpha && a.Owner == b.Owner && a.Next == b.Next &&
		a.Left == b.Left && a.Unsettled == b.Unsettled && slices.Equal(a.Members, b.Members) && slices.Equal(a.Learners, b.Learners)
}

// connect looks up the servers of a node's cell.
func (c *Core) connect(h *hosted) {
	h.members, h.learners = make([]*server, len(h.configuration.Members)), nil
	h.seats = make([]seat, len(h.configuration.Members))
	for i, m := range h.configuration.Members {
		h.members[i] = c.server(cell.ServerID(m.Server))
		h.seats[i] = seat{m.Node, h.members[i]}
	}
	for _, l := range h.configuration.Learners {
		h.learners = append(h.learners, c.server(cell.ServerID(l.Server)))
	}
}

// isMember reports whether a node has a vote, as far as its server knows.
func (h *hosted) isMember() bool { return h.configuration.Index(h.node) >= 0 }

// acquaintances are the servers of nodes that the own configuration does not know: of the past, who have to be told so, or of
// the future, who teach (hazard H12). They are hints: a wrong one costs a message.
type acquaintances struct {
	guide *paxos.Configuration // where the cell went, as a pointer said
	met   [acquaintancesMax]acquaintance
	next  int

	asked   time.Duration // when somebody was last asked how the cell stands
	asksFor int           // members asked
}

type acquaintance struct {
	node   paxos.NodeNumber
	server *server
}

// acquaintancesMax bounds them: a jury of the future, and the learners.
const acquaintancesMax = 8

// meet notes the server of a node that the configuration does not know.
func (a *acquaintances) meet(n paxos.NodeNumber, s *server) {
	for i := range a.met {
		if a.met[i].node == n {
			a.met[i].server = s
			return
		}
	}
	a.met[a.next] = acquaintance{n, s}
	a.next = (a.next + 1) % acquaintancesMax
}

// whereIs is the server of any node of a cell, nil when nobody has told. The cell's own word comes first.
func (c *Core) whereIs(h *hosted, n paxos.NodeNumber) *server {
	if s := h.server(n); s != nil {
		return s
	}
	if id := h.configuration.Server(n); id != "" {
		return c.server(cell.ServerID(id)) // who left
	}
	if h.hot == nil {
		return nil
	}
	if g := h.hot.known.guide; g != nil && g.Server(n) != "" {
		return c.server(cell.ServerID(g.Server(n)))
	}
	for _, a := range h.hot.known.met {
		if a.node == n {
			return a.server
		}
	}
	return nil
}

// isImpostor reports whether the receiver's configuration gives a sender's node number to another server (rule 10).
func (h *hosted) isImpostor(n paxos.NodeNumber, from *server) bool {
	if s := h.server(n); s != nil {
		return s != from
	}
	id := h.configuration.Server(n)
	return id != "" && cell.ServerID(id) != from.id
}

// parseChange decodes and bounds a request to change a cell's configuration.
func parseChange(params []byte) (*Request, *cell.Error) {
	m := new(wire.ChangeCell)
	if err := wire.Unmarshal(params, m); err != nil {
		return nil, cell.AsError(wire.MethodChange, cell.Invalid, err)
	}
	r := &Request{Kind: RequestChange, Change: m}
	r.Header = wire.Header{Cell: m.Cell, Incarnation: m.Incarnation, Timeout: m.Timeout, Attempt: m.Attempt}
	if m.Kind == wire.AddLearner && m.Server.Check() != nil {
		return nil, cell.AsError(wire.MethodChange, cell.Invalid, m.Server.Check())
	}
	if m.Old > nodeNumberMax || m.New > nodeNumberMax {
		return nil, &cell.Error{Op: wire.MethodChange, Kind: cell.Invalid, Cell: m.Cell, Detail: fmt.Sprintf("node numbers %d and %d", m.Old, m.New)}
	}
	return r, r.checkHeader()
}

// nodeNumberMax is the highest number that a node can have.
const nodeNumberMax = 1<<32 - 1

// change asks the cell for a change of its configuration. What is not done now for reasons that pass is Unavailable; the
// control plane asks again.
func (c *Core) change(h *hosted, r *Request) {
	if !c.leads(h, r) {
		return
	}
	m, conf, replica := r.Change, h.hot.replica.Configuration(), h.hot.replica
	switch {
	case replica.Role() != paxos.Proposer:
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: h.id, Detail: "this node is asking for the cell's votes",
			RetryAfter: changeAgain, Leader: c.cfg.Server})
	case m.Kind == wire.Look:
		// A question about the cell as it is now, like any linearizable read: a proposer that was deposed, or was replaced, and that
		// nobody has told, would answer with how the cell used to be for as long as nobody asks it for anything else.
		c.linearize(h, r)
	case m.Number != uint64(conf.Number):
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Stale, Cell: h.id,
			Detail: fmt.Sprintf("planned for configuration %d, the cell is at %d", m.Number, conf.Number), Hint: "look at the cell and plan again"})
	case m.Kind == wire.HandOver:
		c.handOverTo(h, r, paxos.NodeNumber(m.New))
	default:
		c.proposeChange(h, r)
	}
}

// changeAgain is when something is worth asking again that waits for a member or a learner.
const changeAgain = 20 * time.Millisecond

// changeOf is a change as the log has it.
func changeOf(m *wire.ChangeCell) paxos.Change {
	change := paxos.Change{Request: m.Request, Number: paxos.ConfigurationNumber(m.Number)}
	switch m.Kind {
	case wire.AddLearner:
		change.Kind, change.Server = paxos.AddLearner, paxos.ServerID(m.Server)
	case wire.DropLearner:
		change.Kind, change.New = paxos.DropLearner, paxos.NodeNumber(m.New)
	case wire.Replace:
		change.Kind, change.Old, change.New = paxos.Replace, paxos.NodeNumber(m.Old), paxos.NodeNumber(m.New)
	}
	return change
}

// proposeChange hands a change to the replica, or says why not.
func (c *Core) proposeChange(h *hosted, r *Request) {
	var refusal paxos.Refusal
	if !c.guard(h, func() { refusal = h.hot.replica.ProposeChange(changeOf(r.Change)) }) {
		return // quarantined; serve's caller answers
	}
	c.touch(h) // whatever it said, a learner may have to be courted
	switch refusal {
	case paxos.Accepted:
		h.hot.waiters.addChange(r, c.now)
		c.serving = nil
		c.waiters++
		c.activate(h)
	case paxos.LearnerBehind:
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: h.id, RetryAfter: changeAgain,
			Detail: fmt.Sprintf("node %d does not hold enough of the cell yet, or has not promised its proposer's ballot", r.Change.New)})
	case paxos.HandOverFirst:
		heir := c.heir(h)
		if heir == 0 {
			c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: h.id, RetryAfter: changeAgain,
				Detail: "the proposer is to be replaced, and no other member's server seems alive"})
			return
		}
		c.guard(h, func() { h.hot.replica.HandOver(heir) })
		c.reply(r.Origin, nil, c.redirect(r.op(), h, cell.ServerID(h.configuration.Server(heir))))
	default:
		c.reply(r.Origin, nil, c.refusal(r.op(), h, refusal))
	}
}

// heir is the member that should lead in the place of this one: of those whose servers live the one that is known to hold the
// most, and of equals the next in the jury. A node that is out of service on a live server holds nothing in this ballot.
func (c *Core) heir(h *hosted) (heir paxos.NodeNumber) {
	start, most := h.configuration.Index(h.node), paxos.Slot(0)
	for i := 1; i < len(h.members); i++ {
		at := (start + i) % len(h.members)
		n := h.configuration.Members[at].Node
		if acked := h.acked(n); c.alive(h.members[at].id) && (heir == 0 || acked > most) {
			heir, most = n, acked
		}
	}
	return heir
}

// handOverTo makes another member the proposer; it is answered when that has begun.
func (c *Core) handOverTo(h *hosted, r *Request, to paxos.NodeNumber) {
	err := c.HandOver(h.id, cell.ServerID(h.configuration.Server(to)))
	switch {
	case to == h.node:
		err = nil
	case err != nil:
		err.Op = r.op()
		c.reply(r.Origin, nil, err)
		return
	}
	c.reply(r.Origin, c.configured(h, 0), nil)
}

// configured tells the configuration that the proposer runs.
func (c *Core) configured(h *hosted, node paxos.NodeNumber) *wire.Configured {
	conf := h.hot.replica.Configuration()
	out := &wire.Configured{Incarnation: h.incarnation, Number: uint64(conf.Number), Alpha: conf.Alpha, Node: uint64(node),
		Busy: conf.Unsettled || h.hot.replica.Pending() != nil}
	for _, m := range conf.Members {
		out.Members = append(out.Members, c.founder(m))
	}
	for _, l := range conf.Learners {
		out.Learners = append(out.Learners, c.founder(l.Member))
	}
	return out
}

// reformed answers who asked for a change that was chosen, wherever it was proposed.
func (c *Core) reformed(h *hosted, d *paxos.Delivery) {
	kept := h.hot.waiters.changes[:0]
	for _, w := range h.hot.waiters.changes {
		if changeOf(w.request.Change) != *d.Entry.Change {
			kept = append(kept, w)
			continue
		}
		c.waiters--
		if err := c.changeRefused(h, d.Outcome.Refused); err != nil {
			c.reply(w.request.Origin, nil, err)
		} else {
			c.reply(w.request.Origin, c.configured(h, d.Outcome.Node), nil)
		}
	}
	clear(h.hot.waiters.changes[len(kept):])
	h.hot.waiters.changes = kept
}

// changeRefused words why the log refused a change, nil when it did not.
func (c *Core) changeRefused(h *hosted, why paxos.ChangeRefusal) *cell.Error {
	e := &cell.Error{Op: wire.MethodChange, Cell: h.id, Detail: why.String()}
	switch why {
	case paxos.Changed:
		return nil
	case paxos.OtherNumber:
		e.Kind, e.Hint = cell.Stale, "look at the cell and plan again"
	case paxos.ChangePending:
		e.Kind, e.RetryAfter = cell.Unavailable, changeAgain
	case paxos.ServerTaken:
		e.Kind = cell.Exists
	case paxos.TooManyLearner:
		e.Kind, e.Hint = cell.NoRoom, "drop a learner that nobody wants"
	default:
		e.Kind = cell.NotFound
	}
	return e
}

// loseChanges answers the waiters of changes when this node stopped leading: they may have been chosen all the same, which
// the configuration will show.
func (c *Core) loseChanges(h *hosted, to cell.ServerID) {
	changes := h.hot.waiters.changes
	h.hot.waiters.changes = nil
	for _, w := range changes {
		e := c.redirect("", h, to)
		e.Kind, e.Detail, e.Hint = cell.UnknownResult, "this node stopped leading the cell while the change was on its way", "look at the cell"
		c.fail(w, e)
	}
}

// outsider answers a request at a node that has no vote: one that is being taught, or that left. It can do nothing but say
// who the members are.
func (c *Core) outsider(h *hosted, r *Request) {
	c.reply(r.Origin, nil, c.moved(r.op(), h.id, h.incarnation, h.configuration))
}

// heed takes the word of a server where a member used to be (rule 11).
func (c *Core) heed(h *hosted, conf *paxos.Configuration) {
	if g := h.hot.known.guide; g == nil || g.Number < conf.Number {
		h.hot.known.guide = conf
	}
	c.guard(h, func() { h.hot.replica.Heed(conf) })
	c.touch(h)
}

// askAround asks one member after the other what this node misses, when somebody needs the cell and this node may not campaign.
// The servers of a cell that left it behind exchange no heartbeats with it any more, so to a node that was away when it was
// removed everybody seems dead, and nobody speaks to it by himself.
func (c *Core) askAround(h *hosted) {
	k, members := &h.hot.known, h.configuration.Members
	if c.now-k.asked < c.cfg.NudgeAfter && k.asked != 0 {
		return
	}
	k.asked = max(c.now, 1)
	k.asksFor++
	if to := members[k.asksFor%len(members)].Node; to != h.node {
		c.emit(h, &paxos.Message{Kind: paxos.MsgLearn, From: h.node, To: to, Slot: h.hot.replica.Applied() + 1}, noEpoch)
	}
}

// tellMoved answers a message to a node that is not here any more with where its cell lives. The answer is never answered.
func (c *Core) tellMoved(to *server, m *PeerMessage, conf *paxos.Configuration) {
	if m.Message.Kind >= peer.KindMoved && m.Message.Kind != peer.KindStands {
		return
	}
	envelope := peer.Envelope{Cell: m.Envelope.Cell, Incarnation: m.Envelope.Incarnation, Configuration: conf.Number, Moved: conf}
	c.body = peer.AppendMessage(c.body[:0], &envelope, &paxos.Message{Kind: peer.KindMoved, From: m.Message.To, To: m.Message.From})
	c.enqueue(to, LanePaxos, c.body)
}

// foundingHash tells foundings of one incarnation apart: who asks for the same one again must be answered alike, also when the
// cell has long another configuration.
func foundingHash(conf *paxos.Configuration) uint64 {
	sum := fnv.New64a()
	sum.Write(peer.AppendConfiguration(nil, conf)) // never fails
	return max(sum.Sum64(), 1)
}
