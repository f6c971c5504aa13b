package core

import (
	"encoding/binary"

	"physalia/internal/must"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// When a server dies, all cells that it led ask for promises at once, and most of their members are cold. To read and hatch each of them
// for one answer would cost a hundred times what the answer does, and it would be the same each time: "promised, I hold everything up to
// my applied slot and nothing above it". So a node that goes cold leaves in its row what it would say (hosted.plain), and answers from
// there. So does one that was created in this life and never touched, of which nothing is stored but the row.
//
// Rule 7 stands: the ring of a plain node was read, or written, in this life of the process, and nobody writes to a cold node. After a
// restart no row is plain. A promise goes to storage with the row, and its answer waits for that batch like any other.
//
// What is answered is what the hot node would answer (TestColdVoteIsTheSame); whatever is not as plain as that hatches it:
//
//   - A Prepare from a member, for slots above the applied one: a promise, or a refusal if the server stands by the owner of the promised
//     ballot (rule 12). What this node confirmed before it went cold it confirmed to the owner's present process, as after loading.
//   - A notice that no more is chosen than was applied here. Every new proposer sends one.
//   - A resignation, unless it names this node as heir.

// freeze notes what a node that goes cold would tell a candidate. Everything it ever wrote is durable (isIdle).
func (c *Core) freeze(h *hosted) {
	r := h.hot.replica
	if h.plain = (r.IsPlain() || plantedBlindColdVote) && h.configuration == r.Configuration() && h.hot.lesson == nil && h.hot.proof.disputed == 0; h.plain {
		h.promised, h.freed, h.applied, h.checkpoint = r.Promised(), r.IsFree(), r.Applied(), h.hot.proof.checkpoint
	}
}

// packPlain appends what is kept of a plain node behind its configuration.
func (h *hosted) packPlain(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(h.applied))
	if b = binary.AppendUvarint(b, uint64(h.checkpoint.slot)); h.checkpoint.slot != 0 {
		b = binary.LittleEndian.AppendUint64(b, h.checkpoint.hash)
	}
	return b
}

// unpackPlain reads what packPlain made.
func (h *hosted) unpackPlain(b []byte) {
	u := func() uint64 {
		n, size := binary.Uvarint(b)
		must.That(size > 0, "a plain node in memory ends early")
		b = b[size:]
		return n
	}
	h.applied, h.checkpoint = paxos.Slot(u()), mark{slot: paxos.Slot(u())}
	if h.checkpoint.slot != 0 {
		h.checkpoint.hash = binary.LittleEndian.Uint64(b)
	}
}

// answerCold answers a peer's message on behalf of a node that is not hot, if that can be done from its row; it reports whether it did.
func (c *Core) answerCold(h *hosted, from *server, in *PeerMessage) (done bool) {
	m := &in.Message
	if h.hot != nil || !(h.plain || h.virgin) || h.loading || h.creating || h.sealed || h.quarantined != "" || len(h.queue) > 0 ||
		in.Envelope.Configuration > h.configuration.Number || h.configuration.Index(m.From) < 0 || plantedUnreadRing {
		return false
	}
	switch m.Kind {
	case paxos.MsgPrepare:
		done = c.promiseCold(h, from, m)
	case paxos.MsgChosen:
		done = m.Through <= h.applied && (in.Envelope.HashSlot == 0 || h.checkpoint == mark{in.Envelope.HashSlot, in.Envelope.Hash})
	case paxos.MsgResign:
		done = c.freeCold(h, m)
	}
	if done && c.cfg.Events.AnsweredCold != nil {
		c.cfg.Events.AnsweredCold()
	}
	return done
}

// promiseCold answers a Prepare like paxos.Replica.onPrepare does when there is nothing to tell.
func (c *Core) promiseCold(h *hosted, from *server, m *paxos.Message) bool {
	switch {
	case m.Ballot.Less(h.promised) || m.Slot <= h.applied || m.From == h.node || h.virgin && m.Ballot == h.promised:
		return false
	case !c.mayVote(h):
		c.drop("the peers' memories are missing")
		return true
	case m.Ballot != h.promised && !c.mayPromiseCold(h, from):
		if owner := h.server(h.promised.Node); owner != nil && c.alive(owner.id) {
			return false // the owner may be out of service, and has to be asked (absent.go)
		}
		c.emit(h, &paxos.Message{Kind: paxos.MsgNack, From: h.node, To: m.From, Ballot: h.promised}, noEpoch)
		return true
	}
	if m.Ballot != h.promised {
		h.promised, h.freed, h.plain, h.virgin = m.Ballot, false, true, false
		c.putRow(h)
		c.follows(h, m.From)
	}
	support := noEpoch
	if c.supports(from) {
		support = peer.Epoch{Boot: c.cfg.Boot, Counter: from.epoch} // as in stamp
	}
	c.hold(heldItem{node: h, support: support, jury: h.configuration.Number,
		message: paxos.Message{Kind: paxos.MsgPromise, From: h.node, To: m.From, Ballot: m.Ballot, Slot: m.Slot, Through: h.applied}})
	return true
}

// mayPromiseCold is mayPromise for a plain or virgin node. A virgin one never confirmed anything to anybody.
func (c *Core) mayPromiseCold(h *hosted, candidate *server) bool {
	owner := h.server(h.promised.Node)
	switch {
	case h.freed || owner == candidate || owner != nil && owner.id == c.cfg.Server:
		return true
	case c.now-c.began < c.support.longest:
		return false
	}
	return h.virgin || h.configuration.Index(h.promised.Node) < 0 || !c.supports(owner)
}

// freeCold hears that the owner of a ballot gave it up.
func (c *Core) freeCold(h *hosted, m *paxos.Message) bool {
	if m.From != m.Ballot.Node || paxos.NodeNumber(m.Number) == h.node || h.virgin {
		return false
	}
	if m.Ballot.Node == h.promised.Node && !m.Ballot.Less(h.promised) {
		h.freed = true
		c.follows(h, paxos.NodeNumber(m.Number))
	}
	return true
}
