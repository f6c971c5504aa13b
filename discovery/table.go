package discovery

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/wire"
)

// Config bounds a Cache; the zero value of a field means its default.
type Config struct {
	CellsMax   int // cells held, deleted ones included; default 20,000,000
	ServersMax int // servers held; default 1,000,000
}

// Cache keeps the newest known route of every cell. It is a plain value machine without clock, disk, socket or goroutine;
// it has one writer, or many readers, at a time. The zero Cache is not usable; see NewCache.
type Cache struct {
	config  Config
	routes  map[cell.ID]entry
	servers map[cell.ServerID]*server
	stats   Stats
}

// entry is one route, without what is held once for all.
type entry struct {
	incarnation   cell.Incarnation
	configuration uint64
	members       []member // none when the incarnation is sealed
}

// member is one member of a route, in 16 bytes.
type member struct {
	server *server
	node   uint32
}

// server is where a server can be reached.
type server struct {
	id         cell.ServerID
	peerAddr   string
	clientAddr string
	boot       uint64 // whose word the addresses are; zero: hearsay that came with a route
}

// Stats counts what a Cache holds and what it did.
type Stats struct {
	Cells   int // held now, deleted ones included
	Servers int // held now
	Newer   uint64
	Old     uint64 // routes that were not newer than what was held
	Refused uint64 // malformed routes, and those beyond a bound
}

// NewCache makes an empty cache.
func NewCache(c Config) *Cache {
	if c.CellsMax <= 0 {
		c.CellsMax = 20_000_000
	}
	if c.ServersMax <= 0 {
		c.ServersMax = 1_000_000
	}
	return &Cache{config: c, routes: map[cell.ID]entry{}, servers: map[cell.ServerID]*server{}}
}

// deleted reports that the incarnation is sealed: a living route has members.
func (e *entry) deleted() bool { return e.members == nil }

// older reports whether a route is newer than what is held.
func (e *entry) older(r *wire.Route) bool {
	switch {
	case e.incarnation != r.Incarnation:
		return e.incarnation < r.Incarnation
	case e.deleted() || r.Deleted:
		return !e.deleted() // a seal is the last word about an incarnation
	}
	return e.configuration < r.Configuration
}

// Put takes one route in, if it is well-formed and newer than what is held, and reports whether it was newer. The error
// is a *cell.Error: Invalid for a malformed route, Overloaded beyond a bound.
func (c *Cache) Put(r *wire.Route) (newer bool, err error) {
	if err := check(r); err != nil {
		c.stats.Refused++
		return false, err
	}
	have, known := c.routes[r.Cell]
	if known && !have.older(r) {
		c.stats.Old++
		return false, nil
	}
	if !known && len(c.routes) >= c.config.CellsMax || len(c.servers)+c.strangers(r) > c.config.ServersMax {
		c.stats.Refused++
		return false, &cell.Error{Op: "discovery.put", Kind: cell.Overloaded, Cell: r.Cell,
			Detail: fmt.Sprintf("%d cells and %d servers are held", len(c.routes), len(c.servers)),
			Hint:   "raise the bounds of the discovery cache, or divide the fleet"}
	}
	e := entry{incarnation: r.Incarnation, configuration: r.Configuration}
	if !r.Deleted {
		e.members = make([]member, len(r.Members))
		for i := range r.Members {
			e.members[i] = member{server: c.hear(&r.Members[i]), node: uint32(r.Members[i].Node)}
		}
	}
	c.routes[r.Cell] = e
	c.stats.Newer++
	return true, nil
}

// strangers counts the members on servers that are not held yet.
func (c *Cache) strangers(r *wire.Route) (n int) {
	for i := range r.Members {
		if c.servers[r.Members[i].Server] == nil {
			n++
		}
	}
	return n
}

// check holds what is true of every route that is believed. The codec has bounded the lengths.
func check(r *wire.Route) error {
	invalid := func(format string, args ...any) error {
		return &cell.Error{Op: "discovery.put", Kind: cell.Invalid, Cell: r.Cell, Detail: fmt.Sprintf(format, args...)}
	}
	if err := r.Cell.Check(); err != nil {
		return err
	}
	switch {
	case r.Incarnation == 0:
		return invalid("incarnation is 0, the first is 1")
	case r.Deleted:
		return nil
	case r.Configuration == 0 || len(r.Members) == 0 || len(r.Members) > wire.MembersMax:
		return invalid("configuration %d with %d members, allowed are 1 to %d", r.Configuration, len(r.Members), wire.MembersMax)
	}
	for i, m := range r.Members {
		if err := m.Server.Check(); err != nil {
			return err
		}
		if m.Node == 0 || m.Node > 1<<32-1 || i > 0 && m.Node <= r.Members[i-1].Node {
			return invalid("member %d has node number %d, out of order or out of bounds", i, m.Node)
		}
	}
	return nil
}

// server finds or makes the entry of a server.
func (c *Cache) server(id cell.ServerID) *server {
	s := c.servers[id]
	if s == nil {
		s = &server{id: id}
		c.servers[id] = s
	}
	return s
}

// hear takes the addresses that came with a route; they count for servers that have not spoken for themselves.
func (c *Cache) hear(f *wire.Founder) *server {
	s := c.server(f.Server)
	if s.boot == 0 && f.PeerAddr != "" {
		s.peerAddr = f.PeerAddr
	}
	if s.boot == 0 && f.ClientAddr != "" {
		s.clientAddr = f.ClientAddr
	}
	return s
}

// Address takes a server's own word of where it can be reached, for all routes at once; the word of an older boot is
// ignored. Beyond the bound of servers it is refused and counted.
func (c *Cache) Address(g *wire.Registration) {
	if c.servers[g.Server] == nil && len(c.servers) >= c.config.ServersMax {
		c.stats.Refused++
		return
	}
	if s := c.server(g.Server); g.Boot >= s.boot {
		s.peerAddr, s.clientAddr, s.boot = g.PeerAddr, g.ClientAddr, g.Boot
	}
}

// Route returns what is known of a cell; a route without incarnation means that this copy does not know it.
func (c *Cache) Route(id cell.ID) wire.Route {
	e, ok := c.routes[id]
	r := wire.Route{Cell: id, Incarnation: e.incarnation, Configuration: e.configuration, Deleted: ok && e.deleted()}
	if len(e.members) > 0 {
		r.Members = make([]wire.Founder, len(e.members))
	}
	for i, m := range e.members {
		r.Members[i] = wire.Founder{Node: uint64(m.node), Server: m.server.id, PeerAddr: m.server.peerAddr, ClientAddr: m.server.clientAddr}
	}
	return r
}

// answerBytesMax bounds an answer so that it fits the smallest frame that a client may have.
const answerBytesMax = wire.ClientFrameMax - 4<<10

// Lookup answers a request, in its order. The error is a *cell.Error: Invalid without cells or with too many, TooLarge
// when the answer would not fit a client's frame.
func (c *Cache) Lookup(req wire.LookupRequest) (wire.Routes, error) {
	if n := len(req.Cells); n == 0 || n > wire.BatchMax {
		return wire.Routes{}, &cell.Error{Op: wire.MethodLookup, Kind: cell.Invalid,
			Detail: fmt.Sprintf("%d cells, allowed are 1 to %d", n, wire.BatchMax)}
	}
	out, size := wire.Routes{Routes: make([]wire.Route, len(req.Cells))}, 0
	for i, id := range req.Cells {
		out.Routes[i] = c.Route(id)
		if size += routeBytes(&out.Routes[i]); size > answerBytesMax {
			return wire.Routes{}, &cell.Error{Op: wire.MethodLookup, Kind: cell.TooLarge,
				Detail: fmt.Sprintf("the routes of %d cells take more than %d bytes", len(req.Cells), answerBytesMax),
				Hint:   fmt.Sprintf("ask for at most %d cells at once", max(i, 1))}
		}
	}
	return out, nil
}

// routeBytes bounds the encoding of a route, in bytes.
func routeBytes(r *wire.Route) int {
	n := 32 + len(r.Cell)
	for i := range r.Members {
		n += 20 + len(r.Members[i].Server) + len(r.Members[i].PeerAddr) + len(r.Members[i].ClientAddr)
	}
	return n
}

// Stats counts what the cache holds.
func (c *Cache) Stats() Stats {
	s := c.stats
	s.Cells, s.Servers = len(c.routes), len(c.servers)
	return s
}
