package core

import (
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// A reply that got lost is asked for again, at the same member, at another one, and after a restart of all.
func TestRetryTakesEffectOnce(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.mustCount(0, "vol-1", 1, 1)
	c.wait(noticed) // the others hear that it is chosen
	c.mustCount(5, "vol-1", 1, 1)
	for i := range 7 {
		c.restart(i)
	}
	c.mustCount(0, "vol-1", 1, 1)
	c.mustRead(0, "vol-1", 1)
}

// The same request twice in one turn is one proposal with two answers.
func TestTwinRequestsShareOneProposal(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1), Txn: increment("n")}
	first, second := c.submit(0, wire.MethodTxn, m), c.submit(0, wire.MethodTxn, m)
	c.settle()
	for _, to := range []Origin{first, second} {
		if r := c.answer(to); r.Err != nil || r.Result.(*wire.TxnReply).Result.Revision != 1 {
			t.Errorf("request %d: %+v", to.ID, r)
		}
	}
	c.mustRead(0, "vol-1", 1)
}

// The proposer is deposed while a write is under way: the outcome is unknown to it, and the same request elsewhere
// settles the matter.
func TestRetryAfterTakeover(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.only(0, 1, 2) // the write reaches two others: not chosen, not lost
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1), Txn: increment("n")}
	m.Header.Timeout = 60_000
	old := c.send(0, wire.MethodTxn, m)
	c.lost = nil
	m.Header.Attempt = attemptsBeforeTakeover
	if r := c.answer(c.send(1, wire.MethodTxn, m)); r.Err != nil {
		t.Fatalf("retry at s2: %v", r.Err)
	}
	c.wait(noticed)
	if r := c.answer(old); r.Err != nil && r.Err.Kind != cell.UnknownResult {
		t.Errorf("the first attempt ended with %v, want success or unknown", r.Err)
	}
	c.mustRead(1, "vol-1", 1)
}

func TestRetryOutsideTheWindowIsExpired(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	for n := uint64(1); n <= cell.WindowMax+1; n++ {
		m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(n), Txn: increment("n")}
		m.Request.Since = cell.Revision(n - 1)
		if r := c.answer(c.send(0, wire.MethodTxn, m)); r.Err != nil {
			t.Fatalf("increment %d: %v", n, r.Err)
		}
	}
	c.mustFail(c.count(0, "vol-1", 1), cell.Expired)
	c.mustRead(0, "vol-1", cell.WindowMax+1)
}

// A request that is resolved before it arrives is void for good (rule 14).
func TestResolveMakesVoid(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	resolve := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(7)}
	c.mustFail(c.answer(c.send(0, wire.MethodTxn, resolve)), cell.Void)
	c.mustFail(c.count(0, "vol-1", 7), cell.Void)
	c.mustRead(0, "vol-1", 0)

	c.mustCount(0, "vol-1", 8, 1)
	resolve.Request = requestOf(8)
	if r := c.answer(c.send(0, wire.MethodTxn, resolve)); r.Err != nil {
		t.Errorf("resolve of an applied request: %v", r.Err)
	}
}
