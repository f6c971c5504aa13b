package placement

import (
	"cmp"
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
)

// GainMin is the least gain for which Improve moves a node: as much as one step of distance to a hint of weight one, or
// 2.5 % of a server's capacity. It is also what keeps improvement from going round in circles: every swap lowers the sum of
// the scores by that much.
const GainMin = distanceScore

// Swap is one member of a jury that gives its place to another server.
type Swap struct {
	Remove, Add cell.ServerID
	Gain        int64 // by which the jury's score falls, in millionths of a server's capacity
}

// String shows a swap in one line.
func (s Swap) String() string {
	return fmt.Sprintf("%s for %s, gain %.1f %%", s.Add, s.Remove, float64(s.Gain)/(fullScore/100))
}

// Substitute chooses the server that takes the place of one member of an existing jury: in the same pool, alive, with room,
// and such that no rack and no power domain holds too many of the new jury, the dead members counted. Of those it takes the
// one with the best score: close to the hints, empty, and in few cells with which the new jury would share too much.
// It is deterministic. The jury must be in the book.
//
// As in Place, the overlap constraint yields where it cannot be kept and the servers that are left are beyond their limit: a member
// that is gone is worse than one more cell that shares too much.
//
// The error is a *cell.Error of kind NoRoom that counts what ruled the servers out.
func Substitute(in Input, jury []cell.ServerID, leaves cell.ServerID) (cell.ServerID, error) {
	s := newSwaps(&in, jury)
	mayLeave := func(m *seat) bool { return m.id == leaves }
	if best, ok := s.best(mayLeave, noFloor); ok {
		return best.Add, nil
	}
	if s.strict && uint64(in.Book.Cells(s.key)) > OverlapLimit(s.left(), len(jury)) {
		s.strict = false
		if best, ok := s.best(mayLeave, noFloor); ok {
			return best.Add, nil
		}
	}
	why := "none fits the racks and power domains of the other members"
	if s.strict {
		why += ", and shares no more than it may with other cells"
	}
	return "", &cell.Error{Op: "placement.substitute", Kind: cell.NoRoom,
		Detail: fmt.Sprintf("%s has %d live servers beside the jury, %d of them with room; %s", s.key, s.live, len(s.cands), why),
		Hint:   "add servers, or name one with --add"}
}

// left is how many servers of the pool are alive and have room, or are members already.
func (s *swaps) left() int {
	n := len(s.cands)
	for _, id := range s.jury {
		if !s.in.Down[id] {
			n++
		}
	}
	return n
}

// Improve finds the one swap that makes an existing jury better than any other would, by at least GainMin: closer to the
// hints, on emptier servers, sharing less with other cells. Members in Input.Down are left to whoever repairs them. What it
// proposes meets every hard constraint, and where the jury breaks one already, mending it outweighs any score. Repeated
// until it finds nothing, it ends: each swap lowers the score of the jury.
//
// For N servers in the pool it costs O(N log N), and the walk of Book.Sharing for at most swapsMax juries; beyond the overlap
// limit only the newest cells of each server are walked over. The jury must be in the book.
func Improve(in Input, jury []cell.ServerID) (Swap, bool) {
	s := newSwaps(&in, jury)
	return s.best(func(m *seat) bool { return !in.Down[m.id] }, GainMin)
}

// Bounds of a search for swaps.
const (
	swapsMax = 16 // swaps, the best by score alone, that are compared by what they share with other cells
	noFloor  = -1 << 62
)

// seat is a member of the jury that is to be improved, or a server that may become one.
type seat struct {
	id          cell.ServerID
	rack, power int32 // in the pool's numbers; -1: the view does not know the server
	cost        int64 // its part of the jury's score; less is better
}

// swaps looks for a better jury, one member away from the one that is.
type swaps struct {
	in     *Input
	key    topology.PoolKey
	jury   []cell.ServerID
	seats  []seat
	cands  []seat // ordered by cost, then identity
	live   int    // servers of the pool that are alive and no members
	racks  []int  // members of the jury by rack
	powers []int
	window int  // see scan
	shares int  // cells with which the jury shares too much, itself among them
	strict bool // sharing too much with more cells than before is forbidden
}

func newSwaps(in *Input, jury []cell.ServerID) *swaps {
	if in.Book == nil {
		in.Book = NewBook()
	}
	p := Jury(jury, in.View)
	s := &swaps{in: in, key: p.Pool(), jury: jury}
	pool := in.View.Pool(s.key)
	if pool == nil { // nobody knows any of its servers
		return s
	}
	s.strict = uint64(in.Book.Cells(s.key)) <= OverlapLimit(len(pool.Servers), len(jury))
	if !s.strict {
		s.window = softWindow
	}
	s.shares = in.Book.sharing(jury, s.window)
	s.racks, s.powers = make([]int, len(pool.Racks)), make([]int, len(pool.Powers))
	hints := aims(in.Hints.known(in.View), pool)
	for _, id := range jury {
		s.seats = append(s.seats, s.member(id, pool, hints))
	}
	s.gather(pool, hints)
	return s
}

// member describes a member of the jury. Its own node is not held against its server: that it is there makes the server no
// fuller for it.
func (s *swaps) member(id cell.ServerID, pool *topology.Pool, hints []aim) seat {
	i := pool.Index(id)
	if i < 0 { // of nobody's rack, and as bad as can be
		return seat{id: id, rack: -1, power: -1, cost: 2 * fullScore}
	}
	s.racks[pool.RackOf[i]]++
	s.powers[pool.PowerOf[i]]++
	server := &pool.Servers[i]
	cost := int64(distanceScore * farness(hints, pool, i))
	if load := s.load(server); load > server.Capacity || load == 0 || server.Capacity == 0 {
		cost += fullScore
	} else {
		cost += int64(fill(load-1, server.Capacity))
	}
	return seat{id: id, rack: pool.RackOf[i], power: pool.PowerOf[i], cost: cost}
}

// load is how many nodes a server has, as placement counts them.
func (s *swaps) load(server *topology.Server) uint64 {
	return s.in.awaited(server.ID, max(server.Load, uint64(s.in.Book.Nodes(server.ID))))
}

// gather lists the servers that may become members.
func (s *swaps) gather(pool *topology.Pool, hints []aim) {
	for i := range pool.Servers {
		server := &pool.Servers[i]
		if s.in.Down[server.ID] || slices.Contains(s.jury, server.ID) {
			continue
		}
		s.live++
		if load := s.load(server); load < server.Capacity {
			s.cands = append(s.cands, seat{id: server.ID, rack: pool.RackOf[i], power: pool.PowerOf[i],
				cost: int64(fill(load, server.Capacity) + distanceScore*farness(hints, pool, i))})
		}
	}
	slices.SortStableFunc(s.cands, func(a, b seat) int { return cmp.Compare(a.cost, b.cost) }) // the pool orders them by identity
}

// best finds the best swap of a member that may leave, if one gains as much as floor.
func (s *swaps) best(mayLeave func(*seat) bool, floor int64) (Swap, bool) {
	var found []Swap
	for i := range s.seats {
		m := &s.seats[i]
		if !mayLeave(m) {
			continue
		}
		fit := 0
		for k := range s.cands {
			c := &s.cands[k]
			gain := m.cost - c.cost + s.mended(m)
			if gain < floor || fit == swapsMax {
				break // the next are worse
			}
			if s.fits(m, c) {
				fit++
				found = append(found, Swap{Remove: m.id, Add: c.id, Gain: gain})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Swap) int { return cmp.Compare(b.Gain, a.Gain) })
	return s.leastShared(found[:min(len(found), swapsMax)], floor)
}

// mended is what the leaving of a member is worth in a jury that has too many in its rack or power domain.
func (s *swaps) mended(m *seat) int64 {
	most := domainMax(len(s.jury))
	if m.rack >= 0 && (s.racks[m.rack] > most || s.powers[m.power] > most) {
		return 4 * fullScore
	}
	return 0
}

// fits reports whether a server may take a member's place: neither its rack nor its power domain becomes too full.
func (s *swaps) fits(m, c *seat) bool {
	rack, power := s.racks[c.rack]+1, s.powers[c.power]+1
	if m.rack == c.rack {
		rack--
	}
	if m.power == c.power {
		power--
	}
	if plantedCrowdedPower {
		power -= 2
	}
	most := domainMax(len(s.jury))
	return rack <= most && power <= most
}

// leastShared is the best of some swaps once it is counted what the new juries share with other cells. While the overlap
// constraint is hard, a swap that shares too much with more cells than before is out.
func (s *swaps) leastShared(found []Swap, floor int64) (best Swap, ok bool) {
	next := make([]cell.ServerID, len(s.jury))
	for _, w := range found {
		copy(next, s.jury)
		next[slices.Index(next, w.Remove)] = w.Add
		shares := s.in.Book.sharing(next, s.window)
		if s.strict && shares > s.shares && !plantedIgnoreOverlap {
			continue
		}
		w.Gain += heatScore * int64(min(s.shares, heatMax)-min(shares, heatMax))
		if w.Gain >= floor && (!ok || w.Gain > best.Gain) {
			best, ok = w, true
		}
	}
	return best, ok
}
