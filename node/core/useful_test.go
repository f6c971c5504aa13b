package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/storage"
	"physalia/paxos"
)

// Members that confirm while their servers give no support are no part of a lease when support begins: in between they were
// free to promise others.
func TestConfirmationWithoutSupportDoesNotCount(t *testing.T) {
	c := supportedColony(t)
	c.cut = func(from, to int, lane Lane) bool { return lane == laneHeartbeat && (from == 0 || to == 0) }
	c.wait(1200 * time.Millisecond)
	c.mustCount(0, "vol-1", 2, 2) // votes need no support
	c.cut = nil
	c.mute(func(a, _ int) bool { return a == 0 })
	c.wait(time.Second)
	if k := c.servers[0].core; !c.supports(1, 0) || !k.supportedBy(k.server(serverID(1))) {
		t.Fatal("s2 does not support s1, which it should for this test")
	}
	c.mustNotRead(0)
}

// A member that was cut off from the proposer alone asks for the cell, in vain. Its ballot is higher than the proposer's, who
// hears of it when the network heals: the proposer asks for a higher one, keeps the cell, and gets that member's votes back.
func TestStrayBallotDeposesNobody(t *testing.T) {
	c := supportedColony(t)
	c.cut = func(from, to int, _ Lane) bool { return from+to == 1 }
	c.wait(1200 * time.Millisecond)
	m := &wire.ReadRequest{Header: header("vol-1"), Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
	m.Header.Attempt = attemptsBeforeTakeover
	c.send(1, wire.MethodRead, m)
	if c.servers[1].began != 1 {
		t.Fatal("s2 does not campaign, which it should for this test")
	}
	c.wait(2 * time.Second)
	c.cut = nil
	c.wait(acquainted)
	c.write(2, time.Second, 0)
	if led := c.leaders(); len(led) != 1 || led[0] != 0 || c.campaigns() != 2 {
		t.Errorf("%v lead after %d campaigns, want s1 after one of its own and one of s2", led, c.campaigns())
	}
	c.mustCount(0, "vol-1", 3, 3)
	mine, _ := c.servers[0].core.Inspect("vol-1")
	if r, _ := c.servers[1].core.Inspect("vol-1"); r.Promised() != mine.Ballot() {
		t.Errorf("s2 stands by %v, s1 leads in %v", r.Promised(), mine.Ballot())
	}
}

// campaigns counts how often a cell was asked for, by all servers.
func (c *colony) campaigns() (n int) {
	for _, b := range c.servers {
		n += b.began
	}
	return n
}

// leaders returns the servers that lead the cell.
func (c *colony) leaders() (led []int) {
	for i, b := range c.servers {
		if b.core != nil {
			if r, _ := b.core.Inspect("vol-1"); r != nil && r.Role() == paxos.Proposer {
				led = append(led, i)
			}
		}
	}
	return led
}

// A proposer that is supported stays, however often a member that does not hear it is asked to take over.
func TestR03OneWayLoss(t *testing.T) {
	c := supportedColony(t)
	c.cut = func(from, to int, _ Lane) bool { return from == 0 && to == 1 }
	c.wait(1200 * time.Millisecond)
	before := c.campaigns()
	for n := uint64(2); n < 12; n++ {
		c.write(n, 3*time.Second, 1, 2, 3) // clients do not know s1
		c.wait(300 * time.Millisecond)
	}
	if led := c.leaders(); len(led) != 1 || led[0] != 0 {
		t.Errorf("%v lead, want s1 alone", led)
	}
	c.cut = nil
	c.wait(3 * time.Second)
	for n := uint64(12); n < 15; n++ {
		c.write(n, 3*time.Second, 0, 1, 2)
		c.wait(300 * time.Millisecond)
	}
	if n := c.campaigns() - before; n > 6 {
		t.Errorf("%d campaigns, want a few of s2 at most, and one of s1 over them", n)
	}
	c.mustRead(c.leaders()[0], "vol-1", 14)
}

// Three servers here, three there, and one that sees both sides: whoever leads has that one's vote.
func TestR04Bridge(t *testing.T) {
	for _, leader := range []int{0, 3, 6} {
		c := newColony(t, 7)
		for i := range 7 {
			f := foundingOf("vol-1", 1, 0, 1, 2, 3, 4, 5, 6)
			f.Owner = uint64(leader + 1)
			if err := c.createAt(i, f); err != nil {
				t.Fatal(err)
			}
		}
		c.wait(acquainted)
		c.mustCount(leader, "vol-1", 1, 1)
		c.cut = func(from, to int, _ Lane) bool { return from < 3 && to > 3 || to < 3 && from > 3 }
		c.wait(1200 * time.Millisecond)
		n := uint64(2)
		for range 5 {
			for _, side := range [][]int{{0, 1, 2, 3}, {3, 4, 5, 6}} {
				c.write(n, 4*time.Second, side...)
				n++
				c.wait(200 * time.Millisecond)
			}
		}
		if led := c.leaders(); len(led) == 0 {
			t.Errorf("nobody leads (s%d did)", leader+1)
		}
	}
}

// The leader's disk hangs for ten seconds while its network is fine: it loses its support, others go on, and when it wakes it
// has nothing to say that is not true any more.
func TestR01StalledDisk(t *testing.T) {
	c := supportedColony(t)
	c.servers[0].slow = true
	c.wait(3 * time.Second) // nothing but the disk's own probe finds out
	if c.supports(1, 0) || c.supports(6, 0) {
		t.Fatal("a server whose disk hangs is still supported")
	}
	c.write(2, 3*time.Second, 1, 2, 3, 4, 5, 6)
	c.mustNotRead(0)
	c.wait(7 * time.Second)
	c.servers[0].slow = false
	c.wait(acquainted)
	for _, at := range []int{0, 1, 2} {
		if r := c.read(at, "vol-1", false); r.Err == nil {
			c.mustBe(r, 2)
		}
	}
	c.write(3, 3*time.Second, 0, 1)
}

// A member that passed a read on is paused; the leader changes twice meanwhile. The client asks again, and must not be told
// what was true before it asked.
func TestR02PausedForwarder(t *testing.T) {
	c := supportedColony(t)
	get := func(at int) Origin {
		m := &wire.ReadRequest{Header: header("vol-1"), Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
		m.Header.Attempt, m.Header.Timeout = attemptsBeforeForward, 60_000
		return c.submit(at, wire.MethodRead, m)
	}
	first := get(2)
	c.turn(c.servers[2], false) // it leaves
	c.servers[2].paused = true
	c.settle()
	if len(c.servers[2].mail) == 0 {
		t.Fatal("the answer did not come back")
	}
	for n, heir := range []int{3, 4} {
		leader := c.leaders()[0]
		if err := c.servers[leader].core.HandOver("vol-1", serverID(heir)); err != nil {
			t.Fatal(err)
		}
		c.settle()
		c.mustCount(heir, "vol-1", uint64(n+2), int64(n+2))
	}
	c.wait(1500 * time.Millisecond)
	second := get(2)
	c.servers[2].paused = false
	c.wait(time.Second)
	if r := c.answer(first); r.Err == nil { // it began before the writes
		c.mustBe(r, 1)
	}
	if r := c.answer(second); r.Err == nil {
		c.mustBe(r, 3)
	}
	c.mustRead(4, "vol-1", 3)
}

// A proposer that is alive and of no use gives the cell up, or loses it, within a few periods.
func TestH09LiveButUseless(t *testing.T) {
	for name, test := range map[string]struct {
		cut     func(from, to int, lane Lane) bool
		through []int // what the clients reach
	}{
		"votes lost":           {func(from, to int, lane Lane) bool { return lane != laneHeartbeat && (from == 0 || to == 0) }, []int{0, 1, 2}},
		"no vote gets in":      {func(_, to int, lane Lane) bool { return lane != laneHeartbeat && to == 0 }, []int{0, 1}},
		"no accept gets out":   {func(from, _ int, lane Lane) bool { return lane != laneHeartbeat && from == 0 }, []int{0, 1}},
		"nothing gets in":      {func(_, to int, _ Lane) bool { return to == 0 }, []int{0, 1, 2}},
		"nothing gets out":     {func(from, _ int, _ Lane) bool { return from == 0 }, []int{0, 1, 2}},
		"cut off":              {func(from, to int, _ Lane) bool { return from == 0 || to == 0 }, []int{0, 3}},
		"three votes are left": {func(from, to int, _ Lane) bool { return from == 0 && to > 2 || to == 0 && from > 2 }, []int{0, 3}},
		"clients reach others": {nil, []int{4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			c := supportedColony(t)
			c.cut = test.cut
			if took := c.write(2, 3*time.Second, test.through...); test.cut == nil && took > 200*time.Millisecond {
				t.Errorf("it took %v although nothing but the clients' way was broken", took)
			}
			c.write(3, time.Second, test.through...)
			c.cut = nil
			c.wait(2 * time.Second)
			c.write(4, time.Second, 0, 1, 2)
			c.mustRead(c.leaders()[0], "vol-1", 4)
		})
	}
}

// A node that is taken out of service frees its jury at once, although its server is as useful as ever; and again when the
// first word of it was lost.
func TestH09QuarantinedProposerIsReplaced(t *testing.T) {
	for _, lost := range []bool{false, true} {
		c := supportedColony(t)
		b := c.servers[0]
		if lost {
			c.lost = func(from, _ int, m *paxos.Message) bool { return m.Kind == paxos.MsgResign }
		}
		b.core.quarantine(b.core.find("vol-1"), Violated, "test")
		c.settle()
		c.wait(1100 * time.Millisecond)
		c.lost = nil
		if !c.supports(1, 0) {
			t.Fatal("the server is not supported any more")
		}
		c.write(2, time.Second, 1, 0)
	}
}

// A candidate that finds no majority gives up, and does not try again at once.
func TestCandidateGivesUp(t *testing.T) {
	c := supportedColony(t)
	c.crash(0, true)
	c.wait(1100 * time.Millisecond)
	c.mute(func(a, _ int) bool { return a == 1 })
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")}
	m.Header.Attempt, m.Header.Timeout = attemptsBeforeTakeover, 60_000
	to := c.send(1, wire.MethodTxn, m)
	c.wait(1200 * time.Millisecond)
	if r := c.answer(to); r.Err == nil {
		t.Fatalf("a candidate without a majority answered %+v", r.Result)
	}
	before := c.servers[1].began
	c.send(1, wire.MethodTxn, m)
	if c.servers[1].began != before {
		t.Error("it campaigns again at once")
	}
	c.write(2, 2*time.Second, 2, 3, 4)
}

// The death of a process frees what it led when its support lapses, a new start of it earlier.
func TestDeadProposerIsReplaced(t *testing.T) {
	c := supportedColony(t)
	c.crash(0, true)
	if took := c.write(2, 3*time.Second, 1, 2, 3, 4, 5, 6); took > 1500*time.Millisecond {
		t.Errorf("it took %v until a dead proposer's cell took a write", took)
	}
	c = supportedColony(t)
	c.crash(0, true)
	c.start(0)
	if took := c.write(2, 3*time.Second, 0, 1, 2, 3, 4, 5, 6); took > 500*time.Millisecond {
		t.Errorf("it took %v until a restarted proposer's cell took a write", took)
	}
}

// A server whose disk holds less than its peers heard of must not vote, and says why.
func TestH10ForgottenBatches(t *testing.T) {
	c := supportedColony(t)
	old := storage.OpenModel(c.servers[2].model.Crash(c.servers[2].model.Durable()), c.servers[2])
	image := old.Crash(old.Durable())
	c.servers[2].image = image
	c.servers[2].core = nil
	c.start(2)
	c.wait(acquainted)
	for n := uint64(2); n < 20; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(2 * time.Second) // the peers' memories reach their disks
	for _, test := range []struct {
		name    string
		boot    uint64
		restart bool // of a peer, whose memory comes from its disk then
		says    string
	}{
		{"directory copied", 1, false, "copies"},
		{"store restored", 0, false, "batch"},
		{"store restored, peers restarted", 0, true, "batch"},
		{"directory restored", 2, false, "start"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := c.servers[2]
			if b.core != nil {
				c.crash(2, true)
			}
			kept, boot := b.image, b.boot
			if test.restart {
				c.restart(1)
			}
			b.image = image
			b.boot -= test.boot
			b.fatal = nil
			c.start(2)
			accepted := 0
			c.lost = func(from, _ int, m *paxos.Message) bool {
				if from == 2 && (m.Kind == paxos.MsgAccepted || m.Kind == paxos.MsgPromise || m.Kind == paxos.MsgConfirmed) {
					accepted++
				}
				return false
			}
			c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(uint64(1000 + len(test.name))), Txn: increment("m")})
			c.wait(acquainted)
			c.lost = nil
			if b.core != nil || b.fatal == nil {
				t.Fatal("it goes on")
			}
			for _, say := range []string{"s3", "empty directory", test.says} {
				if !strings.Contains(b.fatal.Error(), say) {
					t.Errorf("%q does not say %q", b.fatal, say)
				}
			}
			if accepted > 0 {
				t.Errorf("it gave %d votes", accepted)
			}
			b.image, b.boot = kept, boot+1
		})
	}
	c.start(2)
	c.wait(acquainted)
	if c.servers[2].core == nil {
		t.Fatalf("the true disk is refused: %v", c.servers[2].fatal)
	}
}

// Before a majority of its cell's servers told what they remember, a restarted server's node neither votes nor campaigns.
func TestRestartedNodeWaitsForMemories(t *testing.T) {
	c := supportedColony(t)
	c.crash(2, true)
	c.start(2)
	votes := 0
	c.lost = func(from, to int, m *paxos.Message) bool {
		if from == 2 && m.Kind == paxos.MsgAccepted {
			votes++
		}
		return false
	}
	c.cut = func(from, to int, lane Lane) bool { return lane == laneHeartbeat && to == 2 && from > 1 } // self and two others
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 2, 2)
	c.wait(time.Second)
	if votes != 0 {
		t.Fatalf("%d votes after three of seven memories", votes)
	}
	if k := c.servers[2].core; k.mayCampaign(k.find("vol-1")) == nil {
		t.Error("it may campaign, which is to vote for itself")
	}
	c.cut = nil
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 3, 3)
	c.wait(acquainted)
	if votes == 0 {
		t.Error("no vote after all memories")
	}
}

// A server that was away is told what it missed without anybody asking; cells in which nothing happened are left alone.
func TestRejoin(t *testing.T) {
	for name, leave := range map[string]func(c *colony){
		"restart":   func(c *colony) { c.crash(5, true) },
		"partition": func(c *colony) { c.apart(5) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newColony(t, 7)
			for _, id := range []cell.ID{"vol-1", "vol-2"} {
				c.create(id)
				c.mustCount(0, id, 1, 1)
			}
			c.wait(noticed)
			c.wait(Default().IdleAfter + time.Second)
			leave(c)
			c.wait(2 * time.Second)
			c.mustCount(0, "vol-1", 2, 2)
			c.wait(2 * time.Second)
			c.cut = nil
			if c.servers[5].core == nil {
				c.start(5)
			}
			c.wait(noticed)
			if m := c.machine(5, "vol-1"); m == nil || m.Revision() != 2 {
				t.Error("s6 was not told what it missed")
			}
			if r, _ := c.servers[5].core.Inspect("vol-2"); r != nil {
				t.Error("s6 loaded a cell in which nothing happened")
			}
			c.mustBe(c.read(5, "vol-1", true), 2)
		})
	}
}

// readSteadily lets a client read at s1, confirmed by the jury, more often than anything that was lost is repeated. It counts the
// answers.
func (c *colony) readSteadily(d time.Duration) (answers int) {
	c.t.Helper()
	for end := c.now + d; c.now < end; c.wait(20 * time.Millisecond) {
		m := &wire.ReadRequest{Header: header("vol-1"), Confirm: true, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
		if r, ok := c.replies[c.send(0, wire.MethodRead, m).ID]; ok && r.Err == nil {
			answers++
		}
	}
	return answers
}

// A cell that is read all the time repeats what was lost of a write like any other cell, and the other way round.
func TestReadsDoNotKeepAWriteWaiting(t *testing.T) {
	c := supportedColony(t)
	c.lost = func(_, _ int, m *paxos.Message) bool { return m.Kind == paxos.MsgAccept }
	write := c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")})
	c.lost = nil
	if n := c.readSteadily(time.Second); n < 20 {
		t.Fatalf("%d reads were answered, so this test shows nothing", n)
	}
	if r := c.answer(write); r.Err != nil {
		t.Error(r.Err)
	}
	c.lost = func(_, _ int, m *paxos.Message) bool { return m.Kind == paxos.MsgConfirm }
	get := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}
	read := c.send(0, wire.MethodRead, &wire.ReadRequest{Header: header("vol-1"), Confirm: true, Txn: get})
	c.lost = nil
	for n := uint64(3); n < 23; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
		c.wait(20 * time.Millisecond)
	}
	if r := c.answer(read); r.Err != nil {
		t.Error(r.Err)
	}
}

// Rule 13: a proposer that answers reads and gets no slot chosen is of no use to those who write.
func TestReadsDoNotHideThatNothingIsWritten(t *testing.T) {
	c := supportedColony(t)
	c.lost = func(from, _ int, m *paxos.Message) bool { return from == 0 && m.Kind == paxos.MsgAccept }
	write := c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")})
	if n := c.readSteadily(2 * time.Second); n < 20 {
		t.Fatalf("%d reads were answered, so this test shows nothing", n)
	}
	if r, _ := c.servers[0].core.Inspect("vol-1"); r.Role() == paxos.Proposer {
		t.Error("s1 leads still")
	}
	if r := c.answer(write); r.Err == nil || r.Err.Kind != cell.UnknownResult {
		t.Errorf("the write, of which nobody heard, came to %+v, %v", r.Result, r.Err)
	}
	c.write(2, 3*time.Second, 1, 2, 3)
	if led := c.leaders(); len(led) != 1 || led[0] == 0 {
		t.Errorf("%v lead", led)
	}
}

// A server whose disk forgot something writes new batches while nobody hears it. When it is started again it holds as many as its peers
// remember, and must not pass for one that forgot nothing.
func TestH10ForgottenBatchesShowInTheNextLifeToo(t *testing.T) {
	c := supportedColony(t)
	b := c.servers[2]
	old := b.model.Disk()
	for n := uint64(2); n < 10; n++ {
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(2 * time.Second) // the peers' memories reach their disks
	remembered := b.model.Last()
	c.crash(2, true)
	b.image = old
	c.cut = func(from, to int, _ Lane) bool { return from == 2 || to == 2 }
	c.start(2)
	c.settle()
	for n := 0; b.model.Last() <= remembered; n++ {
		if err := c.createAt(2, foundingOf(cell.ID(fmt.Sprintf("new-%d", n)), 1, 2, 3, 4)); err != nil {
			t.Fatal(err)
		}
	}
	c.crash(2, true)
	c.cut = nil
	c.start(2)
	c.wait(2 * time.Second)
	if b.fatal == nil || !strings.Contains(b.fatal.Error(), "must not serve") {
		t.Fatalf("it serves: %v", b.fatal)
	}
}
