package core

import (
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// checkpoints makes every eighth slot one.
func checkpoints(cfg *Config) { cfg.HashEvery = 8 }

// newChecked is a colony of servers that compare hashes often, with a cell.
func newChecked(t *testing.T, n int) *colony {
	c := newColony(t, n)
	c.tune = checkpoints
	for i := range n {
		c.restart(i)
	}
	c.create("vol-1")
	c.add("vol-1", 1)
	return c
}

// flip changes the state of one node behind its back, as a flipped bit does.
func (c *colony) flip(i int, id cell.ID, n int64) {
	c.t.Helper()
	m := c.machine(i, id)
	if m == nil {
		c.t.Fatalf("s%d is not hot", i+1)
	}
	command := wire.Command{Request: cell.Request{Client: cell.ClientID{0xee}, Sequence: uint64(n)},
		Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "flipped", Value: cell.Int(n)}}}}
	if _, err := m.Apply(command.Append(nil)); err != nil {
		c.t.Fatal(err)
	}
}

// mustDiverge checks that exactly these servers took their nodes out of service, and say why.
func (c *colony) mustDiverge(which ...int) {
	c.t.Helper()
	want := make([]bool, len(c.servers))
	for _, i := range which {
		want[i] = true
	}
	for i, b := range c.servers {
		switch {
		case want[i] && (len(b.sick) != 1 || !strings.HasPrefix(b.sick[0], "diverged")):
			c.t.Errorf("s%d should have noticed that it diverged: %q", i+1, b.sick)
		case !want[i] && len(b.sick) > 0:
			c.t.Errorf("s%d: %q", i+1, b.sick)
		}
	}
}

// Hazard H20: one flipped bit in the proposer stops the proposer, not six good nodes. It resigns, and the others go on.
func TestH20FlippedBitInTheProposer(t *testing.T) {
	c := newChecked(t, 7)
	c.flip(0, "vol-1", 1)
	for n := uint64(2); n <= 30; n++ {
		c.add("vol-1", n)
	}
	c.wait(settled)
	c.mustDiverge(0)
	c.restart(0)
	if x := c.explain(0, "vol-1"); x.State != "quarantined" || !strings.Contains(x.Note, "diverged") {
		t.Errorf("after a restart s1 says %s: %s", x.State, x.Note)
	}
	c.add("vol-1", 31)
}

func TestH20FlippedBitInAMember(t *testing.T) {
	c := newChecked(t, 7)
	c.flip(4, "vol-1", 1)
	for n := uint64(2); n <= 30; n++ {
		c.add("vol-1", n)
	}
	c.wait(settled)
	c.mustDiverge(4)
}

// Without a majority of equal states nobody knows what the state is. The cell takes no writes, says so, and can be read.
func TestNoMajorityOfEqualStates(t *testing.T) {
	c := newChecked(t, 7)
	for i := range 6 {
		c.flip(i, "vol-1", int64(1+i/2))
	}
	var r Reply
	for n := uint64(2); n <= 30 && r.Err == nil; n++ {
		r = c.count(0, "vol-1", n)
	}
	e := c.mustFail(r, cell.Unavailable)
	if !strings.Contains(e.Detail, "no majority agrees") {
		t.Errorf("the writer is told: %v", e)
	}
	c.mustDiverge()
	if x := c.explain(0, "vol-1"); !strings.Contains(x.Note, "no majority agrees") {
		t.Errorf("explain says %q", x.Note)
	}
	if r := c.read(0, "vol-1", false); r.Err != nil {
		t.Errorf("read: %v", r.Err)
	}
	// Whoever leads next finds out before it takes many writes.
	c.crash(0, true)
	c.wait(settled)
	for n := uint64(100); n <= 140 && r.Err == nil; n++ {
		r = c.count(1, "vol-1", n)
	}
	c.mustFail(r, cell.Unavailable)
}

// A corrupt teacher spreads nothing: a second member has to confirm what it taught.
func TestH20CorruptTeacher(t *testing.T) {
	c := newColony(t, 7) // checkpoints are far away
	c.create("vol-1")
	c.only(0, 1, 2, 3, 4, 5)
	for n := uint64(1); n <= 40; n++ {
		c.add("vol-1", n)
	}
	c.wait(settled)
	c.flip(1, "vol-1", 1)
	lessons := 0
	c.lost = func(from, to int, m *paxos.Message) bool { // only the corrupt one teaches
		if m.Kind == paxos.MsgTeachAll && from == 1 {
			lessons++
		}
		return m.Kind == paxos.MsgTeachAll && from != 1
	}
	c.add("vol-1", 41)
	c.wait(30 * time.Second)
	if lessons == 0 {
		t.Fatal("the corrupt member was never asked")
	}
	c.mustBe(c.read(6, "vol-1", true), 0)
	c.lost = nil
	c.wait(settled)
	c.add("vol-1", 42)
	c.wait(settled)
	c.mustBe(c.read(6, "vol-1", true), 42)
	if x, good := c.explain(6, "vol-1"), c.explain(2, "vol-1"); x.StateHash != good.StateHash {
		t.Errorf("s7 was taught %x, the good members hold %x", x.StateHash, good.StateHash)
	}
}

// The teacher is the only member left that holds what was chosen: three who held it with him are dead for good, and the three
// others need the lesson for the cell to live. Nobody can vouch, and nobody ever will.
func TestOnlyHolderTeaches(t *testing.T) {
	c := newColony(t, 7)
	unvouched := 0
	c.tune = func(cfg *Config) { cfg.Events.Unvouched = func(cell.ID) { unvouched++ } }
	for i := range 7 {
		c.restart(i)
	}
	c.create("vol-1")
	c.only(0, 1, 2, 3)
	for n := uint64(1); n <= 40; n++ {
		c.add("vol-1", n)
	}
	for i := range 3 {
		c.crash(i, false)
	}
	c.lost = nil
	c.send(3, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(41), Txn: increment("n")})
	c.wait(Default().VouchPatience / 2)
	if unvouched > 0 {
		t.Error("the lesson was taken before its time")
	}
	c.wait(2 * Default().VouchPatience)
	c.add("vol-1", 41)
	c.wait(settled)
	if unvouched == 0 || unvouched > 3 {
		t.Errorf("%d lessons were taken unconfirmed, want 1 to 3", unvouched)
	}
	for i := 3; i < 7; i++ {
		c.mustBe(c.read(i, "vol-1", true), 41)
	}
}

// One other member that holds the state is enough, and must be waited for while it may come.
func TestLessonWaitsForAVoucher(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.only(0, 1, 2, 3)
	for n := uint64(1); n <= 40; n++ {
		c.add("vol-1", n)
	}
	c.crash(2, false)
	c.crash(3, false)
	// s1 teaches; s2, who could confirm it, is heard by nobody for a while.
	c.lost = func(from, to int, m *paxos.Message) bool {
		return from == 1 || to == 1 || to == 5 || to == 6 || from == 5 || from == 6
	}
	c.wait(3 * Default().VouchPatience)
	c.mustBe(c.read(4, "vol-1", true), 0)
	c.lost = nil
	c.wait(settled)
	c.add("vol-1", 41)
	c.wait(settled)
	for i := 4; i < 7; i++ {
		c.mustBe(c.read(i, "vol-1", true), 41)
	}
}
