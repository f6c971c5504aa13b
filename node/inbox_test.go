package node

import (
	"maps"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/node/mesh"
	"physalia/node/storage"
)

func batchOf(messages, bytes int) *mesh.Batch {
	return &mesh.Batch{Messages: make([]core.PeerMessage, messages), Bytes: bytes}
}

func TestInboxIsBounded(t *testing.T) {
	b := newInbox(10)
	request := func(bytes int) *cell.Error {
		return b.request(&core.Request{Header: wire.Header{Cell: "vol-1"}}, wire.MethodTxn, bytes)
	}
	full := func() {
		t.Helper()
		if e := request(1); e == nil || e.Kind != cell.Overloaded || e.RetryAfter <= 0 || e.Cell != "vol-1" || e.Op != wire.MethodTxn {
			t.Errorf("request beyond the bound: %v", e)
		}
	}
	if !b.peerMessages(batchOf(6, 1)) || !b.peerMessages(batchOf(4, 1)) {
		t.Error("messages within the bound were refused")
	}
	if b.peerMessages(batchOf(1, 1)) {
		t.Error("an eleventh message was taken")
	}
	for range 10 {
		if err := request(1); err != nil {
			t.Fatal(err)
		}
	}
	full()
	in := b.swap(newIntake(), queued{})
	if len(in.peers) != 2 || in.messages != 10 || len(in.requests) != 10 {
		t.Errorf("taken are %d frames of %d messages and %d requests", len(in.peers), in.messages, len(in.requests))
	}
	if !b.peerMessages(batchOf(1, inboxPeerBytesMax)) || b.peerMessages(batchOf(1, 1)) {
		t.Error("frames are not bounded in bytes")
	}
	if err := request(inboxRequestBytesMax); err != nil {
		t.Error(err)
	}
	full()
	for range inboxAsksMax {
		if err := b.ask("m", func(*core.Core) {}); err != nil {
			t.Fatal(err)
		}
	}
	if e := b.ask("m", func(*core.Core) {}); e == nil || e.Kind != cell.Overloaded {
		t.Errorf("question beyond the bound: %v", e)
	}
}

// TestInboxKeepsTheNewestSign: a peer that restarts is gone and then heard, and must not be gone in the end; of its heartbeats
// the newest is kept, whichever connection brought it.
func TestInboxKeepsTheNewestSign(t *testing.T) {
	b := newInbox(10)
	for i := range uint64(1000) {
		b.beat("a", peer.Heartbeat{Boot: 1, Sequence: i + 1})
		b.gone("a")
		b.gone("b")
		b.beat("b", peer.Heartbeat{Boot: 1, Sequence: i + 1})
		b.beat("c", peer.Heartbeat{Boot: 2, Sequence: 1000 - i})
		b.beat("c", peer.Heartbeat{Boot: 1, Sequence: 5000})
		b.address("c", "old")
		b.address("c", "new")
	}
	in := b.swap(newIntake(), queued{})
	if want := map[cell.ServerID]bool{"a": true}; !maps.Equal(in.gone, want) {
		t.Errorf("gone are %v, want %v", in.gone, want)
	}
	if want := map[cell.ServerID]peer.Heartbeat{"a": {Boot: 1, Sequence: 1000}, "b": {Boot: 1, Sequence: 1000}, "c": {Boot: 2, Sequence: 1000}}; !maps.Equal(in.beats, want) {
		t.Errorf("heartbeats are %v, want %v", in.beats, want)
	}
	if want := map[cell.ServerID]string{"c": "new"}; !maps.Equal(in.addresses, want) {
		t.Errorf("addresses are %v, want %v", in.addresses, want)
	}
}

func TestClosedInboxRefusesButTakesReports(t *testing.T) {
	b := newInbox(10)
	b.close()
	if e := b.request(&core.Request{}, wire.MethodTxn, 1); e == nil || e.Kind != cell.Unavailable {
		t.Errorf("request: %v", e)
	}
	if e := b.ask("m", func(*core.Core) {}); e == nil || e.Kind != cell.Unavailable {
		t.Errorf("question: %v", e)
	}
	if b.peerMessages(batchOf(1, 1)) {
		t.Error("a message was taken")
	}
	sink := &storageSink{inbox: b}
	sink.Durable(7)
	sink.Durable(5)
	sink.ReadDone(3, nil, nil)
	if in := b.swap(newIntake(), queued{}); in.durable != 7 || len(in.loaded) != 1 || in.loaded[0].id != 3 {
		t.Errorf("reports are %d and %+v", in.durable, in.loaded)
	}
}

func TestIntakeIsEmptyAfterReset(t *testing.T) {
	b := newInbox(10)
	b.peerMessages(batchOf(2, 100))
	b.request(&core.Request{}, wire.MethodTxn, 50)
	b.ask("m", func(*core.Core) {})
	b.beat("a", peer.Heartbeat{Boot: 1, Sequence: 1})
	b.address("a", "x")
	(&storageSink{inbox: b}).Durable(1)
	(&storageSink{inbox: b}).ReadDone(1, []storage.Pair{{}}, nil)
	in := b.swap(newIntake(), queued{})
	peers, requests, asks, loads := in.peers, in.requests, in.asks, in.loaded
	in.reset()
	if in.messages+in.peerBytes+in.requestBytes+int(in.durable)+len(in.peers)+len(in.requests)+len(in.asks)+len(in.loaded)+len(in.beats)+len(in.gone)+len(in.addresses) != 0 {
		t.Errorf("left over is %+v", in)
	}
	if peers[0] != nil || requests[0] != nil || asks[0] != nil || loads[0].pairs != nil {
		t.Error("a reset intake keeps what it held alive")
	}
}

// TestInboxWakesTheLoop: whatever comes from wherever, one look after the wake finds it.
func TestInboxWakesTheLoop(t *testing.T) {
	b := newInbox(1 << 20)
	const posters, each = 8, 500
	var wg sync.WaitGroup
	for range posters {
		wg.Go(func() {
			for range each {
				if err := b.ask("m", func(*core.Core) {}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	deadline := time.After(patience)
	for got := 0; got < posters*each; {
		select {
		case <-b.wake:
			got += len(b.swap(newIntake(), queued{}).asks)
		case <-deadline:
			t.Fatalf("%d of %d questions arrived, and nobody wakes the loop", got, posters*each)
		}
	}
	wg.Wait()
}

func TestBacklog(t *testing.T) {
	var b backlog
	b.handed(4, 100, 0)
	b.handed(5, 200, 10)
	b.handed(6, backlogBytesMax, 20)
	if !b.full() {
		t.Error("it is not full")
	}
	var took []time.Duration
	note := func(d time.Duration) { took = append(took, d) }
	b.reached(3, 25, note)
	b.reached(5, 30, note)
	if len(took) != 2 || took[0] != 30 || took[1] != 20 || b.bytes != backlogBytesMax {
		t.Errorf("took %v, %d bytes are left", took, b.bytes)
	}
	b.reached(6, 40, note)
	if b.full() || b.bytes != 0 || len(took) != 3 {
		t.Errorf("with all durable: %d bytes", b.bytes)
	}
}

// TestDiskThatIsBehindTakesNothingIn: storage queues without bound, so the loop must not feed it without bound.
func TestDiskThatIsBehindTakesNothingIn(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	c.follow("vol-1", request(1), putTxn("k", cell.Int(1)), 0)
	behind := func(by int) {
		t.Helper()
		for _, s := range c.servers {
			done := make(chan struct{})
			if err := s.inbox.ask("test", func(*core.Core) { s.loop.backlog.bytes += by; close(done) }); err != nil {
				t.Fatal(err)
			}
			<-done
		}
	}
	conn := c.connect(0)
	behind(backlogBytesMax)
	if _, err := txn(conn, "vol-1", request(2), putTxn("k", cell.Int(2)), 0); cell.KindOf(err) != cell.Overloaded {
		t.Errorf("with a disk that is behind: %v", err)
	}
	behind(-backlogBytesMax)
	c.follow("vol-1", request(3), putTxn("k", cell.Int(3)), 0)
	c.mustRead("vol-1", "k", 3, 0)
}

// What is put while the loop still passes for deaf, and finds nothing to wait for at the end of its turn, wakes it then.
func TestInboxWakesForWhatCameWhileTheLoopTurned(t *testing.T) {
	b := newInbox(10)
	woken := func() bool {
		select {
		case <-b.wake:
			return true
		default:
			return false
		}
	}
	b.rest(true)
	b.peerMessages(batchOf(1, 1))
	if woken() {
		t.Error("a frame wakes the loop, which waits for storage")
	}
	b.report(func(in *intake) { in.durable = 1 })
	if !woken() {
		t.Error("a report of storage does not wake the loop")
	}
	b.swap(newIntake(), queued{})
	b.rest(false)
	if woken() {
		t.Error("the loop is woken for what it took")
	}
	b.rest(true)
	b.swap(newIntake(), queued{})
	b.peerMessages(batchOf(1, 1)) // in the middle of the turn
	b.rest(false)
	if !woken() {
		t.Error("a frame that came in the middle of a turn waits for the next tick")
	}
}
