package placement

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
)

// Place chooses the founding jury of one cell. It draws exactly one number from rng, whatever happens, and changes
// nothing in the book but scratch space: the caller adds the placement. When brick or color is left open, the pools
// are tried in this order: fewest hints outside the brick, most room, brick, color; the first that satisfies every hard
// constraint is taken.
//
// The error is a *cell.Error: Invalid for a malformed input; NoRoom when no pool can hold the cell, with the constraint
// and the numbers of each pool in Detail.
func Place(in Input, rng *rand.Rand) (Placement, Report, error) {
	roll := rng.Uint64()
	if in.View == nil || in.JurySize < 1 || in.JurySize > JuryMax {
		return Placement{}, Report{}, invalidInput(&in)
	}
	if in.Book == nil {
		in.Book = NewBook()
	}
	hints := in.Hints.known(in.View)
	pools := rank(&in, hints)
	if len(pools) == 0 {
		return Placement{}, Report{}, noPool(&in)
	}
	var passed []*refusal
	for _, pool := range pools {
		p, rep, no := placeIn(&in, pool, hints, roll)
		if no == nil {
			rep.Passed = texts(passed)
			return p, rep, nil
		}
		passed = append(passed, no)
	}
	return Placement{}, Report{}, noRoom(&in, passed)
}

// rank lists the pools that the input allows, best first.
func rank(in *Input, hints []hint) []*topology.Pool {
	type ranked struct {
		pool    *topology.Pool
		outside uint64 // weight of the hints in other bricks
		room    uint64
	}
	var rs []ranked
	for _, p := range in.View.Pools() {
		if (in.Brick != "" && in.Brick != p.Key.Brick) || (in.Color != "" && in.Color != p.Key.Color) {
			continue
		}
		r := ranked{pool: p}
		for _, h := range hints {
			if h.where.Brick != p.Key.Brick {
				r.outside += h.weight
			}
		}
		rs = append(rs, r)
	}
	if len(rs) > 1 { // one pool needs no ranking
		for i := range rs {
			rs[i].room = room(in, rs[i].pool)
		}
	}
	slices.SortStableFunc(rs, func(a, b ranked) int { // View.Pools is ordered by key
		return cmp.Or(cmp.Compare(a.outside, b.outside), cmp.Compare(b.room, a.room))
	})
	pools := make([]*topology.Pool, len(rs))
	for i := range rs {
		pools[i] = rs[i].pool
	}
	return pools
}

// room is how many more nodes the live servers of a pool would host, saturated.
func room(in *Input, pool *topology.Pool) uint64 {
	book := in.Book.pool(pool.Key)
	numbers := book.bind(pool)
	total := uint64(0)
	for i := range pool.Servers {
		s := &pool.Servers[i]
		if load := in.awaited(s.ID, book.load(s, numbers[i])); load < s.Capacity && !in.Down[s.ID] {
			free := s.Capacity - load
			if total+free < total {
				return math.MaxUint64
			}
			total += free
		}
	}
	return total
}

// pool returns the account of a pool, opening it if there is none.
func (b *Book) pool(key topology.PoolKey) *poolBook {
	p := b.pools[key]
	if p == nil {
		p = newPool(key)
		b.enter(p)
	}
	return p
}

// load is how many nodes a server has: what it says, or what the book says when that is more. The book knows nodes that
// are planned, the server those that the book does not know.
func (p *poolBook) load(s *topology.Server, number int32) uint64 {
	if number < 0 {
		return s.Load
	}
	return max(s.Load, uint64(len(p.servers[number].cells)))
}

// placeIn chooses a jury in one pool, or says why there is none.
func placeIn(in *Input, pool *topology.Pool, hints []hint, roll uint64) (Placement, Report, *refusal) {
	s := &search{size: in.JurySize, pool: pool, book: in.Book.pool(pool.Key), keep: in.Keep, limit: searchStepsMax}
	rep := Report{Pool: pool.Key, Servers: len(pool.Servers), Cells: s.book.len(),
		OverlapLimit: OverlapLimit(len(pool.Servers), in.JurySize)}
	aims := aims(hints, pool)
	s.gather(in, aims, roll, &rep)
	if rep.Room < in.JurySize {
		return Placement{}, rep, tooFew(&rep, in.JurySize)
	}
	after := uint64(rep.Cells) + 1
	rep.OverlapHard = after <= rep.OverlapLimit
	found := s.run(rep.OverlapHard)
	if !found && rep.OverlapHard && after > OverlapLimit(rep.Room, in.JurySize) {
		// Servers are down or full, and those that are left are beyond what they could keep apart.
		rep.OverlapHard = false
		found = s.run(false)
	}
	rep.Steps = s.work()
	if !found {
		return Placement{}, rep, s.explain(&rep)
	}
	return s.result(aims, &rep), rep, nil
}

// gather collects the candidates, in the scratch space of the book, and counts what rules out the others.
func (s *search) gather(in *Input, aims []aim, roll uint64, rep *Report) {
	numbers := s.book.bind(s.pool)
	s.cands = in.Book.cands[:0]
	for i := range s.pool.Servers {
		server := &s.pool.Servers[i]
		if len(in.Down) > 0 && in.Down[server.ID] {
			continue
		}
		rep.Live++
		load := in.awaited(server.ID, s.book.load(server, numbers[i]))
		if load >= server.Capacity {
			continue
		}
		rep.Room++
		s.cands = append(s.cands, candidate{
			score: fill(load, server.Capacity) + distanceScore*farness(aims, s.pool, i),
			dice:  dice(roll, i), at: int32(i), number: numbers[i], rack: s.pool.RackOf[i], power: s.pool.PowerOf[i],
		})
	}
	in.Book.cands = s.cands
}

// result turns the chosen candidates into a placement and completes the report. Members stay in the order of choice, so
// that a lower node number, which ranks higher in an election, means a better place.
func (s *search) result(aims []aim, rep *Report) Placement {
	p := Placement{Brick: s.pool.Key.Brick, Color: s.pool.Key.Color, Members: make([]cell.ServerID, 0, s.size)}
	// The owner of ballot 1 proposes until somebody deposes it: who has the fewest such duties takes this one.
	type bid struct {
		owned int
		far   uint64
	}
	var best bid
	for i, at := range s.chosen {
		c := &s.cands[at]
		p.Members = append(p.Members, s.pool.Servers[c.at].ID)
		b := bid{far: farness(aims, s.pool, int(c.at))}
		if c.number >= 0 {
			b.owned = s.book.servers[c.number].owned
		}
		if i == 0 || b.owned < best.owned || (b.owned == best.owned && b.far < best.far) {
			p.Owner, best = i, b
		}
	}
	rep.Above = s.book.scan.above
	rep.Racks, rep.RackMost = spread(s.racks)
	rep.Powers, rep.PowerMost = spread(s.powers)
	return p
}

// spread counts the domains in use, and the members of the fullest.
func spread(members []uint8) (used, most int) {
	for _, n := range members {
		if n > 0 {
			used++
		}
		most = max(most, int(n))
	}
	return used, most
}
