package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
)

// Source draws numbers from 0 to n-1; a seed is one, a generator of test cases is another. What is drawn has a name.
type Source interface{ Draw(what string, n int) int }

// SeedSource draws from a seed: every name has a stream of its own, so that another draw of one thing leaves the luck of
// all others as it is.
func SeedSource(seed uint64) Source { return &seedSource{seed, map[string]*rand.Rand{}} }

type seedSource struct {
	seed    uint64
	streams map[string]*rand.Rand
}

// Draw implements Source.
func (s *seedSource) Draw(what string, n int) int {
	dice := s.streams[what]
	if dice == nil {
		dice = childStream(s.seed, what)
		s.streams[what] = dice
	}
	return dice.IntN(n)
}

// childStream is the stream of dice that a seed has for a purpose.
func childStream(seed uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Swarm shows in one line what a schedule has switched on: the size of the world, its knobs, its weather and its faults.
func (p Schedule) Swarm() string {
	p = p.withDefaults()
	var b strings.Builder
	// Defaults are shown, too: who reads the line must not need the source to know what was in force.
	fmt.Fprintf(&b, "swarm: %d servers, %d cells, alpha %d, window %d, batch %d, %d clients x %d ops, heartbeat %v, liveness %v, nudge %v, notice %v, "+
		"idle %v, attempt %v, backoff %v, patience %v, skew %d/1000", p.Servers, p.Cells, p.Alpha, p.Window, p.Batch, p.Clients, p.Ops,
		p.Heartbeat, p.Liveness, p.Nudge, p.Notice, p.Idle, p.Attempt, p.Backoff, p.Patience, p.Skew)
	if p.Cramped {
		b.WriteString("; cramped")
	}
	if p.Thrifty {
		b.WriteString("; thrifty")
	}
	if p.Loss+p.Twice > 0 || p.Spread > 0 {
		fmt.Fprintf(&b, "; loss %d%%, twice %d%%, spread %v, split %v", p.Loss, p.Twice, p.Spread, p.Split)
	}
	fmt.Fprintf(&b, "; sync %v, turn %v; dead in the end %09b", p.Sync, p.Turn, p.Dead)
	var counts [faultKinds]int
	for _, f := range p.Faults {
		counts[f.Kind]++
	}
	separator := "; faults: "
	for k, n := range counts {
		if n > 0 {
			fmt.Fprintf(&b, "%s%d %s", separator, n, FaultKind(k))
			separator = ", "
		}
	}
	return b.String()
}
