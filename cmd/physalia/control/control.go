// Package control plugs the control plane together: lifecycle, discovery and health, which do not know each other, behind
// the one listener of internal/fleet. It decides nothing; it hands on what one part tells and another needs.
//
//	servers  ---> fleet --- registered, lost ---> lifecycle, health
//	                    --- routes pushed -------> discovery
//	clients  ---> fleet --- create, delete, list -> lifecycle
//	                    --- lookup ------------> discovery
//	                    --- servers ------------> health
//	lifecycle --- routes ---> discovery;   --- calls ---> fleet ---> servers
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/fleet"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// Config says what a control process is. All fields but ListenOps are required.
type Config struct {
	DataDir   string // of the lifecycle manager's store; one control process each
	Colony    string
	Name      string // of this process, for people
	Listen    string // host:port for servers and clients
	ListenOps string // host:port of /metrics, /livez and /readyz; empty: none
	Seed      uint64 // of placement and of jitter
	Logger    *slog.Logger
}

// Check reports the first thing that is wrong with a Config, as a *cell.Error of kind Invalid.
func (c *Config) Check() error {
	for _, f := range []struct{ name, value string }{{"colony", c.Colony}, {"name", c.Name}} {
		if len(f.value) > wire.NameBytesMax || cell.ServerID(f.value).Check() != nil {
			return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: fmt.Sprintf("%s is %q", f.name, f.value),
				Hint: fmt.Sprintf("set --%s to 1 to %d letters, digits, '.', '_' and '-'", f.name, wire.NameBytesMax)}
		}
	}
	if c.DataDir == "" {
		return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: "data directory is missing", Hint: "set --data-dir"}
	}
	return nil
}

// Control is one running control process.
type Control struct {
	cfg       Config
	fleet     *fleet.Fleet
	lifecycle *lifecycle.Service
	observer  *health.Observer
	ops       *ops

	cancel context.CancelFunc // of the observer
	wait   sync.WaitGroup
}

// Start opens the store and serves until Close. The errors say what is wrong: a store that another process uses, a port
// that is taken.
func Start(c Config) (*Control, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Control{cfg: c, cancel: cancel}
	// The listener comes first, so that a port in use is found before anything is opened; nobody is served before the
	// fleet is made.
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		cancel()
		return nil, &cell.Error{Op: "control.listen", Kind: cell.Refused, Detail: err.Error(), Hint: "is another control process running? Else choose another --listen"}
	}
	if err := p.assemble(ln); err != nil {
		return nil, errors.Join(err, ln.Close(), p.Close())
	}
	p.wait.Go(func() { p.observer.Run(ctx) })
	return p, nil
}
