package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/changes"
	"physalia/internal/wire"
)

// Config bounds a Cache; the zero value of a field means its default.
type Config struct {
	CellsMax   int // cells held, deleted ones included; default 20,000,000
	ServersMax int // servers held; default 1,000,000

	// Life is where the positions begin that other copies follow this one by: higher than any of an earlier life of the
	// same copy. A clock in microseconds does it.
	Life uint64
}

// changesMax bounds the changes remembered for other copies, which ask every second; 24 bytes each.
const changesMax = 32 << 10

// Cache keeps the newest known route of every cell. It is a plain value machine without clock, disk, socket or goroutine;
// it has one writer, or many readers, at a time. The zero Cache is not usable; see NewCache.
type Cache struct {
	config  Config
	buckets [wire.TableBuckets]map[cell.ID]entry
	sums    [wire.TableBuckets]uint64 // of the routes of each bucket, for other copies
	log     *changes.Log[cell.ID]
	servers []server // a server's number is its place; numbers are never given to another
	number  map[cell.ServerID]uint32
	stats   Stats

	collect bool         // tell what is newer
	news    []wire.Route // since somebody took them
}

// entry is one route, without what is held once for all.
type entry struct {
	incarnation   cell.Incarnation
	configuration uint64
	members       []member // none when the incarnation is sealed
}

// member is one member of a route, in 8 bytes.
type member struct {
	server uint32
	node   uint32
}

// server is where a server can be reached, and when it was last heard of.
type server struct {
	id         cell.ServerID
	brick      string
	peerAddr   string
	clientAddr string
	boot       uint64        // whose word the addresses are; zero: hearsay that came with a route
	contact    time.Duration // when it last spoke to any copy
	spoke      bool          // it did
	share      *share        // what was taken from it; nil before its first session
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
	return &Cache{config: c, number: map[cell.ServerID]uint32{}, log: changes.New[cell.ID](wire.TableBuckets, changesMax, c.Life)}
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

// hash is what the entry adds to the sum of its bucket.
func (e *entry) hash(id cell.ID) uint64 {
	return wire.RouteHash(id, e.incarnation, e.configuration, e.deleted())
}

// Put takes one route in, if it is well-formed and newer than what is held, and reports whether it was newer. The error
// is a *cell.Error: Invalid for a malformed route, Overloaded beyond a bound.
func (c *Cache) Put(r *wire.Route) (newer bool, err error) {
	if err := check(r); err != nil {
		c.stats.Refused++
		return false, err
	}
	b := wire.BucketOf(r.Cell)
	have, known := c.buckets[b][r.Cell]
	if known && !have.older(r) {
		c.stats.Old++
		return false, nil
	}
	if !known && c.stats.Cells >= c.config.CellsMax || len(c.servers)+c.strangers(r) > c.config.ServersMax {
		c.stats.Refused++
		return false, &cell.Error{Op: "discovery.put", Kind: cell.Overloaded, Cell: r.Cell,
			Detail: fmt.Sprintf("%d cells and %d servers are held", c.stats.Cells, len(c.servers)),
			Hint:   "raise the bounds of the discovery cache, or divide the fleet"}
	}
	e := entry{incarnation: r.Incarnation, configuration: r.Configuration}
	if !r.Deleted {
		e.members = make([]member, len(r.Members))
		for i := range r.Members {
			e.members[i] = member{server: c.hear(&r.Members[i]), node: uint32(r.Members[i].Node)}
		}
	}
	c.set(b, r.Cell, have, known, e)
	return true, nil
}

// set replaces the entry of a cell, if there was one, and keeps what is derived from the entries.
func (c *Cache) set(bucket int, id cell.ID, have entry, known bool, e entry) {
	if known {
		c.sums[bucket] -= have.hash(id)
	} else {
		c.stats.Cells++
	}
	if c.buckets[bucket] == nil {
		c.buckets[bucket] = map[cell.ID]entry{}
	}
	c.sums[bucket] += e.hash(id)
	c.buckets[bucket][id] = e
	c.log.Note(id, bucket)
	c.stats.Newer++
	if c.collect {
		c.news = append(c.news, c.Route(id))
	}
}

// strangers counts the members on servers that are not held yet.
func (c *Cache) strangers(r *wire.Route) (n int) {
	for i := range r.Members {
		if _, ok := c.number[r.Members[i].Server]; !ok {
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

// server finds or makes the entry of a server; the pointer is good until the next call.
func (c *Cache) server(id cell.ServerID) (*server, uint32) {
	n, ok := c.number[id]
	if !ok {
		n = uint32(len(c.servers))
		c.servers = append(c.servers, server{id: id})
		c.number[id] = n
	}
	return &c.servers[n], n
}

// hear takes the addresses that came with a route; they count for servers that have not spoken for themselves.
func (c *Cache) hear(f *wire.Founder) uint32 {
	s, n := c.server(f.Server)
	if s.boot == 0 && f.PeerAddr != "" {
		s.peerAddr = f.PeerAddr
	}
	if s.boot == 0 && f.ClientAddr != "" {
		s.clientAddr = f.ClientAddr
	}
	return n
}

// Address takes a server's own word of where it can be reached, for all routes at once; the word of an older boot is
// ignored. Beyond the bound of servers it is refused and counted.
func (c *Cache) Address(g *wire.Registration) {
	c.address(&wire.Contact{Server: g.Server, Brick: g.Brick, PeerAddr: g.PeerAddr, ClientAddr: g.ClientAddr, Boot: g.Boot})
}

// address takes what is known of a server; it reports false when there is no room.
func (c *Cache) address(k *wire.Contact) bool {
	if _, ok := c.number[k.Server]; !ok && len(c.servers) >= c.config.ServersMax {
		c.stats.Refused++
		return false
	}
	s, _ := c.server(k.Server)
	if k.Boot == 0 {
		c.hear(&wire.Founder{Server: k.Server, PeerAddr: k.PeerAddr, ClientAddr: k.ClientAddr})
	} else if k.Boot >= s.boot {
		s.peerAddr, s.clientAddr, s.boot = k.PeerAddr, k.ClientAddr, k.Boot
	}
	if k.Brick != "" {
		s.brick = k.Brick
	}
	return true
}

// Contact takes what another copy, or a snapshot, knows of a server, as of now.
func (c *Cache) Contact(now time.Duration, k *wire.Contact) error {
	if err := k.Server.Check(); err != nil {
		c.stats.Refused++
		return err
	}
	if !c.address(k) || k.Age == wire.AgeNever {
		return nil
	}
	s, _ := c.server(k.Server)
	if at := now - time.Duration(k.Age)*time.Second; !s.spoke || at > s.contact {
		s.contact, s.spoke = at, true
	}
	return nil
}

// Heard notes that a server spoke to this copy.
func (c *Cache) Heard(now time.Duration, id cell.ServerID) {
	if n, ok := c.number[id]; ok {
		c.servers[n].contact, c.servers[n].spoke = now, true
	}
}

// age is how long ago a server was heard of, in seconds.
func (s *server) age(now time.Duration) uint32 {
	if !s.spoke {
		return wire.AgeNever
	}
	return uint32(min(max(now-s.contact, 0)/time.Second, wire.AgeNever-1))
}

// contactOf is what this copy knows of a server.
func (s *server) contactOf(now time.Duration) wire.Contact {
	return wire.Contact{Server: s.id, Brick: s.brick, PeerAddr: s.peerAddr, ClientAddr: s.clientAddr, Boot: s.boot, Age: s.age(now)}
}

// Contacts answers another copy with a page of servers, in order of identity.
func (c *Cache) Contacts(now time.Duration, q wire.ContactsRequest) wire.Contacts {
	limit := int(min(max(q.Limit, 1), wire.ListLimitMax))
	var ids []cell.ServerID
	for i := range c.servers {
		if c.servers[i].id > q.After {
			ids = append(ids, c.servers[i].id)
		}
	}
	slices.Sort(ids)
	page := wire.Contacts{More: len(ids) > limit}
	for _, id := range ids[:min(limit, len(ids))] {
		page.Contacts = append(page.Contacts, c.servers[c.number[id]].contactOf(now))
	}
	return page
}

// Route returns what is known of a cell; a route without incarnation means that this copy does not know it.
func (c *Cache) Route(id cell.ID) wire.Route {
	e, ok := c.buckets[wire.BucketOf(id)][id]
	r := wire.Route{Cell: id, Incarnation: e.incarnation, Configuration: e.configuration, Deleted: ok && e.deleted()}
	if len(e.members) > 0 {
		r.Members = make([]wire.Founder, len(e.members))
	}
	for i, m := range e.members {
		s := &c.servers[m.server]
		r.Members[i] = wire.Founder{Node: uint64(m.node), Server: s.id, PeerAddr: s.peerAddr, ClientAddr: s.clientAddr}
	}
	return r
}

// ageOf is how old the freshest news of a cell can be: that of the member's server which was heard of last.
func (c *Cache) ageOf(now time.Duration, id cell.ID) uint32 {
	age := uint32(wire.AgeNever)
	for _, m := range c.buckets[wire.BucketOf(id)][id].members {
		age = min(age, c.servers[m.server].age(now))
	}
	return age
}

// answerBytesMax bounds an answer so that it fits the smallest frame that a client may have.
const answerBytesMax = wire.ClientFrameMax - 4<<10

// Lookup answers a request, in its order. The error is a *cell.Error: Invalid without cells or with too many, TooLarge
// when the answer would not fit a client's frame.
func (c *Cache) Lookup(now time.Duration, req wire.LookupRequest) (wire.Routes, error) {
	if n := len(req.Cells); n == 0 || n > wire.BatchMax {
		return wire.Routes{}, &cell.Error{Op: wire.MethodLookup, Kind: cell.Invalid,
			Detail: fmt.Sprintf("%d cells, allowed are 1 to %d", n, wire.BatchMax)}
	}
	out, size := wire.Routes{Routes: make([]wire.Route, len(req.Cells)), Ages: make([]uint32, len(req.Cells))}, 0
	for i, id := range req.Cells {
		out.Routes[i], out.Ages[i] = c.Route(id), c.ageOf(now, id)
		if size += routeBytes(&out.Routes[i]) + 5; size > answerBytesMax {
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
	s.Servers = len(c.servers)
	return s
}

// BrickAge is how long ago one of a brick's servers, the one that has been silent longest, was heard of, in seconds;
// AgeNever when one never was.
type BrickAge struct {
	Brick   string
	Servers int
	Oldest  uint32
}

// Ages tells per brick how old the news of its servers is, in order of bricks. Servers whose brick nobody told, since they
// never registered anywhere, count as the brick "".
func (c *Cache) Ages(now time.Duration) []BrickAge {
	of := map[string]BrickAge{}
	for i := range c.servers {
		s := &c.servers[i]
		b := of[s.brick]
		of[s.brick] = BrickAge{Brick: s.brick, Servers: b.Servers + 1, Oldest: max(b.Oldest, s.age(now))}
	}
	list := make([]BrickAge, 0, len(of))
	for _, b := range of {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b BrickAge) int { return cmp.Compare(a.Brick, b.Brick) })
	return list
}
