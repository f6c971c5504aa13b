package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"physalia/cell"
	"physalia/internal/pki"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// gossip is this server's membership in the memberlist pool of its brick and color: addresses, and the slow verdict
// "dead for minutes". It is a rumour and never fences anything. Pools are told apart by their label, and kept from
// strangers by a keyring (gossipkeys.go).
//
// A member of the pool is one life of a server: its name is the identity and the boot number. memberlist believes that a
// name that turns up at another address is an impostor, until it has taken the one at the old address for dead for a while;
// a server that was killed and came back elsewhere would be refused by everybody for half a minute, and its peers could
// not connect to it. A new life is a new name, and what it says is taken at once; the old one dies when nobody answers there.
//
// Word of mouth is fast and misses some: when a peer is silent, somebody of the pool is asked for all that he knows
// (search.go).
//
// memberlist calls the delegate methods from its own goroutines and under its own locks, so they must not call back.
type gossip struct {
	list   *memberlist.Memberlist
	book   *addressBook
	self   cell.ServerID
	boot   uint64
	logger *slog.Logger
	keys   *memberlist.Keyring // nil: in the clear
	meta   []byte              // what this server tells of itself; never changes while it runs
	silent func() int          // peers that share cells with this server and are not heard of; from any goroutine

	wake chan struct{} // capacity 1: there are new seeds

	mu   sync.Mutex
	hope []string // addresses to join, newest last, at most hopeMax: from flags, the address book, and the control plane
}

const (
	rejoinEvery     = 15 * time.Second       // the search for servers that the pool has lost
	joinRetry       = time.Second            // after no address answered
	joinTimeout     = 2 * time.Second        // for each step of one join; Close may have to wait for one of them
	hopeMax         = 64                     // addresses kept; any one that answers does, the rest comes by gossip
	lostAtOnce      = 3                      // lost servers that are tried at a time
	gossipLeaveTime = 200 * time.Millisecond // for saying goodbye: then nobody has to suspect us first
)

// lifeSign stands between identity and boot number in the name of a life; no identity contains it.
const lifeSign = "#"

// lifeName is the name of one life of a server in the pool.
func lifeName(id cell.ServerID, boot uint64) string {
	return string(id) + lifeSign + strconv.FormatUint(boot, 10)
}

// parseLife reads what lifeName wrote, from anybody in the pool.
func parseLife(name string) (id cell.ServerID, boot uint64, err error) {
	server, number, _ := strings.Cut(name, lifeSign)
	if boot, err = strconv.ParseUint(number, 10, 64); err != nil {
		return "", 0, fmt.Errorf("name in the pool: %w", err)
	}
	return cell.ServerID(server), boot, cell.ServerID(server).Check()
}

// gossipMeta is what a server tells of itself: [boot, peer address, client address], at most memberlist.MetaMaxSize bytes.
type gossipMeta struct {
	Boot         uint64
	Peer, Client string
}

func (m *gossipMeta) append(b []byte) []byte {
	b = wire.AppendUint(wire.AppendArray(b, 3), m.Boot)
	return wire.AppendString(wire.AppendString(b, m.Peer), m.Client)
}

// decode reads what append wrote, from anybody in the pool.
func (m *gossipMeta) decode(b []byte) error {
	r := wire.NewReader(b)
	r.Struct(3, "gossip metadata")
	m.Boot = r.Uint()
	m.Peer = r.String(wire.AddrBytesMax, "peer address")
	m.Client = r.String(wire.AddrBytesMax, "client address")
	if r.Err() == nil && m.Boot == 0 {
		r.Fail("boot is 0, the first is 1")
	}
	return r.Done()
}

// newGossip makes what a server tells of itself; silent must be safe to call from any goroutine.
func newGossip(book *addressBook, self cell.ServerID, meta gossipMeta, silent func() int, logger *slog.Logger) (*gossip, error) {
	g := &gossip{book: book, self: self, boot: meta.Boot, logger: logger, meta: meta.append(nil), silent: silent, wake: make(chan struct{}, 1)}
	if n := len(g.meta); n > memberlist.MetaMaxSize {
		return nil, invalid(fmt.Sprintf("the addresses take %d bytes of gossip, allowed are %d", n, memberlist.MetaMaxSize), "advertise a shorter host name")
	}
	return g, nil
}

// start listens and joins nobody yet: seeds come from flags, the address book, and the control plane.
func (g *gossip) start(c *Config, guard *pki.Guard) error {
	cfg, err := g.config(c, guard)
	if err != nil {
		return err
	}
	refused := func(why refusal.Reason) { guard.Count(pki.GossipPort, pki.Accepting, why) }
	cfg.Logger = newGossipLog(c.Logger, refused)
	transport, err := newGossipTransport(cfg.BindAddr, cfg.BindPort, cfg.Logger, refused)
	if err == nil {
		cfg.BindPort, cfg.AdvertisePort, cfg.Transport = transport.GetAutoBindPort(), transport.GetAutoBindPort(), transport
		if g.list, err = memberlist.Create(cfg); err != nil {
			err = errors.Join(err, transport.Shutdown())
		}
	}
	if err != nil {
		return &cell.Error{Op: "node.start", Kind: cell.Refused, Detail: "cannot gossip on " + c.ListenGossip, Err: err,
			Hint: "is the port in use? set --listen-gossip"}
	}
	return nil
}

// config is memberlist's view of a server's configuration. Host names are resolved here: memberlist takes a name that it
// cannot parse for "all interfaces".
func (g *gossip) config(c *Config, guard *pki.Guard) (*memberlist.Config, error) {
	addr, err := net.ResolveTCPAddr("tcp", c.ListenGossip)
	if err != nil {
		return nil, invalid(fmt.Sprintf("gossip address %q: %v", c.ListenGossip, err), "set --listen-gossip")
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = lifeName(g.self, g.boot)
	cfg.Label = fmt.Sprintf("physalia/%s/%s/%s", c.Colony, c.Brick, c.Color)
	if g.keys, err = gossipRing(c, guard); err != nil {
		return nil, err
	}
	cfg.Keyring = g.keys
	if err := guard.CheckGossip(addr.IP, g.keys != nil); err != nil {
		return nil, err
	}
	cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = "0.0.0.0", addr.Port, addr.Port
	if addr.IP != nil {
		cfg.BindAddr = addr.IP.String()
	}
	if c.Advertise != "" {
		ip, err := net.ResolveIPAddr("ip", c.Advertise)
		if err != nil {
			return nil, invalid(fmt.Sprintf("advertised host %q: %v", c.Advertise, err), "set --advertise to a host that resolves, or to an IP address")
		}
		cfg.AdvertiseAddr = ip.String()
	}
	cfg.TCPTimeout = joinTimeout
	cfg.Delegate, cfg.Events = g, g
	return cfg, nil
}

// addr is where this server gossips.
func (g *gossip) addr() string { return g.list.LocalNode().Address() }

// seeds adds addresses to join and starts joining. From any goroutine.
func (g *gossip) seeds(addrs []string) {
	self := g.addr()
	g.mu.Lock()
	for _, a := range addrs[max(0, len(addrs)-hopeMax):] {
		g.hope = slices.DeleteFunc(g.hope, func(known string) bool { return known == a })
		if a != self {
			g.hope = append(g.hope, a)
		}
	}
	g.hope = slices.Clone(g.hope[max(0, len(g.hope)-hopeMax):])
	g.mu.Unlock()
	poke(g.wake)
}

// run joins whenever there are new seeds, soon again while that fails, and now and then looks for servers that the pool
// has lost: memberlist forgets the dead, and after a long partition its two halves would never find each other. While peers
// are silent it asks around.
func (g *gossip) run(ctx context.Context) {
	timer, look := time.NewTimer(rejoinEvery), time.NewTicker(searchEvery)
	defer timer.Stop()
	defer look.Stop()
	began, missing := time.Now(), search{}
	for ctx.Err() == nil {
		alone := true
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if missing.due(time.Since(began), g.silent()) {
				g.join(ctx, g.acquaintances(), 1)
			}
			continue
		case <-g.wake: // new seeds may be of another half of the pool, so one of them is asked in any case
		case <-timer.C:
			g.join(ctx, g.lost(), lostAtOnce)
			alone = len(g.present()) == 0
		}
		hopes := g.hopes()
		if alone && len(hopes) > 0 && g.join(ctx, hopes, 1) == 0 {
			timer.Reset(joinRetry)
		} else {
			timer.Reset(rejoinEvery)
		}
	}
}

// living tells which of some servers the rumour counts among the living, in whatever life.
func (g *gossip) living(ids []cell.ServerID) []bool {
	out := make([]bool, len(ids))
	if len(ids) == 0 {
		return out
	}
	present := g.present()
	for i, id := range ids {
		out[i] = id == g.self || present[id]
	}
	return out
}

// hopes lists the seeds, newest first.
func (g *gossip) hopes() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	addrs := slices.Clone(g.hope)
	slices.Reverse(addrs)
	return addrs
}

// present tells which other servers are in the pool. Of memberlist's nodes only the names may be read: it changes the rest.
func (g *gossip) present() map[cell.ServerID]bool {
	others := make(map[cell.ServerID]bool)
	for _, n := range g.list.Members() {
		if id, _, err := parseLife(n.Name); err == nil && id != g.self {
			others[id] = true
		}
	}
	return others
}

// members counts the servers in the pool, this one included.
func (g *gossip) members() int { return 1 + len(g.present()) }

// lost picks some servers of the address book that are not in the pool.
func (g *gossip) lost() []string {
	present := g.present()
	return g.book.gossip(lostAtOnce, func(id cell.ServerID) bool { return !present[id] && id != g.self })
}

// acquaintances picks some servers of the address book that are in the pool.
func (g *gossip) acquaintances() []string {
	present := g.present()
	return g.book.gossip(acquaintancesMax, func(id cell.ServerID) bool { return present[id] })
}

// join asks addresses one after the other until enough have answered, and returns how many did. memberlist's own dialling
// cannot be interrupted, so each address is first tried by one that can: what hangs, hangs there.
func (g *gossip) join(ctx context.Context, addrs []string, enough int) (answered int) {
	dialer := net.Dialer{Timeout: joinTimeout}
	for _, addr := range addrs {
		if answered == enough || ctx.Err() != nil {
			break
		}
		probe, err := dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			probe.Close() // it has served its purpose
			_, err = g.list.Join([]string{addr})
		}
		if err != nil {
			g.logger.Debug("gossip join failed", "addr", addr, "err", err)
			continue
		}
		answered++
	}
	return answered
}

// stop leaves the pool and ends gossip's goroutines, but for run, which must have ended.
func (g *gossip) stop() error {
	if err := g.list.Leave(gossipLeaveTime); err != nil {
		g.logger.Debug("gossip leave", "err", err) // the others find out
	}
	return g.list.Shutdown()
}

// NodeMeta implements memberlist.Delegate. Its size was checked at the start.
func (g *gossip) NodeMeta(int) []byte { return g.meta }

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

// NotifyLeave implements memberlist.EventDelegate: a rumour that a server died or left. Its address stays in the book: it
// may come back where it was. A life that another one followed is not missed.
func (g *gossip) NotifyLeave(n *memberlist.Node) {
	if id, boot, err := parseLife(n.Name); err == nil && boot >= g.book.boot(id) {
		g.logger.Info("gossip says that a server is gone", "server", id, "boot", boot)
	}
}

// learn takes what another server tells of itself.
func (g *gossip) learn(n *memberlist.Node) {
	id, boot, err := parseLife(n.Name)
	if id == g.self {
		return
	}
	var meta gossipMeta
	if err == nil {
		err = meta.decode(n.Meta)
	}
	if err == nil && meta.Boot != boot {
		err = fmt.Errorf("it tells of boot %d", meta.Boot)
	}
	if err != nil {
		g.logger.Debug("gossip from a server that makes no sense", "name", n.Name, "addr", n.Address(), "err", err)
		return
	}
	g.book.learn(id, address{Boot: meta.Boot, Peer: meta.Peer, Client: meta.Client, Gossip: n.Address()})
}
