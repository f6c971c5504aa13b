package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/knock"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/admission"
	"physalia/node/core"
)

// Config is what a server is made of. The first group is the server's identity: it is written into the data directory at
// the first start, and a later start with other values is refused.
type Config struct {
	DataDir string // created if it does not exist; one server each
	Colony  string // name of the installation, 1 to wire.NameBytesMax bytes; the same on all its servers and clients
	Name    string // the server's name for people; its identity is the name and a random suffix
	Brick   string // group of racks behind one pair of routers; a cell lives inside one brick
	Rack    string // failure domain inside the brick
	Power   string // power domain inside the brick
	Color   string // servers of different colors never exchange a byte

	ListenPeer   string // host:port for the peer mesh; port 0 picks one
	ListenClient string // host:port for clients
	ListenGossip string // host:port for gossip (TCP and UDP)
	ListenOps    string // host:port for /metrics, /livez and /readyz; empty: none
	Profiles     bool   // serve /debug/pprof there, too
	// Advertise is the host that others reach this server at, on all its ports. Empty: the host that each listener has,
	// which must then be a particular one.
	Advertise string

	Control []string // addresses of control processes, tried in turn; empty: the server keeps to itself
	// KnockKey lets the server knock at control processes by UDP, at the addresses of Control, instead of connecting: they
	// call back when it suits them. A connection is opened only if nobody does. The zero key: always connect.
	KnockKey knock.Key
	Join     []string // gossip addresses of other servers, beside those that the control plane names
	// GossipKey encrypts gossip and keeps strangers out of the pool: 16, 24 or 32 bytes, the same on every server of the
	// brick and color. Empty: the keys that lie beside the certificates. Without any, gossip is in the clear, and on loopback only.
	GossipKey []byte

	// Certs is how the server proves who it is, and who may talk to it. The zero value is plain text, on loopback only.
	Certs pki.Settings

	Capacity int // nodes the server is willing to host; 0: core.Default
	// MemTableBytes is Pebble's write buffer; larger means rarer flushes and a longer restart. 0: 16 MiB.
	MemTableBytes int
	// InboxMax bounds the messages, and the requests, that wait for the loop; beyond, messages are dropped and requests
	// are told Overloaded. Their bytes are bounded besides. 0: 100,000.
	InboxMax int

	// Admission bounds what waits for the loop, and Identity what one client has in flight; see package admission. The zero
	// values are the defaults; a single field that is zero is that field's default, too.
	Admission admission.Limits
	Identity  admission.IdentityLimits

	// DiskReserve is how many bytes of the disk stay free: below, the server takes no new nodes and leads no writes. 0: 2 GiB,
	// or a twentieth of the file system if that is less.
	DiskReserve uint64
	// Connections bounds the connections of clients; zero fields are the defaults of rpc.Limits. Those of peers are bounded by
	// constants: a pool of one brick and color has far fewer.
	Connections rpc.Limits

	// SupportPeriod is how long servers support each other's proposers at a time (DESIGN.md section 7). A dead proposer's
	// cells wait for as long; a server that is restarted waits for the longest that was ever set in its data directory. All
	// servers of a pool should have the same. 0: 1 s.
	SupportPeriod time.Duration

	// NoSweep leaves the cells of a server that died to the clients that ask for them; otherwise their successors ask at once, paced.
	NoSweep bool
	// BalancePerSecond bounds how many cells this server hands over per second to servers that came back and lead fewer. 0: the default,
	// 20. Negative: none.
	BalancePerSecond int
	// CommandSet is the newest command set that this server proposes, up to the newest that its build understands: while the old
	// version may have to come back, the newest of the old version. 0: the build's own. See docs/operations.md.
	CommandSet uint32

	Version string       // of the build, for server.info
	Logger  *slog.Logger // nil: discards

	stall          time.Duration // 0: rpc's FrameTimeout and WriteTimeout, and the mesh's; attackers in tests have less time
	peerLimits     rpc.Limits    // zero fields: the mesh's
	controlTimeout time.Duration // 0: controlTimeout; tests are less patient
	controlSpread  time.Duration // of the first attempt after a lost control connection; 0: the seeker's default
	// dialPeer opens lanes; nil: plain TCP. Tests put networks here that lose one lane and not the others.
	dialPeer func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Rate is a token bucket's shape, as in Config.Admission and Config.Identity.
type Rate = admission.Rate

const (
	inboxDefault   = 100_000
	supportDefault = time.Second
	tickEvery      = 20 * time.Millisecond  // core.Tick; nothing in the core is finer than that
	tickIdle       = 60 * time.Millisecond  // core.Tick, while nothing waits for it (core.Waits)
	supportMin     = 200 * time.Millisecond // ten ticks
	supportMax     = time.Minute
	hostBytesMax   = 200 // two addresses with this host fit the metadata of gossip
)

// Validate reports the first thing that is wrong with a configuration, as a *cell.Error of kind Invalid that names the
// setting, and fills in defaults. What only the outside can tell (a port in use, a foreign directory) is found by Start.
func (c *Config) Validate() error {
	for _, f := range []struct{ name, value string }{{"colony", c.Colony}, {"name", c.Name}, {"brick", c.Brick},
		{"rack", c.Rack}, {"power", c.Power}, {"color", c.Color}} {
		if err := checkName(f.name, f.value); err != nil {
			return err
		}
	}
	if c.DataDir == "" {
		return invalid("data directory is missing", "set --data-dir")
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	switch n := len(c.GossipKey); n {
	case 0, 16, 24, 32:
	default:
		return invalid(fmt.Sprintf("gossip key has %d bytes", n), "use 16, 24 or 32 random bytes")
	}
	if c.Connections.Connections < 0 || c.Connections.PerAddress < 0 || c.Connections.PerIdentity < 0 {
		return invalid(fmt.Sprintf("limits of connections %+v must not be negative", c.Connections), "use 0 for the default")
	}
	if c.Capacity < 0 || c.InboxMax < 0 || c.MemTableBytes < 0 {
		return invalid(fmt.Sprintf("capacity %d, inbox %d and memtable size %d must not be negative", c.Capacity, c.InboxMax, c.MemTableBytes),
			"use 0 for the default")
	}
	if c.CommandSet > wire.CommandSet {
		return invalid(fmt.Sprintf("command set is %d, and this build understands sets up to %d", c.CommandSet, wire.CommandSet), "lower --command-set, or leave it out")
	}
	c.setDefaults()
	if err := errors.Join(c.Admission.Validate(), c.Identity.Validate()); err != nil {
		return invalid(err.Error(), "correct the limits, or leave them out")
	}
	if c.SupportPeriod < supportMin || c.SupportPeriod > supportMax {
		return invalid(fmt.Sprintf("support period is %v", c.SupportPeriod), fmt.Sprintf("use %v to %v, or 0 for the default", supportMin, supportMax))
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.Capacity == 0 {
		c.Capacity = core.Default().Capacity
	}
	if c.InboxMax == 0 {
		c.InboxMax = inboxDefault
	}
	c.Admission, c.Identity = c.Admission.Complete(), c.Identity.Complete()
	if c.SupportPeriod == 0 {
		c.SupportPeriod = supportDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// checkAddresses checks where the server listens, and whom it shall call.
func (c *Config) checkAddresses() error {
	listeners := []struct{ name, value string }{{"listen-peer", c.ListenPeer}, {"listen-client", c.ListenClient}, {"listen-gossip", c.ListenGossip}}
	for _, f := range listeners {
		host, err := checkAddr(f.name, f.value, 0)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); c.Advertise == "" && (host == "" || ip != nil && ip.IsUnspecified()) {
			return invalid(fmt.Sprintf("%s is %q, all interfaces: nobody can be told to connect there", f.name, f.value),
				"set --advertise to the host that others reach this server at")
		}
	}
	if c.ListenOps != "" {
		if _, err := checkAddr("listen-ops", c.ListenOps, 0); err != nil {
			return err
		}
	}
	for name, addrs := range map[string][]string{"control-plane": c.Control, "join": c.Join} {
		for _, addr := range addrs {
			if host, err := checkAddr(name, addr, 1); err != nil {
				return err
			} else if host == "" {
				return invalid(fmt.Sprintf("%s is %q, without a host", name, addr), "use host:port")
			}
		}
	}
	if len(c.Advertise) > hostBytesMax || strings.ContainsAny(c.Advertise, "/ ") || net.ParseIP(c.Advertise) == nil && strings.Contains(c.Advertise, ":") {
		return invalid(fmt.Sprintf("advertised host is %q", c.Advertise), "use a host name or an IP address, without a port")
	}
	return nil
}

// checkAddr takes host:port apart; the port is a number from least to 65535, and zero lets the system choose.
func checkAddr(name, value string, least int) (host string, err error) {
	host, port, err := net.SplitHostPort(value)
	if err == nil && len(value) > wire.AddrBytesMax {
		err = fmt.Errorf("%d bytes, allowed are %d", len(value), wire.AddrBytesMax)
	}
	if err == nil {
		if n, e := strconv.Atoi(port); e != nil || n < least || n > 65535 {
			err = fmt.Errorf("port %q is not a number from %d to 65535", port, least)
		}
	}
	if err != nil {
		return "", invalid(fmt.Sprintf("%s is %q: %v", name, value, err), "use host:port, for example 127.0.0.1:7301")
	}
	return host, nil
}

func checkName(field, value string) error {
	if value == "" || len(value) > wire.NameBytesMax {
		return invalid(fmt.Sprintf("%s has %d bytes", field, len(value)), fmt.Sprintf("set --%s to 1 to %d bytes", field, wire.NameBytesMax))
	}
	if cell.ServerID(value).Check() != nil || strings.ContainsAny(value, ":/") {
		return invalid(fmt.Sprintf("%s %q has characters that are not allowed", field, value),
			"use letters, digits, '.', '_' and '-'; start with a letter or digit")
	}
	return nil
}

func invalid(detail, hint string) error {
	return &cell.Error{Op: "node.config", Kind: cell.Invalid, Detail: detail, Hint: hint}
}
