package core

import (
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// A taught state is installed only after a second member confirmed what it hashes to after its slot (rule 19): otherwise one
// teacher whose state is corrupt spreads it to every learner, and in the end is the majority (hazard H20). So a lesson waits
// at its pupil, which asks every other member; who applied the slot within the last proofSlots answers with its own hash.
//
//   - An equal hash, or the same lesson from another teacher, installs it.
//   - Another hash refutes it: the lesson is thrown away, and the next teacher in turn is asked. The pupil cannot know who of
//     the two is wrong; the proposer's census will.
//   - "I am beyond that" is no help: the lesson is thrown away and a newer one asked for.
//   - "I am not there yet" is waited for.
//
// Waiting must not cost the cell its life. Take a jury of which three members have chosen much with the teacher and died for
// good, while the other three lay behind the ring: the teacher holds the only copy, and the three need it to be a majority
// with it. Nobody alive can vouch, and nobody ever will. So once Config.VouchPatience has passed, and the teacher, the pupil
// (if it has a vote) and those who answered that they are behind the lesson are a majority of the jury, it is installed
// unconfirmed, and reported. With fewer the cell has no majority to live with, and waiting costs nothing; and where anybody
// who is not behind answers, there is another teacher to go to. The same holds from the start where the jury has nobody else
// to ask, since it is one member.

// lesson is a taught state that waits for a second member.
type lesson struct {
	message paxos.Message
	conf    *paxos.Configuration // of the lesson: who may confirm
	since   time.Duration
	behind  []paxos.NodeNumber // who answered that it is not there yet
}

// host takes what concerns the host and not the replica, and reports whether that was all of a message. It notes who sent it,
// and what it says of the sender's state.
func (c *Core) host(h *hosted, in *PeerMessage) (done bool) {
	m := &in.Message
	if h.server(m.From) == nil && m.From != 0 {
		h.hot.known.meet(m.From, c.sender(in.From))
	}
	switch m.Kind {
	case peer.KindMoved:
		c.heed(h, in.Envelope.Moved)
		return true
	case peer.KindVouch:
		c.vouch(h, in)
		return true
	case peer.KindVouched:
		c.vouched(h, in)
		return true
	case peer.KindStands: // it is there
		return true
	case peer.KindAbsent:
		c.absent(h, m)
		return true
	case paxos.MsgTeachAll:
		return c.taught(h, m)
	}
	return in.Envelope.HashSlot != 0 && !c.attested(h, in)
}

// taught holds a lesson back until it is confirmed; it reports whether the replica must not see it now.
func (c *Core) taught(h *hosted, m *paxos.Message) bool {
	s, replica := m.Snapshot, h.hot.replica
	if s == nil || s.Applied <= replica.Applied() {
		return false // teaches nothing
	}
	if state, err := machine.Restore(s.State); err != nil || state.Hash() != s.Hash {
		c.drop("lesson is damaged")
		return true
	}
	if l := h.hot.lesson; l != nil && l.message.Snapshot.Applied >= s.Applied {
		if l.message.Snapshot.Applied > s.Applied || l.message.From == m.From {
			return true // nothing new
		}
		if l.message.Snapshot.Hash != s.Hash {
			c.refute(h)
			return true
		}
		h.hot.lesson = nil // two teachers say the same
		return false
	}
	h.hot.lesson = &lesson{message: *m, conf: &s.Configuration, since: c.now}
	if h.hot.lesson.voters(h.node) == 0 {
		h.hot.lesson = nil
		return false
	}
	c.askVouchers(h)
	c.activate(h)
	return true
}

// voters counts the members that could confirm a lesson.
func (l *lesson) voters(self paxos.NodeNumber) int {
	n := len(l.conf.Members)
	for _, who := range [...]paxos.NodeNumber{self, l.message.From} {
		if l.conf.Index(who) >= 0 {
			n--
		}
	}
	return n
}

// askVouchers asks everybody but the teacher whether a lesson is so.
func (c *Core) askVouchers(h *hosted) {
	l := h.hot.lesson
	s := l.message.Snapshot
	envelope := peer.Envelope{Cell: h.id, Incarnation: h.incarnation, Configuration: h.configuration.Number, HashSlot: s.Applied, Hash: s.Hash}
	for _, m := range l.conf.Members {
		if m.Node != h.node && m.Node != l.message.From {
			c.body = peer.AppendMessage(c.body[:0], &envelope, &paxos.Message{Kind: peer.KindVouch, From: h.node, To: m.Node})
			c.enqueue(c.server(cell.ServerID(m.Server)), LanePaxos, c.body)
		}
	}
}

// vouch answers what the own state hashed to after a slot, as far as that is known.
func (c *Core) vouch(h *hosted, in *PeerMessage) {
	replica := h.hot.replica
	if replica.IsUntaught() || in.Envelope.HashSlot == 0 || !c.makeCurrent(h) {
		return
	}
	envelope := peer.Envelope{Cell: h.id, Incarnation: h.incarnation, Configuration: h.configuration.Number}
	if own, ok := h.hot.proof.at(in.Envelope.HashSlot); ok {
		envelope.HashSlot, envelope.Hash = in.Envelope.HashSlot, own
	}
	c.body = peer.AppendMessage(c.body[:0], &envelope, &paxos.Message{Kind: peer.KindVouched, From: h.node, To: in.Message.From,
		Slot: in.Envelope.HashSlot, Through: replica.Applied()})
	c.enqueue(c.sender(in.From), LanePaxos, c.body)
}

// vouched takes an answer.
func (c *Core) vouched(h *hosted, in *PeerMessage) {
	l, m := h.hot.lesson, &in.Message
	if l == nil || m.Slot != l.message.Snapshot.Applied || m.From == l.message.From || m.From == h.node ||
		cell.ServerID(l.conf.Server(m.From)) != in.From || l.conf.Index(m.From) < 0 {
		return
	}
	switch {
	case in.Envelope.HashSlot == m.Slot && in.Envelope.Hash == l.message.Snapshot.Hash:
		c.learnLesson(h)
	case in.Envelope.HashSlot == m.Slot:
		c.refute(h)
	case m.Through >= m.Slot:
		h.hot.lesson = nil // it is beyond that, and will teach; the replica asks round
	default:
		l.hears(m.From)
	}
}

// hears notes that a member is behind the lesson.
func (l *lesson) hears(n paxos.NodeNumber) {
	for _, m := range l.behind {
		if m == n {
			return
		}
	}
	l.behind = append(l.behind, n)
}

// refute throws a lesson away that another member contradicts.
func (c *Core) refute(h *hosted) {
	h.hot.lesson = nil
	c.drop("lesson was contradicted")
}

// learnLesson gives the lesson to the replica.
func (c *Core) learnLesson(h *hosted) {
	l := h.hot.lesson
	h.hot.lesson = nil
	c.step(h, &l.message)
}

// doubt asks again about a lesson that nobody confirmed, or makes do with it when that is the only way for the cell to live.
// It is called whenever the node repeats what may have been lost.
func (c *Core) doubt(h *hosted) {
	if h.hot == nil || h.hot.lesson == nil {
		return
	}
	l := h.hot.lesson
	n := len(l.behind)
	for _, who := range [...]paxos.NodeNumber{h.node, l.message.From} {
		if l.conf.Index(who) >= 0 {
			n++
		}
	}
	if c.now-l.since >= c.cfg.VouchPatience && n >= l.conf.Majority() {
		if c.cfg.Events.Unvouched != nil {
			c.cfg.Events.Unvouched(h.id)
		}
		c.learnLesson(h)
		return
	}
	l.behind = l.behind[:0] // as of now
	c.askVouchers(h)
}
