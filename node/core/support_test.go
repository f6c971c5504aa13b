package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// supportedColony is a colony of seven in which everybody supports everybody, with a cell that s1 leads under a read lease.
func supportedColony(t *testing.T) *colony {
	c := newColony(t, 7)
	c.create("vol-1")
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 1, 1)
	c.mustRead(0, "vol-1", 1)
	if b := c.servers[0]; b.local != 1 || b.asked != 0 {
		t.Fatalf("%d reads under the lease, %d confirmed, want the one under the lease", b.local, b.asked)
	}
	return c
}

// apart makes the network carry nothing from and to a server.
func (c *colony) apart(i int) {
	c.cut = func(from, to int, _ Lane) bool { return from == i || to == i }
}

// mute lets the lanes work, but no Paxos message between servers for which between holds.
func (c *colony) mute(between func(a, b int) bool) {
	c.lost = func(from, to int, m *paxos.Message) bool {
		return m.Kind != 0 && (between(from, to) || between(to, from))
	}
}

// supports reports whether one server supports another now, by its own clock.
func (c *colony) supports(giver, holder int) bool {
	k := c.servers[giver].core
	return k.supports(k.server(serverID(holder)))
}

// mustNotRead asks a server to read "n", which must not give an answer now.
func (c *colony) mustNotRead(i int) Origin {
	c.t.Helper()
	get := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}
	to := c.send(i, wire.MethodRead, &wire.ReadRequest{Header: header("vol-1"), Txn: get})
	if r, ok := c.replies[to.ID]; ok && r.Err == nil {
		c.t.Fatalf("%s answered a read: %+v", serverID(i), r.Result)
	}
	return to
}

// write sends an increment like a client that reaches some servers only: to one after the other until it is applied, at
// most for a while. It returns how long that took.
func (c *colony) write(sequence uint64, limit time.Duration, through ...int) time.Duration {
	c.t.Helper()
	began := c.now
	for attempt := uint32(0); c.now-began < limit; attempt++ {
		at := through[int(attempt)%len(through)]
		if c.servers[at].core == nil {
			continue
		}
		m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(sequence), Txn: increment("n")}
		m.Header.Attempt, m.Header.Timeout = attempt, 200
		to := c.send(at, wire.MethodTxn, m)
		for _, answered := c.replies[to.ID]; !answered && c.now-began < limit+time.Second; _, answered = c.replies[to.ID] {
			c.wait(20 * time.Millisecond)
		}
		r := c.answer(to)
		if r.Err == nil {
			return c.now - began
		}
		if kind := r.Err.Kind; kind != cell.NotProposer && kind != cell.Unavailable && kind != cell.UnknownResult && kind != cell.Quarantined {
			c.t.Fatalf("increment %d on %s: %v", sequence, serverID(at), r.Err)
		}
		c.wait(20 * time.Millisecond)
	}
	c.t.Fatalf("increment %d was not applied within %v", sequence, limit)
	return 0
}

// The giver's clock may run 10 % too fast and the holder's 10 % too slow: the holder still stops first.
func TestLeaseEndsBeforeSupport(t *testing.T) {
	if given, claimed := 1/1.1, leaseShare/0.9; claimed >= given {
		t.Errorf("support lasts %.3f periods at least, the holder claims %.3f", given, claimed)
	}
}

// Support lasts one period from the last proof, has another epoch when it comes back, and ends with the process that it was
// given to.
func TestSupportLapses(t *testing.T) {
	c := supportedColony(t)
	epoch := func() uint64 { return c.servers[1].core.server(serverID(0)).epoch }
	first := epoch()
	c.wait(5 * time.Second)
	if !c.supports(1, 0) || epoch() != first {
		t.Fatalf("support of a useful server lapsed: epoch %d, then %d", first, epoch())
	}
	c.apart(0)
	c.wait(700 * time.Millisecond)
	if !c.supports(1, 0) {
		t.Error("support ended before its period was over")
	}
	c.wait(400 * time.Millisecond)
	if c.supports(1, 0) || epoch() != first+1 {
		t.Errorf("support given to a server that is cut off: %v, epoch %d after %d", c.supports(1, 0), epoch(), first)
	}
	c.cut = nil
	c.wait(acquainted)
	if !c.supports(1, 0) || epoch() != first+1 {
		t.Errorf("no support after the network healed: %v, epoch %d after %d", c.supports(1, 0), epoch(), first)
	}
	c.crash(0, true)
	c.start(0)
	c.wait(40 * time.Millisecond)
	if epoch() != first+2 {
		t.Errorf("epoch %d after a new process was heard, want %d", epoch(), first+2)
	}
}

// The heartbeats heal before the votes: everybody supports the deposed proposer again, and nobody has told it.
func TestH01StaleReadAfterSupportHeals(t *testing.T) {
	c := supportedColony(t)
	c.apart(0)
	c.wait(2 * time.Second)
	c.write(2, 3*time.Second, 1, 2, 3)
	c.cut = nil
	c.mute(func(a, _ int) bool { return a == 0 })
	c.wait(time.Second)
	for i := 1; i < 7; i++ {
		if !c.supports(i, 0) {
			t.Fatalf("s%d does not support s1, which it should for this test", i+1)
		}
	}
	if r, _ := c.servers[0].core.Inspect("vol-1"); r.Role() != paxos.Proposer {
		t.Fatalf("s1 is %v, and should not know better than to lead", r.Role())
	}
	c.mustNotRead(0)
	c.lost = nil
	c.wait(time.Second)
	c.mustRead(1, "vol-1", 2)
}

// Four servers support the proposer, but three of them never promised its ballot.
func TestH02WrongSupporters(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.wait(acquainted)
	c.mute(func(a, b int) bool { return a == 0 && b > 3 })
	c.mustCount(0, "vol-1", 1, 1)
	c.mustRead(0, "vol-1", 1)
	if c.servers[0].local != 1 {
		t.Fatal("four that promised and support did not make a lease")
	}
	c.cut = func(from, to int, _ Lane) bool { return from+to <= 3 && from*to == 0 } // s1 from s2, s3 and s4
	c.wait(1200 * time.Millisecond)
	for i := 4; i < 7; i++ {
		if !c.supports(i, 0) {
			t.Fatalf("s%d does not support s1, which it should for this test", i+1)
		}
	}
	c.write(2, 2*time.Second, 1)
	c.mustNotRead(0)
}

// The process is paused between two turns: a request that came meanwhile is judged by the time after it.
func TestH03OldClock(t *testing.T) {
	c := supportedColony(t)
	c.servers[0].paused = true
	c.wait(2 * time.Second)
	c.write(2, 3*time.Second, 1)
	c.servers[0].paused = false
	c.cut = func(from, to int, _ Lane) bool { return to == 0 } // nothing warns it
	c.mustNotRead(0)
	if c.servers[0].local != 1 {
		t.Error("a read was answered under a lease that had lapsed")
	}
}

// A read behind the votes that choose a write, in the same turn, waits until the write is applied: the replica runs ahead of
// the machine within a turn.
func TestLocalReadSeesWhatIsChosenInItsTurn(t *testing.T) {
	c := supportedColony(t)
	c.submit(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")})
	c.turn(c.servers[0], false)
	c.servers[0].paused = true
	c.settle()
	c.servers[0].paused = false
	r, _ := ParseRequest(wire.MethodRead, (&wire.ReadRequest{Header: header("vol-1"), Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}).Append(nil))
	r.Origin = c.origin()
	b := c.servers[0]
	b.mail = append(b.mail, func() error { b.core.OnRequest(r); return nil })
	c.settle()
	c.mustBe(c.answer(r.Origin), 2)
	if b.local != 2 {
		t.Errorf("%d local reads, want 2", b.local)
	}
}

// A read may ask for the jury's confirmation whatever lease there is, and gets it when there is none.
func TestReadsAreConfirmedOnRequest(t *testing.T) {
	c := supportedColony(t)
	b := c.servers[0]
	get := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}
	c.mustBe(c.answer(c.send(0, wire.MethodRead, &wire.ReadRequest{Header: header("vol-1"), Txn: get, Confirm: true})), 1)
	if b.local != 1 || b.asked != 1 {
		t.Errorf("%d local reads and %d confirmed ones, want one of each", b.local, b.asked)
	}
	c.apart(0)
	c.wait(900 * time.Millisecond) // the lease is gone, the support is not
	c.cut = nil
	c.mustRead(0, "vol-1", 1)
	if b.local != 1 || b.asked != 2 {
		t.Errorf("%d local reads and %d confirmed ones, want 1 and 2", b.local, b.asked)
	}
	c.wait(acquainted)
	c.mustRead(0, "vol-1", 1)
	if b.local != 2 || b.asked != 2 {
		t.Errorf("%d local reads and %d confirmed ones, want 2 of each", b.local, b.asked)
	}
}

// Members that were restarted do not know whom they supported: for a support period they promise to nobody but the owner
// of what they had promised, so the lease of s1, which is cut off from the rest, is safe.
func TestRestartedMemberStandsByItsPromise(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.wait(acquainted)
	c.cut = func(from, to int, _ Lane) bool { return from == 0 && to > 3 || to == 0 && from > 3 }
	c.wait(1200 * time.Millisecond)
	c.mustCount(0, "vol-1", 1, 1)
	c.mustRead(0, "vol-1", 1)
	if c.servers[0].local != 1 {
		t.Fatal("s1 has no lease to begin with")
	}
	c.apart(0)
	for i := 1; i <= 3; i++ {
		c.crash(i, true)
		c.start(i)
	}
	restarted := c.now
	c.wait(100 * time.Millisecond)
	m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")}
	m.Header.Attempt, m.Header.Timeout = attemptsBeforeTakeover, 5000
	to := c.send(4, wire.MethodTxn, m)
	for c.now-restarted < 980*time.Millisecond {
		if _, answered := c.replies[to.ID]; answered {
			t.Fatalf("%v after the restart the write was answered: %+v", c.now-restarted, c.replies[to.ID])
		}
		c.wait(20 * time.Millisecond)
	}
	c.write(2, 3*time.Second, 4, 5, 6)
}

// A proposer that gives its cell away stops reading locally at once, and the heir needs no patience.
func TestHandOver(t *testing.T) {
	c := supportedColony(t)
	if err := c.servers[0].core.HandOver("vol-1", serverID(3)); err != nil {
		t.Fatal(err)
	}
	c.settle()
	c.mustFail(c.read(0, "vol-1", false), cell.NotProposer)
	c.mustCount(3, "vol-1", 2, 2)
	for name, call := range map[string]func() *cell.Error{
		"not hosted":     func() *cell.Error { return c.servers[0].core.HandOver("vol-9", serverID(3)) },
		"not proposer":   func() *cell.Error { return c.servers[0].core.HandOver("vol-1", serverID(3)) },
		"not a member":   func() *cell.Error { return c.servers[3].core.HandOver("vol-1", "elsewhere") },
		"to itself":      func() *cell.Error { return c.servers[3].core.HandOver("vol-1", serverID(3)) },
		"to its own old": func() *cell.Error { return c.servers[3].core.HandOver("vol-1", "") },
	} {
		if err := call(); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	c.mustCount(3, "vol-1", 3, 3)
}
