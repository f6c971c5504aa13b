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
