package core

import (
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// A proposer reads locally while a majority of its jury can neither have voted for anybody else nor will (rule 12). Two
// facts make a member count, and both are about the same stretch of support, the epoch:
//
//   - The member's node said, durably, that it promises exactly this ballot and nothing higher, while its server was
//     giving support in that epoch (Envelope.Support, stamped when that was decided, however late it left).
//   - The member's server supports this one in that epoch now, by a clock that was read after the request came in.
//
// From the stamp to the end of the epoch the member refuses Prepare from every other server, so no other ballot has found
// a majority of this jury in between. An Accept for a slot of this jury or a later one presupposes such a majority. One for a
// slot of an earlier jury presupposes only a majority of that, which may have no member in common with those that are counted
// here; so the member refuses it like a Prepare (turns), and it is counted only if it knew this jury when it gave its stamp
// (Envelope.Configuration): before, it would have taken such an Accept. Support that healed has another epoch (hazard H1), and a supporter that never promised
// this ballot has stamped nothing for it (hazard H2). The caller of Now reads the clock after it has drained what arrived
// (hazard H3). The own node counts once its own promise of the ballot was durable.

// confirmation is a member's newest word on the proposer's ballot.
type confirmation struct {
	node   paxos.NodeNumber
	server *server
	epoch  peer.Epoch                // zero: not a stretch of support
	jury   paxos.ConfigurationNumber // that the member knew when it said so
	acked  paxos.Slot                // highest slot that the member is known to have accepted or applied
}

// confirmations are those for one ballot of this node.
type confirmations struct {
	ballot paxos.Ballot
	of     []confirmation
}

// confirms notes what a message says of this node's own ballot; it comes before the replica is stepped. A candidate
// collects, too: what it was promised still counts when it leads.
func (h *hosted) confirms(m *paxos.Message, support peer.Epoch, jury paxos.ConfigurationNumber) {
	switch m.Kind {
	case paxos.MsgPromise, paxos.MsgAccepted, paxos.MsgConfirmed:
	default:
		return
	}
	f := &h.hot.confirmed
	if own := h.hot.replica.Ballot(); f.ballot != own {
		f.ballot, f.of = own, f.of[:0]
	}
	if m.Ballot != f.ballot || m.Ballot.IsZero() {
		return
	}
	i := 0
	for i < len(f.of) && f.of[i].node != m.From {
		i++
	}
	if i == len(f.of) {
		f.of = append(f.of, confirmation{node: m.From, server: h.server(m.From)})
	}
	e := &f.of[i]
	if e.epoch.Less(support) {
		e.epoch, e.jury = support, jury
	} else if e.epoch == support {
		e.jury = max(e.jury, jury)
	}
	if m.Kind == paxos.MsgAccepted {
		e.acked = max(e.acked, m.Slot)
	} else if m.Kind == paxos.MsgPromise {
		e.acked = max(e.acked, m.Through)
	}
}

// noEpoch is the support epoch of messages that confirm nothing.
var noEpoch peer.Epoch

// linearize answers a linearizable read: under a read lease from the applied state, else after the jury confirmed the ballot.
// That round also brings the confirmations that the lease lacks, so it is the reads themselves that keep it.
//
// The replica runs ahead of the machine within a turn: what it was told to be chosen in this turn is applied at its end. A
// read that comes behind that waits for it, or a new proposer would answer from before what it had to re-propose.
func (c *Core) linearize(h *hosted, r *Request) {
	switch {
	case r.Confirm || !c.readLease(h):
		c.read(h, r)
	case h.isDirty:
		w := h.hot.waiters.addRead(r, c.now)
		h.hot.reading = append(h.hot.reading, paxos.ReadToken(w.token))
		c.serving = nil
		c.waiters++
	default:
		c.countRead(true)
		c.answerRead(h, r)
	}
}

// readLocally answers the reads that waited for the end of the turn, or asks the jury if the lease was lost in it.
func (c *Core) readLocally(h *hosted) {
	s := h.hot
	if len(s.reading) == 0 {
		return
	}
	reading := s.reading
	s.reading = nil
	leased := c.readLease(h)
	for _, token := range reading {
		w := s.waiters.takeRead(token)
		if w == nil {
			continue
		}
		c.waiters--
		if leased {
			c.countRead(true)
			c.answerRead(h, w.request)
		} else {
			c.linearize(h, w.request)
		}
	}
}

// countRead tells whoever watches how a linearizable read was answered.
func (c *Core) countRead(local bool) {
	if c.cfg.Events.Read != nil {
		c.cfg.Events.Read(local)
	}
}

// readLease reports whether this node may answer linearizable reads, and keep-alives of client leases, from its applied
// state: for an input that was taken in before the core's time was set.
func (c *Core) readLease(h *hosted) bool {
	return h.hot.replica.LocalReads() && c.confirmedNow(h) >= h.hot.replica.Jury().Majority()
}

// confirmedNow counts the members of the jury that can have promised nobody else by now.
func (c *Core) confirmedNow(h *hosted) int {
	f := &h.hot.confirmed
	if f.ballot != h.hot.replica.Ballot() {
		return 0
	}
	jury := h.hot.replica.Jury()
	n := 0
	for i := range f.of {
		if e := &f.of[i]; jury.Index(e.node) >= 0 && c.counts(h, e) {
			n++
		}
	}
	return n
}

// counts reports whether a confirmation still holds.
func (c *Core) counts(h *hosted, e *confirmation) bool {
	if e.node == h.node || e.server == nil {
		return e.node == h.node
	}
	same := e.epoch == e.server.heldEpoch && e.epoch != noEpoch && e.jury >= h.hot.replica.Jury().Number
	return (same || plantedAnyEpoch) && c.supportedBy(e.server)
}

// confirmedBy reports whether a member counts towards the read lease now, for people.
func (c *Core) confirmedBy(h *hosted, n paxos.NodeNumber) bool {
	f := &h.hot.confirmed
	for i := range f.of {
		if f.of[i].node == n {
			return f.ballot == h.hot.replica.Ballot() && c.counts(h, &f.of[i])
		}
	}
	return false
}

// stamp tells the epoch in which a member confirms a ballot to its owner: that of the support that is given now, if the
// ballot is still the highest that the member promised. From here on it refuses others until that support ends.
func (c *Core) stamp(h *hosted, m *paxos.Message) peer.Epoch {
	switch m.Kind {
	case paxos.MsgPromise, paxos.MsgAccepted, paxos.MsgConfirmed:
	default:
		return noEpoch
	}
	s := h.server(m.To)
	if s == nil || m.To == h.node || m.Ballot != h.hot.replica.Promised() || !c.supports(s) {
		return noEpoch
	}
	h.hot.bound, h.hot.question.number = binding{s, s.boot, m.Ballot}, 0
	return peer.Epoch{Boot: c.cfg.Boot, Counter: s.epoch}
}

// mayPromise reports whether this node may promise a ballot of another server: rule 12 forbids it while its server supports
// the process that it confirmed its promised ballot to, and after a restart for as long as such support may have been given
// in the life before. The owner of the promised ballot may always ask: it has given up that ballot.
func (c *Core) mayPromise(h *hosted, candidate *server) bool {
	r := h.hot.replica
	owner := h.server(r.Promised().Node)
	switch {
	case r.IsFree() || owner == candidate && owner != nil:
		return true
	case owner != nil && owner.id == c.cfg.Server:
		return !c.leadsWell(h)
	case c.now-c.began < c.support.longest:
		return false
	}
	return !c.isBound(h, owner) || plantedPromiseAnyone
}

// binding is to which process a member confirmed which ballot.
type binding struct {
	server *server
	boot   uint64
	ballot paxos.Ballot
}

// isBound reports whether the node confirmed its promised ballot to a process that its server still supports. What it
// confirmed before it was last loaded is not known any more, so the owner's present process stands for it.
//
// Nobody stands by an owner that is no member any more. Whoever got the last slot before the new jury chosen either was that
// owner, which applied it, knew that it is out, and answered no read since; or led in a higher ballot, whose majority had
// stopped to stand by the owner before.
func (c *Core) isBound(h *hosted, owner *server) bool {
	b, promised := &h.hot.bound, h.hot.replica.Promised()
	switch {
	case promised.IsZero():
		return false // a learner that was just taught
	case h.hot.replica.Configuration().Index(promised.Node) < 0:
		return false
	case b.ballot == promised:
		return b.server.boot == b.boot && c.supports(b.server)
	case h.hot.inherited == promised:
		return owner != nil && c.supports(owner)
	}
	return false
}

// leadsWell reports whether this node leads its cell with a majority that can have promised nobody else. Who asks for the
// cell then is wrong about its proposer being dead.
func (c *Core) leadsWell(h *hosted) bool {
	return h.hot.replica.Role() == paxos.Proposer && c.confirmedNow(h) >= h.hot.replica.Jury().Majority()
}
