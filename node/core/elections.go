package core

import (
	"time"

	"physalia/cell"
	"physalia/paxos"
)

// Elections have no timers: a node campaigns on behalf of a request, or once when its proposer's server died (sweep.go). Who
// campaigns is a matter of taste, never of safety; who may, and who may be promised, is rule 12's business.

// service is of how much use a node is to its cell as candidate or proposer (rule 13).
type service struct {
	ballot paxos.Ballot     // of its own, as last seen; what is lost is told to the jury
	role   paxos.Role       // as last seen
	stuck  time.Duration    // since when it has something to do and gets nothing done; 0: it has not, or it does
	rest   time.Duration    // it does not campaign before
	rival  paxos.NodeNumber // by whom members stood when they refused this candidate
	heard  time.Duration    // when they said so
}

// leads reports whether this node leads its cell or asks to, campaigning if it falls to this server to do so; otherwise it
// answers the request with whom to ask, or passes it on when the client cannot reach whom it was told to ask.
func (c *Core) leads(h *hosted, r *Request) bool {
	replica := h.hot.replica
	if replica.Role() != paxos.Follower {
		return true
	}
	if to := c.whoLeads(h, r.Header.Attempt); to != c.cfg.Server {
		if !c.forward(h, r, c.server(to)) {
			c.reply(r.Origin, nil, c.redirect(r.op(), h, to))
		}
		if r.Header.Attempt >= attemptsJittered {
			c.challenge(h, true)
		}
		return false
	}
	if refusal := c.mayCampaign(h); refusal != nil {
		refusal.Op, refusal.Cell = r.op(), h.id
		c.reply(r.Origin, nil, refusal)
		c.askAround(h)
		c.challenge(h, true)
		return false
	}
	if !c.campaign(h) {
		c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Quarantined, Cell: h.id, Detail: h.quarantined})
		return false
	}
	return true
}

// campaign makes a node ask for its cell; it reports false when that cost the node its health.
func (c *Core) campaign(h *hosted) bool {
	replica := h.hot.replica
	if !c.guard(h, replica.Campaign) {
		return false
	}
	if c.cfg.Events.Campaign != nil && replica.Role() == paxos.Candidate {
		c.cfg.Events.Campaign(h.id, replica.Ballot())
	}
	c.touch(h)
	return true
}

// A client that was sent around so often reaches nobody who leads, whatever this server believes about who is alive. One
// attempt in attemptsBeforeTakeover makes the member that was asked campaign. Where the proposer is known to be dead, one in
// four does from attemptsJittered on, by the dice, so that members who disagree about who is alive do not campaign in step.
const (
	attemptsJittered       = 3
	attemptsBeforeTakeover = 6
)

// whoLeads names the server that should serve a request now: the proposer while it seems alive, else its successor. A
// proposer that forgot its role in a restart campaigns again when it is asked. One that this node stands by is never passed
// over: nobody could lead in its place. One whose server is supported, but in another life than the node confirmed to, may
// be out of service since its restart (hazard H9), so persistent clients pass it over.
func (c *Core) whoLeads(h *hosted, attempt uint32) cell.ServerID {
	leader := h.hot.replica.Leader()
	s := h.server(leader)
	v := &h.hot.service
	takeover := attempt != 0 && attempt%attemptsBeforeTakeover == 0 && !c.rests(h)
	switch {
	case s != nil && s.id != c.cfg.Server && c.supports(s) && !(takeover && c.mayPromise(h, c.server(c.cfg.Server))):
		return s.id
	case takeover:
		return c.cfg.Server
	case s != nil && s.id == c.cfg.Server && !c.rests(h), s != nil && s.id != c.cfg.Server && c.alive(s.id):
		return s.id
	}
	if rival := h.server(v.rival); rival != nil && c.recent(v.heard) && rival.id != c.cfg.Server {
		return rival.id // others stand by it, so it is of use to somebody
	}
	if attempt >= attemptsJittered && !c.rests(h) && c.cfg.Dice.IntN(4) == 0 {
		return c.cfg.Server
	}
	return c.successor(h, leader)
}

// rests reports whether a node that gave its cell up, or whose disk is ill, leaves it to others for a while.
func (c *Core) rests(h *hosted) bool {
	return h.hot != nil && (c.now < h.hot.service.rest || c.yields(h))
}

// mayCampaign says why this node must not ask for its cell now, or nothing. To ask is also to promise, so the node keeps to
// what it would keep to if another one asked. And who reaches no majority must not even try: its ballot would depose a
// proposer that serves everybody else.
func (c *Core) mayCampaign(h *hosted) *cell.Error {
	switch {
	case !c.mayVote(h):
		return &cell.Error{Kind: cell.Unavailable, Detail: "this server was restarted and waits to hear what its peers remember of it", RetryAfter: campaignAgain}
	case c.disk.stalled:
		return &cell.Error{Kind: cell.Unavailable, Detail: "the disk of this server makes no progress", RetryAfter: campaignAgain}
	case c.rests(h):
		return &cell.Error{Kind: cell.Unavailable, Detail: "this node gave the cell up and leaves it to others for a while", RetryAfter: campaignAgain}
	case !c.reaches(h.configuration):
		return &cell.Error{Kind: cell.NotProposer, Detail: "this server reaches no majority of the cell's servers", RetryAfter: campaignAgain}
	case !c.mayPromise(h, c.server(c.cfg.Server)):
		return &cell.Error{Kind: cell.Unavailable, Detail: "the cell's proposer may still be supported", RetryAfter: campaignAgain}
	}
	return nil
}

// reaches reports whether a majority of a jury's servers seem alive.
func (c *Core) reaches(jury *paxos.Configuration) bool {
	n := 0
	for i := range jury.Members {
		if c.alive(cell.ServerID(jury.Members[i].Server)) {
			n++
		}
	}
	return n >= jury.Majority()
}

// campaignAgain is when a client may ask again who was told that nobody may campaign yet.
const campaignAgain = 50 * time.Millisecond

// stepPeer gives a peer's message to a hot node. Whatever becomes of the message, a sender with a later configuration knows what
// this node misses (rule 10, hazard H12). Otherwise a node could wait for ever for servers that its cell has replaced: for what
// they remember of it, or for the end of the support that it gave to one of them.
func (c *Core) stepPeer(h *hosted, in *PeerMessage) {
	c.receive(h, in)
	if h.hot != nil && in.Envelope.Configuration > h.hot.replica.Configuration().Number {
		c.guard(h, func() { h.hot.replica.Overtaken(in.Message.From) })
		c.touch(h)
	}
}

// receive is stepPeer for what the message itself says; it is dropped while the node may not vote, and refused while it stands by
// its proposer.
func (c *Core) receive(h *hosted, in *PeerMessage) {
	m := &in.Message
	replica := h.hot.replica
	leased := false
	switch m.Kind {
	case paxos.MsgPrepare, paxos.MsgAccept, paxos.MsgConfirm:
		if !c.mayVote(h) {
			c.drop("the peers' memories are missing")
			return
		}
		if m.Kind == paxos.MsgPrepare && replica.Promised().Less(m.Ballot) && !c.mayPromise(h, h.server(m.From)) {
			c.guard(h, func() { replica.Refuse(m) })
			c.touch(h)
			c.challenge(h, false)
			return
		}
		if c.turns(h, m) {
			c.emit(h, &paxos.Message{Kind: paxos.MsgAhead, From: h.node, To: m.From, Ballot: replica.Promised(), Through: replica.Applied()}, noEpoch)
			return
		}
	case paxos.MsgResign:
		if paxos.NodeNumber(m.Number) == h.node && !c.mayInherit(h, m.Ballot) {
			m.Number = 0 // the ballot is free all the same
		}
	case paxos.MsgNack:
		if v := &h.hot.service; m.Ballot.Less(replica.Ballot()) {
			v.rival, v.heard = m.Ballot.Node, c.now
		}
		leased = c.leadsWell(h)
	default:
		h.confirms(m, in.Envelope.Support, in.Envelope.Configuration)
	}
	c.step(h, m)
	if leased && h.hot != nil && replica.Role() == paxos.Follower {
		// One member promised somebody who is wrong about this proposer being dead. A majority still stands by it, and
		// would refuse everybody else: it asks for a higher ballot, and the cell hardly notices.
		c.campaign(h)
	}
}

// turns reports whether a message would turn a member from the ballot that it stands by although nothing proves that a majority
// of this member's jury has turned. An Accept for a slot of this jury, or a later one, does prove it. One for a slot of an
// earlier jury, which is chosen already, proves only that a majority of that one has, and so does a question for reads: its
// sender lags behind a change of the jury, and is told so.
func (c *Core) turns(h *hosted, m *paxos.Message) bool {
	r := h.hot.replica
	earlier := m.Kind == paxos.MsgConfirm || m.Kind == paxos.MsgAccept && m.Slot < r.Configuration().Since
	return earlier && r.Promised().Less(m.Ballot) && !c.mayPromise(h, h.server(m.From))
}

// mayInherit reports whether a node may campaign because the owner of a ballot resigned and named it: to ask is also to
// promise and to vote, so it must be allowed to vote, and the ballot must be of the owner that it stands by, or it must be free
// to promise anybody.
func (c *Core) mayInherit(h *hosted, resigned paxos.Ballot) bool {
	return c.mayVote(h) && (resigned.Node == h.hot.replica.Promised().Node || c.mayPromise(h, c.server(c.cfg.Server)))
}

// watch notes whether a candidate or proposer gets something done; it comes after all effects of a turn.
func (c *Core) watch(h *hosted, progress bool) {
	v, r := &h.hot.service, h.hot.replica
	role := r.Role()
	busy := role == paxos.Candidate || role == paxos.Proposer && (r.InFlight() > 0 || !h.hot.waiters.empty())
	switch {
	case !busy:
		v.stuck = 0
	case v.stuck == 0 || progress || role != v.role:
		v.stuck = max(c.now, 1)
	}
	v.role = role
	if role != paxos.Follower {
		v.ballot = r.Ballot()
	}
}

// giveUp resigns a cell that a node could do nothing for within a support period: a proposer whose slots or read rounds are
// not decided, a candidate that found no majority (rule 13, hazard H9). It leaves the cell to others then, for half a period
// and some more by the dice.
func (c *Core) giveUp(h *hosted) {
	v := &h.hot.service
	if v.stuck == 0 || c.recent(v.stuck) {
		return
	}
	b := h.hot.replica.Ballot()
	v.rest = c.now + c.cfg.SupportPeriod/2 + time.Duration(c.cfg.Dice.Int64N(int64(c.cfg.SupportPeriod)))
	v.stuck, v.ballot = 0, paxos.Ballot{}
	if !c.guard(h, h.hot.replica.Resign) {
		return
	}
	c.touch(h)
	if c.cfg.Events.Resigned != nil {
		c.cfg.Events.Resigned(h.id, b)
	}
}

// lost tells the jury that a ballot of this node is given up: it was deposed, so nobody need stand by that ballot.
func (c *Core) lost(h *hosted) {
	v := &h.hot.service
	if !v.ballot.IsZero() && h.hot.replica.Ballot() != v.ballot {
		c.tellResigned(h, v.ballot)
	}
	v.ballot = paxos.Ballot{}
}

// tellResigned tells everybody that a ballot of this node leads no more. It may leave at once: from now on nothing is
// answered in that ballot.
func (c *Core) tellResigned(h *hosted, b paxos.Ballot) {
	c.emit(h, &paxos.Message{Kind: paxos.MsgResign, From: h.node, Ballot: b}, noEpoch)
}

// given is the ballot that a quarantined node gave up, and when that was last told.
type given struct {
	ballot paxos.Ballot
	told   time.Duration
}

// resignQuarantined gives a quarantined node's cell up; the replica itself is not asked any more. Resignations may be lost,
// so it is said again whenever a client is told that the node is out of service: it was sent there by somebody who still
// believes in it.
func (c *Core) resignQuarantined(h *hosted) {
	if h.hot != nil && !h.hot.service.ballot.IsZero() {
		h.given = &given{ballot: h.hot.service.ballot, told: c.now - c.cfg.SupportPeriod}
	}
	if h.given != nil && !c.recent(h.given.told) {
		h.given.told = c.now
		c.tellResigned(h, h.given.ballot)
	}
}

// resignBelow gives up every ballot of a quarantined node up to one that somebody names, or below it if it is not its own.
// After a restart the node does not know its ballots, it will never use one of them again, and others may stand by one as
// long as its server lives: that is why their candidate is refused (hazard H9).
func (c *Core) resignBelow(h *hosted, named paxos.Ballot) {
	if h.quarantined == "" || named.Round == 0 {
		return
	}
	own := paxos.Ballot{Round: named.Round, Node: h.node}
	if named.Node != h.node {
		own.Round--
	}
	if h.given == nil || h.given.ballot.Less(own) {
		h.given = &given{ballot: own, told: c.now - c.cfg.SupportPeriod}
		c.resignQuarantined(h)
	}
}

// HandOver makes the node of another server the cell's proposer: this one stops proposing, gives up local reads, finishes
// what is in flight, and names its heir, who campaigns at once (rule 13). Drain, balance and replacement use it.
func (c *Core) HandOver(id cell.ID, to cell.ServerID) *cell.Error {
	h := c.warm[id]
	refuse := func(kind cell.Kind, detail string) *cell.Error {
		return &cell.Error{Op: "node.handover", Kind: kind, Cell: id, Detail: detail}
	}
	switch {
	case h == nil && c.find(id) == nil:
		return refuse(cell.UnknownHere, "no node of it is hosted here")
	case h == nil || h.hot == nil || h.hot.replica.Role() != paxos.Proposer:
		return refuse(cell.NotProposer, "this node does not lead the cell")
	}
	for _, m := range h.configuration.Members {
		if cell.ServerID(m.Server) == to && m.Node != h.node {
			c.guard(h, func() { h.hot.replica.HandOver(m.Node) })
			c.touch(h)
			c.activate(h)
			return nil
		}
	}
	return refuse(cell.Refused, "server "+string(to)+" has no other node of it")
}
