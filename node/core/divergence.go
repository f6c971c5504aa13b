package core

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// Members whose states differ although they applied the same log have met a bug, or a flipped bit. Every member says now and
// then, in a message that it sends anyway, what its state hashed to after a slot that Config.HashEvery divides; the proposer's
// host collects, whoever else leads is no judge (rule 19, hazard H20):
//
//   - Once a majority of the jury has said the same, that is the state. The proposer's next broadcasts say so, and whoever
//     finds that he has another one goes out of service, the proposer included, who resigns first.
//   - When so many differ that no majority can come together, nobody knows what the state is: the proposer takes no writes
//     any more and reports the cell. Who leads after it asks first: promises carry hashes, too.
//
// A lost message costs one comparison; the next checkpoint repeats it.

// proofSlots is how many of the newest slots a hot node can tell its hash of, for checkpoints and for vouching.
const proofSlots = 64

// mark is what a state hashed to after a slot.
type mark struct {
	slot paxos.Slot
	hash uint64
}

// proof is what a hot node knows of its own hashes and those of the others.
type proof struct {
	own        []mark       // own[slot mod proofSlots]; made with the first slot
	checkpoint mark         // the newest, to be told
	told       int          // how often it was
	agreed     mark         // the newest that a majority holds, to be told by the proposer
	retold     int          // how often it was
	census     [2]census    // the newest checkpoints that anybody reported; newest first
	disputed   paxos.Slot   // where no majority can agree; zero: nowhere
	seen       paxos.Ballot // in which the census was taken; another ballot starts anew
}

// census is what the members reported of one checkpoint.
type census struct {
	slot    paxos.Slot
	reports []report
}

type report struct {
	node paxos.NodeNumber
	hash uint64
}

// tellTimes is how often a hash is told: twice, since messages get lost.
const tellTimes = 2

// restart forgets what was known of a state that is not in use any more.
func (p *proof) restart(slot paxos.Slot, hash uint64) {
	*p = proof{disputed: p.disputed}
	p.note(slot, hash)
}

// note keeps a hash.
func (p *proof) note(slot paxos.Slot, hash uint64) {
	if p.own == nil {
		p.own = make([]mark, proofSlots)
	}
	p.own[slot%proofSlots] = mark{slot, hash}
}

// at is what the own state hashed to after a slot, if that is still known. What waits to be applied is not (lag.go): whoever asks for
// others than checkpoints, which are applied at once, catches up before.
func (p *proof) at(slot paxos.Slot) (uint64, bool) {
	if p.own == nil || slot == 0 || p.own[slot%proofSlots].slot != slot {
		return 0, false
	}
	return p.own[slot%proofSlots].hash, true
}

// prove notes the hash of the state after a slot that was just applied.
func (c *Core) prove(h *hosted, slot paxos.Slot) {
	p := &h.hot.proof
	hash := h.hot.state.machine.Hash()
	p.note(slot, hash)
	if c.isCheckpoint(slot) {
		p.checkpoint, p.told = mark{slot, hash}, 0
		if h.hot.replica.Role() == paxos.Proposer {
			c.tally(h, h.node, p.checkpoint)
		}
	}
}

// isCheckpoint reports whether members tell each other what their states hash to after a slot.
func (c *Core) isCheckpoint(slot paxos.Slot) bool {
	return c.cfg.HashEvery > 0 && slot%paxos.Slot(c.cfg.HashEvery) == 0
}

// attest attaches to a message what its receiver should know: the proposer what is agreed, everybody else a checkpoint.
func (c *Core) attest(h *hosted, m *paxos.Message, e *peer.Envelope) {
	if h.hot == nil {
		if h.plain && m.Kind == paxos.MsgPromise {
			e.HashSlot, e.Hash = h.checkpoint.slot, h.checkpoint.hash
		}
		return
	}
	p := &h.hot.proof
	switch m.Kind {
	case paxos.MsgAccept, paxos.MsgChosen, paxos.MsgTeach:
		if p.agreed.slot != 0 && p.retold < tellTimes && m.To == 0 {
			if !m.SparesAny() || m.Kind == paxos.MsgTeach {
				p.retold++ // who is spared has heard it, too
			}
			e.HashSlot, e.Hash = p.agreed.slot, p.agreed.hash
		}
	case paxos.MsgAccepted:
		if p.checkpoint.slot != 0 && p.told < tellTimes {
			p.told++
			e.HashSlot, e.Hash = p.checkpoint.slot, p.checkpoint.hash
		}
	case paxos.MsgPromise:
		if p.checkpoint.slot != 0 {
			e.HashSlot, e.Hash = p.checkpoint.slot, p.checkpoint.hash
		}
	}
}

// attested takes what came with a message. It reports false when this node went out of service over it.
func (c *Core) attested(h *hosted, in *PeerMessage) bool {
	heard := mark{in.Envelope.HashSlot, in.Envelope.Hash}
	switch in.Message.Kind {
	case paxos.MsgAccepted, paxos.MsgPromise:
		if h.hot.replica.Role() != paxos.Follower && c.makeCurrent(h) {
			c.tally(h, in.Message.From, heard)
		}
	case paxos.MsgAccept, paxos.MsgChosen, paxos.MsgTeach:
		if own, ok := h.hot.proof.at(heard.slot); ok && own != heard.hash {
			c.diverged(h, heard)
		}
	}
	return h.hot != nil
}

// tally takes one member's word for its hash at a checkpoint, and judges.
func (c *Core) tally(h *hosted, from paxos.NodeNumber, m mark) {
	p, jury := &h.hot.proof, h.hot.replica.Configuration()
	if jury.Index(from) < 0 {
		return
	}
	if b := h.hot.replica.Ballot(); p.seen != b {
		p.seen, p.census, p.agreed = b, [2]census{}, mark{}
	}
	count := p.censusOf(m.slot)
	if count == nil {
		return // too old
	}
	count.report(from, m.hash)
	if own, ok := p.at(m.slot); ok && from != h.node {
		count.report(h.node, own)
	}
	hash, most, all := count.most(jury)
	switch {
	case most >= jury.Majority():
		if p.agreed.slot < m.slot {
			p.agreed, p.retold = mark{m.slot, hash}, 0
		}
		if p.disputed <= m.slot {
			p.disputed = 0
		}
		if own, ok := p.at(m.slot); ok && own != hash {
			c.diverged(h, mark{m.slot, hash})
		}
	case most+len(jury.Members)-all < jury.Majority() && p.disputed < m.slot:
		p.disputed = m.slot
		if c.cfg.Events.Disputed != nil {
			c.cfg.Events.Disputed(h.id, disputeNote(m.slot))
		}
	}
}

// censusOf returns the census of a checkpoint, making room for a newer one; nil when it is older than the two kept.
func (p *proof) censusOf(slot paxos.Slot) *census {
	for i := range p.census {
		if p.census[i].slot == slot {
			return &p.census[i]
		}
	}
	if slot < p.census[0].slot {
		return nil
	}
	p.census[1], p.census[0] = p.census[0], census{slot: slot, reports: p.census[1].reports[:0]}
	return &p.census[0]
}

// report notes what a member said, in the place of what it said before.
func (s *census) report(n paxos.NodeNumber, hash uint64) {
	for i := range s.reports {
		if s.reports[i].node == n {
			s.reports[i].hash = hash
			return
		}
	}
	s.reports = append(s.reports, report{n, hash})
}

// most returns the hash that most members of a jury reported, how many did, and how many reported anything.
func (s *census) most(jury *paxos.Configuration) (hash uint64, most, all int) {
	for i := range s.reports {
		if jury.Index(s.reports[i].node) < 0 {
			continue
		}
		all++
		n := 0
		for j := range s.reports {
			if s.reports[j].hash == s.reports[i].hash && jury.Index(s.reports[j].node) >= 0 {
				n++
			}
		}
		if n > most {
			hash, most = s.reports[i].hash, n
		}
	}
	return hash, most, all
}

// diverged takes a node out of service whose state is not what a majority holds.
func (c *Core) diverged(h *hosted, agreed mark) {
	own, _ := h.hot.proof.at(agreed.slot)
	c.resignNow(h)
	c.quarantine(h, Diverged, fmt.Sprintf("after slot %d the state hashes to %x here, and to %x at a majority of the members", agreed.slot, own, agreed.hash))
}

// resignNow tells the jury that this node gives its cell up, and who should lead. Its replica is not asked any more: the node
// goes out of service with this.
func (c *Core) resignNow(h *hosted) {
	if r := h.hot.replica; r.Role() == paxos.Proposer {
		c.emit(h, &paxos.Message{Kind: paxos.MsgResign, From: h.node, Ballot: r.Ballot(), Number: uint64(c.heir(h))}, noEpoch)
	}
}

// isDisputed refuses a write of a cell of which nobody knows what its state is.
func (c *Core) isDisputed(h *hosted, r *Request) bool {
	slot := h.hot.proof.disputed
	if slot == 0 {
		return false
	}
	c.reply(r.Origin, nil, &cell.Error{Op: r.op(), Kind: cell.Unavailable, Cell: h.id, Detail: disputeNote(slot), RetryAfter: time.Second,
		Hint: "physalia cell explain shows the members' hashes; the cell must be recovered"})
	return true
}

// disputeNote is what people are told.
func disputeNote(slot paxos.Slot) string {
	return fmt.Sprintf("the members' states differ after slot %d, and no majority agrees: the cell takes no writes", slot)
}
