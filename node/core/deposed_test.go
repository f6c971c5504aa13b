package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// noticed is how long tests wait for a proposer's notice of what is chosen to reach everybody.
const noticed = time.Second

// A proposer is cut off with a write under way; its successor chooses it and so much more that the outcome is forgotten.
// The first thing that the deposed one hears is a notice, then the whole state. Its client must not be told Expired, which
// says "not by this attempt" (rule 14, hazard H14).
func TestForgottenOutcomeIsUnknownNotExpired(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.lost = func(_, to int, m *paxos.Message) bool { return m.Kind == paxos.MsgAccepted && to == 0 }
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")}
	m.Request.Since, m.Header.Timeout = 1, 60_000
	to := c.send(0, wire.MethodTxn, m)
	c.only(1, 2, 3, 4, 5, 6)
	apart := c.lost
	for i := range uint64(cell.WindowMax + 6) {
		x := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1000 + i), Txn: increment("n")}
		x.Request.Since, x.Header.Attempt = cell.Revision(i+1), attemptsBeforeTakeover
		if r := c.answer(c.send(1, wire.MethodTxn, x)); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	c.lost = func(from, to int, m *paxos.Message) bool {
		switch m.Kind {
		case paxos.MsgChosen, paxos.MsgLearn, paxos.MsgTeachAll, paxos.MsgTeach:
			return false
		}
		return apart(from, to, m)
	}
	c.wait(noticed)
	if r, ok := c.replies[to.ID]; !ok || r.Err == nil || r.Err.Kind != cell.UnknownResult {
		t.Fatalf("answered %v: %+v, want an unknown result", ok, r.Err)
	}
}

// A proposer that lost its peers and has a full pipeline is useless, not busy: it sends clients on (rule 13, hazard H9).
func TestStuckProposerSendsClientsOn(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.only(0)
	for n := range uint64(400) { // more than the pipeline and the next batch hold
		c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(n + 2), Txn: increment("n")})
	}
	c.wait(5 * time.Second)
	if r := c.count(0, "vol-1", 1000); r.Err == nil || r.Err.Kind != cell.NotProposer {
		t.Fatalf("got %+v, want not the proposer", r.Err)
	}
}

// An idle proposer that gets more than its pipeline takes within one turn is busy, not useless.
func TestBurstAfterIdlenessIsOverload(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.wait(10 * time.Second)
	var all []Origin
	for n := range uint64(3000) {
		m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(n + 2), Txn: increment("n")}
		m.Request.Since = 1 << 40 // however many others are chosen first
		all = append(all, c.submit(0, wire.MethodTxn, m))
	}
	c.settle()
	refused := 0
	for _, to := range all {
		if r := c.answer(to); r.Err != nil {
			refused++
			if r.Err.Kind != cell.Overloaded {
				t.Fatalf("got %v, want overloaded", r.Err)
			}
		}
	}
	if refused == 0 || refused == len(all) {
		t.Fatalf("%d of %d requests were refused", refused, len(all))
	}
}
