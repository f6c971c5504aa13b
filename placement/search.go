package placement

import (
	"math"
	"math/bits"

	"physalia/cell"
	"physalia/internal/topology"
)

// The score of a candidate, in millionths of a server's capacity.
const (
	fullScore     = 1_000_000 // a server without room; an empty one has none
	distanceScore = 25_000    // one step of distance, for a hint of weight one: as bad as 2.5 % more load
	heatScore     = 25_000    // one more cell that the jury would share too much with
	heatMax       = 4         // heat beyond this is not worse: the candidates of a crowded pool are all alike
)

// searchStepsMax bounds the search under the overlap constraint, in candidates and cells looked at: some 10 ms.
const searchStepsMax = 4 << 20

// candidate is a live server with room.
type candidate struct {
	score  uint64 // the part that does not depend on the rest of the jury
	dice   uint32
	at     int32 // position in the pool
	number int32 // in the book, or -1
	rack   int32
	power  int32
	out    bool // chosen, or ruled out on this branch of the search
}

// search builds one jury, one candidate after the other.
type search struct {
	size    int
	pool    *topology.Pool
	book    *poolBook
	cands   []candidate
	racks   []uint8 // members of the jury by rack
	powers  []uint8
	chosen  []int // positions in cands
	keep    []cell.ServerID
	enforce bool // the overlap constraint is hard
	careful bool // look ahead and go back; without it the first dead end ends the search
	limit   int  // of steps under the overlap constraint
	steps   int  // candidates looked at
	tired   bool // gave up at the limit
}

// run looks for a jury: at first greedily, which nearly always succeeds, then with look-ahead and backtracking. It
// reports whether it found one; the jury is then in chosen and in the book's scan. When there is none with the servers to
// keep, it looks for one without insisting on the last of them, and so on.
func (s *search) run(enforce bool) bool {
	s.enforce, s.tired = enforce, false
	for n := len(s.keep); n >= 0; n-- {
		for _, careful := range [...]bool{false, true} {
			s.careful = careful
			s.restart()
			s.seat(s.keep[:n])
			if s.extend() {
				return true
			}
		}
	}
	return false
}

// seat begins the jury with the servers to keep. One that is no candidate, or that a hard constraint rules out beside those
// before it, is passed over.
func (s *search) seat(keep []cell.ServerID) {
	most := uint8(domainMax(s.size))
	for _, id := range keep {
		for i := range s.cands {
			c := &s.cands[i]
			if s.pool.Servers[c.at].ID != id || c.out || len(s.chosen) == s.size || s.racks[c.rack] >= most || s.powers[c.power] >= most {
				continue
			}
			if hot := c.number >= 0 && s.book.scan.heat[c.number] > 0; !s.enforce || !hot {
				s.take(i)
			}
		}
	}
}

// restart empties the jury and allows all candidates again.
func (s *search) restart() {
	window := softWindow
	if s.enforce {
		window = 0
	}
	share := shareMax(s.size)
	if plantedIgnoreOverlap {
		share = 0
	}
	s.book.begin(share, window)
	s.chosen = s.chosen[:0]
	s.racks, s.powers = make([]uint8, len(s.pool.Racks)), make([]uint8, len(s.pool.Powers))
	for i := range s.cands {
		s.cands[i].out = false
	}
}

// extend completes the jury. When it cannot, it leaves everything as it was and returns false.
//
// In the careful pass it tries the candidates in the order of their score, each followed by all completions of the jury
// with it. A candidate that failed is ruled out for all further attempts on this branch: every jury with it has been
// tried, so the search enumerates sets, not sequences, and visits each at most once. Without the overlap constraint the
// flow decides beforehand whether a completion exists, so no attempt fails below its first step, and there are at most
// as many failures per member as the pool has pairs of rack and power domain.
func (s *search) extend() bool {
	need := s.size - len(s.chosen)
	if need == 0 {
		return true
	}
	if s.careful && s.flow(need) < need {
		return false
	}
	var failed []int
	defer func() {
		for _, i := range failed {
			s.cands[i].out = false
		}
	}()
	for {
		i := s.best()
		if i < 0 || s.spent() {
			return false
		}
		s.take(i)
		if s.extend() {
			return true
		}
		s.untake(i)
		if !s.careful {
			return false
		}
		failed = s.ruleOut(i, failed)
	}
}

// ruleOut rules out a candidate that failed. Without the overlap constraint only rack and power domain matter, so all
// candidates of the same two fail with it.
func (s *search) ruleOut(i int, failed []int) []int {
	c := &s.cands[i]
	for j := range s.cands {
		d := &s.cands[j]
		if j == i || (!s.enforce && !d.out && d.rack == c.rack && d.power == c.power) {
			d.out = true
			failed = append(failed, j)
		}
	}
	return failed
}

// spent reports whether the search must give up. Without the overlap constraint it is polynomial and never gives up.
func (s *search) spent() bool {
	if s.enforce && s.careful && s.work() > s.limit {
		s.tired = true
	}
	return s.tired
}

// work is the number of candidates and cells looked at so far.
func (s *search) work() int { return s.steps + s.book.scan.steps }

// best returns the best candidate that may join, or -1. It looks at all of them: a heap would save little, since rack,
// power domain and heat change the order with every member, and 2,000 candidates take some 8 microseconds.
func (s *search) best() int {
	most := uint8(domainMax(s.size))
	heat := s.book.scan.heat
	best, bestKey := -1, uint64(math.MaxUint64)
	s.steps += len(s.cands)
	for i := range s.cands {
		c := &s.cands[i]
		if c.out {
			continue
		}
		r, p := s.racks[c.rack], s.powers[c.power]
		if plantedCrowdedPower {
			p = max(p, 2) - 2
		}
		if r >= most || p >= most {
			continue
		}
		score := c.score
		if c.number >= 0 && heat[c.number] > 0 {
			if s.enforce {
				continue
			}
			score += heatScore * uint64(min(heat[c.number], heatMax))
		}
		// score needs 23 bits, the nodes already in rack and power domain 8, the dice 32.
		if key := score<<40 | uint64(r+p)<<32 | uint64(c.dice); key < bestKey {
			best, bestKey = i, key
		}
	}
	return best
}

// take makes a candidate a member.
func (s *search) take(i int) {
	c := &s.cands[i]
	c.out = true
	s.racks[c.rack]++
	s.powers[c.power]++
	s.chosen = append(s.chosen, i)
	s.book.enter(c.number)
}

// untake undoes the last take, which must have been of i.
func (s *search) untake(i int) {
	c := &s.cands[i]
	c.out = false
	s.racks[c.rack]--
	s.powers[c.power]--
	s.chosen = s.chosen[:len(s.chosen)-1]
	s.book.leave(c.number)
}

// fill is how full a server is, from 0 to fullScore; load is below capacity. The product needs 128 bits because both
// come from outside; the quotient fits since load < capacity.
func fill(load, capacity uint64) uint64 {
	hi, lo := bits.Mul64(load, fullScore)
	q, _ := bits.Div64(hi, lo, capacity)
	return q
}

// dice gives every server its own number from one roll (the finaliser of SplitMix64).
func dice(roll uint64, at int) uint32 {
	x := roll + uint64(at+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32((x ^ x>>31) >> 32)
}
