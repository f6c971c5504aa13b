package health

import (
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// cellRef and hostRef are positions in the census; zero is nobody.
type (
	cellRef uint32
	hostRef uint32
)

// census knows which cells have members on which servers, both ways, in some 150 bytes per cell of seven: a row of 104, 28
// in the lists of its servers, and some 8 in the hash table. Nothing in it is a timer, a map entry or an allocation of its own
// per cell. The names of cells share memory with whoever told them.
type census struct {
	seed   uint64
	chunks [][]row // of chunkRows each: a table that grows by copying would need twice the room for a moment
	rows   uint32  // handed out, the first, which is nobody, included
	free   cellRef // rows of cells that are gone, linked by next
	cells  int     // living rows

	table []cellRef // open addressing by name; a power of two, at most three quarters full
	extra map[cellRef]*[wire.MembersMax - rowSeats]seat

	hosts  []host // the first is nobody
	byName map[cell.ServerID]hostRef
}

// rowSeats is how many members a row has room for; larger juries, which only laboratories have, continue in extra.
const (
	rowSeats  = 7
	chunkRows = 1 << 10
)

// row is one cell, in 104 bytes.
type row struct {
	id            cell.ID
	incarnation   cell.Incarnation
	configuration uint64
	seats         [rowSeats]seat
	prev, next    cellRef // in the list of its pool and class
	pool          uint16
	size          uint8 // members
	class         class
}

// seat is one member of a cell.
type seat struct {
	host hostRef
	at   uint32 // position in the host's list of cells
}

func newCensus(seed uint64) census {
	return census{seed: seed, rows: 1, table: make([]cellRef, 1<<10), extra: map[cellRef]*[wire.MembersMax - rowSeats]seat{},
		hosts: make([]host, 1), byName: map[cell.ServerID]hostRef{}}
}

func (c *census) row(ref cellRef) *row { return &c.chunks[ref/chunkRows][ref%chunkRows] }

// seat returns the i-th member of a cell.
func (c *census) seat(ref cellRef, i int) *seat {
	if i < rowSeats {
		return &c.row(ref).seats[i]
	}
	return &c.extra[ref][i-rowSeats]
}

// hash spreads names over the table: FNV-1a with a seed and a final mix.
func (c *census) hash(id cell.ID) uint64 {
	h := c.seed ^ 14695981039346656037
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// slot finds where a name stands in the table, or the empty slot where it would.
func (c *census) slot(id cell.ID) (at int, found bool) {
	mask := uint64(len(c.table) - 1)
	for at := c.hash(id) & mask; ; at = (at + 1) & mask {
		if ref := c.table[at]; ref == 0 || c.row(ref).id == id {
			return int(at), ref != 0
		}
	}
}

// find returns the cell of a name, or zero.
func (c *census) find(id cell.ID) cellRef {
	at, _ := c.slot(id)
	return c.table[at]
}

// add makes a row without members for a name that is not known.
func (c *census) add(id cell.ID) cellRef {
	if 4*(c.cells+1) > 3*len(c.table) {
		old := c.table
		c.table = make([]cellRef, 2*len(old))
		for _, ref := range old {
			if ref != 0 {
				at, _ := c.slot(c.row(ref).id)
				c.table[at] = ref
			}
		}
	}
	ref := c.free
	if ref != 0 {
		c.free = c.row(ref).next
	} else {
		if int(c.rows) >= len(c.chunks)*chunkRows {
			c.chunks = append(c.chunks, make([]row, chunkRows))
		}
		ref = cellRef(c.rows)
		c.rows++
	}
	*c.row(ref) = row{id: id}
	at, _ := c.slot(id)
	c.table[at] = ref
	c.cells++
	return ref
}

// remove forgets a cell that has no members any more.
func (c *census) remove(ref cellRef) {
	at, _ := c.slot(c.row(ref).id)
	mask := len(c.table) - 1
	c.table[at] = 0
	// Whoever was pushed behind the gap moves up, so that no search ends early.
	for i := (at + 1) & mask; c.table[i] != 0; i = (i + 1) & mask {
		home := int(c.hash(c.row(c.table[i]).id)) & mask
		if (i-home)&mask >= (i-at)&mask {
			c.table[at], c.table[i] = c.table[i], 0
			at = i
		}
	}
	*c.row(ref) = row{next: c.free}
	c.free = ref
	c.cells--
}

// seatAll gives a cell its members in place of the ones before.
func (c *census) seatAll(ref cellRef, members []hostRef) {
	w := c.row(ref)
	for i := range int(w.size) {
		c.leave(*c.seat(ref, i))
	}
	delete(c.extra, ref)
	if len(members) > rowSeats {
		c.extra[ref] = new([wire.MembersMax - rowSeats]seat)
	}
	w.size = uint8(len(members))
	for i, m := range members {
		h := &c.hosts[m]
		*c.seat(ref, i) = seat{m, uint32(len(h.cells))}
		h.cells = append(h.cells, ref)
	}
}

// leave takes a cell out of a host's list; the last of the list takes its place. A list is read from its end to its
// beginning, so whoever is moved was read before, or is read again.
func (c *census) leave(s seat) {
	h := &c.hosts[s.host]
	last := len(h.cells) - 1
	moved := h.cells[last]
	h.cells[s.at] = moved
	h.cells = h.cells[:last]
	for i := range int(c.row(moved).size) {
		if p := c.seat(moved, i); p.host == s.host && p.at == uint32(last) {
			p.at = s.at
		}
	}
	if 4*last < cap(h.cells) && cap(h.cells) > 64 {
		h.cells = slices.Clip(slices.Clone(h.cells)) // a server that was emptied keeps no room
	}
}

// host finds or makes the entry of a server; zero when there is no room.
func (c *census) host(id cell.ServerID, most int) hostRef {
	ref := c.byName[id]
	if ref == 0 && len(c.hosts) <= most {
		ref = hostRef(len(c.hosts))
		c.hosts = append(c.hosts, host{id: id})
		c.byName[id] = ref
	}
	return ref
}
