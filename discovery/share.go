package discovery

import "physalia/internal/wire"

// share is what this copy took from one source, a server or another copy, bucket by bucket: the sum that the source gave
// for the state that was taken. As long as the source gives the same sum, there is nothing new in the bucket.
//
// A sum may be believed from a push only if nothing was missed between the moment at which the bucket was compared or pulled
// and the push. Positions, which count a source's changes within one session, tell: pushes that follow each other without a
// gap form a chain, and a bucket compared at or after the chain's beginning has seen everything.
//
// A share that believes too little costs a pull. One that believed too much would never ask; that is why every doubt
// (a new session, a gap) falls back to comparing sums.
type share struct {
	sums []uint64 // zero for a bucket of which nothing was taken, which is the sum of an empty one
	at   []uint64 // position at which the bucket was last known to be taken, plus one; zero: not in this session

	chained    bool
	chain, end uint64 // the pushes of this session have told everything after chain, up to end
}

func newShare(buckets int) *share {
	return &share{sums: make([]uint64, buckets), at: make([]uint64, buckets)}
}

// begin starts a session: what was taken stays taken, but positions are those of another life.
func (s *share) begin() {
	clear(s.at)
	s.chained, s.chain, s.end = false, 0, 0
}

// total is what to tell the source in a DigestRequest.
func (s *share) total() uint64 { return wire.TotalOf(s.sums) }

// compare takes the source's sums and returns the buckets that have to be pulled: those in which the source has something
// that was not taken. Unless Same, there must be as many
// sums as buckets. Known may be nil; else a bucket with that very sum needs no pulling either.
func (s *share) compare(d *wire.Digests, known []uint64) (differ []uint32) {
	if d.Same {
		for b := range s.at {
			s.at[b] = d.Position + 1
		}
		return nil
	}
	for b, sum := range d.Sums {
		if sum != s.sums[b] && known != nil && known[b] == sum {
			s.sums[b] = sum
		}
		if sum == s.sums[b] {
			s.at[b] = d.Position + 1
		} else {
			differ = append(differ, uint32(b))
		}
	}
	return differ
}

// took notes that the whole of a bucket was taken as it was, at the latest, at a position, when it had this sum.
func (s *share) took(bucket uint32, sum, position uint64) {
	s.sums[bucket], s.at[bucket] = sum, position+1
}

// push takes the sums that came with changes, whose routes have been taken. It reports whether the source says, or the
// numbers show, that changes were missed.
func (s *share) push(p *wire.RoutePush) (missed bool) {
	switch {
	case p.Lost || s.chained && p.From > s.end:
		s.chained, missed = false, true
	case s.chained:
		s.chain = min(s.chain, p.From)
	}
	if p.Lost {
		return true
	}
	if !s.chained {
		s.chained, s.chain, s.end = true, p.From, p.To
	}
	s.end = max(s.end, p.To)
	for i, b := range p.Buckets {
		if int(b) >= len(s.sums) || i >= len(p.Sums) {
			continue
		}
		if at := s.at[b]; at > s.chain && at <= p.To+1 {
			s.sums[b], s.at[b] = p.Sums[i], p.To+1
		}
	}
	return missed
}
