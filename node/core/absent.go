package core

import (
	"time"

	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// A member that confirmed a ballot refuses everybody else while the owner's server lives (rule 12). The owner may be out of service,
// or may not be there at all: a founding that was broken off reached a majority, and not the server that was to own ballot 1. Its
// server lives, nobody may lead in its place, and the cell takes no writes. So whoever refuses asks the owner.
//
//   - An owner that is out of service resigns the ballot (resignBelow).
//   - A server without that node says so. What the member confirmed it confirmed to a node that was there, and is gone for good:
//     nobody counts it any more, and the member need not stand by it. If it was asked to serve the cell it asks for it at once: whoever
//     sent the request may come back after the node went cold, which knows nothing of the answer, or be sent to the owner again.
//   - An owner that is well has nothing to say.
//
// The node may be founded between the answer and its arrival, and ask this member at once. So an answer counts only while the member
// has confirmed nothing since it asked: stamp ends the question.

// question is what a member wants to know of the owner of the ballot that it promised. The zero value asks nothing.
type question struct {
	number uint64 // zero: none is open
	asked  bool   // since it is hot; at says when last
	wanted bool   // a request waits for somebody who leads
	at     time.Duration
}

// challenge asks the owner of the promised ballot whether it is of any use, when somebody else wants to lead and may not, or when
// a request shows that the cell is wanted.
func (c *Core) challenge(h *hosted, wanted bool) {
	if h == nil || h.hot == nil {
		return
	}
	q, b := &h.hot.question, h.hot.replica.Promised()
	if b.Node == h.node || b.IsZero() {
		return
	}
	if q.asked && c.now-q.at < c.cfg.NudgeAfter {
		q.wanted = q.wanted || wanted
		return
	}
	*q = question{number: c.cfg.Dice.Uint64() | 1, asked: true, wanted: wanted, at: c.now}
	c.emit(h, &paxos.Message{Kind: peer.KindStands, From: h.node, To: b.Node, Ballot: b, Number: q.number}, noEpoch)
}

// answerAbsent tells a member that stands by a node that it is not here.
func (c *Core) answerAbsent(to *server, m *PeerMessage) {
	if m.Message.Kind != peer.KindStands || !c.ready {
		return
	}
	envelope := peer.Envelope{Cell: m.Envelope.Cell, Incarnation: m.Envelope.Incarnation, Configuration: m.Envelope.Configuration}
	c.body = peer.AppendMessage(c.body[:0], &envelope, &paxos.Message{Kind: peer.KindAbsent, From: m.Message.To, To: m.Message.From, Number: m.Message.Number})
	c.enqueue(to, LanePaxos, c.body)
}

// absent hears that the node by which this one stands is not there.
func (c *Core) absent(h *hosted, m *paxos.Message) {
	if q := &h.hot.question; q.number == 0 || q.number != m.Number || h.hot.replica.Promised().Node != m.From {
		return
	}
	h.hot.question.number = 0
	h.hot.bound, h.hot.inherited = binding{}, paxos.Ballot{}
	if h.hot.question.wanted && h.hot.replica.Role() == paxos.Follower && c.mayCampaign(h) == nil {
		c.campaign(h)
	}
}
