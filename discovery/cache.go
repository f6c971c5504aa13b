package discovery

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/wire"
)

// Cache is the routes of a colony, a plain value with one owner. A route costs about 250 bytes: servers are kept once,
// and routes point to them.
type Cache struct {
	max     int
	routes  map[cell.ID]*route
	servers map[cell.ServerID]*server
}

// route is where one cell lives, as far as this copy heard.
type route struct {
	incarnation   cell.Incarnation
	configuration uint64
	deleted       bool
	members       []member // none when deleted
}

type member struct {
	node   uint64
	server *server
}

// server is where one server is reached. Addresses change when a server starts anew; its boot number orders them.
type server struct {
	id           cell.ServerID
	boot         uint64 // zero: hearsay, from a route
	peer, client string
}

// RoutesDefault bounds a cache of which the caller says nothing: 10 million cells, about 2.5 GB.
const RoutesDefault = 10_000_000

// NewCache makes an empty cache of at most max routes; zero means RoutesDefault.
func NewCache(max int) *Cache {
	if max == 0 {
		max = RoutesDefault
	}
	return &Cache{max: max, routes: make(map[cell.ID]*route), servers: make(map[cell.ServerID]*server)}
}

// Len is the number of cells known, deleted ones included.
func (c *Cache) Len() int { return len(c.routes) }

// Server takes a server's own word of where it is reached; an older boot's word is ignored.
func (c *Cache) Server(r *wire.Registration) {
	s := c.server(r.Server)
	if r.Boot >= s.boot {
		s.boot, s.peer, s.client = r.Boot, r.PeerAddr, r.ClientAddr
	}
}

func (c *Cache) server(id cell.ServerID) *server {
	s := c.servers[id]
	if s == nil {
		s = &server{id: id}
		c.servers[id] = s
	}
	return s
}

// Put takes a route and reports whether it was news. A route that makes no sense, or that is not above the one known, is
// ignored; when the cache is full, cells that it does not know yet are refused as Overloaded.
func (c *Cache) Put(r *wire.Route) (news bool, err *cell.Error) {
	if e := check(r); e != nil {
		return false, e
	}
	known := c.routes[r.Cell]
	if known != nil && !known.supersededBy(r) {
		c.hearsay(r)
		return false, nil
	}
	if known == nil && len(c.routes) >= c.max {
		return false, &cell.Error{Op: wire.MethodPush, Kind: cell.Overloaded, Cell: r.Cell, Detail: fmt.Sprintf("the cache holds %d routes, its bound", c.max)}
	}
	fresh := &route{incarnation: r.Incarnation, configuration: r.Configuration, deleted: r.Deleted}
	if !r.Deleted {
		fresh.members = make([]member, len(r.Members))
		for i := range r.Members {
			fresh.members[i] = member{r.Members[i].Node, c.server(r.Members[i].Server)}
		}
	}
	c.hearsay(r)
	c.routes[r.Cell] = fresh
	return true, nil
}

// supersededBy orders what is told of one cell: by incarnation, then a seal beats everything of its incarnation, then by
// configuration number.
func (known *route) supersededBy(r *wire.Route) bool {
	if r.Incarnation != known.incarnation {
		return r.Incarnation > known.incarnation
	}
	if r.Deleted != known.deleted {
		return r.Deleted
	}
	return r.Configuration > known.configuration
}

// hearsay takes addresses from a route for servers that never said themselves where they are.
func (c *Cache) hearsay(r *wire.Route) {
	for i := range r.Members {
		m := &r.Members[i]
		if s := c.servers[m.Server]; s != nil && s.boot == 0 && m.ClientAddr != "" {
			s.peer, s.client = m.PeerAddr, m.ClientAddr
		}
	}
}

func check(r *wire.Route) *cell.Error {
	e := &cell.Error{Op: wire.MethodPush, Kind: cell.Invalid, Cell: r.Cell}
	switch {
	case r.Cell.Check() != nil:
		e.Detail = "the route's cell name is not valid"
	case r.Incarnation == 0:
		e.Detail = "the route's incarnation is 0, the first is 1"
	case !r.Deleted && (len(r.Members) == 0 || len(r.Members) > wire.MembersMax):
		e.Detail = fmt.Sprintf("the route has %d members, allowed are 1 to %d", len(r.Members), wire.MembersMax)
	default:
		return nil
	}
	return e
}

// Lookup answers in the order of the question; a route without members and not deleted means that this copy does not
// know the cell.
func (c *Cache) Lookup(q *wire.LookupRequest) *wire.Routes {
	answer := &wire.Routes{Routes: make([]wire.Route, len(q.Cells))}
	for i, id := range q.Cells {
		answer.Routes[i].Cell = id
		if known := c.routes[id]; known != nil {
			known.fill(&answer.Routes[i])
		}
	}
	return answer
}

func (known *route) fill(r *wire.Route) {
	r.Incarnation, r.Configuration, r.Deleted = known.incarnation, known.configuration, known.deleted
	r.Members = make([]wire.Founder, len(known.members))
	for i, m := range known.members {
		r.Members[i] = wire.Founder{Node: m.node, Server: m.server.id, PeerAddr: m.server.peer, ClientAddr: m.server.client}
	}
}
