package topology

import (
	"cmp"
	"fmt"
	"slices"

	"physalia/cell"
)

// ServersMax bounds the servers of one view.
const ServersMax = 1 << 16

// PoolKey names a pool: the servers of one brick and one color.
type PoolKey struct {
	Brick Brick
	Color Color
}

// String shows a pool as refusals name it, for example "brick b1 color red".
func (k PoolKey) String() string { return fmt.Sprintf("brick %s color %s", k.Brick, k.Color) }

// Compare orders pools by brick, then color.
func (k PoolKey) Compare(l PoolKey) int {
	return cmp.Or(cmp.Compare(k.Brick, l.Brick), cmp.Compare(k.Color, l.Color))
}

// Pool is the servers of one brick and color, with their racks and power domains numbered from 0, so that placement
// works on small integers. All slices are read-only.
type Pool struct {
	Key     PoolKey
	Servers []Server      // ordered by ID
	Racks   []Rack        // the racks of Servers, ordered by name
	Powers  []PowerDomain // the power domains of Servers, ordered by name
	RackOf  []int32       // by position in Servers: position in Racks
	PowerOf []int32       // by position in Servers: position in Powers
}

// Index returns the position of a server in the pool, or -1. It takes O(log servers).
func (p *Pool) Index(id cell.ServerID) int {
	if i, ok := slices.BinarySearchFunc(p.Servers, id, byID); ok {
		return i
	}
	return -1
}

// View is a set of servers at one moment. It is immutable and safe for concurrent use.
type View struct {
	servers []Server // ordered by ID
	pools   []*Pool  // ordered by key
	byKey   map[PoolKey]*Pool
}

// NewView indexes servers. It copies the slice, and takes O(n log n). It refuses, with a *cell.Error of kind Invalid or
// Refused, a malformed description, more than ServersMax servers, and one identity described twice: with both places
// when they differ.
func NewView(servers []Server) (*View, error) {
	if len(servers) > ServersMax {
		return nil, &cell.Error{Op: "topology.view", Kind: cell.Invalid,
			Detail: fmt.Sprintf("view has %d servers, allowed are %d", len(servers), ServersMax), Hint: "split the colony"}
	}
	v := &View{servers: slices.Clone(servers), byKey: make(map[PoolKey]*Pool)}
	slices.SortStableFunc(v.servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	for i := range v.servers {
		if err := v.servers[i].Check(); err != nil {
			return nil, err
		}
		if i > 0 && v.servers[i].ID == v.servers[i-1].ID {
			return nil, twice(&v.servers[i-1], &v.servers[i])
		}
	}
	v.index()
	return v, nil
}

func twice(a, b *Server) error {
	if err := a.Contradiction(b); err != nil {
		return err
	}
	return &cell.Error{Op: "topology.view", Kind: cell.Invalid,
		Detail: fmt.Sprintf("server %s is described twice", a.ID), Hint: "describe each identity once"}
}

// index builds the pools. Servers are ordered by ID, so those of each pool are too.
func (v *View) index() {
	for i := range v.servers {
		key := v.servers[i].Pool()
		p := v.byKey[key]
		if p == nil {
			p = &Pool{Key: key}
			v.byKey[key] = p
			v.pools = append(v.pools, p)
		}
		p.Servers = append(p.Servers, v.servers[i])
	}
	slices.SortFunc(v.pools, func(a, b *Pool) int { return a.Key.Compare(b.Key) })
	for _, p := range v.pools {
		p.Racks, p.RackOf = number(p.Servers, func(s *Server) Rack { return s.Rack })
		p.Powers, p.PowerOf = number(p.Servers, func(s *Server) PowerDomain { return s.Power })
	}
}

// number collects the distinct names of a field in order, and each server's position among them.
func number[N cmp.Ordered](servers []Server, field func(*Server) N) ([]N, []int32) {
	names := make([]N, len(servers))
	for i := range servers {
		names[i] = field(&servers[i])
	}
	slices.Sort(names)
	names = slices.Clip(slices.Compact(names))
	of := make([]int32, len(servers))
	for i := range servers {
		at, _ := slices.BinarySearch(names, field(&servers[i]))
		of[i] = int32(at)
	}
	return names, of
}

// Len is the number of servers.
func (v *View) Len() int { return len(v.servers) }

// Servers returns all servers ordered by ID; the slice is read-only.
func (v *View) Servers() []Server { return v.servers }

// Pools returns all pools ordered by key; the slice is read-only.
func (v *View) Pools() []*Pool { return v.pools }

// Pool returns one pool, or nil when no server of the view belongs to it.
func (v *View) Pool(key PoolKey) *Pool { return v.byKey[key] }

// Server returns a server by identity, or nil; the description is read-only. It takes O(log n).
func (v *View) Server(id cell.ServerID) *Server {
	if i, ok := slices.BinarySearchFunc(v.servers, id, byID); ok {
		return &v.servers[i]
	}
	return nil
}

func byID(s Server, id cell.ServerID) int { return cmp.Compare(s.ID, id) }

// With returns a view in which s is added, or replaces the older description of the same identity. It refuses a
// malformed description and one that contradicts the older. It takes O(n log n); the receiver does not change.
func (v *View) With(s Server) (*View, error) {
	servers := slices.Clone(v.servers)
	if at, ok := slices.BinarySearchFunc(servers, s.ID, byID); !ok {
		servers = slices.Insert(servers, at, s)
	} else if err := servers[at].Contradiction(&s); err != nil {
		return nil, err
	} else {
		servers[at] = s
	}
	return NewView(servers)
}

// Locate completes a location that names a server of the view; other locations are returned as they are.
func (v *View) Locate(l Location) Location {
	if l.Server == "" {
		return l
	}
	if s := v.Server(l.Server); s != nil {
		return s.Location()
	}
	return l
}
