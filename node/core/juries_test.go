package core

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

// A read lease across a change of the jury (rules 3 and 12). Node 7 was replaced by 8, chosen by nodes 1, 2, 5 and 6, and node 2
// has not heard that it is. The proposer keeps the support of 5, 6 and 8, a majority of the new jury with itself; 2, 3, 4 and
// 7 are a majority of the old one. They may elect node 2, and it may repeat what the old jury decided; but it must not turn 5, 6
// or 8 by that, since then it would lead the new jury, too, while the other one answers reads by itself.
func TestH02OldJuryDoesNotTurnSupporters(t *testing.T) {
	c := newColony(t, 8)
	c.create("vol-1")
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 1, 1)
	change := c.learn("vol-1", 6, 7)
	c.wait(settled)
	led := c.servers[0].core.find("vol-1")
	since := led.hot.replica.Applied() + 1 + paxos.Slot(led.configuration.Alpha)
	c.lost = func(from, to int, m *paxos.Message) bool {
		if m.Kind == 0 || from != 0 {
			return false
		}
		return to == 2 || to == 3 || to == 6 || to == 1 && (m.Kind == paxos.MsgChosen || m.Kind == paxos.MsgAccept && m.Slot >= since)
	}
	if _, err := c.ask(change); err != nil {
		t.Fatal(err)
	}
	far := func(i int) bool { return i == 1 || i == 2 || i == 3 || i == 6 }
	c.cut = func(from, to int, _ Lane) bool { return from == 0 && far(to) || to == 0 && far(from) }
	// Whoever lags hears that it does, but no lesson arrives: the bulk lane is down.
	c.lost = func(_, to int, m *paxos.Message) bool {
		return far(to) && (m.Kind == paxos.MsgTeach || m.Kind == paxos.MsgTeachAll)
	}
	c.wait(2 * time.Second)
	if led.configuration.Number != 2 || !c.servers[0].core.readLease(led) {
		t.Fatalf("%s has no read lease, so this test shows nothing", led.hot.replica.Describe())
	}
	led2 := false
	for attempt := range uint32(30) {
		m := &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(2), Txn: increment("n")}
		m.Header.Attempt, m.Header.Timeout = attempt, 90
		to := c.send(1, wire.MethodTxn, m)
		c.wait(100 * time.Millisecond)
		led2 = led2 || c.servers[1].core.find("vol-1").hot.replica.Role() == paxos.Proposer
		if r, ok := c.replies[to.ID]; ok && r.Err == nil && c.servers[0].core.readLease(led) {
			t.Fatalf("node 2 acknowledged %+v while node 1 holds a read lease", r.Result)
		}
	}
	if !led2 {
		t.Fatal("node 2 never led the old jury, so this test shows nothing")
	}
	c.cut, c.lost = nil, nil
	c.write(2, 5*time.Second, 0, 1, 2, 3, 4, 5)
	c.wait(settled)
	for i := range 5 {
		if r, ok := c.reach(wire.MethodRead, func(attempt uint32) wire.Message {
			m := &wire.ReadRequest{Header: header("vol-1"), Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}}
			m.Header.Attempt = attempt
			return m
		}); !ok || r.Err != nil {
			t.Fatalf("read %d after the partition: %+v", i, r)
		}
	}
}

// An heir campaigns only if it may vote: a server that was restarted, and that no peer has told yet what it remembers of it, may
// have forgotten what it accepted (rule 8). The ballot is free all the same.
func TestH10HeirThatMayNotVote(t *testing.T) {
	c := newColony(t, 7)
	c.create("vol-1")
	c.wait(acquainted)
	c.mustCount(0, "vol-1", 1, 1)
	c.wait(settled)
	c.cut = func(_, to int, lane Lane) bool { return to == 1 && lane == laneHeartbeat }
	c.crash(1, true)
	c.start(1)
	c.wait(100 * time.Millisecond)
	if err := c.servers[0].core.HandOver("vol-1", serverID(1)); err != nil {
		t.Fatal(err)
	}
	c.wait(200 * time.Millisecond)
	h := c.servers[1].core.find("vol-1")
	if c.servers[1].core.mayVote(h) {
		t.Fatal("the heir may vote, so this test shows nothing")
	}
	if h.hot != nil && h.hot.replica.Role() != paxos.Follower {
		t.Fatalf("a node that may not vote campaigned: %s", h.hot.replica.Describe())
	}
	c.write(2, 5*time.Second, 2, 3, 4)
}
