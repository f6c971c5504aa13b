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

// A write asks three of six. The others hear of it with the notice, keep it in memory, and store it before they go cold.
func TestThriftyProposerAsksThreeOfSix(t *testing.T) {
	c := newThrifty(t, 7)
	c.mustCount(0, "vol-1", 1, 1) // in the first slot everybody is asked
	c.wait(noticed)
	asked := c.asked()
	for n := uint64(2); n <= 4; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	if want := [8]int{1: 3, 2: 3, 6: 3}; *asked != want {
		t.Errorf("s1 sent so many Accepts to each: %v, want %v", *asked, want)
	}
	for _, i := range spared {
		if got := c.applied(i, "vol-1"); got > 1 {
			t.Errorf("s%d applied %d slots, so it was not spared", i+1, got)
		}
	}
	c.wait(c.servers[0].core.cfg.NoticeAfter + 100*time.Millisecond)
	for i := range 7 {
		if got := c.applied(i, "vol-1"); got != 4 {
			t.Errorf("s%d applied %d slots after the notice, want 4", i+1, got)
		}
	}
	c.wait(time.Minute)
	if r, _ := c.servers[3].core.Inspect("vol-1"); r != nil {
		t.Fatal("s4 is not cold, so this test shows nothing")
	}
	c.only(3) // nobody teaches it
	c.crash(3, false)
	c.start(3)
	c.wait(acquainted)
	c.mustBe(c.read(3, "vol-1", true), 4)
}

// What a spared member is taught, it stores once the cell has been quiet for a while; until then a crash takes it away, and it is taught again.
func TestLessonsAreStoredWhenACellIsQuiet(t *testing.T) {
	for _, quiet := range []struct {
		notices time.Duration // for how many times NoticeAfter
		stored  bool
	}{{2, false}, {6, true}} {
		c := newThrifty(t, 7)
		c.mustCount(0, "vol-1", 1, 1)
		c.wait(2 * noticed)
		for n := uint64(2); n <= 7; n++ {
			c.mustCount(0, "vol-1", n, int64(n))
		}
		for range quiet.notices { // reads postpone nothing
			c.read(3, "vol-1", true)
			c.wait(c.servers[3].core.cfg.NoticeAfter)
		}
		if got := c.applied(3, "vol-1"); got != 7 {
			t.Fatalf("s4 applied %d slots after the notice, want 7", got)
		}
		if r, _ := c.servers[3].core.Inspect("vol-1"); r == nil {
			t.Fatal("s4 is cold, so this test shows nothing")
		}
		c.only(3) // nobody teaches it
		c.crash(3, false)
		c.start(3)
		c.wait(acquainted)
		c.read(3, "vol-1", true) // has it loaded
		if got := c.applied(3, "vol-1"); (got == 7) != quiet.stored {
			t.Errorf("quiet for %d times NoticeAfter, s4 finds %d slots applied after a crash; all stored: %t", quiet.notices, got, quiet.stored)
		}
	}
}

// While one of those who were asked is dead, a write waits for one nudge at most, and then none does.
func TestOneOfTheAskedDies(t *testing.T) {
	for _, known := range []bool{false, true} {
		c := newThrifty(t, 7)
		c.mustCount(0, "vol-1", 1, 1)
		c.mustCount(0, "vol-1", 2, 2)
		core := c.servers[0].core
		c.crash(1, true)
		first := c.submitCount(0, "vol-1", 3)
		limit := 2 * core.cfg.NudgeAfter
		if known {
			limit = 20 * time.Millisecond // a tick
			core.Gone(serverID(1))
		}
		c.wait(limit)
		if r := c.answer(first); r.Err != nil {
			t.Errorf("known: %t: %v", known, r.Err)
		}
		for n := uint64(4); n < 100; n++ { // far beyond the time in which everybody is asked
			c.mustCount(0, "vol-1", n, int64(n))
			c.wait(40 * time.Millisecond)
		}
	}
}

// The death of a server that has no part in a cell makes nobody repeat anything.
func TestDeathOfAStrangerRepeatsNothing(t *testing.T) {
	c := newThrifty(t, 8)
	for i, at := range []int{0, 7, 1, 2, 3, 4, 5} {
		if err := c.createAt(at, foundingOf("vol-2", 1, 0, 7, 1, 2, 3, 4, 5)); err != nil {
			t.Fatalf("create %d: %v", i, err)
		}
	}
	c.wait(time.Second)
	c.mustCount(0, "vol-1", 1, 1)
	asked := c.asked()
	count := c.lost
	c.lost = func(from, to int, m *paxos.Message) bool { return count(from, to, m) || m.Kind == paxos.MsgAccepted }
	c.submitCount(0, "vol-1", 2)
	c.servers[0].core.Gone(serverID(7))
	c.wait(20 * time.Millisecond)
	if want := [8]int{1: 1, 2: 1, 6: 1}; *asked != want {
		t.Errorf("s1 sent so many Accepts of one slot to each: %v, want %v", *asked, want)
	}
}

// Whoever misses a lesson asks when it finds the gap: at the notice, at the latest.
func TestLostLessonIsTaughtAgain(t *testing.T) {
	c := newThrifty(t, 7)
	c.mustCount(0, "vol-1", 1, 1)
	c.wait(noticed)
	lessons := 0
	c.lost = func(_, _ int, m *paxos.Message) bool {
		lost := m.Kind == paxos.MsgTeach && m.To == 0
		if lost {
			lessons++
		}
		return lost
	}
	c.mustCount(0, "vol-1", 2, 2)
	c.wait(noticed)
	if lessons != len(spared) {
		t.Fatalf("%d lessons were lost, want %d", lessons, len(spared))
	}
	for _, i := range spared {
		c.mustBe(c.read(i, "vol-1", true), 2)
	}
}

// A member that was spared wins an election before it was taught anything, and loses nothing.
func TestSparedMemberLeads(t *testing.T) {
	c := newThrifty(t, 7)
	for n := uint64(1); n <= 5; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	if got := c.applied(3, "vol-1"); got > 1 {
		t.Fatalf("s4 applied %d slots, so it was not spared", got)
	}
	for _, i := range []int{0, 1, 2} { // three of the four that hold it
		c.crash(i, true)
	}
	c.wait(2 * time.Second)
	c.write(6, 5*time.Second, 3)
	if led := c.leaders(); len(led) != 1 || led[0] != 3 {
		t.Fatalf("%v lead, want s4", led)
	}
	c.mustRead(3, "vol-1", 6)
}

// A cell is handed over to a member that was spared, in the middle of what it was not asked about.
func TestHandOverToASparedMember(t *testing.T) {
	c := newThrifty(t, 7)
	for n := uint64(1); n <= 3; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	write := c.submit(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(4), Txn: increment("n")})
	c.turn(c.servers[0], false) // it is proposed
	if err := c.servers[0].core.HandOver("vol-1", serverID(4)); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if r := c.answer(write); r.Err != nil {
		t.Errorf("what was in flight: %v", r.Err)
	}
	if led := c.leaders(); len(led) != 1 || led[0] != 4 {
		t.Fatalf("%v lead, want s5", led)
	}
	c.mustCount(4, "vol-1", 5, 5)
}

// Rule 19 holds for those who are not asked: lessons carry what the state is.
func TestH20FlippedBitInASparedMember(t *testing.T) {
	c := newThrifty(t, 7)
	tune := c.tune
	c.tune = func(cfg *Config) { tune(cfg); checkpoints(cfg) }
	for i := range 7 {
		c.restart(i)
	}
	c.write(1, 5*time.Second, 0)
	c.wait(noticed)
	c.flip(4, "vol-1", 1)
	for n := uint64(2); n <= 30; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(settled)
	c.mustDiverge(4)
}

// One of those who are asked is odd: the others are no majority without those who are spared. Writes go on.
func TestH20FlippedBitInAnAskedMember(t *testing.T) {
	c := newThrifty(t, 7)
	for n := uint64(1); n <= 3; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(noticed)
	c.flip(1, "vol-1", 1)
	for n := uint64(4); n <= 140; n++ {
		c.write(n, time.Second, 0)
	}
	c.wait(settled)
	c.mustDiverge(1)
}

// A member that answers nothing although its server is well, since it is out of service or may not vote, is not asked alone again and
// again: it costs one wait, not one per support period.
func TestSilentMemberIsNotChosenAgain(t *testing.T) {
	c := newThrifty(t, 7)
	c.mustCount(0, "vol-1", 1, 1)
	c.flip(1, "vol-1", 1)
	core := c.servers[1].core
	core.quarantine(core.find("vol-1"), Violated, "for this test")
	waited := 0
	for n := uint64(2); n < 150; n++ {
		if c.write(n, time.Second, 0) > 0 {
			waited++
		}
		c.wait(40 * time.Millisecond)
	}
	if waited != 1 {
		t.Errorf("%d writes waited, want the first one only", waited)
	}
	asked := c.asked()
	c.mustCount(0, "vol-1", 150, 150)
	if want := [8]int{2: 1, 5: 1, 6: 1}; *asked != want {
		t.Errorf("s1 sent so many Accepts to each: %v, want %v", *asked, want)
	}
}
