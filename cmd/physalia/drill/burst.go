package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/judge"
)

// The load is drawn from the machine: what it does at its best is measured first, and the base load is a share of that.
var burstDrill = Drill{
	Name:   "burst",
	Proves: "ten times the load for a while: what cannot be served is refused early, what is acknowledged is kept, and afterwards the colony is as fast as before, by itself",
	cells:  14,
	span:   6 * time.Second,
	spec:   shape(7, 4, 3),
	run:    runBurst,
}

const (
	burstCallers  = 1024             // of the measurement of what the machine can do
	burstClients  = 4                // client libraries, each with a retry budget of its own
	burstShare    = 0.15             // of that: the base load, so that ten times is half as much again as can be done
	burstFactor   = 10               // the burst
	burstTimeout  = 5 * time.Second  // of a call
	burstInFlight = 1024             // of each client; beyond, it refuses by itself
	burstWindow   = time.Second      // of which latencies are compared
	burstSettle   = 30 * time.Second // after a burst, until the base load is served as before

	// The margins are generous: the machine may have other things to do, and all of the colony shares its processors.
	burstSlower   = 5                      // times: the median after the burst
	burstSlack    = 100 * time.Millisecond // and this
	burstGoodput  = 0.05                   // of what the machine can do must be acknowledged in the burst
	burstRepeated = 2.0                    // requests that reach servers per call
	burstErrors   = 0.02                   // of the base load
)

// A base load in figures would be nothing on one machine and too much on another. What is measured first is only a measure: on a
// machine with other work it may be far off a minute later, which is why the margins are what they are.
//
// runBurst measures, loads, overloads, and looks whether all is as before.
func runBurst(ctx context.Context, s *site) error {
	ids := names("vol", s.cfg.Cells)
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	how := s.clients()
	how.CallTimeout, how.MaxInFlight = burstTimeout, burstInFlight
	g, err := newSurge(context.WithoutCancel(ctx), s, ids, burstClients, how)
	if err != nil {
		return err
	}
	defer g.close()
	s.cfg.Say("what can this machine do? %d callers for %v", burstCallers, s.cfg.Span/2)
	from := s.now()
	g.saturate(ctx, burstCallers, s.cfg.Span/2)
	can := float64(acked(g.between(from, s.now()))) / (s.now() - from).Seconds()
	s.figure("writes per second at best", can, "/s")
	if can*burstShare < 1 {
		return errors.New("the machine does next to nothing: there is no base load to multiply")
	}
	return s.surge(ctx, g, can)
}

// surge plays base load, burst and base load, one right behind the other, and passes the verdict.
func (s *site) surge(ctx context.Context, g *surge, can float64) error {
	var out sync.WaitGroup
	defer out.Wait()
	base := can * burstShare
	s.cfg.Say("base load: %.0f writes per second", base)
	if err := g.run(ctx, s, base, s.cfg.Span, &out); err != nil {
		return err
	}
	if calm := g.between(s.now()-s.cfg.Span/2, s.now()); float64(acked(calm)) < burstErrors*base*s.cfg.Span.Seconds()/2 {
		return fmt.Errorf("of %.0f writes per second, a share of what this machine did a moment ago, it acknowledges next to none now (%d of %d, others end as %v): it has too much else to do", base, acked(calm), len(calm), failures(calm))
	}
	before, err := s.requests(ctx)
	if err != nil {
		return err
	}
	s.cfg.Say("burst: %.0f writes per second", base*burstFactor)
	begins := s.now()
	if err := g.run(ctx, s, base*burstFactor, s.cfg.Span, &out); err != nil {
		return err
	}
	ends := s.now()
	if ends-begins > 2*s.cfg.Span {
		return fmt.Errorf("a burst of %v took %v: this machine has no time for its own clock, so nothing can be compared", s.cfg.Span, ends-begins)
	}
	s.cfg.Say("base load again")
	settled, last, err := s.settles(ctx, g, base, begins, &out)
	if err != nil {
		return err
	}
	out.Wait()
	after, err := s.requests(ctx)
	if err != nil {
		return err
	}
	s.judgeBurst(g, can, begins, ends, settled, last)
	s.judgeRefusals(before, after, len(g.between(begins, s.now())))
	return g.misread(ctx, func(id cell.ID, n uint64, c count) {
		s.wrong(true, "%s counts %d increments, %d were acknowledged and %d are unknown", id, n, c.acked, c.unknown)
	})
}

// One second of the load at a time, and then a moment for its answers: a median that includes answers which are still out
// would look better than it is, so what has not come by then counts as late.
//
// settles keeps the base load up until a window of it is served as before the burst, and tells how long that took, zero if in vain, and
// the median of that window.
func (s *site) settles(ctx context.Context, g *surge, base float64, begins time.Duration, out *sync.WaitGroup) (took, last time.Duration, err error) {
	calm := median(g.between(begins-s.cfg.Span/2, begins))
	from := s.now()
	for s.now()-from < burstSettle {
		at := s.now()
		if err := g.run(ctx, s, base, burstWindow, out); err != nil {
			return 0, 0, err
		}
		if err := s.wait(ctx, burstSlower*calm+burstSlack); err != nil { // for its answers; later ones are late
			return 0, 0, err
		}
		window := g.between(at, at+burstWindow)
		last = median(window)
		if enough := float64(acked(window)) >= (1-burstErrors)*base*burstWindow.Seconds(); enough && last <= burstSlower*calm+burstSlack {
			return s.now() - from, last, nil
		}
	}
	return 0, last, nil
}

// Nothing is said about how many calls of the burst fail: that is what a burst of more than the machine can do is about. How
// they fail is: as refused or out of time, never as a broken promise.
//
// judgeBurst notes what the calls say.
func (s *site) judgeBurst(g *surge, can float64, begins, ends, settled, last time.Duration) {
	calm, burst := g.between(begins-s.cfg.Span/2, begins), g.between(begins, ends)
	s.latencies("base load", calm)
	s.latencies("burst", burst)
	s.latencies("base load again", g.between(ends, s.now()))
	good := float64(acked(burst)) / (ends - begins).Seconds()
	s.figure("burst: calls acknowledged", good, "/s")
	s.count("burst: calls refused or out of time", len(burst)-acked(burst))
	s.figure("settled after", settled.Seconds(), "s")
	s.figure("median afterwards / before", float64(last)/float64(max(1, median(calm))), "")
	s.wrong(float64(len(calm)-acked(calm)) > burstErrors*float64(len(calm)), "base load: %d of %d calls failed: %v", len(calm)-acked(calm), len(calm), failures(calm))
	s.wrong(good < burstGoodput*can, "in the burst, %.0f calls per second were acknowledged; %.0f can be", good, can)
	s.wrong(settled == 0, "%v after the burst, the base load is not served as before it", burstSettle)
	for _, k := range failures(burst) {
		s.wrong(k != cell.Overloaded && k != cell.Unavailable && k != cell.UnknownResult && k != cell.NotProposer, "in the burst, calls failed as %v", k)
	}
}

// latencies notes how long acknowledged calls took.
func (s *site) latencies(what string, shots []shot) {
	p := judge.Percentiles(times(shots), 50, 99)
	s.figure(what+": p50", p[0].Seconds()*1000, "ms")
	s.figure(what+": p99", p[1].Seconds()*1000, "ms")
}

// times are how long acknowledged calls took.
func times(shots []shot) (all []time.Duration) {
	for _, one := range shots {
		if one.kind == 0 {
			all = append(all, one.took)
		}
	}
	return all
}

func acked(shots []shot) int { return len(times(shots)) }

func median(shots []shot) time.Duration { return judge.Percentiles(times(shots), 50)[0] }

// failures are the kinds of errors of calls, most frequent first.
func failures(shots []shot) []cell.Kind {
	n := map[cell.Kind]int{}
	for _, one := range shots {
		if one.kind != 0 {
			n[one.kind]++
		}
	}
	return judge.Kinds(n)
}

// handled is what servers count of their requests.
type handled struct {
	answered float64            // whatever the answer was
	moved    float64            // campaigns: somebody took a cell over
	refused  map[string]float64 // early, by the bound that was met
}

// requests sums up what all servers count.
func (s *site) requests(ctx context.Context) (sum handled, err error) {
	sum.refused = map[string]float64{}
	for _, v := range s.Servers {
		values, err := metricsOf(ctx, v.Ops)
		if err != nil {
			return sum, err
		}
		for series, n := range values {
			switch name, labels, _ := strings.Cut(series, "{"); name {
			case "physalia_replies_total":
				sum.answered += n
			case "physalia_campaigns_total":
				sum.moved += n
			case "physalia_requests_refused_total":
				_, reason, _ := strings.Cut(labels, `reason="`)
				sum.refused[strings.TrimSuffix(reason, `"}`)] += n
			}
		}
	}
	return sum, nil
}

// judgeRefusals notes how much of what clients called reached servers, and why they refused. A call is sent more than once when it is
// sent on to another member, or repeated; in a burst, repetitions must not be a burst of their own.
func (s *site) judgeRefusals(before, after handled, calls int) {
	repeated := (after.answered - before.answered) / float64(max(1, calls))
	s.figure("requests that reached servers, per call, from the burst on", repeated, "")
	s.figure("times that a cell changed its proposer, from the burst on", after.moved-before.moved, "")
	s.wrong(repeated > burstRepeated, "servers answered %.1f requests for each call: repetitions amplify the burst", repeated)
	for _, reason := range slices.Sorted(maps.Keys(after.refused)) {
		if n := after.refused[reason] - before.refused[reason]; n > 0 {
			s.figure("refused by servers: "+reason, n, "")
		}
	}
}
