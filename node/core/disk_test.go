package core

import (
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// leader is the only server that leads vol-1.
func (c *colony) leader() int {
	c.t.Helper()
	led := c.leaders()
	if len(led) != 1 {
		c.t.Fatalf("vol-1 is led by %v", led)
	}
	return led[0]
}

// space sets how much room disks have, and lets the others hear of it.
func (c *colony) space(s Space, which ...int) {
	for _, i := range which {
		c.servers[i].core.SetSpace(s)
	}
	c.wait(acquainted)
}

// all are the seven servers of a colony.
var all = []int{0, 1, 2, 3, 4, 5, 6}

// TestStalledDiskGivesCellsAway: writes go on while the proposer's disk stalls, and soon another member leads, with a healthy disk and a
// read lease. When the disk goes on, the server counts as slow for a while, then as well; it lost nothing, and gets nothing back unasked.
func TestStalledDiskGivesCellsAway(t *testing.T) {
	c := supportedColony(t)
	c.servers[0].slow = true
	c.write(2, 300*time.Millisecond, 0) // with the votes of others; it makes a batch that waits
	c.wait(1200 * time.Millisecond)
	if stalled, slow, _ := c.servers[0].core.Disk(); !stalled || !slow {
		t.Errorf("stalled %v, slow %v", stalled, slow)
	}
	heir := c.leader()
	if heir == 0 {
		t.Fatal("the cell is still led by the server whose disk stalls")
	}
	if took := c.write(3, 3*time.Second, 0, heir); took > time.Second {
		t.Errorf("a write took %v", took)
	}
	c.mustRead(heir, "vol-1", 3)
	if b := c.servers[heir]; b.local == 0 {
		t.Error("the heir reads without a lease")
	}
	c.servers[0].slow = false
	c.wait(time.Second)
	if stalled, slow, _ := c.servers[0].core.Disk(); stalled || !slow {
		t.Errorf("just after the stall: stalled %v, slow %v", stalled, slow)
	}
	for i := 1; i < 7; i++ {
		if said := c.servers[i].core.server(serverID(0)).ailment; said == 0 {
			t.Errorf("%s has not heard that the disk was slow", serverID(i))
		}
	}
	c.wait(restMin * Default().SupportPeriod)
	for i := range all {
		if c.servers[i].core.disk.ill != 0 {
			t.Errorf("%s still believes that %d disks are ill", serverID(i), c.servers[i].core.disk.ill)
		}
	}
	c.mustCount(heir, "vol-1", 4, 4)
	if now := c.leader(); now != heir {
		t.Errorf("the cell went from %d to %d without need", heir, now)
	}
}

// TestSlowDiskRestsLonger each time that it stalls again soon, and not when the last time is long ago.
func TestSlowDiskRestsLonger(t *testing.T) {
	c := supportedColony(t)
	sequence := uint64(1)
	stall := func() (rested time.Duration) {
		c.servers[3].slow = true
		sequence++
		c.write(sequence, 3*time.Second, all...)
		c.wait(700 * time.Millisecond)
		c.servers[3].slow = false
		c.settle()
		c.wait(20 * time.Millisecond)
		k := c.servers[3].core
		if _, slow, _ := k.Disk(); !slow {
			t.Fatal("nobody has noticed the stall")
		}
		began := c.now
		for k.disk.slow && c.now-began < time.Hour {
			c.wait(100 * time.Millisecond)
		}
		return c.now - began
	}
	first, second := stall(), stall()
	if second < first*3/2 {
		t.Errorf("slow for %v, and after another stall for %v", first, second)
	}
	c.wait(2 * restMemory * second)
	if third := stall(); third >= second {
		t.Errorf("slow for %v, and long after that for %v", second, third)
	}
}

// TestStallOfAllMovesNothing: when all disks stall at once, nobody is better off, so nobody gives anything away; when they go on,
// the cell is led by whom it was, and served at once.
func TestStallOfAllMovesNothing(t *testing.T) {
	c := supportedColony(t)
	for i := range all {
		c.servers[i].slow = true
	}
	c.wait(3 * time.Second) // nothing but the disk's own probe finds out
	for i := range all {
		if stalled, _, _ := c.servers[i].core.Disk(); !stalled {
			t.Fatalf("%s has not noticed that its disk stalls", serverID(i))
		}
	}
	if now := c.leader(); now != 0 {
		t.Errorf("%s leads because all disks stall", serverID(now))
	}
	for i := range all {
		c.servers[i].slow = false
	}
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 2, 2)
}

// TestFullDiskOfAProposer: a proposer without room gives its cell to a member that has some, and goes on voting; new nodes are refused.
// A client that asks it is sent on.
func TestFullDiskOfAProposer(t *testing.T) {
	c := supportedColony(t)
	c.space(Low, 0)
	if now := c.leader(); now == 0 {
		t.Error("a server without room leads, although others have room")
	}
	c.write(2, time.Second, 0, c.leader())
	if err := c.createAt(0, foundingOf("vol-2", 1, all...)); err == nil || err.Kind != cell.Overloaded || !strings.Contains(err.Detail, "no room") {
		t.Errorf("a node on a disk without room: %v", err)
	}
	applied := c.servers[0].core.find("vol-1").hot.replica.Applied()
	c.mustCount(c.leader(), "vol-1", 3, 3)
	c.wait(time.Second)
	if h := c.servers[0].core.find("vol-1"); h.hot.replica.Applied() <= applied {
		t.Error("a server that is low on room does not follow")
	}
	c.space(Ample, 0)
	if err := c.createAt(0, foundingOf("vol-2", 1, all...)); err != nil {
		t.Errorf("a node when there is room again: %v", err)
	}
}

// TestFullDisksMakeACellReadOnly: three disks without room change nothing for a client. With four, writes are refused at once, with
// all names, by whoever leads; reads, also under a read lease, and keep-alives go on. When one has room again, writes pass without
// anybody doing anything.
func TestFullDisksMakeACellReadOnly(t *testing.T) {
	c := newColony(t, 7)
	lock := c.grantLock()
	c.wait(acquainted)
	c.space(Low, 1, 2, 3)
	c.mustCount(0, "vol-1", 9, 1)
	c.mustCount(0, "vol-1", 10, 2)
	c.space(Low, 4)
	for _, at := range []int{0, 0} {
		e := c.mustFail(c.count(at, "vol-1", 11), cell.NoRoom)
		if e.Kind.MaybeApplied() || e.RetryAfter <= 0 || e.Hint == "" {
			t.Errorf("%+v", e)
		}
		for _, i := range []int{1, 2, 3, 4} {
			if !strings.Contains(e.Detail, string(serverID(i))) {
				t.Errorf("%s is not named: %s", serverID(i), e.Detail)
			}
		}
	}
	local := c.servers[0].local
	c.mustRead(0, "vol-1", 2)
	if c.servers[0].local != local+1 {
		t.Error("reads are not answered under the read lease any more")
	}
	c.mustLease(0, wire.MethodKeepAlive, 12, cell.LeaseOp{ID: lock})
	c.space(Low, 0) // who leads has no room either
	c.mustFail(c.count(c.leader(), "vol-1", 13), cell.NoRoom)
	c.space(Ample, 2, 3)
	c.wait(acquainted)
	c.write(14, time.Second, c.leader())
	c.mustRead(c.leader(), "vol-1", 3)
}

// TestFullDiskVotesNoMore: below its last reserve a server writes no command, not even for others; it lags, serves what it has, and
// catches up when there is room.
func TestFullDiskVotesNoMore(t *testing.T) {
	c := supportedColony(t)
	c.space(Full, 5)
	for n := uint64(2); n < 40; n++ { // more than its ring holds
		c.mustCount(0, "vol-1", n, int64(n))
	}
	c.wait(time.Second)
	hot := c.servers[5].core.find("vol-1").hot
	if hot != nil && hot.replica.Applied() > 3 {
		t.Errorf("a server whose disk is full has applied slot %d", hot.replica.Applied())
	}
	c.space(Ample, 5)
	c.mustCount(0, "vol-1", 40, 40)
	c.wait(3 * time.Second)
	c.mustBe(c.read(5, "vol-1", true), 40)
}

// TestBusyDiskIsNotStalled: a disk that has more to do than it can, but moves, costs its server neither support nor leadership. New
// writes are refused early, reads under the lease go on, and when it has caught up, writes pass again.
func TestBusyDiskIsNotStalled(t *testing.T) {
	c := supportedColony(t)
	b := c.servers[0]
	b.slow = true
	sequence := uint64(1)
	for range 40 { // each batch becomes durable some 400 ms after it was handed over, one after the other
		sequence++
		c.submit(0, wire.MethodTxn, &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(sequence), Txn: increment("n")})
		c.wait(40 * time.Millisecond)
		if n := b.model.Last(); n > b.model.Durable()+10 {
			b.model.Sync(b.model.Durable() + 1)
		}
	}
	if stalled, slow, _ := b.core.Disk(); stalled || slow || c.leader() != 0 || !c.supports(1, 0) {
		t.Fatalf("a disk that moves: stalled %v, slow %v, led by %d, supported %v", stalled, slow, c.leader(), c.supports(1, 0))
	}
	e := c.mustFail(c.count(0, "vol-1", 1000), cell.Overloaded)
	if !strings.Contains(e.Detail, "disk") || e.RetryAfter <= 0 {
		t.Errorf("%+v", e)
	}
	local := b.local
	if r := c.read(0, "vol-1", false); r.Err != nil || b.local != local+1 {
		t.Errorf("a read under the lease: %v", r.Err)
	}
	b.slow = false
	c.wait(acquainted)
	if r := c.count(0, "vol-1", 1001); r.Err != nil {
		t.Errorf("a write when the disk has caught up: %v", r.Err)
	}
}
