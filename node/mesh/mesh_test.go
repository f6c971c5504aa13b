package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/paxos"
)

func TestFramesArriveInOrderPerLane(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.knows(b)
	const frames, each = 1000, 3
	for i := range frames { // the first ones wait for the connection
		a.sends("s2", core.LanePaxos, "paxos", i*each, each)
		a.sends("s2", core.LaneBulk, "bulk", i*each, each)
	}
	eventually(t, "all messages arrive", func() bool { return b.received() == 2*frames*each })
	next := map[cell.ID]uint64{}
	for _, m := range b.messages {
		if m.From != "s1" || m.Envelope.Incarnation != 1 || m.Message.From != 1 || m.Message.To != 2 {
			t.Fatalf("message became %+v", m)
		}
		if id := m.Envelope.Cell; m.Message.Number != next[id] {
			t.Fatalf("lane %s: got message %d, want %d", id, m.Message.Number, next[id])
		}
		next[m.Envelope.Cell]++
	}
	if next["paxos"] != frames*each || next["bulk"] != frames*each {
		t.Errorf("the lanes carried %v", next)
	}
	if sent, dropped := a.Stats.FramesSent.Load(), a.Stats.FramesDropped.Load(); sent != 2*frames || dropped != 0 {
		t.Errorf("%d frames sent and %d dropped, want %d and 0", sent, dropped, 2*frames)
	}
	if got, writes := b.Stats.FramesReceived.Load(), a.Stats.Writes.Load(); got != 2*frames || writes > 2*frames {
		t.Errorf("%d frames received, sent by %d writes", got, writes)
	}
}

// TestStrangersAreRefused: both sides look at the Hello, so it does not matter who connects, and both count.
func TestStrangersAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"colony": func(c *Config) { c.Hello.Colony = "other" },
		"brick":  func(c *Config) { c.Hello.Brick = "b2" },
		"color":  func(c *Config) { c.Hello.Color = "blue" },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newStation(t, "s1"), newStation(t, "s2", change)
			a.knows(b)
			b.knows(a)
			for _, way := range [][2]*station{{a, b}, {b, a}} {
				from, to := way[0], way[1]
				before := [2]uint64{from.Stats.PeersRefused.Load(), to.Stats.PeersRefused.Load()}
				from.sends(to.id, core.LanePaxos, "x", 1, 1)
				from.sends(to.id, core.LaneBulk, "x", 1, 1)
				from.Keep([]cell.ServerID{to.id})
				eventually(t, "both sides count the refusals of three lanes", func() bool {
					return from.Stats.PeersRefused.Load() >= before[0]+3 && to.Stats.PeersRefused.Load() >= before[1]+3
				})
				from.Keep(nil)
			}
			if a.received()+b.received() != 0 || a.heardOf("s2")+b.heardOf("s1") != 0 {
				t.Error("something crossed the border")
			}
		})
	}
}

func TestHelloRefusals(t *testing.T) {
	s := newStation(t, "s1")
	for _, c := range []struct {
		name    string
		change  func(*wire.Hello)
		purpose wire.Purpose
		says    string
	}{
		{"client", func(*wire.Hello) {}, wire.ForClient, "purpose 1"},
		{"unknown purpose", func(*wire.Hello) {}, 77, "purpose 77"},
		{"no identity", func(h *wire.Hello) { h.Server = "" }, wire.ForPaxos, "no valid server identity"},
		{"own identity", func(h *wire.Hello) { h.Server = "s1" }, wire.ForPaxos, "is this server"},
		{"color", func(h *wire.Hello) { h.Color = "blue" }, wire.ForHeartbeat, `color "blue"`},
	} {
		before := s.Stats.PeersRefused.Load()
		hello := helloOf("s2")
		c.change(&hello)
		_, err := dialAs(t, s, hello, c.purpose)
		if !errors.Is(err, cell.Refused) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.says)
		}
		eventually(t, c.name+" is counted", func() bool { return s.Stats.PeersRefused.Load() == before+1 })
	}
}

// TestWrongIdentityAtAnAddress: an address is a rumour, and may lead to another server of the same pool.
func TestWrongIdentityAtAnAddress(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.locked(func() { a.where["s3"] = b.addr })
	a.Keep([]cell.ServerID{"s3"})
	a.sends("s3", core.LanePaxos, "x", 1, 1)
	eventually(t, "both lanes are refused", func() bool { return a.Stats.PeersRefused.Load() >= 2 })
	if b.received() != 0 || b.heardOf("s1") != 0 {
		t.Error("another server got what was meant for s3")
	}
}

func TestMalformedFrameEndsTheLane(t *testing.T) {
	head := func(count int) []byte { return peer.FrameHead{Count: count}.Append(nil) }
	good := append(head(1), message("x", 1)...)
	flipped := frame(good)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		purpose wire.Purpose
		bytes   []byte
	}{
		"garbage":             {wire.ForPaxos, frame([]byte("garbage"))},
		"flipped bit":         {wire.ForPaxos, flipped},
		"empty":               {wire.ForBulk, make([]byte, wire.FrameHeaderBytes)},
		"too large":           {wire.ForPaxos, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		"too many messages":   {wire.ForPaxos, frame(append(head(peer.FrameMessagesMax+1), message("x", 1)...))},
		"fewer than it says":  {wire.ForPaxos, frame(append(head(2), message("x", 1)...))},
		"more than it says":   {wire.ForBulk, frame(append(head(0), message("x", 1)...))},
		"message on heart":    {wire.ForHeartbeat, frame(good)},
		"heartbeat elsewhere": {wire.ForPaxos, frame(peer.AppendHeartbeat(nil, &peer.Heartbeat{Sequence: 1, Echo: 1}))},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStation(t, "s1")
			nc := mustDialAs(t, s, helloOf("s2"), c.purpose)
			other := mustDialAs(t, s, helloOf("s3"), wire.ForPaxos)
			if _, err := nc.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			mustEnd(t, nc)
			eventually(t, "it is counted", func() bool { return s.Stats.Malformed.Load() == 1 })
			if s.received() != 0 || s.heardOf("s2") != 0 {
				t.Error("something of the frame was believed")
			}
			if _, err := other.Write(frame(good)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "another peer's frame arrives", func() bool { return s.received() == 1 })
		})
	}
}

// TestTornFrameIsNotMalformed: a connection that ends within a frame is a crash, not a broken peer.
func TestTornFrameIsNotMalformed(t *testing.T) {
	s := newStation(t, "s1")
	whole := frame(append(peer.FrameHead{Count: 1}.Append(nil), message("x", 1)...))
	nc := mustDialAs(t, s, helloOf("s2"), wire.ForPaxos)
	if _, err := nc.Write(append(whole, whole[:len(whole)-1]...)); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	eventually(t, "the lane is over", func() bool {
		s.Mesh.mu.Lock()
		defer s.Mesh.mu.Unlock()
		return len(s.accepted) == 0
	})
	if got, bad := s.received(), s.Stats.Malformed.Load(); got != 1 || bad != 0 {
		t.Errorf("%d messages and %d malformed frames, want 1 and 0", got, bad)
	}
}

func TestReconnectsAfterThePeerRestarts(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.knows(b)
	a.Keep([]cell.ServerID{"s2"})
	a.sendsUntil(t, b)
	eventually(t, "a heartbeat arrives", func() bool { return a.isHeard(b) })
	b.Close()
	eventually(t, "the peer's absence is noticed", func() (gone bool) {
		a.locked(func() { gone = a.gone["s2"] > 0 })
		return gone
	})
	eventually(t, "frames are dropped while it is away", func() bool {
		a.sends("s2", core.LanePaxos, "lost", 1, 1)
		return a.Stats.FramesDropped.Load() > 0
	})
	var ln net.Listener
	eventually(t, "the port is free again", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", b.addr)
		return err == nil
	})
	again := stationOn(t, ln, "s2", func(c *Config) { c.Hello.Boot = 2 })
	a.sendsUntil(t, again)
	eventually(t, "heartbeats are back", func() bool { return a.isHeard(again) })
	again.locked(func() {
		for _, m := range again.messages {
			if m.Envelope.Cell == "lost" {
				t.Error("a frame from before the restart was kept and sent")
			}
		}
	})
}

// TestNewAddressIsUsedAtOnce: whoever learns an address says so, and the lanes do not wait for their turn.
func TestNewAddressIsUsedAtOnce(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.Keep([]cell.ServerID{"s2"})
	eventually(t, "an unknown address drops frames", func() bool {
		a.sends("s2", core.LanePaxos, "x", 1, 1)
		return a.Stats.FramesDropped.Load() > 0
	})
	if a.Stats.Dials.Load() != 0 {
		t.Error("it dialled nobody knows where")
	}
	a.knows(b)
	a.Retry("s2")
	a.sendsUntil(t, b)
}

// TestQueueIsBoundedWhenThePeerDoesNotRead fills a lane whose peer takes nothing.
func TestQueueIsBoundedWhenThePeerDoesNotRead(t *testing.T) {
	a := newStation(t, "s1")
	addr := deaf(t, "s2", wire.ForPaxos)
	a.locked(func() { a.where["s2"] = addr })
	o := core.PeerOut{To: "s2", Lane: core.LanePaxos, Count: 1, Body: make([]byte, 1<<20)}
	for a.Stats.FramesDropped.Load() == 0 { // ends: what the kernel and the queue take is bounded
		a.Send(&o, 1)
		l := a.link(linkKey{"s2", core.LanePaxos})
		l.mu.Lock()
		if len(l.queued) > paxosQueueBytes {
			t.Errorf("%d bytes are queued, allowed are %d", len(l.queued), paxosQueueBytes)
		}
		l.mu.Unlock()
	}
}

// TestFramesBeyondTheReceiversBoundsStayHere: they would end the lane over there, again and again.
func TestFramesBeyondTheReceiversBoundsStayHere(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.knows(b)
	a.Send(&core.PeerOut{To: "s2", Lane: core.LaneBulk, Count: 1, Body: make([]byte, wire.PeerFrameMax)}, 1)
	a.Send(&core.PeerOut{To: "s2", Lane: core.LaneBulk, Count: peer.FrameMessagesMax + 1, Body: make([]byte, 9)}, 1)
	if n := a.Stats.FramesDropped.Load(); n != 2 {
		t.Errorf("%d frames were dropped, want 2", n)
	}
	a.sends("s2", core.LaneBulk, "x", 1, 1)
	eventually(t, "the lane works", func() bool { return b.received() == 1 })
	if b.Stats.Malformed.Load() != 0 {
		t.Error("a frame out of bounds was sent")
	}
}

// TestOneLaneCannotFillTheInbox: what a lane may have waiting for the loop is bounded, and it goes on afterwards.
func TestOneLaneCannotFillTheInbox(t *testing.T) {
	s := newStation(t, "s1")
	s.hold = true
	nc := mustDialAs(t, s, helloOf("s2"), wire.ForBulk)
	body := peer.FrameHead{Count: 4}.Append(nil)
	for range 4 {
		body = peer.AppendMessage(body, &peer.Envelope{Cell: "x", Incarnation: 1}, &paxos.Message{Kind: paxos.MsgAccept, From: 1, To: 2,
			Entry: paxos.Entry{Kind: paxos.Commands, Commands: [][]byte{make([]byte, 250<<10)}}})
	}
	one := frame(body)
	for sent := 0; s.Stats.FramesOverrun.Load() == 0; sent += len(body) {
		if sent > 4*laneWaitingBytes {
			t.Fatalf("%d bytes wait, allowed are %d", sent, laneWaitingBytes)
		}
		if _, err := nc.Write(one); err != nil {
			t.Fatal(err)
		}
	}
	other := mustDialAs(t, s, helloOf("s3"), wire.ForPaxos)
	before := s.received()
	if _, err := other.Write(frame(append(peer.FrameHead{Count: 1}.Append(nil), message("x", 1)...))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another lane is not affected", func() bool { return s.received() > before })
	s.locked(func() {
		for _, b := range s.held {
			b.Recycle()
		}
		s.hold, s.held, s.messages = false, nil, nil
	})
	eventually(t, "the lane goes on", func() bool {
		if _, err := nc.Write(one); err != nil {
			t.Fatal(err)
		}
		return s.received() > 0
	})
}

func TestKeepStartsAndStops(t *testing.T) {
	a, b, c := newStation(t, "s1"), newStation(t, "s2"), newStation(t, "s3")
	a.knows(b, c)
	a.Keep([]cell.ServerID{"s2", "s3"})
	a.sendsUntil(t, b)
	eventually(t, "both are beaten to", func() bool { return a.isHeard(b) && a.isHeard(c) })
	a.Keep([]cell.ServerID{"s3"})
	eventually(t, "all lanes to s2 end", func() bool {
		b.Mesh.mu.Lock()
		defer b.Mesh.mu.Unlock()
		return len(b.accepted) == 0 && len(b.inbound) == 0
	})
	silent, before := b.heardOf("s1"), c.heardOf("s1")
	eventually(t, "s3 is still beaten to", func() bool { a.beat("s2"); a.beat("s3"); return c.heardOf("s1") > before+10 })
	if b.heardOf("s1") != silent {
		t.Error("s2 is still beaten to")
	}
	a.Keep([]cell.ServerID{"s2"})
	eventually(t, "s2 is beaten to again", func() bool { a.beat("s2"); return b.heardOf("s1") > silent })
}

// TestNewestHeartbeatLeaves: rule 13. The mesh carries what it is given, and nothing that is out of date.
func TestNewestHeartbeatLeaves(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.Keep([]cell.ServerID{"s2"}) // no address is known
	for range 10 {
		a.beat("s2")
	}
	if n := a.Stats.HeartbeatsReplaced.Load(); n != 9 {
		t.Errorf("%d of 10 heartbeats were replaced by newer ones, want 9", n)
	}
	a.knows(b)
	a.Retry("s2")
	eventually(t, "one arrives", func() bool { return b.heardOf("s1") > 0 })
	b.locked(func() {
		if b.heard["s1"] != 1 || b.newest != (peer.Heartbeat{Boot: 1, Sequence: 10, Durable: 10}) {
			t.Errorf("%d arrived, the newest is %+v", b.heard["s1"], b.newest)
		}
	})
	eventually(t, "the next ones arrive on the same connection", func() bool { a.beat("s2"); return b.heardOf("s1") > 3 })
}

// TestForwardsHaveALane: what clients ask never delays a vote, nor does it look like one.
func TestForwardsHaveALane(t *testing.T) {
	got := make(chan peer.Forward, 1)
	a := newStation(t, "s1")
	b := newStation(t, "s2", func(c *Config) {
		c.Messages = func(batch *Batch) {
			if batch.Lane == core.LaneForward && batch.From == "s1" && batch.Boot == 1 && batch.Durable == 7 {
				got <- batch.Forwards[0]
			}
			batch.Recycle()
		}
	})
	a.knows(b)
	f := peer.Forward{ID: 9, Boot: 1, Method: "cell.txn", Body: []byte("params")}
	a.Send(&core.PeerOut{To: "s2", Lane: core.LaneForward, Count: 1, Body: peer.AppendForward(nil, &f)}, 7)
	if arrived := <-got; arrived.ID != 9 || arrived.Method != f.Method || string(arrived.Body) != "params" {
		t.Errorf("%+v arrived", arrived)
	}
}

// TestHeartbeatOfAnotherBootEndsTheLane: who a heartbeat is of is what the Hello says.
func TestHeartbeatOfAnotherBootEndsTheLane(t *testing.T) {
	s := newStation(t, "s1")
	nc := mustDialAs(t, s, helloOf("s2"), wire.ForHeartbeat)
	if _, err := nc.Write(frame(peer.AppendHeartbeat(nil, &peer.Heartbeat{Boot: 2, Sequence: 1}))); err != nil {
		t.Fatal(err)
	}
	mustEnd(t, nc)
	if s.heardOf("s2") != 0 {
		t.Error("it was believed")
	}
}

// TestNewestConnectionIsTheLane: of a half-open connection this side may never hear the end.
func TestNewestConnectionIsTheLane(t *testing.T) {
	s := newStation(t, "s1")
	young := helloOf("s2")
	young.Boot = 5
	one := frame(append(peer.FrameHead{Count: 1}.Append(nil), message("x", 1)...))
	first := mustDialAs(t, s, young, wire.ForPaxos)
	if _, err := first.Write(one); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first connection works", func() bool { return s.received() == 1 }) // the Hellos alone do not make it the lane yet
	second := mustDialAs(t, s, young, wire.ForPaxos)
	mustEnd(t, first)
	bulk := mustDialAs(t, s, young, wire.ForBulk) // another lane
	if _, err := dialAs(t, s, helloOf("s2"), wire.ForPaxos); !errors.Is(err, cell.Stale) {
		t.Errorf("an earlier life of the peer connects: %v", err)
	}
	for i, nc := range []net.Conn{second, bulk} {
		if _, err := nc.Write(one); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the newer connections work", func() bool { return s.received() == i+2 })
	}
}

// TestMessagesComeWithNames: one for each cell, on whatever lane its messages come.
func TestMessagesComeWithNames(t *testing.T) {
	a, b := newStation(t, "s1"), newStation(t, "s2")
	a.knows(b)
	for _, lane := range []core.Lane{core.LanePaxos, core.LaneBulk} {
		a.sends("s2", lane, "one", 0, 2)
		a.sends("s2", lane, "other", 0, 2)
	}
	eventually(t, "all messages arrive", func() bool { return b.received() == 8 })
	names := map[cell.ID]*core.Name{}
	for _, m := range b.messages {
		id := m.Envelope.Cell
		if m.Name == nil || m.Name.ID != id {
			t.Fatalf("a message to %s comes with the name %v", id, m.Name)
		}
		if names[id] == nil {
			names[id] = m.Name
		}
		if names[id] != m.Name {
			t.Errorf("%s has two names", id)
		}
	}
}

// TestNamesAreBounded: peers cannot make a mesh remember any number of names, on however many lanes they send them.
func TestNamesAreBounded(t *testing.T) {
	n := names{all: make(map[string]*core.Name)}
	var lanes sync.WaitGroup
	for lane := range 3 {
		lanes.Go(func() {
			for i := range namesMax { // half of them another lane's, too
				want := fmt.Sprintf("cell-%d", i+lane*namesMax/2)
				if got := n.of([]byte(want)); string(got.ID) != want {
					t.Errorf("%s became %s", want, got.ID)
					return
				}
			}
		})
	}
	lanes.Wait()
	if len(n.all) > namesMax {
		t.Errorf("%d names are kept, allowed are %d", len(n.all), namesMax)
	}
	if one, same := n.of([]byte("cell-1")), n.of([]byte("cell-1")); one != same {
		t.Error("a cell has two names at the same time")
	}
	if got := n.of([]byte("../etc/passwd")); got != nil {
		t.Errorf("a name that no cell can have became %q", got.ID)
	}
}

// TestCloseEndsDialsUnderWay: an address may lead into the void.
func TestCloseEndsDialsUnderWay(t *testing.T) {
	dialling := make(chan struct{}, 10)
	a := newStation(t, "s1", func(c *Config) {
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialling <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	a.locked(func() { a.where["s2"] = "192.0.2.1:1" })
	a.Keep([]cell.ServerID{"s2"})
	a.sends("s2", core.LanePaxos, "x", 1, 1)
	a.sends("s2", core.LaneBulk, "x", 1, 1)
	for range 3 {
		<-dialling
	}
	silent, err := net.Dial("tcp", a.addr) // accepted, and never says Hello
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a.Close() // goleak would tell
	a.Keep([]cell.ServerID{"s3"})
	a.Retry("s2")
	a.sends("s3", core.LanePaxos, "x", 1, 1)
	if a.Stats.FramesDropped.Load() == 0 {
		t.Error("a closed mesh took a frame")
	}
}

// TestQueueingAFrameAllocatesNothing: once a lane's buffers have grown, a turn's frame for a peer is one copy.
func TestQueueingAFrameAllocatesNothing(t *testing.T) {
	a := newStation(t, "s1")
	l := newLink(a.Mesh, linkKey{"s2", core.LanePaxos})
	defer l.cancel()
	o := core.PeerOut{To: "s2", Count: 1, Body: message("x", 1)}
	var spare []byte
	if n := testing.AllocsPerRun(1000, func() {
		if !l.add(&o, 1) {
			t.Fatal("it was dropped")
		}
		spare, _ = l.take(spare)
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}

// BenchmarkFrames carries frames of 16 small messages from one mesh to another over loopback.
func BenchmarkFrames(b *testing.B) {
	from, to := newStation(b, "s1"), newStation(b, "s2", func(c *Config) { c.Messages = func(batch *Batch) { batch.Recycle() } })
	from.knows(to)
	o := core.PeerOut{To: "s2", Lane: core.LanePaxos, Count: 16}
	for i := range 16 {
		o.Body = append(o.Body, message("vol-17", i)...)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range uint64(b.N) {
		for i-to.Stats.FramesReceived.Load() > 1000 {
			eventually(b, "the receiver keeps up", func() bool { return i-to.Stats.FramesReceived.Load() < 500 })
		}
		from.Send(&o, i)
	}
	eventually(b, "all frames arrive", func() bool { return to.Stats.FramesReceived.Load() == uint64(b.N) })
}
