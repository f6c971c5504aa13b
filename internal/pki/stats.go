package pki

import (
	"sync/atomic"
	"time"

	"physalia/internal/refusal"
)

// Stats counts what became of handshakes and of new files, since the start. All methods are safe for concurrent use.
type Stats struct {
	refused   [portCount][sideCount][refusal.Count]atomic.Uint64 // Welcome: those that were not
	reloads   atomic.Uint64                                      // new files that were taken
	failures  atomic.Uint64                                      // new files that were not
	dropped   atomic.Uint64                                      // connections closed because their proof held no longer
	failing   atomic.Bool                                        // the files in the directory are not those in use
	leafUntil atomic.Int64                                       // Unix seconds; 0: no certificate
	caUntil   atomic.Int64
	renewFrom atomic.Int64
}

// Counted is one counter of handshakes; those that succeeded have the reason Welcome.
type Counted struct {
	Port   Port
	Side   Side
	Reason Reason
	Count  uint64
}

// Snapshot is all counters at about one moment.
type Snapshot struct {
	Handshakes                            []Counted // every port, side and reason, those at zero included
	Reloads, Failures, Dropped            uint64
	Failing                               bool
	LeafUntil, AuthorityUntil, RenewsFrom time.Time // zero: there are no certificates
	PlainTextBeyondLoopback               bool
}

// Stats reads the counters; a nil Guard has none.
func (g *Guard) Stats() (s Snapshot) {
	if g == nil {
		return s
	}
	c := &g.stats
	for p := range portCount {
		for side := range sideCount {
			for r := range refusal.Count {
				s.Handshakes = append(s.Handshakes, Counted{p, side, r, c.refused[p][side][r].Load()})
			}
		}
	}
	s.Reloads, s.Failures, s.Dropped, s.Failing = c.reloads.Load(), c.failures.Load(), c.dropped.Load(), c.failing.Load()
	for _, t := range []struct {
		to   *time.Time
		from *atomic.Int64
	}{{&s.LeafUntil, &c.leafUntil}, {&s.AuthorityUntil, &c.caUntil}, {&s.RenewsFrom, &c.renewFrom}} {
		if at := t.from.Load(); at != 0 {
			*t.to = time.Unix(at, 0)
		}
	}
	s.PlainTextBeyondLoopback = g.settings.PlainText
	return s
}

// Refused tells how often a port has refused for a reason, on one side.
func (g *Guard) Refused(p Port, side Side, r Reason) uint64 {
	return g.stats.refused[p][side][r].Load()
}

// Count notes a refusal that was found elsewhere. A nil Guard counts nothing.
func (g *Guard) Count(p Port, side Side, r Reason) {
	if g != nil {
		g.stats.refused[p][side][r].Add(1)
	}
}

// note keeps the dates of the material in use.
func (c *Stats) note(m *Material) {
	c.leafUntil.Store(m.Leaf.NotAfter.Unix())
	c.caUntil.Store(m.FirstExpiry().Unix())
	c.renewFrom.Store(RenewFrom(m.Leaf).Unix())
}
