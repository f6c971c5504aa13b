package core

import (
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// rewrite changes the records of a server's ring for its first node, as a broken disk would, and restarts it.
func (c *colony) rewrite(i int, change func(record []byte) []byte) {
	b := c.servers[i]
	c.wait(2 * Default().IdleAfter) // so that they stand under their own keys
	c.crash(i, true)
	disk := &rewriter{change: change}
	disk.model = storage.OpenModel(b.image, disk)
	disk.model.Read(0, handleRange(keyRing, 1))
	disk.model.Pump()
	b.image = disk.model.Crash(disk.model.Last())
	c.start(i)
	c.settle()
}

// rewriter writes back, changed, what it reads.
type rewriter struct {
	model  *storage.Model
	change func(record []byte) []byte
}

func (w *rewriter) Durable(storage.BatchNumber) {}
func (w *rewriter) Failed(err error)            { panic(err) }
func (w *rewriter) ReadDone(_ storage.ReadID, pairs []storage.Pair, _ error) {
	batch := storage.GetBatch()
	batch.Number = w.model.Last() + 1
	for _, p := range pairs {
		batch.Set(p.Key, w.change(p.Value))
	}
	w.model.Commit(batch)
}

// sickColony is a colony with two cells, of which the ring of vol-1 on s3 was changed; the first is led by s1.
func sickColony(t *testing.T, change func([]byte) []byte) *colony {
	c := newColony(t, 7)
	c.create("vol-1")
	c.create("vol-2")
	for n := uint64(1); n <= 10; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
		c.mustCount(0, "vol-2", n, int64(n))
	}
	c.rewrite(2, change)
	c.mustFail(c.read(2, "vol-1", true), cell.Quarantined)
	return c
}

// checkOthersServe looks that one sick node is all that is missing.
func (c *colony) checkOthersServe(why string) {
	c.t.Helper()
	sick := c.servers[2]
	if len(sick.sick) != 1 || !strings.Contains(sick.sick[0], why) {
		c.t.Fatalf("quarantined on s3: %q, want one that says %q", sick.sick, why)
	}
	c.mustCount(0, "vol-1", 11, 11)
	c.mustCount(0, "vol-2", 11, 11)
	c.wait(noticed)
	c.mustBe(c.read(2, "vol-2", true), 11) // s3 serves its other node
	c.restart(2)
	c.mustFail(c.read(2, "vol-1", true), cell.Quarantined) // it is remembered
	if x := c.explain(2, "vol-1"); x.State != "quarantined" || !strings.Contains(x.Note, why) {
		c.t.Errorf("explained as %q: %q", x.State, x.Note)
	}
	c.mustCount(0, "vol-1", 12, 12)
}

func TestDamagedRingRecordStopsOneNode(t *testing.T) {
	c := sickColony(t, func(record []byte) []byte {
		record[len(record)/2] ^= 1
		return record
	})
	c.checkOthersServe("damaged")
}

// A command of a later version stops the node that meets it, it is never skipped (rule 9).
func TestUnknownCommandStopsOneNode(t *testing.T) {
	c := sickColony(t, func(stored []byte) []byte {
		r, err := peer.DecodeRingRecord(stored)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range r.Record.Entry.Commands {
			command[1]++ // the version byte
		}
		return peer.AppendRingRecord(nil, &r)
	})
	c.checkOthersServe("does not understand")
}

// A poisoned command that was chosen stops every node of its cell, and nothing else.
func TestPoisonStopsOneCell(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.create("vol-2")
	c.mustCount(0, "vol-1", 1, 1)
	h := c.servers[0].core.find("vol-1")
	if refusal := h.hot.replica.Propose([]byte("poison"), 99); refusal != paxos.Accepted {
		t.Fatalf("refused: %d", refusal)
	}
	c.servers[0].core.touch(h)
	c.settle()
	c.mustFail(c.count(0, "vol-1", 2), cell.Quarantined)
	c.mustCount(0, "vol-2", 1, 1)
	for i := range 7 {
		c.restart(i)
	}
	c.mustFail(c.count(0, "vol-1", 2), cell.Quarantined)
	c.mustCount(0, "vol-2", 2, 2)
}

// A node that goes out of service while a write is under way does not know what becomes of it, and must not say that it
// was not applied.
func TestQuarantineLeavesOutcomesUnknown(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.lost = func(from, _ int, m *paxos.Message) bool { return m.Kind == paxos.MsgAccepted } // sent, and on its way for long
	write := c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1), Txn: increment("n")})
	c.lost = nil
	h := c.servers[0].core.find("vol-1")
	c.servers[0].core.step(h, &paxos.Message{Kind: paxos.MsgAccept, From: 1, Ballot: paxos.Ballot{Round: 1, Node: 1}, Slot: 1, Entry: paxos.Entry{Kind: paxos.NoOp}})
	c.settle()
	c.mustFail(c.answer(write), cell.UnknownResult)
	c.mustFail(c.count(0, "vol-1", 1), cell.Quarantined)

	retry := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1), Txn: increment("n")}
	retry.Header.Attempt = attemptsBeforeTakeover
	if r := c.answer(c.send(1, wire.MethodTxn, retry)); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.mustRead(1, "vol-1", 1)
}

// A message that cannot be encoded takes its node out of service, not the server.
func TestUnsendableStopsOneNode(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.create("vol-2")
	h := c.servers[0].core.find("vol-1")
	c.mustCount(0, "vol-1", 1, 1)
	c.servers[0].core.hold(heldItem{node: h, message: paxos.Message{Kind: paxos.MsgAccept, From: 1, To: 2}}) // an entry without a kind
	c.settle()
	c.mustFail(c.count(0, "vol-1", 2), cell.Quarantined)
	c.mustCount(0, "vol-2", 1, 1)
}

// A build with a larger window finds records at other positions than it would put them; the next writes must not destroy
// what is still needed there.
func TestWindowMayGrow(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	n := uint64(0)
	for _, window := range []int{16, 32, 32} { // slots 17 to 24 are held by the ring alone when the window grows
		c.window = window
		for i := range 7 {
			c.restart(i)
		}
		for range 20 {
			n++
			c.mustCount(0, "vol-1", n, int64(n))
		}
		for i := range 7 {
			c.restart(i)
		}
	}
	c.mustRead(0, "vol-1", int64(n))
	for i, b := range c.servers {
		if len(b.sick) > 0 {
			t.Errorf("server %d: %v", i, b.sick)
		}
	}
}
