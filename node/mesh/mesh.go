package mesh

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
)

// Config says who this server is and whom to tell what arrives. Its functions are called from many of the mesh's
// goroutines at once, must not block, and must not call Close.
type Config struct {
	Hello    wire.Hello                                                        // colony, brick, color, server, boot of this server; versions and purpose are set here
	Listener net.Listener                                                      // where peers connect; the mesh owns it from New on
	Resolve  func(cell.ServerID) string                                        // a server's peer address, empty when unknown; asked before every dial
	Messages func(*Batch)                                                      // what one frame carried; whoever takes it calls Batch.Recycle once
	Beat     func(cell.ServerID, peer.Heartbeat)                               // a heartbeat arrived
	Gone     func(cell.ServerID)                                               // nothing listens at the peer's address: it is not there, or not yet
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil: plain TCP; the place for TLS
	Refused  func(error)                                                       // a connection was refused, or ended for what came on it; see rpc.ReasonOf; nil: nobody asks
	Limits   rpc.Limits                                                        // of accepted connections; zero fields: the defaults

	FrameTimeout time.Duration // of one frame, from its first byte to its last; 0: 30 s

	Logger *slog.Logger // required
}

// Bounds of the mesh. Times are what a peer in the same brick needs at worst, with room for a busy processor.
const (
	paxosQueueBytes = 8 << 20   // queued per peer on the Paxos lane; a turn's frame for one peer is at most about 1 MiB
	bulkQueueBytes  = 16 << 20  // queued per peer on the bulk lane: one member's share of teaching; the same on the forward lane
	keptBytes       = 256 << 10 // of a buffer between frames; one burst must not be kept for ever

	dialBackoffMin  = 50 * time.Millisecond
	dialBackoffMax  = time.Second
	dialBackoffGone = 8 * time.Second  // while nothing listens at the address: the peer dials us when it is back (see Retry)
	dialTimeout     = 2 * time.Second  // connecting and Hello, this side dialling: a lost SYN is repeated after 1 s
	acceptTimeout   = 5 * time.Second  // Hello, the other side dialling
	writeTimeout    = 10 * time.Second // one write of a lane; only a peer that does not read comes near it
	writeGrain      = time.Second      // how exactly that is kept; setting a deadline costs as much as a small frame
	silenceMax      = 3 * time.Second  // bytes that the peer's kernel has not acknowledged; see limitSilence
	frameTimeout    = 30 * time.Second // the default of Config.FrameTimeout

	// perServerMax bounds the accepted connections of one server: four lanes, and as many again from each of its lives that this
	// side has not given up yet.
	perServerMax = 64
)

// Stats counts what went through the mesh since New; all numbers only grow. Read them at any time.
type Stats struct {
	FramesSent, BytesSent, Writes    atomic.Uint64 // handed to the kernel; one write carries all frames that waited
	FramesDropped                    atomic.Uint64 // on their way out: the lane was down or full, or broke under them
	FramesReceived, MessagesReceived atomic.Uint64
	FramesOverrun                    atomic.Uint64 // received and dropped unread: too much of that lane waits for the loop
	Dials                            atomic.Uint64
	Malformed                        atomic.Uint64 // frames that did not decode; each ended its lane
	PeersRefused                     atomic.Uint64 // at the Hello, by either side
	HeartbeatsReplaced               atomic.Uint64 // by newer ones before they left
}

// Mesh is the peer connections of one server. Its methods are safe for concurrent use and never block on a socket, but
// for Close.
type Mesh struct {
	Stats Stats

	cfg    Config
	gate   *rpc.Gate
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine of the mesh
	spare  sync.Pool      // of *Batch
	loud   rate.Sometimes // warnings that an outsider can cause at will
	names  names

	mu       sync.Mutex // guards what follows; never held while anything blocks
	closed   bool
	links    map[linkKey]*link       // made by Send, pruned by Keep
	beats    map[cell.ServerID]*beat // made and pruned by Keep
	accepted map[net.Conn]struct{}   // from Accept on, shaking hands or not; dialled ones belong to their goroutine
	inbound  map[inboundKey]*inbound // past their Hello: the newest connection of each lane
}

type linkKey struct {
	to   cell.ServerID
	lane core.Lane
}

// New starts to accept peers; Close ends everything.
func New(cfg Config) *Mesh {
	if cfg.Limits.PerIdentity == 0 {
		cfg.Limits.PerIdentity = perServerMax
	}
	if cfg.FrameTimeout == 0 {
		cfg.FrameTimeout = frameTimeout
	}
	m := &Mesh{cfg: cfg, gate: rpc.NewGate(cfg.Limits), loud: rate.Sometimes{First: 10, Interval: time.Second},
		names: names{all: make(map[string]*core.Name)}, links: make(map[linkKey]*link), beats: make(map[cell.ServerID]*beat),
		accepted: make(map[net.Conn]struct{}), inbound: make(map[inboundKey]*inbound)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.wg.Add(1)
	go m.accept()
	return m
}

// Send queues one frame for a peer: o.Count encoded messages, which it copies. durable is the newest batch that is durable
// here (rule 8). A frame that cannot be queued, or that the peer would have to refuse, is dropped and counted. The loop
// calls it, once per turn, peer and lane.
func (m *Mesh) Send(o *core.PeerOut, durable uint64) {
	if l := m.link(linkKey{o.To, o.Lane}); l == nil || !l.add(o, durable) {
		m.Stats.FramesDropped.Add(1)
	}
}

// link returns the lane's queue, whose goroutine it starts on first use; nil when the mesh is closed.
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

// Beat hands over a heartbeat. It leaves at once if the lane to the peer is up; else the newest one leaves when it is. The
// loop calls it for peers of Keep; for others it does nothing.
func (m *Mesh) Beat(b *core.Beat) {
	m.mu.Lock()
	to := m.beats[b.To]
	m.mu.Unlock()
	if to != nil {
		to.put(b.Heartbeat)
	}
}

// Keep makes the mesh keep lanes for heartbeats to exactly these peers, and ends the lanes to all others: a server that no
// cell shares with this one any more costs nothing. The loop calls it when the set may have changed.
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
			b := newBeat(m, id)
			m.beats[id] = b
			m.wg.Add(1)
			go b.run()
		}
	}
	for id, b := range m.beats {
		if !want[id] {
			b.cancel()
			delete(m.beats, id)
		}
	}
	for key, l := range m.links {
		if !want[key.to] {
			l.cancel()
			delete(m.links, key)
		}
	}
}

// Retry makes lanes to a peer that wait to dial again do so at once. It is for signs of life that come from elsewhere: the
// peer has connected to us, its heartbeat lane is up, or it has a new address. Without it a restarted peer would wait for up to
// dialBackoffGone.
func (m *Mesh) Retry(id cell.ServerID) {
	m.retryLinks(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.beats[id]; b != nil {
		poke(b.retry)
	}
}

// retryLinks is Retry for all lanes but that of the heartbeats.
func (m *Mesh) retryLinks(id cell.ServerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, lane := range [...]core.Lane{core.LanePaxos, core.LaneBulk, core.LaneForward} {
		if l := m.links[linkKey{id, lane}]; l != nil {
			poke(l.retry)
		}
	}
}

// poke wakes whoever waits on a channel of capacity one; a second poke before it looks is the same poke.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close ends every connection and waits for all goroutines. What is queued is lost. It may be called more than once, but
// not from a function of Config.
func (m *Mesh) Close() {
	m.mu.Lock()
	m.closed = true
	m.cancel() // ends what was dialled
	for nc := range m.accepted {
		nc.Close() // being closed is the message
	}
	m.mu.Unlock()
	m.cfg.Listener.Close() // its error would only say that it was closed already
	m.wg.Wait()
}
