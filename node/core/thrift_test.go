package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// newThrifty is a colony whose proposers ask a majority, with a cell that s1 leads. It asks s2, s3 and s7, its neighbours.
func newThrifty(t *testing.T, n int) *colony {
	t.Helper()
	c := newColony(t, n)
	c.tune = func(cfg *Config) { cfg.Thrifty = true }
	for i := range n {
		c.restart(i)
	}
	c.create("vol-1")
	c.wait(time.Second)
	return c
}

// spared are the servers that s1 does not ask.
var spared = [...]int{3, 4, 5}

// asked counts the Accepts that each server gets from s1, from now on.
func (c *colony) asked() *[8]int {
	var n [8]int
	c.lost = func(from, to int, m *paxos.Message) bool {
		if from == 0 && m.Kind == paxos.MsgAccept {
			n[to]++
		}
		return false
	}
	return &n
}

// applied is how much a server's node applied, as far as it is in memory.
func (c *colony) applied(i int, id cell.ID) paxos.Slot {
	c.t.Helper()
	r, _ := c.servers[i].core.Inspect(id)
	if r == nil {
		c.t.Fatalf("s%d is not hot", i+1)
	}
	return r.Applied()
}

// submitCount submits an increment of "n" without waiting for anything.
func (c *colony) submitCount(i int, id cell.ID, sequence uint64) Origin {
	return c.send(i, wire.MethodTxn, &wire.TxnRequest{Header: header(id), Request: requestOf(sequence), Txn: increment("n")})
}

// A member that told a candidate what it had applied is counted on to hold that: who leads next does not tell it again.
func TestPromiseIsNotMadeFromMemory(t *testing.T) {
	c := newThrifty(t, 7)
	for n := uint64(1); n <= 3; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(noticed)
	c.crash(0, true)
	c.wait(2 * time.Second)
	c.mustRead(1, "vol-1", 3)
	c.wait(noticed)
	for _, i := range spared {
		c.restart(i)
		c.wait(2 * time.Second)
		c.mustBe(c.read(i, "vol-1", true), 3)
	}
}

// A read whose jury is one short is asked again as soon as any, also while a notice is owed that has time; and the next one asks
// everybody at once.
func TestReadsOfThriftyProposersAskEverybodyAgain(t *testing.T) {
	c := newThrifty(t, 7)
	c.mustCount(0, "vol-1", 1, 1)
	core := c.servers[0].core
	if !core.find("vol-1").hot.replica.OwesNotice() {
		t.Fatal("no notice is owed, so this test shows nothing")
	}
	c.lost = func(from, _ int, m *paxos.Message) bool { return from == 1 && m.Kind == paxos.MsgConfirmed }
	confirmed := func() Origin {
		m := &wire.ReadRequest{Header: header("vol-1"), Confirm: true, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
		return c.send(0, wire.MethodRead, m)
	}
	first := confirmed()
	c.wait(2 * core.cfg.NudgeAfter)
	c.mustBe(c.answer(first), 1)
	c.mustBe(c.answer(confirmed()), 1)
}

// However long slots take of late, a proposer asks everybody before it gives the cell up over one member that does not answer.
func TestThriftyProposerAsksEverybodyBeforeItGivesUp(t *testing.T) {
	c := newThrifty(t, 7)
	c.mustCount(0, "vol-1", 1, 1)
	core := c.servers[0].core
	core.usual = core.cfg.NudgeMax
	c.lost = func(from, _ int, m *paxos.Message) bool { return from == 1 && m.Kind == paxos.MsgAccepted }
	write := c.submitCount(0, "vol-1", 2)
	c.wait(core.cfg.SupportPeriod + 100*time.Millisecond)
	if r := c.answer(write); r.Err != nil {
		t.Errorf("the write fails: %v", r.Err)
	}
	if led := c.leaders(); len(led) != 1 || led[0] != 0 {
		t.Errorf("%v lead, want s1", led)
	}
}
