package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// Config says who this server is and whom to tell what arrives. The functions are called from the mesh's goroutines and
// must not block.
type Config struct {
	Hello    wire.Hello                                              // colony, brick, color, server, boot of this server
	Listener net.Listener                                            // where peers connect
	Resolve  func(cell.ServerID) string                              // a server's peer address, empty when unknown
	Messages func(batch *[]core.PeerMessage)                         // what one frame carried; give it back with Recycle
	Heard    func(cell.ServerID)                                     // a heartbeat arrived
	Gone     func(cell.ServerID)                                     // nothing listens at the peer's address
	Dial     func(context.Context, string, string) (net.Conn, error) // nil: plain TCP
	// HeartbeatEvery is the interval of heartbeats to each peer; the first is smeared over it.
	HeartbeatEvery time.Duration
	Logger         *slog.Logger
}

// Bounds of the mesh.
const (
	paxosQueueBytes = 16 << 20 // queued per peer on the Paxos lane
	bulkQueueBytes  = 64 << 20 // queued per peer on the bulk lane
	dialBackoffMin  = 50 * time.Millisecond
	dialBackoffMax  = time.Second
	writeTimeout    = 10 * time.Second
	handshakeTime   = 5 * time.Second
	readBuffer      = 64 << 10
)

// Stats counts what went through the mesh; all numbers only grow.
type Stats struct {
	FramesSent, BytesSent, FramesDropped    atomic.Uint64
	FramesReceived, MessagesReceived        atomic.Uint64
	Refused, Dials, Malformed, PeersRefused atomic.Uint64
}

// Mesh is the peer connections of one server. Its methods are safe for concurrent use.
type Mesh struct {
	cfg   Config
	Stats Stats

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	links  map[linkKey]*link
	beats  map[cell.ServerID]context.CancelFunc
	conns  map[net.Conn]struct{}
	spare  sync.Pool // of *[]core.PeerMessage
}

type linkKey struct {
	to   cell.ServerID
	lane core.Lane
}

// New starts accepting peers; Close ends everything.
func New(cfg Config) *Mesh {
	m := &Mesh{cfg: cfg, links: make(map[linkKey]*link), beats: make(map[cell.ServerID]context.CancelFunc), conns: make(map[net.Conn]struct{})}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.wg.Add(1)
	go m.accept()
	return m
}

// Send queues one frame for a peer: count encoded messages. It copies body and never blocks; durable is the newest batch
// that is durable here (rule 8).
func (m *Mesh) Send(o *core.PeerOut, durable uint64) {
	l := m.link(linkKey{o.To, o.Lane})
	if l == nil || !l.add(o, durable) {
		m.Stats.FramesDropped.Add(1)
	}
}

func (m *Mesh) link(key linkKey) *link {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.links[key]
	if l == nil && !m.closed {
		l = newLink(m, key)
		m.links[key] = l
		m.wg.Add(1)
		go l.run()
	}
	return l
}

// Keep makes the mesh exchange heartbeats with exactly these peers.
func (m *Mesh) Keep(peers []cell.ServerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	want := make(map[cell.ServerID]bool, len(peers))
	for _, id := range peers {
		want[id] = true
		if m.beats[id] == nil {
			ctx, cancel := context.WithCancel(m.ctx)
			m.beats[id] = cancel
			m.wg.Add(1)
			go m.beat(ctx, id)
		}
	}
	for id, cancel := range m.beats {
		if !want[id] {
			cancel()
			delete(m.beats, id)
		}
	}
}

// Close ends every connection and waits for all goroutines.
func (m *Mesh) Close() {
	m.mu.Lock()
	m.closed = true
	m.cancel()
	for nc := range m.conns {
		nc.Close() // being closed is the message
	}
	m.mu.Unlock()
	m.cfg.Listener.Close() // its error would only say that it was closed already
	m.wg.Wait()
}

// track registers an open connection so that Close can end it; it reports false, and closes nc, when the mesh is closed.
func (m *Mesh) track(nc net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		nc.Close()
		return false
	}
	m.conns[nc] = struct{}{}
	return true
}

func (m *Mesh) untrack(nc net.Conn) {
	nc.Close() // it may be closed already
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, nc)
}

// dial opens one lane to a peer.
func (m *Mesh) dial(ctx context.Context, to cell.ServerID, purpose wire.Purpose) (*rpc.Stream, error) {
	addr := m.cfg.Resolve(to)
	if addr == "" {
		return nil, &cell.Error{Op: "mesh.dial", Kind: cell.Unavailable, Detail: fmt.Sprintf("no address is known for server %s", to)}
	}
	m.Stats.Dials.Add(1)
	s, err := rpc.DialStream(ctx, addr, m.rpcConfig(purpose, func(peer wire.Hello) *cell.Error {
		if peer.Server != to {
			return refuse("at %s answers server %s, not %s", addr, peer.Server, to)
		}
		return m.check(peer)
	}))
	if err != nil {
		return nil, err
	}
	if !m.track(s.Conn) {
		return nil, net.ErrClosed
	}
	return s, nil
}

func (m *Mesh) rpcConfig(purpose wire.Purpose, check func(wire.Hello) *cell.Error) rpc.Config {
	hello := m.cfg.Hello
	hello.Min, hello.Max, hello.Purpose = wire.ProtocolMin, wire.ProtocolMax, purpose
	return rpc.Config{Hello: hello, FrameMax: wire.PeerFrameMax, HandshakeTimeout: handshakeTime, Check: check, DialContext: m.cfg.Dial}
}

// check refuses servers that do not belong here: not one byte crosses a color or a brick.
func (m *Mesh) check(peer wire.Hello) *cell.Error {
	h := &m.cfg.Hello
	switch {
	case peer.Colony != h.Colony:
		return refuse("server %s is of colony %q, this one of %q", peer.Server, peer.Colony, h.Colony)
	case peer.Brick != h.Brick:
		return refuse("server %s is of brick %q, this one of %q", peer.Server, peer.Brick, h.Brick)
	case peer.Color != h.Color:
		return refuse("server %s is of color %q, this one of %q", peer.Server, peer.Color, h.Color)
	case peer.Server == h.Server:
		return refuse("server %s is this server: two processes use one identity, or an address is wrong", peer.Server)
	case peer.Server.Check() != nil:
		return refuse("the peer names no valid server identity")
	}
	return nil
}

func refuse(format string, args ...any) *cell.Error {
	return &cell.Error{Op: "mesh.hello", Kind: cell.Refused, Detail: fmt.Sprintf(format, args...)}
}

// backoff waits with full jitter, doubling up to a second; it reports false when ctx ended.
func backoff(ctx context.Context, failures int) bool {
	limit := min(dialBackoffMin<<min(failures, 6), dialBackoffMax)
	timer := time.NewTimer(limit/2 + rand.N(limit/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
