package placement

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
)

// Book keeps account of the cells of a colony: which servers each one is on, how many nodes and owned cells each server
// has. It is plain memory, changed only by Add and Remove; Place and the overlap questions use scratch space in it, so
// a Book has one owner and is not safe for concurrent use. The zero Book is not usable; see NewBook.
type Book struct {
	pools map[topology.PoolKey]*poolBook
	homes map[cell.ServerID]*poolBook
	order []*poolBook // by poolBook.at
	index index       // of all cells
	cands []candidate // scratch of Place
}

// poolBook is the account of one pool. Servers and cells are numbered densely; a cell's slot is reused after Remove.
type poolBook struct {
	key     topology.PoolKey
	at      uint32 // in Book.order
	numbers map[cell.ServerID]uint16
	servers []serverBook       // by number
	cells   []placed           // by slot; size 0 marks a free one
	names   []cell.ID          // by slot
	lives   []cell.Incarnation // by slot
	free    []uint32           // free slots
	scan    scan               // scratch: overlap of a jury under construction

	bound   *topology.Pool // the pool that bindings describes
	binding []int32        // by position in bound.Servers: number, or -1
	known   int            // len(servers) when bound
}

// serverBook is the account of one server.
type serverBook struct {
	cells []uint32 // slots
	owned int      // cells whose ballot 1 it owns
}

// placed is one cell, free of pointers: a Book of a million cells costs the garbage collector nothing.
type placed struct {
	members [JuryMax]uint16
	size    uint8
	owner   uint8
}

func (c *placed) jury() []uint16 { return c.members[:c.size] }

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{pools: make(map[topology.PoolKey]*poolBook), homes: make(map[cell.ServerID]*poolBook), index: newIndex()}
}

// poolServersMax is what a server number can count.
const poolServersMax = 1 << 16

// Add takes a cell into account. It refuses, and changes nothing, with a *cell.Error: Exists when that incarnation is
// accounted for already; Invalid when the jury is empty, larger than JuryMax, names a server twice or one of another
// pool, or its owner is no member.
func (b *Book) Add(id cell.ID, inc cell.Incarnation, p Placement) error {
	if _, ok := b.find(id, inc); ok {
		return &cell.Error{Op: "placement.add", Kind: cell.Exists, Cell: id,
			Detail: fmt.Sprintf("incarnation %d is accounted for already", inc), Hint: "remove it first"}
	}
	pool := b.pools[p.Pool()]
	if pool == nil {
		pool = newPool(p.Pool())
	}
	if err := b.checkAdd(pool, &p); err != nil {
		return &cell.Error{Op: "placement.add", Kind: cell.Invalid, Cell: id, Detail: err.Error(),
			Hint: "check the stored jury against the servers' registrations"}
	}
	if b.pools[pool.key] == nil {
		b.enter(pool)
	}
	c := placed{size: uint8(len(p.Members)), owner: uint8(p.Owner)}
	for i, m := range p.Members {
		b.homes[m] = pool
		c.members[i] = pool.number(m)
	}
	b.index.add(b, refOf(pool.at, pool.add(id, inc, c)))
	return nil
}

// newPool makes the account of a pool without cells; enter takes it into the book.
func newPool(key topology.PoolKey) *poolBook {
	return &poolBook{key: key, numbers: make(map[cell.ServerID]uint16)}
}

func (b *Book) enter(p *poolBook) {
	p.at = uint32(len(b.order))
	b.pools[p.key], b.order = p, append(b.order, p)
}

// checkAdd says why a cell cannot be accounted for, before anything has changed.
func (b *Book) checkAdd(pool *poolBook, p *Placement) error {
	if n := len(p.Members); n == 0 || n > JuryMax || p.Owner < 0 || p.Owner >= n {
		return fmt.Errorf("jury has %d members and owner %d, allowed are 1 to %d members, the owner one of them", n, p.Owner, JuryMax)
	}
	unknown := 0
	for i, m := range p.Members {
		if slices.Contains(p.Members[:i], m) {
			return fmt.Errorf("server %s is a member twice", m)
		}
		switch home := b.homes[m]; {
		case home == nil:
			unknown++
		case home != pool:
			return fmt.Errorf("server %s is of %s, not of %s", m, home.key, pool.key)
		}
	}
	if len(pool.servers)+unknown > poolServersMax {
		return fmt.Errorf("%s has had more than %d servers", pool.key, poolServersMax)
	}
	return nil
}

// Remove forgets a cell and reports whether it was accounted for.
func (b *Book) Remove(id cell.ID, inc cell.Incarnation) bool {
	at, ok := b.find(id, inc)
	if ok {
		ref := b.index.refs[at]
		b.index.remove(b, at)
		b.order[ref.pool()].remove(ref.slot())
	}
	return ok
}

// Len is the number of cells.
func (b *Book) Len() int { return b.index.cells }

// Cells is the number of cells in a pool.
func (b *Book) Cells(key topology.PoolKey) int {
	if p := b.pools[key]; p != nil {
		return p.len()
	}
	return 0
}

// Nodes is the number of nodes that a server has.
func (b *Book) Nodes(id cell.ServerID) int {
	if s := b.server(id); s != nil {
		return len(s.cells)
	}
	return 0
}

// CellAt is the cell of one of a server's nodes, by position, below Nodes. A node that comes is added at the end; the place of
// one that goes is taken by the last.
func (b *Book) CellAt(id cell.ServerID, i int) cell.ID {
	p := b.homes[id]
	return p.names[p.servers[p.numbers[id]].cells[i]]
}

// Owned is the number of cells whose ballot 1 a server owns.
func (b *Book) Owned(id cell.ServerID) int {
	if s := b.server(id); s != nil {
		return s.owned
	}
	return 0
}

// server returns the account of a server, or nil when it never had a node.
func (b *Book) server(id cell.ServerID) *serverBook {
	if p := b.homes[id]; p != nil {
		return &p.servers[p.numbers[id]]
	}
	return nil
}

// len is the number of cells.
func (p *poolBook) len() int { return len(p.cells) - len(p.free) }

// number returns the number of a server, issuing the next one at its first cell. Numbers are kept for good: a server
// identity is never used again, and 65,536 of them outlast any process.
func (p *poolBook) number(id cell.ServerID) uint16 {
	n, ok := p.numbers[id]
	if !ok {
		n = uint16(len(p.servers))
		p.numbers[id] = n
		p.servers = append(p.servers, serverBook{})
	}
	return n
}

// add gives a cell a slot and lists it with its servers.
func (p *poolBook) add(id cell.ID, inc cell.Incarnation, c placed) uint32 {
	slot := uint32(len(p.cells))
	if n := len(p.free); n > 0 {
		slot, p.free = p.free[n-1], p.free[:n-1]
		p.cells[slot], p.names[slot], p.lives[slot] = c, id, inc
	} else {
		p.cells, p.names, p.lives = append(p.cells, c), append(p.names, id), append(p.lives, inc)
	}
	for _, m := range c.jury() {
		p.servers[m].cells = append(p.servers[m].cells, slot)
	}
	p.servers[c.members[c.owner]].owned++
	return slot
}

// remove unlists a cell; the last of each server's cells takes its place in the list.
func (p *poolBook) remove(slot uint32) {
	c := p.cells[slot]
	for _, m := range c.jury() {
		list := p.servers[m].cells
		last := len(list) - 1
		list[slices.Index(list, slot)] = list[last]
		p.servers[m].cells = list[:last]
	}
	p.servers[c.members[c.owner]].owned--
	p.cells[slot], p.names[slot] = placed{}, ""
	p.free = append(p.free, slot)
}

// bind returns, by position in pool.Servers, the number of each server, or -1. It costs one map lookup per server, but
// only when the view or the set of numbered servers has changed.
func (p *poolBook) bind(pool *topology.Pool) []int32 {
	if p.bound == pool && p.known == len(p.servers) {
		return p.binding
	}
	p.bound, p.known, p.binding = pool, len(p.servers), p.binding[:0]
	for i := range pool.Servers {
		n := int32(-1)
		if m, ok := p.numbers[pool.Servers[i].ID]; ok {
			n = int32(m)
		}
		p.binding = append(p.binding, n)
	}
	return p.binding
}
