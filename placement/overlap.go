package placement

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/topology"
)

// OverlapLimit is how many cells of the given jury size a pool of n servers may have with the overlap constraint hard:
// C(n, t) / (10 C(size, t)) with t one more than two cells may share. Each cell forbids C(size, t) of the C(n, t) sets
// of t servers to all others, so up to the limit at most a tenth is forbidden. For seven it is C(n, 4)/350.
func OverlapLimit(n, size int) uint64 {
	if size < 3 || n < size {
		return 0
	}
	t := shareMax(size) + 1
	return choose(n, t) / (10 * choose(size, t))
}

// choose is the binomial coefficient, saturated where it exceeds any number of cells.
func choose(n, k int) uint64 {
	c := uint64(1)
	for i := range k {
		if c > 1<<44 {
			return 1 << 44
		}
		c = c * uint64(n-i) / uint64(i+1)
	}
	return c
}

// scan counts, for every cell of a pool, how many servers it shares with a jury under construction, and from that how
// hot each server is: the number of cells with exactly as much shared as is allowed, or more, that the server is in. A
// server without heat can join the jury without any pair of cells sharing too much.
//
// Only juries of one pool can meet, and only cells of the jury's own servers can share anything with it, so walking
// those servers' lists misses nothing: the count is exact unless a window cuts the lists short. The alternative, an
// index of all sets of four servers that some cell uses, answers in 35 lookups but costs 35 entries per cell, several
// times what the whole book does.
//
// A stamp is an epoch in the upper four bits and the shared count in the lower four (JuryMax fits), so that a new jury
// starts without touching a byte per cell.
type scan struct {
	share  int // allowed
	window int // newest cells of each server that are looked at; 0: all
	epoch  uint8
	stamps []uint8  // by slot
	heat   []uint32 // by server number
	above  int      // cells that share more than allowed
	steps  int      // cells looked at
}

// softWindow bounds the work per server beyond the overlap limit, where sharing too much is unavoidable anyway.
const softWindow = 1024

// begin starts an empty jury. share zero or less switches counting off.
func (p *poolBook) begin(share, window int) {
	s := &p.scan
	s.share, s.window, s.above, s.steps = share, window, 0, 0
	if s.epoch++; s.epoch > 15 {
		clear(s.stamps)
		s.epoch = 1
	}
	if n := len(p.cells) - len(s.stamps); n > 0 {
		s.stamps = append(s.stamps, make([]uint8, n)...)
	}
	s.heat = append(s.heat[:0], make([]uint32, len(p.servers))...)
}

// seen returns the cells of a server that the scan looks at.
func (p *poolBook) seen(number int32) []uint32 {
	if number < 0 || p.scan.share <= 0 {
		return nil
	}
	list := p.servers[number].cells
	if w := p.scan.window; w > 0 && len(list) > w {
		return list[len(list)-w:]
	}
	return list
}

// enter adds a server to the jury under construction.
func (p *poolBook) enter(number int32) {
	s := &p.scan
	list := p.seen(number)
	s.steps += len(list)
	for _, slot := range list {
		stamp := s.stamps[slot]
		if stamp>>4 != s.epoch {
			stamp = s.epoch << 4
		}
		stamp++
		s.stamps[slot] = stamp
		// Both thresholds are crossed once per cell, however many more servers it shares.
		switch int(stamp & 15) {
		case s.share:
			for _, m := range p.cells[slot].jury() {
				s.heat[m]++
			}
		case s.share + 1:
			s.above++
		}
	}
}

// leave undoes enter.
func (p *poolBook) leave(number int32) {
	s := &p.scan
	list := p.seen(number)
	s.steps += len(list)
	for _, slot := range list {
		switch int(s.stamps[slot] & 15) {
		case s.share:
			for _, m := range p.cells[slot].jury() {
				s.heat[m]--
			}
		case s.share + 1:
			s.above--
		}
		s.stamps[slot]--
	}
}

// Overlap says how much the cells of a pool share.
type Overlap struct {
	Cells    int // in the pool
	Examined int // of them
	Above    int // examined cells that share more than (n-1)/2 servers with some other cell, n their jury size
}

// String shows the share in percent, for example "2 of 100 cells (2.0%) share too many servers with another".
func (o Overlap) String() string {
	percent := 0.0
	if o.Examined > 0 {
		percent = 100 * float64(o.Above) / float64(o.Examined)
	}
	return fmt.Sprintf("%d of %d cells (%.1f%%) share too many servers with another", o.Above, o.Examined, percent)
}

// Overlap examines at most sample cells of a pool, evenly spaced, against all others; sample 0 means all. Each costs a
// walk over the cells of its servers.
func (b *Book) Overlap(key topology.PoolKey, sample int) Overlap {
	p := b.pools[key]
	if p == nil || p.len() == 0 {
		return Overlap{}
	}
	o := Overlap{Cells: p.len()}
	step := 1
	if sample > 0 {
		step = (o.Cells + sample - 1) / sample
	}
	nth := 0
	for slot := range p.cells {
		if p.cells[slot].size == 0 {
			continue
		}
		if nth++; (nth-1)%step != 0 {
			continue
		}
		o.Examined++
		if p.crowded(&p.cells[slot]) {
			o.Above++
		}
	}
	return o
}

// crowded reports whether a cell of the pool shares too much with another: it always meets itself, once.
func (p *poolBook) crowded(c *placed) bool {
	p.begin(shareMax(int(c.size)), 0)
	for _, m := range c.jury() {
		if p.enter(int32(m)); p.scan.above > 1 {
			return true
		}
	}
	return false
}

// Sharing returns how many cells of the book share more than (n-1)/2 servers with a jury of n servers. A jury that is
// in the book itself counts as one of them.
func (b *Book) Sharing(members []cell.ServerID) int { return b.sharing(members, 0) }

// sharing is Sharing, of the newest cells of each server only when window is above zero.
func (b *Book) sharing(members []cell.ServerID, window int) int {
	var p *poolBook
	for _, m := range members {
		home := b.homes[m]
		if home == nil {
			continue
		}
		if p == nil {
			p = home
			p.begin(shareMax(len(members)), window)
		}
		if home == p { // a sound jury has no member in another pool
			p.enter(int32(p.numbers[m]))
		}
	}
	if p == nil {
		return 0
	}
	return p.scan.above
}
