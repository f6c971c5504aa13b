package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// exportAt asks a server what it holds, with content.
func (c *colony) exportAt(i int, id cell.ID) *wire.NodeExport {
	c.t.Helper()
	r := c.answer(c.send(i, wire.MethodExport, &wire.ExportNode{Cell: id, Incarnation: 1, Timeout: 1000, Content: true}))
	if r.Err != nil {
		c.t.Fatalf("export of %s: %v", serverID(i), r.Err)
	}
	return r.Result.(*wire.NodeExport)
}

// recoveryOf makes the recovery of a cell from one survivor, on the given servers, as incarnation 2.
func (c *colony) recoveryOf(id cell.ID, from int, on ...int) *wire.RecoverNodes {
	c.t.Helper()
	x := c.exportAt(from, id)
	return &wire.RecoverNodes{Recoveries: []wire.Recovery{{Founding: foundingOf(id, 2, on...), Applied: x.Applied, StateHash: x.StateHash,
		State: x.State, Kept: x.Accepted}}}
}

// recoverAt asks one server to create its node of a recovered incarnation.
func (c *colony) recoverAt(i int, m *wire.RecoverNodes) *cell.Error {
	to := c.origin()
	c.servers[i].core.RecoverNodes(to, m)
	c.settle()
	return c.outcome(to)
}

func (c *colony) mustRecover(m *wire.RecoverNodes, on ...int) {
	c.t.Helper()
	for _, i := range on {
		if err := c.recoverAt(i, m); err != nil {
			c.t.Fatalf("recover on %s: %v", serverID(i), err)
		}
	}
}

// lose destroys servers for good.
func (c *colony) lose(set ...int) {
	for _, i := range set {
		c.crash(i, false)
	}
}

// The state of the best survivor goes on, with what it accepted and nobody may have chosen; the window of remembered requests
// comes along, so a request that is part of the state is not applied twice.
func TestRecoverKeepsWhatSurvivorsHold(t *testing.T) {
	c := newColony(t, 11)
	c.create("vol-1")
	for i := range 20 { // more than a window
		c.mustCount(0, "vol-1", uint64(i+1), int64(i+1))
	}
	c.only(0, 1, 2)
	waiting := c.submit(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(21), Txn: increment("n")})
	c.settle() // accepted by three of seven: not chosen
	c.lose(3, 4, 5, 6)
	c.lost = nil
	x := c.exportAt(1, "vol-1")
	if x.Applied < 19 || len(x.Accepted) == 0 || x.Sealed || len(x.Jury) != 7 || x.Node != 2 {
		t.Fatalf("export is %+v", x)
	}
	on := []int{0, 1, 2, 7, 8, 9, 10}
	c.mustRecover(c.recoveryOf("vol-1", 1, on...), on...)
	if err := c.mustFail(c.answer(waiting), cell.UnknownResult); !strings.Contains(err.Error(), "recovered as incarnation 2") {
		t.Errorf("who waits hears %v", err)
	}
	c.mustRead(0, "vol-1", 21)
	c.mustCount(0, "vol-1", 21, 21)
	c.mustCount(0, "vol-1", 22, 22)
	for _, i := range on {
		c.restart(i)
	}
	c.wait(2 * time.Second)
	c.mustCount(0, "vol-1", 23, 23)
	for _, i := range on {
		if nodes, _, _ := c.servers[i].core.Counts(); nodes != 1 || len(c.servers[i].sick) != 0 {
			t.Errorf("%s hosts %d nodes, quarantined: %v", serverID(i), nodes, c.servers[i].sick)
		}
	}
}

// Nothing of the lost incarnation rises again, and who names it hears that it is over.
func TestRecoveredIncarnationReplacesTheLost(t *testing.T) {
	c := newColony(t, 11)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.lose(3, 4, 5, 6)
	on := []int{0, 1, 7, 8, 9, 10, 3}[:6] // server 2 keeps its old node until it is dropped
	m := c.recoveryOf("vol-1", 0, append(on, 3)...)
	c.mustRecover(m, on...)
	c.mustRecover(m, on...) // asked again
	old := header("vol-1")
	old.Incarnation = 1
	for _, i := range []int{0, 7} {
		r := c.answer(c.send(i, wire.MethodTxn, &wire.TxnRequest{Header: old, Request: requestOf(2), Txn: increment("n")}))
		c.mustFail(r, cell.Stale)
	}
	for _, round := range []string{"now", "after a restart"} {
		if err := c.createAt(0, foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)); err == nil || err.Kind != cell.Deleted {
			t.Errorf("%s, the lost incarnation is founded again: %v, want deleted", round, err)
		}
		c.restart(0)
	}
	if err := c.dropAt(2, "vol-1", 1, true); err != nil {
		t.Errorf("drop of what is left: %v", err)
	}
	c.mustFail(c.answer(c.send(2, wire.MethodTxn, &wire.TxnRequest{Header: old, Request: requestOf(2), Txn: increment("n")})), cell.Deleted)
	other := c.recoverableCopy(m)
	other.Recoveries[0].Founding = foundingOf("vol-1", 2, 0, 1, 7, 8, 9, 10, 2)
	if err := c.recoverAt(0, other); err == nil || err.Kind != cell.Stale {
		t.Errorf("another jury under the same incarnation: %v, want stale", err)
	}
	c.wait(2 * time.Second)
	c.mustCount(0, "vol-1", 3, 2)
}

// recoverableCopy copies a recovery so that a test may spoil it.
func (c *colony) recoverableCopy(m *wire.RecoverNodes) *wire.RecoverNodes {
	c.t.Helper()
	var again wire.RecoverNodes
	if err := wire.Unmarshal(m.Append(nil), &again); err != nil {
		c.t.Fatal(err)
	}
	return &again
}

// What cannot be a sound beginning is refused, and the old node is not touched by it.
func TestRecoverRefuses(t *testing.T) {
	c := newColony(t, 11)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	on := []int{0, 1, 2, 7, 8, 9, 10}
	good := c.recoveryOf("vol-1", 0, on...)
	seal := peer.AppendEntry(nil, &paxos.Entry{Kind: paxos.Seal})
	for name, spoil := range map[string]func(*wire.Recovery){
		"a flipped bit":              func(r *wire.Recovery) { r.State[len(r.State)-1] ^= 1 },
		"another hash":               func(r *wire.Recovery) { r.StateHash++ },
		"a gap":                      func(r *wire.Recovery) { r.Kept = []wire.Accepted{{Slot: r.Applied + 2, Entry: seal}} },
		"a seal":                     func(r *wire.Recovery) { r.Kept = []wire.Accepted{{Slot: r.Applied + 1, Entry: seal}} },
		"no entry":                   func(r *wire.Recovery) { r.Kept = []wire.Accepted{{Slot: r.Applied + 1}} },
		"no incarnation":             func(r *wire.Recovery) { r.Founding.Incarnation = 0 },
		"the incarnation that lives": func(r *wire.Recovery) { r.Founding.Incarnation = 1 },
	} {
		bad := c.recoverableCopy(good)
		spoil(&bad.Recoveries[0])
		if err := c.recoverAt(0, bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	c.mustCount(0, "vol-1", 2, 2)
	if nodes, _, _ := c.servers[0].core.Counts(); nodes != 1 {
		t.Errorf("%d nodes", nodes)
	}
}

// A server crashes at every point of a recovery: it comes back with the old node or with the new one, never with both or
// none, and what it answered before stands.
func TestRecoverCrashAtEveryPoint(t *testing.T) {
	for _, keep := range []bool{false, true} {
		c := newColony(t, 11)
		c.create("vol-1")
		c.mustCount(0, "vol-1", 1, 1)
		c.lose(3, 4, 5, 6)
		on := []int{0, 1, 2, 7, 8, 9, 10}
		m := c.recoveryOf("vol-1", 0, on...)
		c.mustRecover(m, on[2:]...)
		for _, i := range []int{0, 1} {
			c.servers[i].slow = true
			to := c.origin()
			c.servers[i].core.RecoverNodes(to, m)
			c.settle()
			if _, answered := c.replies[to.ID]; answered {
				t.Fatal("answered before it is durable")
			}
			c.crash(i, keep)
			c.servers[i].slow = false
			c.start(i)
			c.settle()
			list := c.servers[i].core.ListNodes(&wire.ListNodes{Limit: 10}).Nodes
			want := cell.Incarnation(1)
			if keep {
				want = 2
			}
			if len(list) != 1 || list[0].Incarnation != want {
				t.Fatalf("keep %t: after the crash %s hosts %+v", keep, serverID(i), list)
			}
			c.mustRecover(m, i)
		}
		c.wait(2 * time.Second)
		c.mustCount(0, "vol-1", 2, 2)
		for _, i := range on {
			c.restart(i)
		}
		c.wait(2 * time.Second)
		c.mustCount(0, "vol-1", 3, 3)
	}
}

// A sealed node says so, and a cold one is read for its export.
func TestExport(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.restart(3)
	cold, hot := c.exportAt(3, "vol-1"), c.exportAt(0, "vol-1")
	if cold.Applied+uint64(len(cold.Accepted)) < hot.Applied || !slices.Equal(cold.Jury, hot.Jury) || cold.StateHash == 0 {
		t.Errorf("a cold node exports %+v, the proposer %+v", cold, hot)
	}
	r := c.answer(c.send(1, wire.MethodExport, &wire.ExportNode{Cell: "vol-1", Incarnation: 1, Timeout: 1000}))
	if x := r.Result.(*wire.NodeExport); len(x.State) != 0 || x.StateHash == 0 {
		t.Errorf("without content: %+v", x)
	}
	if r := c.seal(0, "vol-1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	if x := c.exportAt(0, "vol-1"); !x.Sealed {
		t.Errorf("a sealed node exports %+v", x)
	}
	c.mustFail(c.answer(c.send(0, wire.MethodExport, &wire.ExportNode{Cell: "vol-1", Incarnation: 2, Timeout: 1000})), cell.Stale)
}

// volume sends a transaction of the volume record and returns the record with its fence.
func (c *colony) volume(i int, id cell.ID, sequence uint64, txn cell.Txn, err error) (cell.VolumeRecord, cell.Fence) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
	r := c.answer(c.send(i, wire.MethodTxn, &wire.TxnRequest{Header: header(id), Request: requestOf(sequence), Txn: txn}))
	if r.Err != nil {
		c.t.Fatal(r.Err)
	}
	reply := r.Result.(*wire.TxnReply)
	record, err := cell.ParseRecord(reply.Result)
	if err != nil {
		c.t.Fatal(err)
	}
	return record, record.Fence(reply.Incarnation)
}

// TestH17FencesNeverRepeat: generation 3 is acknowledged to B by members that are lost afterwards. The survivors go on from
// generation 2, and the next promotion gives C generation 3, too; but the fence that leaves the cell is the pair with the
// incarnation, and B's is lower than C's.
func TestH17FencesNeverRepeat(t *testing.T) {
	c := newColony(t, 11)
	c.create("vol-1")
	txn, err := cell.AttachTxn(0, "A", "B")
	c.volume(0, "vol-1", 1, txn, err)
	txn, err = cell.ReplaceTxn(0, 1, "B")
	_, agreed := c.volume(0, "vol-1", 2, txn, err)
	c.wait(time.Second) // everybody hears of it
	c.lose(0, 1, 2)
	c.wait(2 * time.Second)
	txn, err = cell.PromoteTxn(0, 2, "B")
	lost, fenceB := c.volume(3, "vol-1", 3, txn, err)
	c.lose(3, 4, 5, 6)
	for i := range 3 {
		c.start(i)
	}
	c.settle()
	on := []int{0, 1, 2, 7, 8, 9, 10}
	c.mustRecover(c.recoveryOf("vol-1", 0, on...), on...)
	c.wait(2 * time.Second)
	txn, err = cell.ReplaceTxn(0, 2, "C")
	next, fenceC := c.volume(0, "vol-1", 4, txn, err)
	if lost.Generation != 3 || next.Generation != 3 {
		t.Fatalf("B was given generation %d, after the recovery it is %d: the story needs the same number", lost.Generation, next.Generation)
	}
	if !agreed.Less(fenceB) || !fenceB.Less(fenceC) || fenceC.Less(fenceB) || fenceC == fenceB {
		t.Errorf("fences are %v, %v and %v, they must rise", agreed, fenceB, fenceC)
	}
	if got := fmt.Sprint(fenceC.Incarnation, fenceC.Number); got != "2 3" {
		t.Errorf("fence is %s", got)
	}
}
