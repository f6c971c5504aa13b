package node

import (
	"fmt"
	"log/slog"
	"net"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
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
	Advertise    string // host that others reach this server at; empty: the host of ListenPeer

	Control  []string // addresses of control processes, tried in turn
	Join     []string // gossip addresses of other servers, beside those that the control plane names
	Capacity int      // nodes the server is willing to host; 0: core.Default
	// MemTableBytes is Pebble's write buffer; larger means rarer flushes and a longer restart. 0: 64 MiB.
	MemTableBytes int
	// InboxMax bounds the messages and requests that wait for the loop; beyond, messages are dropped and requests are
	// told Overloaded. 0: 100,000.
	InboxMax int

	Version string // of the build, for server.info
	Logger  *slog.Logger
}

const (
	inboxDefault   = 100_000
	tickEvery      = 20 * time.Millisecond
	heartbeatEvery = 150 * time.Millisecond
)

// Validate reports the first thing that is wrong with a configuration, and fills in defaults.
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
	for _, f := range []struct{ name, value string }{{"listen-peer", c.ListenPeer}, {"listen-client", c.ListenClient}, {"listen-gossip", c.ListenGossip}} {
		if _, _, err := net.SplitHostPort(f.value); err != nil {
			return invalid(fmt.Sprintf("%s is %q: %v", f.name, f.value, err), "use host:port, for example 127.0.0.1:7301")
		}
	}
	if c.Capacity < 0 || c.InboxMax < 0 || c.MemTableBytes < 0 {
		return invalid("capacity, inbox and memtable size must not be negative", "")
	}
	if c.Capacity == 0 {
		c.Capacity = core.Default().Capacity
	}
	if c.InboxMax == 0 {
		c.InboxMax = inboxDefault
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func checkName(field, value string) error {
	if value == "" || len(value) > wire.NameBytesMax {
		return invalid(fmt.Sprintf("%s has %d bytes", field, len(value)), fmt.Sprintf("set --%s to 1 to %d bytes", field, wire.NameBytesMax))
	}
	if cell.ServerID(value).Check() != nil {
		return invalid(fmt.Sprintf("%s %q has characters that are not allowed", field, value), "use letters, digits, '.', '_', '-', ':' and '/'")
	}
	return nil
}

func invalid(detail, hint string) error {
	return &cell.Error{Op: "node.config", Kind: cell.Invalid, Detail: detail, Hint: hint}
}
