package core

import (
	"fmt"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// full is how long a proposer counts for a lease of one second, and a little more for its expiry to be chosen.
const full = cell.LeaseRateBound*time.Second + 40*time.Millisecond

// lease asks server i something about a lease of "vol-1" and returns where the answer will be.
func (c *colony) lease(i int, method string, sequence uint64, op cell.LeaseOp) Origin {
	c.t.Helper()
	h := header("vol-1")
	h.Timeout = 60_000
	return c.submit(i, method, &wire.LeaseRequest{Header: h, Request: requestOf(sequence), Lease: op})
}

// mustLease is lease for what has to succeed.
func (c *colony) mustLease(i int, method string, sequence uint64, op cell.LeaseOp) *wire.LeaseReply {
	c.t.Helper()
	to := c.lease(i, method, sequence, op)
	c.settle()
	r := c.answer(to)
	if r.Err != nil {
		c.t.Fatalf("%s on %s: %v", method, serverID(i), r.Err)
	}
	return r.Result.(*wire.LeaseReply)
}

// grantLock makes "vol-1", a lease of one second in it, and a key "lock" attached to it.
func (c *colony) grantLock() cell.LeaseID {
	c.t.Helper()
	c.create("vol-1")
	id := c.mustLease(0, wire.MethodGrant, 1, cell.LeaseOp{TTL: time.Second, Label: "host-1"}).Lease
	lock := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "lock", Value: cell.Bool(true), Lease: id}}}
	if r := c.answer(c.send(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: lock})); r.Err != nil {
		c.t.Fatal(r.Err)
	}
	return id
}

// held tells what the machine on server i knows of a lease and its lock.
func (c *colony) held(i int, id cell.LeaseID) bool {
	c.t.Helper()
	m := c.machine(i, "vol-1")
	if m == nil {
		c.t.Fatalf("the node on %s is not hot", serverID(i))
	}
	_, held := m.Lease(id)
	if locked := m.Keys() == 1; locked != held {
		c.t.Fatalf("on %s the lease is held: %t, locked: %t", serverID(i), held, locked)
	}
	return held
}

// timers checks that server i counts as many leases as wanted, and that its heap and its nodes agree.
func (c *colony) timers(i, want int) {
	c.t.Helper()
	core := c.servers[i].core
	if len(core.leases) != want {
		c.t.Fatalf("%s counts %d leases, want %d", serverID(i), len(core.leases), want)
	}
	for at, t := range core.leases {
		if t.at != at || t.node.hot != t.life || t.life.leases[t.id] != t {
			c.t.Fatalf("%s: timer %d of lease %d is out of place", serverID(i), at, t.id)
		}
	}
}

// beats loses every heartbeat, so that nobody has a read lease, and whatever more says.
func beats(more func(to int, m *paxos.Message) bool) func(_, to int, m *paxos.Message) bool {
	return func(_, to int, m *paxos.Message) bool { return m.Kind == 0 || more(to, m) }
}

func nothing(int, *paxos.Message) bool { return false }

func votesForFirst(to int, m *paxos.Message) bool { return m.Kind == paxos.MsgAccepted && to == 0 }

// TestLeaseExpiresAfterItsFullTime: counted from the last keep-alive, times the bound on clock rates, by the proposer
// alone; without keep-alives it takes its key along. Under a read lease keep-alives are answered from memory, without one
// through the log.
func TestLeaseExpiresAfterItsFullTime(t *testing.T) {
	for _, logged := range []bool{false, true} {
		testFullTime(t, logged)
	}
}

func testFullTime(t *testing.T, logged bool) {
	c := newColony(t, 7)
	id := c.grantLock()
	if logged {
		c.lost = beats(nothing)
	}
	for n := range uint64(4) {
		c.wait(2 * time.Second)
		got, want := c.mustLease(0, wire.MethodKeepAlive, 10+n, cell.LeaseOp{ID: id}), uint64(1) // the first brings the confirmations that a read lease takes
		if logged {
			want = n + 1
		}
		if got.Renewals != want || got.Lease != id {
			t.Fatalf("keep-alive %d: %+v", n, got)
		}
	}
	for i := range 7 {
		c.timers(i, map[bool]int{i == 0: 1}[true])
	}
	c.wait(full - 100*time.Millisecond)
	if !c.held(0, id) {
		t.Fatal("the lease expired early")
	}
	c.wait(100 * time.Millisecond)
	if c.held(0, id) {
		t.Fatal("the lease did not expire")
	}
	c.timers(0, 0)
	to := c.lease(0, wire.MethodKeepAlive, 20, cell.LeaseOp{ID: id})
	c.settle()
	c.mustFail(c.answer(to), cell.NoLease)
	if next := c.mustLease(0, wire.MethodGrant, 21, cell.LeaseOp{TTL: time.Second}).Lease; next <= id {
		t.Fatalf("lease %d after lease %d", next, id)
	}
}

// TestDeposedProposerCannotKeepALeaseAlive is hazard H18, first form: whatever a deposed proposer that knows nothing of it
// remembers, it acknowledges no keep-alive, before or after its successor expired the lease.
func TestDeposedProposerCannotKeepALeaseAlive(t *testing.T) {
	c := newColony(t, 7)
	id := c.grantLock()
	c.only(0)
	first := c.lease(0, wire.MethodKeepAlive, 10, cell.LeaseOp{ID: id})
	c.settle()
	takeover := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(3), Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpDelete, Key: "none"}}}}
	takeover.Header.Attempt = attemptsBeforeTakeover
	if r := c.answer(c.send(1, wire.MethodTxn, takeover)); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.timers(1, 1)
	second := c.lease(0, wire.MethodKeepAlive, 11, cell.LeaseOp{ID: id})
	c.wait(full - 100*time.Millisecond)
	if !c.held(1, id) {
		t.Fatal("the successor did not count the full time")
	}
	c.wait(100 * time.Millisecond)
	if c.held(1, id) {
		t.Fatal("the successor did not expire the lease")
	}
	third := c.lease(0, wire.MethodKeepAlive, 12, cell.LeaseOp{ID: id})
	c.settle()
	c.lost = nil
	c.wait(2 * time.Second)
	for n, to := range []Origin{first, second, third} {
		if r := c.answer(to); r.Err == nil {
			t.Errorf("keep-alive %d was acknowledged: %+v", n, r.Result)
		}
	}
	if c.held(0, id) {
		t.Error("the deposed proposer still holds the lease")
	}
	c.timers(0, 0)
}

// TestDeposedProposerStopsCounting: as soon as it hears of its successor, not when its deadline comes.
func TestDeposedProposerStopsCounting(t *testing.T) {
	c := newColony(t, 7)
	id := c.grantLock()
	takeover := &wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(3), Lease: cell.LeaseOp{ID: id}}
	takeover.Header.Attempt = attemptsBeforeTakeover
	if r := c.answer(c.send(1, wire.MethodKeepAlive, takeover)); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.timers(0, 0)
	c.timers(1, 1)
}

// TestExpireBehindARenewalInThePipeline is hazard H18, second form: the renewal waits for votes in the pipeline when the
// deadline passes, and the expiry gets in behind it.
func TestExpireBehindARenewalInThePipeline(t *testing.T) {
	c := newColony(t, 7)
	id := c.grantLock()
	c.lost = beats(nothing)
	c.wait(full - 100*time.Millisecond)
	c.lost = beats(votesForFirst)
	renewal := c.lease(0, wire.MethodKeepAlive, 10, cell.LeaseOp{ID: id})
	c.wait(100 * time.Millisecond)
	if lease := c.servers[0].core.leases; len(lease) != 1 || !lease[0].expiring {
		t.Fatal("no expiry is under way, so this test shows nothing")
	}
	c.lost = nil
	c.wait(2 * time.Second)
	if r := c.answer(renewal); r.Err != nil || r.Result.(*wire.LeaseReply).Renewals != 1 {
		t.Fatalf("renewal: %+v, %v", r.Result, r.Err)
	}
	if !c.held(0, id) {
		t.Fatal("a renewed lease has expired")
	}
	c.wait(full)
	if c.held(0, id) {
		t.Fatal("the lease did not expire after its renewal")
	}
}

// TestRenewRacingRevokeInOneTurn is R12 through the pipeline: both orders of the two within one turn of the proposer.
func TestRenewRacingRevokeInOneTurn(t *testing.T) {
	for _, revokeFirst := range []bool{false, true} {
		c := newColony(t, 7)
		id := c.grantLock()
		var renewal, revoke Origin
		if revokeFirst {
			revoke = c.lease(0, wire.MethodRevoke, 10, cell.LeaseOp{ID: id})
		}
		renewal = c.lease(0, wire.MethodKeepAlive, 11, cell.LeaseOp{ID: id})
		if !revokeFirst {
			revoke = c.lease(0, wire.MethodRevoke, 10, cell.LeaseOp{ID: id})
		}
		c.settle()
		if r := c.answer(revoke); r.Err != nil {
			t.Fatal(r.Err)
		}
		if r := c.answer(renewal); (cell.KindOf(r.Err) == cell.NoLease) != revokeFirst || (r.Err == nil) == revokeFirst {
			t.Errorf("revoke first: %t, renewal: %+v, %v", revokeFirst, r.Result, r.Err)
		}
		if c.held(0, id) {
			t.Error("revoked and still held")
		}
		c.timers(0, 0)
		to := c.lease(0, wire.MethodRevoke, 12, cell.LeaseOp{ID: id})
		c.settle()
		c.mustFail(c.answer(to), cell.NoLease)
	}
}

// TestRepeatedGrantIsOneLease: the reply was lost, the retry goes to the proposer or to any other member.
func TestRepeatedGrantIsOneLease(t *testing.T) {
	c := newColony(t, 7)
	id := c.grantLock()
	c.wait(noticed)
	for _, i := range []int{0, 4} {
		if again := c.mustLease(i, wire.MethodGrant, 1, cell.LeaseOp{TTL: time.Second, Label: "host-1"}); again.Lease != id {
			t.Errorf("repeated on %s: lease %d, first %d", serverID(i), again.Lease, id)
		}
	}
	list := c.answer(c.send(0, wire.MethodLeases, &wire.LeasesRequest{Header: header("vol-1")})).Result.(*wire.Leases)
	if got := fmt.Sprint(list.Leases); got != fmt.Sprintf("[{{%d 1s host-1 0} 1}]", id) {
		t.Errorf("leases %s", got)
	}
}

// TestLeaseOfACellThatNobodyAsksExpiresLate: elections are lazy, so after its proposer died the lease stays, and whoever
// asks next makes the successor count the full time.
func TestLeaseOfACellThatNobodyAsksExpiresLate(t *testing.T) {
	c := newColony(t, 7)
	id := c.grantLock()
	c.wait(noticed)
	c.crash(0, true)
	c.wait(time.Minute)
	c.mustBe(c.read(1, "vol-1", true), 0) // makes it hot
	if m := c.machine(1, "vol-1"); len(m.Held()) != 1 {
		t.Fatal("the lease expired without a proposer")
	}
	c.mustRead(1, "vol-1", 0)
	c.timers(1, 1)
	c.wait(full - 100*time.Millisecond)
	if !c.held(1, id) {
		t.Fatal("the successor did not count the full time")
	}
	c.wait(100 * time.Millisecond)
	if c.held(1, id) {
		t.Fatal("the lease did not expire")
	}
}

// TestExpiryWaitsForRoom: a deadline that passes while the pipeline is full is kept, and tried again.
func TestExpiryWaitsForRoom(t *testing.T) {
	c := newColony(t, 7)
	id := c.grantLock()
	c.wait(full - 100*time.Millisecond)
	c.lost = func(_, to int, m *paxos.Message) bool { return votesForFirst(to, m) }
	for n := range uint64(400) { // more than the pipeline and the next batch hold
		m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(n + 100), Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpDelete, Key: "none"}}}}
		c.send(0, wire.MethodTxn, m)
	}
	c.wait(120 * time.Millisecond)
	if lease := c.servers[0].core.leases; len(lease) != 1 || lease[0].expiring {
		t.Fatal("the pipeline is not full, so this test shows nothing")
	}
	c.lost = nil
	c.wait(2 * time.Second)
	if c.held(0, id) {
		t.Fatal("the lease did not expire")
	}
}

// TestLeasesExpireInOrder: many leases of several cells stand in one heap; each goes when it is due, not before.
func TestLeasesExpireInOrder(t *testing.T) {
	c := newColony(t, 7)
	due := map[cell.ID]map[cell.LeaseID]time.Duration{}
	sequence := uint64(0)
	for _, id := range []cell.ID{"vol-1", "vol-2", "vol-3"} {
		c.create(id)
		due[id] = map[cell.LeaseID]time.Duration{}
		for n := range 20 {
			sequence++
			ttl := time.Duration(1+(n*7)%20) * 100 * time.Millisecond
			r := c.answer(c.send(0, wire.MethodGrant, &wire.LeaseRequest{Header: header(id), Request: requestOf(sequence), Lease: cell.LeaseOp{TTL: ttl}}))
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			due[id][r.Result.(*wire.LeaseReply).Lease] = c.now + cell.LeaseRateBound*ttl
		}
	}
	c.timers(0, 60)
	for range 64 {
		c.wait(100 * time.Millisecond)
		for id, leases := range due {
			m := c.machine(0, id)
			for lease, at := range leases {
				if _, held := m.Lease(lease); held != (c.now < at) {
					t.Fatalf("at %v lease %d of %s is held: %t, due at %v", c.now, lease, id, held, at)
				}
			}
		}
	}
	c.timers(0, 0)
}

// TestDroppedNodeCountsNoLeases: a cell that is sealed and wiped leaves nothing in the heap that could be proposed.
func TestDroppedNodeCountsNoLeases(t *testing.T) {
	c := newColony(t, 7)
	c.grantLock()
	if r := c.seal(0, "vol-1"); r.Err != nil {
		t.Fatal(r.Err)
	}
	c.wait(full)
	c.timers(0, 0)
	if err := c.dropAt(0, "vol-1", 1, true); err != nil {
		t.Fatal(err)
	}
	c.wait(full)
	c.timers(0, 0)
}

// TestLeaseGate: what is wrong with a request about a lease is told before anything is logged.
func TestLeaseGate(t *testing.T) {
	good := cell.LeaseOp{ID: 1}
	for name, c := range map[string]struct {
		method string
		m      wire.LeaseRequest
	}{
		"no duration":       {wire.MethodGrant, wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(1)}},
		"no lease":          {wire.MethodRevoke, wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(1)}},
		"no cell":           {wire.MethodKeepAlive, wire.LeaseRequest{Header: header(""), Request: requestOf(1), Lease: good}},
		"no timeout":        {wire.MethodKeepAlive, wire.LeaseRequest{Header: wire.Header{Cell: "vol-1"}, Request: requestOf(1), Lease: good}},
		"the log's client":  {wire.MethodRevoke, wire.LeaseRequest{Header: header("vol-1"), Request: cell.Request{Client: cell.LogClient, Sequence: 1}, Lease: good}},
		"an unknown method": {"lease.expire", wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(1), Lease: good}},
	} {
		if _, err := ParseRequest(c.method, c.m.Append(nil)); err == nil || err.Kind != cell.Invalid || err.Op != c.method {
			t.Errorf("%s: %v", name, err)
		}
	}
}
