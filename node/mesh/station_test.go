package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/paxos"
)

// patience is how long a test waits for what must happen; it is never how long something takes.
const patience = time.Minute

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// station is a mesh on loopback that notes everything it is told.
type station struct {
	*Mesh
	id   cell.ServerID
	addr string

	mu       sync.Mutex
	messages []core.PeerMessage
	heard    map[cell.ServerID]int
	gone     map[cell.ServerID]int
	where    map[cell.ServerID]string
	newest   peer.Heartbeat // that was heard
	beats    uint64         // handed over
	hold     bool           // batches are kept in held instead of recycled
	held     []*Batch       // see hold
}

func helloOf(id cell.ServerID) wire.Hello {
	return wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Colony: "col", Brick: "b1", Color: "red", Server: id, Boot: 1}
}

func newStation(t testing.TB, id cell.ServerID, change ...func(*Config)) *station {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return stationOn(t, ln, id, change...)
}

func stationOn(t testing.TB, ln net.Listener, id cell.ServerID, change ...func(*Config)) *station {
	s := &station{id: id, addr: ln.Addr().String(), heard: make(map[cell.ServerID]int), gone: make(map[cell.ServerID]int),
		where: make(map[cell.ServerID]string)}
	cfg := Config{Hello: helloOf(id), Listener: ln, Resolve: s.resolve, Messages: s.take,
		Beat:   func(id cell.ServerID, h peer.Heartbeat) { s.locked(func() { s.heard[id]++; s.newest = h }) },
		Gone:   func(id cell.ServerID) { s.locked(func() { s.gone[id]++ }) },
		Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	s.Mesh = New(cfg)
	t.Cleanup(s.Close)
	return s
}

func (s *station) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *station) resolve(id cell.ServerID) (addr string) {
	s.locked(func() { addr = s.where[id] })
	return addr
}

// knows tells a station where some others are.
func (s *station) knows(others ...*station) {
	s.locked(func() {
		for _, o := range others {
			s.where[o.id] = o.addr
		}
	})
}

// beat hands over one more heartbeat to a peer.
func (s *station) beat(to cell.ServerID) {
	s.locked(func() { s.beats++ })
	s.Beat(&core.Beat{To: to, Heartbeat: peer.Heartbeat{Boot: 1, Sequence: s.beats, Durable: s.beats}})
}

// isHeard beats to a peer once and reports whether the peer heard anything by now.
func (s *station) isHeard(by *station) bool {
	s.beat(by.id)
	return by.heardOf(s.id) > 0
}

func (s *station) take(b *Batch) {
	s.locked(func() {
		s.messages = append(s.messages, b.Messages...)
		if s.hold {
			s.held = append(s.held, b)
			return
		}
		b.Recycle()
	})
}

func (s *station) received() (n int) {
	s.locked(func() { n = len(s.messages) })
	return n
}

func (s *station) heardOf(id cell.ServerID) (n int) {
	s.locked(func() { n = s.heard[id] })
	return n
}

// message is one small message that carries a number.
func message(id cell.ID, number int) []byte {
	return peer.AppendMessage(nil, &peer.Envelope{Cell: id, Incarnation: 1, Configuration: 1},
		&paxos.Message{Kind: paxos.MsgConfirm, From: 1, To: 2, Ballot: paxos.Ballot{Round: 1, Node: 1}, Number: uint64(number)})
}

// sends queues one frame of count messages numbered from first on.
func (s *station) sends(to cell.ServerID, lane core.Lane, id cell.ID, first, count int) {
	o := core.PeerOut{To: to, Lane: lane, Count: count}
	for i := range count {
		o.Body = append(o.Body, message(id, first+i)...)
	}
	s.Send(&o, 7)
}

// sendsUntil repeats a frame, as Paxos would, until the receiver has heard of it.
func (s *station) sendsUntil(t testing.TB, to *station) {
	t.Helper()
	before := to.received()
	eventually(t, "a message arrives", func() bool {
		s.sends(to.id, core.LanePaxos, "again", 1, 1)
		return to.received() > before
	})
}

// frame is the bytes of one frame with this body.
func frame(body []byte) []byte { return wire.EndFrame(append(wire.BeginFrame(nil), body...), 0) }

// dialAs connects to a station as a peer that is no mesh.
func dialAs(t testing.TB, s *station, hello wire.Hello, purpose wire.Purpose) (*rpc.Stream, error) {
	t.Helper()
	hello.Purpose = purpose
	stream, err := rpc.DialStream(context.Background(), s.addr, rpc.Config{Hello: hello})
	if err == nil {
		t.Cleanup(func() { stream.Conn.Close() })
	}
	return stream, err
}

func mustDialAs(t testing.TB, s *station, hello wire.Hello, purpose wire.Purpose) net.Conn {
	t.Helper()
	stream, err := dialAs(t, s, hello, purpose)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Conn
}

// mustEnd waits until the other side closes a connection.
func mustEnd(t testing.TB, nc net.Conn) {
	t.Helper()
	if err := nc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Fatal("the mesh answered on a lane")
	} else if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the lane was not closed")
	}
}

// deaf listens as a peer that shakes hands for some purposes, refuses the others, and never reads.
func deaf(t testing.TB, id cell.ServerID, purposes ...wire.Purpose) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return // closed: the test is over
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			nc.SetDeadline(time.Now().Add(patience))
			rpc.AcceptStream(nc, rpc.Config{Hello: helloOf(id), Check: func(h wire.Hello) *cell.Error {
				for _, p := range purposes {
					if h.Purpose == p {
						return nil
					}
				}
				return refuse(refusal.WrongRole, "not this lane")
			}})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
		for _, nc := range open {
			nc.Close()
		}
	})
	return ln.Addr().String()
}
