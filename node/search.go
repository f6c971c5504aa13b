package node

import "time"

const (
	searchEvery      = time.Second // how often it is looked whether peers are silent
	searchPauseMax   = time.Minute // between two questions while they stay silent; memberlist's own exchanges are as rare
	acquaintancesMax = 3           // members of the pool that are tried until one answers
)

// search paces the questions to the pool while peers are silent: one may have come back at an address that word of mouth did
// not bring here, or this server may be the one whom nobody finds. An exchange of everything that both know settles either.
// Who is dead for long is asked after ever more rarely, and somebody new at once. It belongs to gossip.run.
type search struct {
	silent int           // peers, when last looked
	pause  time.Duration // after the next question
	next   time.Duration // no question before
}

// due reports whether to ask now, while so many peers are silent. now is of a monotonic clock and never falls.
func (s *search) due(now time.Duration, silent int) bool {
	more := silent > s.silent
	s.silent = silent
	switch {
	case silent == 0:
		return false
	case more:
		s.pause = searchEvery
	case now < s.next:
		return false
	}
	s.next = now + s.pause
	s.pause = min(2*s.pause, searchPauseMax)
	return true
}
