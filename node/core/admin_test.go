package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

func TestCreateIsIdempotent(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.create("vol-1") // on a hot node, too
	c.mustCount(0, "vol-1", 2, 2)
	if nodes, _, _ := c.servers[0].core.Counts(); nodes != 1 {
		t.Errorf("%d nodes after creating one cell three times", nodes)
	}
}

// The second creation arrives while the first is not durable: both answers wait for the disk.
func TestCreateAnswersOnceDurable(t *testing.T) {
	c := newColony(t, 7)
	c.servers[0].slow = true
	m := &wire.CreateNodes{Foundings: []wire.Founding{foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)}}
	first, second := c.origin(), c.origin()
	c.servers[0].core.CreateNodes(first, m)
	c.settle()
	c.servers[0].core.CreateNodes(second, m)
	c.settle()
	if len(c.replies) != 0 {
		t.Fatalf("answered before durable: %+v", c.replies)
	}
	c.servers[0].slow = false
	c.settle()
	for _, to := range []Origin{first, second} {
		if err := c.outcome(to); err != nil {
			t.Error(err)
		}
	}
}

func TestAnotherJuryIsRefused(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	for name, f := range map[string]wire.Founding{
		"another jury":        foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 7),
		"another order":       foundingOf("vol-1", 1, 1, 0, 2, 3, 4, 5, 6),
		"another incarnation": foundingOf("vol-1", 2, 0, 1, 2, 3, 4, 5, 6),
	} {
		if err := c.createAt(0, f); err == nil || err.Kind != cell.Stale {
			t.Errorf("%s: %v, want stale", name, err)
		}
	}
	if err := c.createAt(7, foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)); err == nil || err.Kind != cell.Invalid {
		t.Errorf("a server outside the jury: %v, want invalid", err)
	}
	c.mustCount(0, "vol-1", 1, 1)
}

// seal seals a cell at a server and returns the reply.
func (c *colony) seal(i int, id cell.ID) Reply {
	c.t.Helper()
	return c.answer(c.send(i, wire.MethodSeal, &wire.SealCell{Cell: id, Incarnation: 1, Timeout: 1000}))
}

func TestDropNeedsASeal(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	if err := c.dropAt(0, "vol-1", 1, false); err == nil || err.Kind != cell.Refused {
		t.Fatalf("drop of a live cell: %v, want refused", err)
	}
	if r := c.seal(0, "vol-1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	if r := c.seal(0, "vol-1"); r.Err != nil {
		t.Errorf("sealing a sealed cell: %v", r.Err)
	}
	c.mustFail(c.count(0, "vol-1", 1), cell.Deleted)
	if err := c.dropAt(0, "vol-1", 2, false); err == nil || err.Kind != cell.Refused {
		t.Errorf("drop of an incarnation that nobody sealed: %v, want refused", err)
	}
	for range 2 {
		if err := c.dropAt(0, "vol-1", 1, false); err != nil {
			t.Fatalf("drop: %v", err)
		}
	}
}

// The seal survives a restart, and those who missed it learn it.
func TestSealIsForAll(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.only(0, 1, 2, 3, 4)
	if r := c.seal(0, "vol-1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.lost = nil
	c.restart(0)
	c.mustFail(c.count(0, "vol-1", 2), cell.Deleted)
	c.wait(3 * time.Second)
	for attempt := range uint32(20) { // clients are sent around until somebody campaigns and hears of the seal
		m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(3), Txn: increment("n")}
		m.Header.Attempt = attempt
		if r := c.replies[c.send(6, wire.MethodTxn, m).ID]; r.Err != nil && r.Err.Kind == cell.Deleted {
			return
		}
	}
	t.Error("a member that missed the seal never learned it")
}

func TestTombstoneRefusesLateCreation(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.seal(0, "vol-1")
	c.wait(time.Second)
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6} {
		if err := c.dropAt(i, "vol-1", 1, true); err != nil {
			t.Fatalf("drop on %s: %v", serverID(i), err)
		}
	}
	late := foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)
	if err := c.createAt(0, late); err == nil || err.Kind != cell.Deleted {
		t.Errorf("late creation: %v, want deleted", err)
	}
	c.restart(0)
	if err := c.createAt(0, late); err == nil || err.Kind != cell.Deleted {
		t.Errorf("late creation after a restart: %v, want deleted", err)
	}
	next := late
	next.Incarnation = 2
	for i := range 7 {
		if err := c.createAt(i, next); err != nil {
			t.Fatalf("the next incarnation on %s: %v", serverID(i), err)
		}
	}
	c.mustCount(0, "vol-1", 1, 1) // nothing of the former life is left
}

func TestUnknownHereAndDeleted(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.mustFail(c.count(7, "vol-1", 1), cell.UnknownHere)
	c.mustFail(c.count(0, "vol-2", 1), cell.UnknownHere)
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1), Txn: increment("n")}
	m.Header.Incarnation = 2
	c.mustFail(c.answer(c.send(0, wire.MethodTxn, m)), cell.Stale)
	c.seal(0, "vol-1")
	c.mustFail(c.count(0, "vol-1", 1), cell.Deleted)
	c.dropAt(0, "vol-1", 1, false)
	c.mustFail(c.count(0, "vol-1", 1), cell.UnknownHere) // of a later incarnation this server cannot know
	m.Header.Incarnation = 1
	c.mustFail(c.answer(c.send(0, wire.MethodTxn, m)), cell.Deleted)
}
