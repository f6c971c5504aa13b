// Package hunt plays many simulated worlds at once, each on a goroutine of its own, and adds up what they came to. The worlds
// themselves know nothing of each other; what is reported depends on the seeds alone, not on who played which.
package hunt

import (
	"cmp"
	"context"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"physalia/sim"
)

// Config says which worlds to play.
type Config struct {
	Scenario sim.Scenario
	From     uint64 // first seed
	Seeds    uint64 // how many
	Workers  int
	Say      func(format string, args ...any) // progress, now and then
}

// Found is a seed whose world did not keep a promise.
type Found struct {
	Seed   uint64
	Report *sim.Report
}

// Result is what a hunt came to.
type Result struct {
	Sum         sim.Report // of all worlds; no schedule, failure or trace
	Fingerprint uint64     // of all traces: equal hunts are equal byte for byte
	Played      uint64
	Failures    []Found // in order of seeds
	Elapsed     time.Duration
}

// gcPercent lets the heap grow to so many times what lives, in percent: some hundred megabytes.
const gcPercent = 1000

// sayEvery is between two lines of progress.
const sayEvery = 10 * time.Second

// Run plays the seeds until all are played or ctx ends; then it returns what was played by then.
func Run(ctx context.Context, cfg Config) Result {
	// Worlds are small and short, so the collector would run all the time for next to nothing.
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	began := time.Now()
	seeds, reports := make(chan uint64), make(chan Found)
	var workers sync.WaitGroup
	for range max(1, cfg.Workers) {
		workers.Go(func() {
			for seed := range seeds {
				reports <- Found{seed, sim.Run(cfg.Scenario.Draw(sim.SeedSource(seed)))}
			}
		})
	}
	go func() {
		defer close(seeds)
		for i := range cfg.Seeds {
			select {
			case seeds <- cfg.From + i:
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() { workers.Wait(); close(reports) }()
	r := collect(cfg, reports)
	r.Elapsed = time.Since(began)
	return r
}

// collect adds up the reports, in whatever order they come.
func collect(cfg Config, reports <-chan Found) (r Result) {
	said := time.Now()
	for found := range reports {
		r.Played++
		r.Sum.Add(found.Report)
		r.Fingerprint += found.Report.Trace * (2*found.Seed + 1)
		if found.Report.Failure != nil {
			r.Failures = append(r.Failures, found)
			cfg.Say("seed %#x fails: %v", found.Seed, found.Report.Failure)
		}
		if time.Since(said) > sayEvery {
			said = time.Now()
			cfg.Say("%d of %d seeds, %d failures", r.Played, cfg.Seeds, len(r.Failures))
		}
	}
	slices.SortFunc(r.Failures, func(a, b Found) int { return cmp.Compare(a.Seed, b.Seed) })
	return r
}
