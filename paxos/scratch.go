package paxos

// Scratch lends the Effects of many replicas their memory, which is needed from the first step of a turn to its end, and so by few
// of the replicas at a time. The zero Scratch is ready to use. It has one owner, who also owns the replicas.
type Scratch struct{ free []Effects }

// Bounds of what a Scratch keeps: a burst must not be kept for ever. Both are more than a busy turn needs.
const (
	scratchKept  = 1024 // Effects
	scratchItems = 64   // of each list of one
)

// Return takes back the memory of Effects that were carried out. Nothing may refer to its lists any more; what was copied out of
// them stays good. Effects that are not returned are garbage like any other.
func (s *Scratch) Return(e *Effects) {
	if len(s.free) == scratchKept {
		return
	}
	kept := Effects{Deliver: emptied(e.Deliver), SendNow: emptied(e.SendNow), SendDurable: emptied(e.SendDurable)}
	kept.Persist.Records = emptied(e.Persist.Records)
	s.free = append(s.free, kept)
}

// emptied is a list without items and without references to what they were.
func emptied[T any](list []T) []T {
	if cap(list) > scratchItems {
		return nil
	}
	clear(list)
	return list[:0]
}

// borrow gives the effects of this turn memory before the first item goes into one of their lists.
func (r *Replica) borrow() {
	s := r.cfg.Scratch
	if r.lent {
		return
	}
	r.lent = true // also when there is nothing to lend: lists that have items must not be replaced later
	if s == nil || len(s.free) == 0 {
		return
	}
	last := len(s.free) - 1
	e := s.free[last]
	s.free = s.free[:last]
	r.out.Deliver, r.out.SendNow, r.out.SendDurable, r.out.Persist.Records = e.Deliver, e.SendNow, e.SendDurable, e.Persist.Records
}
