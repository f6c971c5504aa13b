package sim

import (
	"slices"
	"time"
)

// Shrink looks for a smaller schedule that still fails the same checker: fewer faults (in ever smaller pieces), cells,
// clients and operations, then knobs, weather and times at their simplest. It runs at most the given number of schedules
// and returns the smallest that failed, and how many it ran. A schedule that does not fail comes back as it is.
func Shrink(p Schedule, runs int) (smallest Schedule, ran int) {
	s := shrinker{best: p, left: runs}
	first := s.run(p)
	if first == nil {
		return p, s.ran
	}
	s.checker = first.Checker
	for again := true; again && s.left > 0; {
		again = s.faults()
		for _, simpler := range simplifications {
			again = s.accept(simpler) || again
		}
	}
	return s.best, s.ran
}

// shrinker is a search under way.
type shrinker struct {
	best      Schedule
	checker   string
	left, ran int // runs that may follow, and that were made
}

// run plays a schedule and returns its failure.
func (s *shrinker) run(p Schedule) *Failure {
	s.left--
	s.ran++
	return Run(p).Failure
}

// keep takes a schedule over if it still fails; one that is out of bounds does not.
func (s *shrinker) keep(p Schedule) bool {
	full := p.withDefaults()
	if s.left <= 0 || full.check() != nil {
		return false
	}
	if f := s.run(p); f == nil || f.Checker != s.checker {
		return false
	}
	s.best = p
	return true
}

// accept tries to make the best schedule simpler in one way; it reports whether that went well.
func (s *shrinker) accept(simpler func(p *Schedule)) bool {
	p := s.best
	p.Faults = slices.Clone(p.Faults)
	simpler(&p)
	return p.String() != s.best.String() && s.keep(p)
}

// faults leaves out runs of faults, half of them first, single ones last (delta debugging).
func (s *shrinker) faults() (progress bool) {
	for size := (len(s.best.Faults) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(s.best.Faults); {
			p := s.best
			p.Faults = slices.Delete(slices.Clone(p.Faults), at, min(at+size, len(p.Faults)))
			if s.keep(p) {
				progress = true
			} else {
				at += size
			}
		}
	}
	return progress
}

// simplifications are single steps towards a calm and small world. Each is tried again as long as one of them helps.
var simplifications = []func(p *Schedule){
	func(p *Schedule) {
		p.Cells--
		p.Faults = slices.DeleteFunc(p.Faults, func(f Fault) bool { return f.Cell >= p.Cells })
	},
	func(p *Schedule) { p.Control = nil },
	func(p *Schedule) {
		if c := p.Control; c != nil {
			p.Control = &ControlPlan{Scratch: c.Scratch, Wishes: c.Wishes / 2, Patience: c.Patience, Scan: c.Scan, Upsets: c.Upsets[:len(c.Upsets)/2]}
		}
	},
	func(p *Schedule) { p.Clients-- },
	func(p *Schedule) { p.Ops = (p.Ops + 1) / 2 },
	func(p *Schedule) { p.Ops-- },
	func(p *Schedule) {
		if p.Servers = jurySize; p.Site != nil {
			p.Servers = p.Site.pools() * poolMin
		}
	},
	func(p *Schedule) { p.Control = p.Control.calm() },
	func(p *Schedule) { p.Dead = 0 },
	func(p *Schedule) { p.Dead &= p.Dead - 1 },
	func(p *Schedule) { p.Loss, p.Twice, p.Spread = 0, 0, 0 },
	func(p *Schedule) { p.Loss = 0 },
	func(p *Schedule) { p.Twice = 0 },
	func(p *Schedule) { p.Spread = 0 },
	func(p *Schedule) { p.Split = false },
	func(p *Schedule) { p.Sync, p.Turn = time.Millisecond, 100*time.Microsecond },
	func(p *Schedule) { p.Idle = 10 * time.Second },
	func(p *Schedule) { p.Cramped = false },
	func(p *Schedule) { p.Thrifty = false },
	func(p *Schedule) { p.Window = 0 },
	func(p *Schedule) { p.Skew = 0 },
	func(p *Schedule) { p.Heartbeat, p.Liveness = 0, 0 },
	func(p *Schedule) { p.Nudge, p.Notice = 0, 0 },
	func(p *Schedule) { p.Attempt, p.Backoff, p.Patience = 0, 0, 0 },
	func(p *Schedule) { p.Alpha = 1 },
	func(p *Schedule) { p.Batch = 1 },
	func(p *Schedule) { p.Span = p.Span / 2 },
}
