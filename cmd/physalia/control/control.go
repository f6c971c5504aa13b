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
	"maps"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/discovery"
	"physalia/health"
	"physalia/internal/access"
	"physalia/internal/audit"
	"physalia/internal/duty"
	"physalia/internal/fleet"
	"physalia/internal/knock"
	"physalia/internal/objects"
	"physalia/internal/pki"
	"physalia/internal/refusal"
	"physalia/internal/roster"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/lifecycle"
	"physalia/lifecycle/etcdstore"
)

// Config says what a control process is. All fields but ListenOps, Advertise, Shared and the limits are required, and DataDir is
// not with both Shared and Objects.
type Config struct {
	DataDir   string // of the lifecycle manager's store; one control process each
	Colony    string
	Name      string        // of this process, for people; unique among those that share a store
	Listen    string        // host:port for servers and clients
	Advertise string        // host:port at which others reach Listen; empty: as it listens
	ListenOps string        // host:port of /metrics, /livez and /readyz; empty: none
	Seed      uint64        // of placement and of jitter
	Objects   string        // where discovery keeps its snapshots, see objects.Open; empty: the directory objects below DataDir
	Copies    []string      // addresses of other copies of discovery: other control processes
	Snapshot  time.Duration // between two snapshots of discovery; 0: discovery's default
	Logger    *slog.Logger

	// Shared is the store that several instances share, nil for one of its own. Its Name, Addr and Log are set from here.
	Shared *etcdstore.Config

	Connections        rpc.Limits          // of servers and clients; zero fields: the fleet's defaults
	RegistersPerSecond float64             // registrations of servers that are admitted; 0: the fleet's default
	Limits             lifecycle.Limits    // zero fields: the defaults
	MovesPerServer     int                 // replacements under way at one server; 0: the default
	Repair             health.RepairConfig // of slow repair; zero: the default

	ScanEvery             time.Duration // between two rounds in which servers are asked what they host; 0: only in a rebuild
	ScanPace, RebuildPace int           // pages per second over the whole fleet; 0: the defaults

	// KnockKey lets servers knock by UDP, at the port of Listen; the zero key: they may not.
	KnockKey knock.Key

	// Certs is how this process proves who it is, and who may talk to it. The zero value is plain text, on loopback only.
	Certs pki.Settings

	// AuditDir is where the record of what is asked is kept; empty: the directory audit below DataDir, and without one there is none.
	// AuditFileBytes bounds one of its eight files; 0: the default.
	AuditDir       string
	AuditFileBytes int

	// ListenJoin is host:port for processes that have nothing but an invitation, and JoinCA the directory of the authority that signs for
	// them. Both or neither.
	ListenJoin, JoinCA string
}

// auditDir is where the record is, or empty.
func (c *Config) auditDir() string {
	if c.AuditDir == "" && c.DataDir != "" {
		return filepath.Join(c.DataDir, "audit")
	}
	return c.AuditDir
}

// Check reports the first thing that is wrong with a Config, as a *cell.Error of kind Invalid.
func (c *Config) Check() error {
	for _, f := range []struct{ name, value string }{{"colony", c.Colony}, {"name", c.Name}} {
		if len(f.value) > wire.NameBytesMax || cell.ServerID(f.value).Check() != nil {
			return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: fmt.Sprintf("%s is %q", f.name, f.value),
				Hint: fmt.Sprintf("set --%s to 1 to %d letters, digits, '.', '_' and '-'", f.name, wire.NameBytesMax)}
		}
	}
	if l := c.Connections; l.Connections < 0 || l.PerAddress < 0 || l.PerIdentity < 0 {
		return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: fmt.Sprintf("limits of connections %+v must not be negative", l), Hint: "use 0 for the default"}
	}
	if c.DataDir == "" && (c.Shared == nil || c.Objects == "") {
		return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: "data directory is missing", Hint: "set --data-dir, or both --store and --objects"}
	}
	switch {
	case (c.ListenJoin == "") != (c.JoinCA == ""):
		return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: "one of --listen-join and --join-ca is set, and not the other", Hint: "set both, or neither"}
	case c.ListenJoin != "" && c.Certs.Dir == "":
		return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: "nobody can join a control process without certificates", Hint: "set --certs"}
	}
	return nil
}

// owns reports certificates that are not those of a control process of this colony. The name is for people, and for logs.
func (c *Config) owns(id pki.Identity) error {
	if id.Role != pki.Control || id.Colony != c.Colony {
		return &cell.Error{Op: "control.config", Kind: cell.Invalid, Detail: fmt.Sprintf("they are for %s, this is a control process of colony %q", id, c.Colony),
			Hint: "issue one with `physalia cert issue NAME --role control`"}
	}
	return nil
}

// Control is one running control process.
type Control struct {
	cfg       Config
	guard     *pki.Guard
	gate      *access.Gate
	audit     *audit.Log // nil: none is kept
	denials   pace       // of the record
	join      join
	fleet     *fleet.Fleet
	seat      *seat
	discovery *discovery.Service
	observer  *health.Observer
	repairs   *health.RepairService
	ops       *ops

	roster roster.Roster
	table  atomic.Pointer[duty.Table] // of the roster as last seen
	moved  chan struct{}              // capacity 1: the roster has changed since recall looked

	ctx    context.Context // of the goroutines below
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// Start opens the store and serves until Close. The errors say what is wrong: a store that another process uses, a port
// that is taken.
func Start(c Config) (*Control, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	guard, err := pki.Open(c.Certs, c.owns, c.Logger)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Control{cfg: c, guard: guard, gate: access.New(guard), ctx: ctx, cancel: cancel, moved: make(chan struct{}, 1)}
	// The listener comes first, so that a port in use is found before anything is opened; nobody is served before the
	// fleet is made.
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		cancel()
		return nil, &cell.Error{Op: "control.listen", Kind: cell.Refused, Detail: err.Error(), Hint: "is another control process running? Else choose another --listen"}
	}
	if ln, err = guard.Listener(ln, pki.ControlPort); err != nil {
		cancel()
		return nil, err
	}
	if err := p.assemble(ln); err != nil {
		if p.fleet == nil { // nobody owns the listener yet
			err = errors.Join(err, ln.Close())
		}
		return nil, errors.Join(err, p.Close())
	}
	p.wait.Go(func() { p.observer.Run(ctx) })
	p.wait.Go(func() { p.discovery.Run(ctx) })
	p.wait.Go(func() { p.repairs.Run(ctx) })
	p.wait.Go(p.recall)
	p.wait.Go(func() { guard.Run(ctx) })
	// Everything that a term needs exists now; until the first one this instance stands by.
	if p.seat.member != nil {
		p.wait.Go(func() { p.seat.member.Run(ctx, p.seat.serve) })
	}
	return p, nil
}

// assemble makes the parts and connects them. The fleet serves as soon as it exists, while the parts that call it were made
// before; served holds their calls back until it is there.
func (p *Control) assemble(ln net.Listener) error {
	served := make(chan struct{})
	reach := &reach{control: p, served: served}
	err := p.openAudit()
	if err != nil {
		return err
	}
	if p.seat, err = newSeat(&p.cfg, ln.Addr().String()); err != nil {
		return err
	}
	p.roster = p.seat.roster
	if err := p.openDiscovery(reach); err != nil {
		return err
	}
	p.retable()
	if err := p.watchServers(reach); err != nil {
		return err
	}
	manager := lifecycle.Config{Seed: p.cfg.Seed, Limits: p.cfg.Limits, MovesPerServer: p.cfg.MovesPerServer, ScanEvery: p.cfg.ScanEvery,
		ScanPace: p.cfg.ScanPace, RebuildPace: p.cfg.RebuildPace}
	err = p.seat.start(&p.cfg, lifecycle.ServiceConfig{Manager: manager, Caller: reach, Routes: p.discovery.Put, Log: p.cfg.Logger,
		Objects: func(url string) (lifecycle.Objects, error) { return objects.Open(url) }})
	if err != nil {
		return err
	}
	client := p.seat.clientHandlers()
	maps.Copy(client, p.healthHandlers())
	maps.Copy(client, p.proposalHandlers())
	maps.Copy(client, p.discovery.ClientHandlers())
	maps.Copy(client, p.accessHandlers())
	knocks, err := p.listenKnocks(ln.Addr())
	if err != nil {
		return err
	}
	p.fleet = fleet.Serve(ln, fleet.Config{Colony: p.cfg.Colony, Control: p.cfg.Name, Log: p.cfg.Logger, Client: client,
		Server: p.discovery.ServerHandlers(), Admit: p.seat.admit, Duty: p.duties, Before: p.before,
		Roster: p.roster, RegistersPerSecond: p.cfg.RegistersPerSecond, Limits: p.cfg.Connections, Knocks: knocks,
		Dial: p.guard.Dialer(pki.ClientPort, nil), Refused: p.refused(pki.ControlPort)})
	close(served)
	// Servers that registered with an earlier process may knock at this one, and may not come back from another place.
	p.seat.recall(p.fleet.Remember)
	p.wait.Go(p.watchRoster)
	if err := p.listenJoin(); err != nil {
		return err
	}
	return p.listenOps()
}

// listenKnocks opens the port for knocks, if servers may knock.
func (p *Control) listenKnocks(addr net.Addr) (*fleet.Knocks, error) {
	if !p.cfg.KnockKey.Set() {
		return nil, nil
	}
	// The same number as for connections: who is pointed to an instance knows where to knock, too.
	packets, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		return nil, &cell.Error{Op: "control.listen", Kind: cell.Refused, Detail: "knocks: " + err.Error(),
			Hint: "the UDP port of --listen has to be free, too; choose another --listen, or drop --knock-key-file"}
	}
	return &fleet.Knocks{Packets: packets, Key: p.cfg.KnockKey}, nil
}

// duties tells everybody what this instance does for a server from now on, and what it did. Each part hears only of the
// servers that are its business here: with several instances, a server may be one's for its health and another's for its
// cells. Discovery and health forget nothing when a duty ends; their news of that server just come from elsewhere.
func (p *Control) duties(r wire.Registration, had, has wire.Duties) {
	p.cfg.Logger.Info("duties", "server", r.Server, "brick", r.Brick, "color", r.Color, "boot", r.Boot, "nodes", r.Nodes, "had", had, "has", has)
	// Registering again is news, too: addresses may have changed, and the boot number.
	switch {
	case has&wire.DutyLifecycle != 0:
		p.seat.serverUp(r)
	case had&wire.DutyLifecycle != 0:
		p.seat.serverDown(r.Server)
	}
	switch {
	case has&wire.DutyDiscovery != 0:
		p.discovery.Joined(r)
	case had&wire.DutyDiscovery != 0:
		p.discovery.Left(r.Server)
	}
	p.watch(r, had, has)
}

// watchRoster passes on that instances have come or gone, or that another is active. It is the only reader of the roster's
// changes in this process.
func (p *Control) watchRoster() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.roster.Changed():
			p.retable()
			p.fleet.RosterChanged()
			select {
			case p.moved <- struct{}{}:
			default: // recall has been told
			}
		}
	}
}

// listServers answers health.servers.
func (p *Control) listServers(r fleet.Request) {
	var req wire.ListServers
	if r.Decode(&req) {
		page := p.observer.List(req)
		r.Reply(&page, nil)
	}
}

// reach is the way to the servers for the parts that were made before the fleet.
type reach struct {
	control *Control
	served  <-chan struct{}
}

// Call sends a request to a server; see fleet.Fleet.
func (r *reach) Call(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error {
	<-r.served
	return r.control.fleet.Call(ctx, id, method, params, result)
}

// Sessions lists the connected servers whose health is this instance's business.
func (r *reach) Sessions() []cell.ServerID {
	<-r.served
	return r.control.fleet.SessionsFor(wire.DutyHealth)
}

// Ping asks a server for a sign of life.
func (r *reach) Ping(ctx context.Context, id cell.ServerID) (pong wire.Pong, err error) {
	err = r.Call(ctx, id, wire.MethodPing, nil, &pong)
	return pong, err
}

// Sick asks a server for its nodes that are out of service.
func (r *reach) Sick(ctx context.Context, id cell.ServerID, req *wire.Census) (page wire.CensusPage, err error) {
	err = r.Call(ctx, id, wire.MethodSick, req, &page)
	return page, err
}

// Report asks a server what it hears of others.
func (r *reach) Report(ctx context.Context, id cell.ServerID, req *wire.ReportRequest) (report wire.ServerReport, err error) {
	err = r.Call(ctx, id, wire.MethodServerReport, req, &report)
	return report, err
}

// refused counts connections that a port refused, or ended for what came on them, as far as the guard has not.
func (p *Control) refused(port pki.Port) func(error) {
	return func(err error) {
		if why := rpc.ReasonOf(err); why != refusal.Welcome {
			p.guard.Count(port, pki.Accepting, why)
		}
	}
}

// Addr is where servers and clients reach the control plane; OpsAddr is where the metrics are, or empty.
func (p *Control) Addr() string { return p.fleet.Addr().String() }

// OpsAddr is where /metrics, /livez and /readyz are, or empty.
func (p *Control) OpsAddr() string {
	if p.ops == nil {
		return ""
	}
	return p.ops.addr
}

// Failed is closed when the control plane cannot go on, for example after a disk error; Err then says why. The process
// should exit; its successor goes on from the store.
// One that shares a store never fails: it stands by.
func (p *Control) Failed() <-chan struct{} { return p.seat.ended }

// Err says why the control plane failed, or nil.
func (p *Control) Err() error { return p.seat.err() }

// Close stops serving, waits for all goroutines and closes the store. It works on a Control of which only a part was made.
func (p *Control) Close() error {
	p.cancel()
	errs := []error{p.join.close()}
	p.wait.Wait()
	if p.fleet != nil {
		errs = append(errs, p.fleet.Close())
	}
	if p.seat != nil {
		errs = append(errs, p.seat.close())
	}
	p.audit.Close() // last: what waited was answered by then
	return errors.Join(append(errs, p.ops.close())...)
}
