package rpc

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// Limits bound the connections of one listener. Each counts from Accept on, whatever becomes of its handshake.
type Limits struct {
	Connections int // of everybody; default 10,000
	PerAddress  int // from one address, for IPv6 from one /64; default a quarter of Connections, but 1000 where there are so many
	PerIdentity int // of one proven identity, see internal/pki; default half of Connections, with the same least
}

// Defaults of Limits. A loopback colony comes from one address altogether, and the processes of one user may share an identity, so
// small listeners are not divided.
const (
	connectionsDefault = 10_000
	undivided          = 1000
	refusingMax        = 64          // connections beyond the limits that are refused with a reason, at a time
	overrunRetryAfter  = time.Second // told to a side that finds too many connections
)

func (l Limits) withDefaults() Limits {
	l.Connections = orDefault(l.Connections, connectionsDefault)
	least := min(l.Connections, undivided)
	l.PerAddress = orDefault(l.PerAddress, max(l.Connections/4, least))
	l.PerIdentity = orDefault(l.PerIdentity, max(l.Connections/2, least))
	return l
}

// Gate counts the connections of one listener and turns away those beyond its Limits. Its memory is bounded by them. Its methods are
// safe for concurrent use.
type Gate struct {
	limits Limits

	mu       sync.Mutex
	open     int // passes that were not left, those of the refused excepted
	refusing int // passes of the refused
	from     map[netip.Addr]int
	of       map[string]int
}

// NewGate makes a gate; zero limits are the defaults.
func NewGate(l Limits) *Gate {
	return &Gate{limits: l.withDefaults(), from: make(map[netip.Addr]int), of: make(map[string]int)}
}

// Pass is one connection at a gate. Its owner calls Leave once, when the connection is closed.
type Pass struct {
	gate    *Gate
	from    netip.Addr
	of      string
	refusal *cell.Error // what the other side is to be told, in answer to its Hello; nil: it is welcome so far
}

// Enter counts a connection. Without a pass the connection is to be closed without a word: even refusing costs more than there is.
// With a pass and an error, the connection may still say its Hello, and is refused by Pass.Check. The error is Overloaded, with
// the refusal.Reason in it.
func (g *Gate) Enter(remote net.Addr) (*Pass, *cell.Error) {
	p := &Pass{gate: g, from: origin(remote)}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.open >= g.limits.Connections:
		p.refusal = crowded(refusal.TooMany, g.limits.Connections, "are open")
	case p.from.IsValid() && g.from[p.from] >= g.limits.PerAddress:
		p.refusal = crowded(refusal.TooManyFrom, g.limits.PerAddress, "from this address are open")
	}
	switch {
	case p.refusal == nil:
		g.open++
		g.from[p.from]++
	case g.refusing >= refusingMax:
		return nil, p.refusal
	default:
		g.refusing++
	}
	return p, p.refusal
}

// Check puts the gate before the check of a Hello: it refuses connections beyond the limits, and those of an identity that has too
// many.
func (p *Pass) Check(nc net.Conn, next func(wire.Hello) *cell.Error) func(wire.Hello) *cell.Error {
	return func(peer wire.Hello) *cell.Error {
		if p.refusal != nil {
			return p.refusal
		}
		if proven, ok := nc.(interface{ Identity() string }); ok {
			if err := p.identify(proven.Identity()); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		return next(peer)
	}
}

// identify counts the connection as one of an identity's.
func (p *Pass) identify(of string) *cell.Error {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of[of] >= g.limits.PerIdentity {
		return crowded(refusal.TooManyOf, g.limits.PerIdentity, "of "+of+" are open")
	}
	p.of = of
	g.of[of]++
	return nil
}

// Leave ends the count of a connection. A nil Pass has left already.
func (p *Pass) Leave() {
	if p == nil {
		return
	}
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.refusal != nil {
		g.refusing--
		return
	}
	g.open--
	lower(g.from, p.from)
	if p.of != "" {
		lower(g.of, p.of)
	}
}

// lower counts one less, and keeps no zeros.
func lower[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// origin is what is counted as one address; invalid, which is never too many, when there is none.
func origin(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		if site, err := addr.Prefix(64); err == nil {
			return site.Addr()
		}
	}
	return addr
}

func crowded(why refusal.Reason, most int, which string) *cell.Error {
	return &cell.Error{Op: "rpc.accept", Kind: cell.Overloaded, RetryAfter: overrunRetryAfter, Err: why,
		Detail: fmt.Sprintf("%d connections %s", most, which), Hint: "close some, connect to another server, or wait"}
}

// GatedListener puts a gate on a listener whose connections cannot be refused with a word, such as those of HTTP. Refused hears of
// those that were closed.
func GatedListener(ln net.Listener, g *Gate, refused func(error)) net.Listener {
	return &gatedListener{ln, g, refused}
}

type gatedListener struct {
	net.Listener
	gate    *Gate
	refused func(error)
}

// Accept implements net.Listener.
func (l *gatedListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		pass, why := l.gate.Enter(nc.RemoteAddr())
		if why == nil {
			return &gatedConn{Conn: nc, pass: pass}, nil
		}
		nc.Close() // without a word
		pass.Leave()
		l.refused(why)
	}
}

// gatedConn leaves the gate when it is closed.
type gatedConn struct {
	net.Conn
	pass *Pass
	once sync.Once
}

// Close implements net.Conn.
func (c *gatedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.pass.Leave)
	return err
}

// CloseWrite ends the own half of the connection, where it has halves.
func (c *gatedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
