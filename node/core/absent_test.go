package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// absentOwner is a colony in which a founding was broken off: a majority has its nodes, and the owner of ballot 1 has none. After the
// restart nobody remembers whether it confirmed that ballot to anybody, so everybody stands by it for as long as its server lives.
func absentOwner(t *testing.T) *colony {
	c := newColony(t, 7)
	for i := 1; i < 7; i++ {
		if err := c.createAt(i, foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)); err != nil {
			t.Fatal(err)
		}
	}
	c.create("vol-2") // so that all servers exchange heartbeats
	for i := 1; i < 7; i++ {
		c.crash(i, true)
	}
	for i := 1; i < 7; i++ {
		c.start(i)
	}
	c.wait(2 * time.Second) // what was given before the restart is over
	return c
}

// A cell whose first proposer was never founded is led by somebody else, although that one's server lives.
func TestOwnerThatIsNotThereKeepsNobodyWaiting(t *testing.T) {
	c := absentOwner(t)
	c.write(1, 5*time.Second, 1, 2, 3, 4, 5, 6)
}

// One request is enough: who hears that the owner is not there asks for the cell at once. Whoever sent it may come back when the node
// is cold again and remembers nothing, and a manager that retries with growing pauses did so for ever.
func TestOneRequestFindsOutThatTheOwnerIsNotThere(t *testing.T) {
	c := absentOwner(t)
	look := &wire.ChangeCell{Cell: "vol-1", Incarnation: 1, Kind: wire.Look, Timeout: 100, Attempt: attemptsJittered}
	c.mustFail(c.answer(c.send(1, wire.MethodChange, look)), cell.NotProposer)
	c.wait(2 * time.Second) // nobody asks again
	if led := c.leaders(); len(led) != 1 || led[0] != 1 {
		t.Errorf("the cell is led by %v, want s2", led)
	}
}

// An answer that is overtaken by the owner itself says nothing any more: the member has confirmed the ballot since it asked.
func TestLateAnswerThatANodeIsAbsentCountsForNothing(t *testing.T) {
	c := absentOwner(t)
	k := c.servers[1].core
	h := k.find("vol-1")
	c.read(1, "vol-1", true) // loads it
	k.challenge(h, false)
	number := h.hot.question.number
	if number == 0 {
		t.Fatal("s2 asks nothing")
	}
	if err := c.createAt(0, foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)); err != nil {
		t.Fatal(err)
	}
	c.wait(acquainted)
	c.mustRead(0, "vol-1", 0)
	if owner := h.server(1); !k.isBound(h, owner) {
		t.Fatal("s2 does not stand by s1, which it confirmed just now")
	}
	k.OnPeer(&PeerMessage{From: serverID(0), Envelope: peer.Envelope{Cell: "vol-1", Incarnation: 1, Configuration: 1},
		Message: paxos.Message{Kind: peer.KindAbsent, From: 1, To: 2, Number: number}})
	c.settle()
	if !k.isBound(h, h.server(1)) {
		t.Error("an old answer freed s2 from what it confirmed later")
	}
}
