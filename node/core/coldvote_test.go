package core

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// told is what a node sent, in order, but for questions to the owner of its promise, which a dead one does not hear.
type told struct {
	promised paxos.Ballot
	applied  paxos.Slot
	free     bool
	cold     bool // answered without loading
	sent     []string
}

// envelopeOf is what messages of a cell in its first configuration come in.
func envelopeOf(id cell.ID) peer.Envelope {
	return peer.Envelope{Cell: id, Incarnation: 1, Configuration: 1}
}

// awake makes a node hot by a message that says nothing.
func (c *colony) awake(i int, id cell.ID) *hosted {
	k := c.servers[i].core
	h := k.find(id)
	k.whenHot(h, input{peer: &PeerMessage{From: serverID(1), Envelope: envelopeOf(id), Message: paxos.Message{Kind: paxos.MsgNack, From: 2, To: 4}}})
	c.settle()
	return h
}

// askCold makes a cell, sends one of its members a message, and tells what came of it: while that member is cold, or while it is hot.
func askCold(t *testing.T, cold bool, writes, hashEvery int, cut bool, calm time.Duration, resigned uint64, m paxos.Message, twice bool) told {
	c := newColony(t, 7)
	for _, b := range c.servers {
		b.core.cfg.IdleAfter, b.core.cfg.HashEvery = time.Second, hashEvery
	}
	if !cold {
		c.servers[3].core.cfg.IdleAfter = time.Hour
	}
	c.create("vol-1")
	c.wait(acquainted)
	for n := range writes {
		c.mustCount(0, "vol-1", uint64(n+1), int64(n+1))
	}
	c.wait(4 * time.Second)
	if cut {
		c.apart(0)
	}
	c.wait(calm)
	k := c.servers[3].core
	at, _ := k.cold.Find("vol-1")
	if cold && k.cold.At(at).Flags&(isPlain|isVirgin) == 0 {
		t.Fatal("nothing can be told from its row")
	}
	if !cold {
		c.awake(3, "vol-1")
	}
	answered := false
	k.cfg.Events.AnsweredCold = func() { answered = true }
	var out told
	c.lost = func(from, to int, m *paxos.Message) bool {
		if from == 3 && m.Kind >= paxos.MsgPrepare && m.Kind <= paxos.MsgResign {
			out.sent = append(out.sent, fmt.Sprintf("%d %+v", to, *m))
		}
		return true
	}
	send := func(m paxos.Message) {
		k.OnPeer(&PeerMessage{From: serverID(int(m.From) - 1), Envelope: envelopeOf("vol-1"), Message: m})
		c.settle()
	}
	if resigned > 0 {
		send(paxos.Message{Kind: paxos.MsgResign, From: 1, To: 4, Ballot: paxos.Ballot{Round: paxos.Round(resigned), Node: 1}})
	}
	if send(m); twice {
		send(m)
	}
	if answered && !cold {
		t.Fatal("a hot node answered as if it were cold")
	}
	out.cold = answered
	h := c.awake(3, "vol-1")
	r := h.hot.replica
	out.promised, out.applied, out.free = r.Promised(), r.Applied(), r.IsFree()
	return out
}

// A cold node answers what it would answer if it were hot.
func TestColdVoteIsTheSame(t *testing.T) {
	answers := 0
	rapid.Check(t, func(r *rapid.T) {
		writes, every := rapid.SampledFrom([]int{0, 1, 3, 20, 40}).Draw(r, "writes"), rapid.SampledFrom([]int{1, 8}).Draw(r, "hashEvery")
		cut, calm := rapid.Bool().Draw(r, "cut"), rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(r, "calm")
		from := paxos.NodeNumber(rapid.SampledFrom([]int{1, 2, 7}).Draw(r, "from"))
		m := paxos.Message{From: from, To: 4, Ballot: paxos.Ballot{Round: paxos.Round(rapid.IntRange(2, 3).Draw(r, "round")), Node: from}}
		if m.Kind = paxos.MsgPrepare; rapid.IntRange(0, 3).Draw(r, "kind") == 0 {
			m.Kind, m.Through = paxos.MsgChosen, paxos.Slot(rapid.IntRange(0, writes).Draw(r, "through"))
		} else {
			m.Slot = paxos.Slot(rapid.IntRange(writes+1, writes+3).Draw(r, "slot"))
		}
		resigned, twice := rapid.Uint64Range(0, 1).Draw(r, "resigned"), rapid.Bool().Draw(r, "twice")
		got := askCold(t, true, writes, every, cut, calm, resigned, m, twice)
		if got.cold {
			answers++
		}
		want := askCold(t, false, writes, every, cut, calm, resigned, m, twice)
		if got.promised != want.promised || got.free != want.free || !slices.Equal(got.sent, want.sent) {
			r.Fatalf("cold: %+v\nhot: %+v", got, want)
		}
		if writes > 0 && got.applied != paxos.Slot(writes) {
			r.Fatalf("it applied %d of %d slots", got.applied, writes)
		}
	})
	if answers == 0 {
		t.Error("no node answered from its row, so this test shows nothing")
	}
}

// The hash of the newest checkpoint is told with a promise of a cold node, too (rule 19).
func TestColdVoteTellsItsHash(t *testing.T) {
	c := newColony(t, 7)
	for _, b := range c.servers {
		b.core.cfg.IdleAfter, b.core.cfg.HashEvery = time.Second, 4
	}
	c.create("vol-1")
	c.wait(acquainted)
	for n := range 9 {
		c.mustCount(0, "vol-1", uint64(n+1), int64(n+1))
	}
	want := c.servers[3].core.warm["vol-1"].hot.proof.checkpoint
	c.wait(4 * time.Second)
	h := c.servers[3].core.find("vol-1")
	if h.hot != nil || !h.plain || want.slot != 8 || h.checkpoint != want {
		t.Errorf("checkpoint %+v of a cold node, it was %+v", h.checkpoint, want)
	}
	e := envelopeOf("vol-1")
	c.servers[3].core.attest(h, &paxos.Message{Kind: paxos.MsgPromise}, &e)
	if e.HashSlot != want.slot || e.Hash != want.hash {
		t.Errorf("it says %d %x, want %d %x", e.HashSlot, e.Hash, want.slot, want.hash)
	}
}
