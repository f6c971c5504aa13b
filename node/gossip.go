package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"physalia/cell"
	"physalia/internal/wire"
)

// gossip is this server's membership in the memberlist pool of its brick and color: addresses, and the slow verdict
// "dead for minutes". It is a rumour and never fences anything.
type gossip struct {
	list   *memberlist.Memberlist
	book   *addressBook
	self   cell.ServerID
	logger *slog.Logger
	meta   []byte

	mu   sync.Mutex
	hope []string // addresses to join, newest last: from flags, the address book, and the control plane
	wake chan struct{}
}

const (
	rejoinEvery     = 15 * time.Second
	joinRetry       = time.Second
	joinAtOnce      = 3  // any three that answer do; the rest comes by gossip
	hopeMax         = 64 // addresses kept
	gossipLeaveTime = 200 * time.Millisecond
	// reclaimTime is how long after its death a server's name may not be used from another address. Identities are
	// locked by their data directories, so the name is the server's own.
	reclaimTime = time.Second
)

// gossipMeta is what a server tells of itself: [boot, peer address, client address].
type gossipMeta struct {
	Boot         uint64
	Peer, Client string
}

func (m *gossipMeta) append(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 3), m.Boot)
	return wire.AppendString(wire.AppendString(b, m.Peer), m.Client)
}

func (m *gossipMeta) decode(b []byte) error {
	r := wire.NewReader(b)
	r.Struct(3, "gossip metadata")
	m.Boot = r.Uint()
	m.Peer = r.String(wire.AddrBytesMax, "peer address")
	m.Client = r.String(wire.AddrBytesMax, "client address")
	return r.Done()
}

// startGossip joins nobody yet: seeds come from flags, the address book, and the control plane.
func startGossip(s *Server, listen, advertiseHost string, meta gossipMeta) (*gossip, error) {
	g := &gossip{book: s.addresses, self: s.identity.Server, logger: s.cfg.Logger, meta: meta.append(nil),
		wake: make(chan struct{}, 1)}
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil || port < 0 || port > 65535 {
		return nil, invalid(fmt.Sprintf("gossip port %q is not a port", portText), "use 0 to 65535")
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = string(s.identity.Server)
	cfg.Label = fmt.Sprintf("physalia/%s/%s/%s", s.identity.Colony, s.identity.Brick, s.identity.Color)
	cfg.BindAddr, cfg.BindPort = host, port
	if ip := net.ParseIP(advertiseHost); ip != nil && !ip.IsUnspecified() {
		cfg.AdvertiseAddr = advertiseHost
	}
	cfg.AdvertisePort = port
	cfg.Delegate, cfg.Events = g, g
	cfg.DeadNodeReclaimTime = reclaimTime
	cfg.Logger = slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug)
	list, err := memberlist.Create(cfg)
	if err != nil {
		return nil, &cell.Error{Op: "node.start", Kind: cell.Refused, Detail: "cannot listen for gossip on " + listen, Err: err,
			Hint: "is the port in use? set --listen-gossip"}
	}
	g.list = list
	s.metrics.gossipPool(list.NumMembers)
	return g, nil
}

// addr is where this server gossips.
func (g *gossip) addr() string { return g.list.LocalNode().Address() }

// seeds adds addresses to join and starts joining.
func (g *gossip) seeds(addrs []string) {
	g.mu.Lock()
	for _, a := range addrs {
		g.hope = slices.DeleteFunc(g.hope, func(known string) bool { return known == a })
		if a != g.addr() {
			g.hope = append(g.hope, a)
		}
	}
	g.hope = slices.Clone(g.hope[max(0, len(g.hope)-hopeMax):])
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default: // a join is due already
	}
}

// run joins whenever there are new seeds, soon again while that fails, and now and then, so that two healed halves of a
// pool find each other.
func (g *gossip) run(ctx context.Context) {
	timer := time.NewTimer(rejoinEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-timer.C:
			if g.list.NumMembers() == 1 {
				g.seeds(g.book.gossip(g.self))
			}
		}
		if g.join(ctx) {
			timer.Reset(rejoinEvery)
		} else {
			timer.Reset(joinRetry)
		}
	}
}

// join asks the addresses, newest first, until some answer; it reports false when there are some and none did.
func (g *gossip) join(ctx context.Context) bool {
	g.mu.Lock()
	addrs := slices.Clone(g.hope)
	g.mu.Unlock()
	slices.Reverse(addrs)
	for some := range slices.Chunk(addrs, joinAtOnce) {
		if ctx.Err() != nil {
			return true
		}
		n, err := g.list.Join(some)
		if n > 0 {
			return true
		}
		g.logger.Info("gossip join failed", "addrs", some, "err", err)
	}
	return len(addrs) == 0
}

// stop leaves the pool and ends gossip's goroutines.
func (g *gossip) stop() error {
	if err := g.list.Leave(gossipLeaveTime); err != nil {
		g.logger.Debug("gossip leave", "err", err)
	}
	return g.list.Shutdown()
}

// NodeMeta implements memberlist.Delegate.
func (g *gossip) NodeMeta(limit int) []byte {
	if len(g.meta) > limit {
		return nil
	}
	return g.meta
}

// NotifyMsg implements memberlist.Delegate; there are no user messages.
func (g *gossip) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (g *gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (g *gossip) MergeRemoteState([]byte, bool) {}

// NotifyJoin implements memberlist.EventDelegate.
func (g *gossip) NotifyJoin(n *memberlist.Node) { g.learn(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (g *gossip) NotifyUpdate(n *memberlist.Node) { g.learn(n) }

// NotifyLeave implements memberlist.EventDelegate: a rumour that a server died or left.
func (g *gossip) NotifyLeave(n *memberlist.Node) {
	g.logger.Info("gossip says that a server is gone", "server", n.Name)
}

func (g *gossip) learn(n *memberlist.Node) {
	id := cell.ServerID(n.Name)
	if id == g.self {
		return
	}
	var meta gossipMeta
	if err := meta.decode(n.Meta); err != nil || id.Check() != nil {
		g.logger.Warn("gossip from a server that makes no sense", "server", n.Name, "err", err)
		return
	}
	g.book.learn(id, address{Boot: meta.Boot, Peer: meta.Peer, Client: meta.Client, Gossip: n.Address()})
}
