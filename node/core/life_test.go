package core

import (
	"fmt"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

func TestCellServesWritesAndReads(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustRead(0, "vol-1", 0)
	for n := uint64(1); n <= 100; n++ { // six times the ring
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.mustRead(0, "vol-1", 100)
	e := c.mustFail(c.count(3, "vol-1", 101), cell.NotProposer)
	if e.Leader != "s1" {
		t.Errorf("a member names %q as the one who leads, want s1", e.Leader)
	}
}

func TestFourOfSevenSuffice(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.only(0, 2, 4, 6)
	c.mustCount(0, "vol-1", 1, 1)
	c.only(0, 2, 4)
	if to := c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")}); c.replies[to.ID] != (Reply{}) {
		t.Errorf("three of seven answered %+v", c.replies[to.ID])
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	for n := uint64(1); n <= 50; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	for i := range 7 {
		c.crash(i, false)
	}
	for i := range 7 {
		c.start(i)
	}
	c.wait(acquainted)
	c.mustRead(0, "vol-1", 50)
	c.mustCount(0, "vol-1", 51, 51)
	c.mustCount(0, "vol-1", 50, 50) // known still, in the window
}

// While the restart scan runs, requests are told so; afterwards the nodes are listed as before.
func TestRestartScan(t *testing.T) {
	c := newColony(t, 7)
	for n := range 5 {
		c.create(cell.ID(fmt.Sprintf("vol-%d", n)))
	}
	before := c.servers[2].core.ListNodes(&wire.ListNodes{})
	c.crash(2, false)
	c.start(2)
	r, _ := ParseRequest(wire.MethodExplain, (&wire.ExplainRequest{Header: header("vol-3")}).Append(nil))
	r.Origin = c.origin()
	c.servers[2].core.OnRequest(r)
	c.settle()
	c.mustFail(c.answer(r.Origin), cell.Unavailable)
	after := c.servers[2].core.ListNodes(&wire.ListNodes{})
	if len(before.Nodes) != 5 || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("before the restart %v, after it %v", before, after)
	}
	if nodes, hot, _ := c.servers[2].core.Counts(); nodes != 5 || hot != 0 {
		t.Errorf("%d nodes, %d of them hot, after a scan of 5", nodes, hot)
	}
}

// The numbers of batches go on where the disk ends (rule 8); storage asserts that there are no gaps.
func TestBatchNumbersGoOn(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	last := c.servers[0].model.Last()
	c.restart(0)
	if got := c.servers[0].model.Recovered(); got != last {
		t.Errorf("recovered through %d after a restart from %d", got, last)
	}
	c.mustCount(0, "vol-1", 2, 2)
	if got := c.servers[0].model.Last(); got <= last {
		t.Errorf("batch %d after %d", got, last)
	}
}

func TestColdNodesAreLoadedAgain(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	for n := uint64(1); n <= 20; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(Default().IdleAfter + 5*time.Second)
	if _, hot, led := c.servers[0].core.Counts(); hot != 1 || led != 1 {
		t.Errorf("the proposer has %d hot nodes and leads %d, want 1 and 1", hot, led)
	}
	for i := 1; i < 7; i++ {
		if _, hot, _ := c.servers[i].core.Counts(); hot != 0 {
			t.Errorf("%s has %d hot nodes after a long idle time", serverID(i), hot)
		}
	}
	c.mustCount(0, "vol-1", 21, 21)
	c.wait(noticed)
	c.mustBe(c.read(5, "vol-1", true), 21)
}

func TestNodeThatLagsIsTaughtAllOfIt(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.only(0, 1, 2, 3, 4, 5)
	for n := uint64(1); n <= 100; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.mustBe(c.read(6, "vol-1", true), 0)
	c.lost = nil
	c.mustCount(0, "vol-1", 101, 101)
	c.wait(noticed)
	c.mustBe(c.read(6, "vol-1", true), 101)
	c.restart(6) // a lesson may have stood in memory only; it is taught again
	c.wait(noticed)
	c.mustBe(c.read(6, "vol-1", true), 101)
}

// Everybody says the same of a cell's state when everybody applied the same.
func TestMembersAgreeOnTheState(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	for n := uint64(1); n <= 40; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(time.Second)
	first := c.explain(0, "vol-1")
	for i := 1; i < 7; i++ {
		x := c.explain(i, "vol-1")
		if x.Applied != first.Applied || x.StateHash != first.StateHash || x.Revision != 40 {
			t.Errorf("%s: applied %d, state %x, revision %d; s1: %d, %x", x.Server, x.Applied, x.StateHash, x.Revision, first.Applied, first.StateHash)
		}
	}
}

func (c *colony) explain(i int, id cell.ID) *wire.Explanation {
	c.t.Helper()
	r := c.answer(c.send(i, wire.MethodExplain, &wire.ExplainRequest{Header: header(id)}))
	if r.Err != nil {
		c.t.Fatalf("explain: %v", r.Err)
	}
	return r.Result.(*wire.Explanation)
}

// The successor takes over when the proposer is gone, and the old one follows when it is back.
func TestTakeover(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.crash(0, false)
	c.wait(2 * time.Second)
	if e := c.mustFail(c.count(4, "vol-1", 2), cell.NotProposer); e.Leader != "s2" {
		t.Errorf("the successor of s1 is said to be %q, want s2", e.Leader)
	}
	c.mustCount(1, "vol-1", 2, 2)
	c.start(0)
	c.wait(2 * time.Second)
	c.mustCount(1, "vol-1", 3, 3)
	if e := c.mustFail(c.count(0, "vol-1", 4), cell.NotProposer); e.Leader != "s2" {
		t.Errorf("who came back names %q, want s2", e.Leader)
	}
}

// What other nodes write does not keep a node hot, only what it wrote itself and what is not durable yet.
func TestBusyNeighbourKeepsNobodyHot(t *testing.T) {
	c := newColony(t, 7)
	c.servers[5].core.cfg.JournalBytes = 0 // with a journal a node has to write before it goes, for which that disk is too slow
	c.create("vol-1")
	c.create("vol-2")
	c.mustCount(0, "vol-1", 1, 1)
	c.mustCount(0, "vol-2", 1, 1)
	c.wait(time.Second)
	c.servers[5].slow = true
	c.mustCount(0, "vol-2", 2, 2)
	c.wait(2 * Default().IdleAfter)
	b := c.servers[5].core
	if one, _ := b.Inspect("vol-1"); one != nil {
		t.Error("vol-1 is hot after a long idle time")
	}
	if two, _ := b.Inspect("vol-2"); two == nil {
		t.Error("vol-2 went cold while its writes are not durable")
	}
}

// A proposer that was deposed behind its back hears so from those whom it asks, and names its successor, not itself: it
// would only depose the other in turn.
func TestDeposedProposerNamesItsSuccessor(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.only(1, 2, 3, 4, 5, 6)
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")}
	m.Header.Attempt = attemptsBeforeTakeover
	if r := c.answer(c.send(1, wire.MethodTxn, m)); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.lost = nil
	if e := c.mustFail(c.count(0, "vol-1", 3), cell.UnknownResult); e.Leader != "s2" {
		t.Errorf("it names %q, want s2", e.Leader)
	}
	c.mustFail(c.count(0, "vol-1", 3), cell.NotProposer)
	c.mustCount(1, "vol-1", 3, 3)
}
