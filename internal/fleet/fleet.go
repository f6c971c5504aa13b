package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/duty"
	"physalia/internal/refusal"
	"physalia/internal/roster"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Request is one request of a client or a registered server. It must be answered exactly once by Reply, at any time,
// from any goroutine.
type Request struct {
	Method string
	Params []byte        // valid until the handler returns
	Server cell.ServerID // who asks, when it is a registered server; empty for clients

	conn  *rpc.Conn
	id    uint32
	ended Ended
}

// Ended is told the answer of a request before it is sent.
type Ended func(result wire.Message, err *cell.Error)

// Reply answers the request; a nil result with a nil error means "done".
func (r *Request) Reply(result wire.Message, err *cell.Error) {
	if r.ended != nil {
		r.ended(result, err)
	}
	r.conn.Reply(r.id, result, err)
}

// Conn is the connection that the request came over, on whose reader goroutine the handler runs.
func (r *Request) Conn() *rpc.Conn { return r.conn }

// Decode reads the parameters; when it reports false, the request is answered already.
func (r *Request) Decode(params wire.Message) bool {
	err := wire.Unmarshal(r.Params, params)
	if err == nil {
		return true
	}
	e := &cell.Error{Op: r.Method, Kind: cell.Invalid, Detail: err.Error()}
	r.Reply(nil, e)
	return false
}

// Handler takes requests of one method. It runs on a connection's reader goroutine and must not block.
type Handler func(r Request)

// Config says how the fleet is kept. Colony is required; the zero value of everything else is useful.
type Config struct {
	Colony  string
	Control string // name of this process, told to servers

	Server map[string]Handler // methods that registered servers may call
	Client map[string]Handler // methods that clients and operators may call

	// Before is asked about every request of a client, on its connection's reader goroutine, before its handler is. It may refuse the
	// request; who it returns, if anybody, is told the answer, a refusal included. Nil: everything is allowed.
	Before func(c *rpc.Conn, method string, params []byte) (Ended, *cell.Error)

	// Admit may refuse a server that registers; nil admits all. It must not block, nor call into the Fleet.
	Admit func(wire.Registration) *cell.Error
	// Joined and Left tell when a server's session begins and ends; a session that replaces another one begins without
	// the other's end. The calls are in order, must not block, and must not call into the Fleet.
	Joined func(wire.Registration)
	Left   func(id cell.ServerID)
	// Duty tells whenever a server registers, and whenever this instance's duties for a connected server change: what it did
	// for the server, and what it does from now on. It comes after Joined and before Left, under the same rules.
	Duty func(g wire.Registration, had, has wire.Duties)

	// Roster says which instances there are. Nil: this one is alone and has every duty.
	Roster roster.Roster

	RegistersPerSecond float64 // registrations admitted; those beyond are refused early, with an appointment; default 500
	RegistersAtOnce    int     // and how many of them in a burst after a pause; default a quarter of a second's
	Knocks             *Knocks // servers may knock; nil: they may not

	// Dial opens connections to servers that have knocked; nil: plain TCP. Refused hears of connections that were refused in their
	// handshake, or ended for what came on them; nil: nobody asks.
	Dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	Refused     func(error)
	EnteringMax int // connections admitted and not registered yet; default RegistersAtOnce, at least 16

	PingEvery  time.Duration // default 2 s
	PingMisses int           // a session ends with so many pings in a row unanswered; default 3
	SeedsMax   int           // gossip addresses told to a server that registers; default 16

	ServersMax  int        // identities remembered; default 65,536
	Limits      rpc.Limits // of connections; default 70,000, and what follows from that
	InFlightMax int        // unanswered requests per connection; default 4096

	Log *slog.Logger // nil discards
}

func (c Config) withDefaults() Config {
	if c.PingEvery <= 0 {
		c.PingEvery = 2 * time.Second
	}
	if c.RegistersPerSecond <= 0 {
		c.RegistersPerSecond = 500
	}
	if c.RegistersAtOnce <= 0 {
		c.RegistersAtOnce = int(c.RegistersPerSecond/4) + 1
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&c.PingMisses, 3}, {&c.SeedsMax, 16}, {&c.ServersMax, 1 << 16}, {&c.Limits.Connections, 70_000}, {&c.InFlightMax, 4096}, {&c.EnteringMax, max(c.RegistersAtOnce, enteringLeast)}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// enteringLeast is how many connections may be between Hello and registration at any pace.
const enteringLeast = 16

// Fleet serves one listener. All methods are safe for concurrent use.
type Fleet struct {
	cfg   Config
	rpc   *rpc.Server
	stop  chan struct{}
	once  sync.Once // closes stop
	wg    sync.WaitGroup
	entry entry
	tells chan struct{} // capacity 1: there is something in telling
	stats stats
	asked map[string]*atomic.Uint64 // requests taken, by method; the map itself never changes
	knock *knocker                  // nil: nobody knocks

	mu      sync.RWMutex
	members map[cell.ServerID]*member
	table   duty.Table
	telling []tell // in order; see tellLosses
}

// member is one identity. It is remembered when its session ends.
type member struct {
	reg   wire.Registration
	conn  *rpc.Conn // nil when not connected; with a connection, it has at least one duty
	has   wire.Duties
	since time.Time // it is connected, or not
	slot  uint8     // of the ping period
	owing int       // pings in a row that it has not answered
}

// Serve starts to serve ln, which the Fleet owns from now on, until Close.
func Serve(ln net.Listener, c Config) *Fleet {
	f := &Fleet{cfg: c.withDefaults(), stop: make(chan struct{}), tells: make(chan struct{}, 1), members: map[cell.ServerID]*member{}, asked: counters(c)}
	if f.cfg.Roster == nil {
		f.cfg.Roster = roster.Alone(c.Control, ln.Addr().String())
	}
	f.table = duty.NewTable(f.cfg.Roster.Self(), f.cfg.Roster.Instances())
	f.entry.init(f.cfg)
	f.wg.Add(2)
	go f.ping()
	go f.tellLosses()
	f.rpc = rpc.NewServer(ln, rpc.Config{
		Hello:       wire.Hello{Purpose: wire.ForControl, Colony: c.Colony},
		FrameMax:    wire.ControlFrameMax,
		Handler:     rpc.HandlerFunc(f.handle),
		InFlightMax: f.cfg.InFlightMax,
		Limits:      f.cfg.Limits,
		Check:       f.check,
		OnClose:     f.closed,
		OnReject: func(remote net.Addr, err *cell.Error) {
			if f.cfg.Refused != nil {
				f.cfg.Refused(err)
			}
			if err.Kind != cell.Overloaded { // those are counted; a log of a storm would be one
				f.cfg.Log.Info("connection rejected", "remote", remote, "error", err)
			}
		},
	})
	if f.cfg.Knocks != nil {
		f.listenKnocks()
	}
	return f
}

// Remember makes servers known that registered with an earlier process: they may not come back from another place, and may
// knock. It is for the start; servers that have registered already are left alone.
func (f *Fleet) Remember(servers []wire.Registration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range servers {
		if f.members[g.Server] == nil && len(f.members) < f.cfg.ServersMax {
			g.Wants = 0
			f.members[g.Server] = &member{reg: g, since: time.Now(), slot: pingSlot(g.Server)}
		}
	}
}

// Addr is the address on which the fleet listens.
func (f *Fleet) Addr() net.Addr { return f.rpc.Addr() }

// Close closes every connection and waits for all goroutines; every session ends with Left. Calls that are under way end
// with an error.
func (f *Fleet) Close() error {
	f.once.Do(func() { close(f.stop) })
	err := f.rpc.Close()
	if f.knock != nil {
		err = errors.Join(err, f.knock.close())
	}
	f.wg.Wait()
	return err
}

// check judges a connection by its Hello.
func (f *Fleet) check(h wire.Hello) *cell.Error {
	refuse := func(why refusal.Reason, format string, args ...any) *cell.Error {
		return &cell.Error{Op: "control.hello", Kind: cell.Refused, Err: why, Detail: fmt.Sprintf(format, args...),
			Hint: "check the address and the configuration of the connecting process"}
	}
	switch {
	case h.Purpose != wire.ForClient && h.Purpose != wire.ForControl:
		return refuse(refusal.WrongRole, "purpose %d is not served by the control plane", h.Purpose)
	case h.Colony != f.cfg.Colony && (h.Colony != "" || h.Purpose == wire.ForControl):
		return refuse(refusal.OtherColony, "this is colony %q, not %q", f.cfg.Colony, h.Colony)
	case h.Purpose == wire.ForControl && h.Server.Check() != nil:
		return refuse(refusal.NoIdentity, "server identity: %v", h.Server.Check())
	case h.Purpose == wire.ForControl:
		return f.entry.admit(h.Server)
	}
	return nil
}

// handle takes one request of any connection.
func (f *Fleet) handle(c *rpc.Conn, req rpc.Request) {
	if req.Notify {
		return // no method of the control plane is a notification
	}
	handlers, server := f.cfg.Client, cell.ServerID("")
	if fromServer(c) {
		if req.Method == wire.MethodRegister {
			f.register(c, req)
			return
		}
		handlers, server = f.cfg.Server, c.Peer().Server
		if !f.current(server, c) {
			c.Reply(req.ID, nil, &cell.Error{Op: req.Method, Kind: cell.Refused, Detail: "this connection is not registered",
				Hint: "call " + wire.MethodRegister + " first"})
			return
		}
	}
	h := handlers[req.Method]
	if h == nil {
		c.Reply(req.ID, nil, &cell.Error{Op: req.Method, Kind: cell.Refused,
			Detail: fmt.Sprintf("method %q is not served to this side", req.Method)})
		return
	}
	f.asked[req.Method].Add(1)
	r := Request{Method: req.Method, Params: req.Params, Server: server, conn: c, id: req.ID}
	if f.cfg.Before != nil && server == "" {
		var refusal *cell.Error
		if r.ended, refusal = f.cfg.Before(c, req.Method, req.Params); refusal != nil {
			r.Reply(nil, refusal)
			return
		}
	}
	h(r)
}

// current reports whether a connection is its server's session.
func (f *Fleet) current(id cell.ServerID, c *rpc.Conn) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m := f.members[id]
	return m != nil && m.conn == c
}

// Call sends a request to a server and waits for the answer, as rpc.Conn.Call does. A server that is not connected is
// Unavailable: the request was not sent.
func (f *Fleet) Call(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error {
	f.mu.RLock()
	m := f.members[id]
	var c *rpc.Conn
	if m != nil {
		c = m.conn
	}
	f.mu.RUnlock()
	if c == nil {
		return &cell.Error{Op: method, Kind: cell.Unavailable, Detail: fmt.Sprintf("server %s is not connected", id)}
	}
	return c.Call(ctx, method, params, result)
}

// Servers lists every server that has registered with this process, ordered by identity.
func (f *Fleet) Servers() []wire.ServerState {
	now := time.Now()
	f.mu.RLock()
	defer f.mu.RUnlock()
	list := make([]wire.ServerState, 0, len(f.members))
	for _, m := range f.members {
		list = append(list, wire.ServerState{Registration: m.reg, Up: m.conn != nil,
			Since: uint64(now.Sub(m.since).Milliseconds())})
	}
	slices.SortFunc(list, func(a, b wire.ServerState) int {
		return strings.Compare(string(a.Registration.Server), string(b.Registration.Server))
	})
	return list
}

// SessionsFor lists the connected servers for which this instance has all of these duties, in no order.
func (f *Fleet) SessionsFor(d wire.Duties) (ids []cell.ServerID) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for id, m := range f.members {
		if m.conn != nil && m.has&d == d {
			ids = append(ids, id)
		}
	}
	return ids
}

// Sessions lists the servers that are connected, ordered by identity.
func (f *Fleet) Sessions() []wire.ServerState {
	return slices.DeleteFunc(f.Servers(), func(s wire.ServerState) bool { return !s.Up })
}
