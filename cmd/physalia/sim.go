package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/hunt"
	"physalia/sim"
)

// simCommand holds the commands of the simulator. They need no colony: a world is a function of its seed.
func (a *app) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Try to break simulated colonies, and replay what broke them",
		Long: "Play whole colonies on simulated networks, disks and clocks: the deciding code of servers and clients is the real one.\n" +
			"A seed is a world, and the same seed is the same world, byte for byte. Scenarios:\n\n" + scenarioHelp(),
		Args: args("", 0, -1),
		RunE: group,
	}
	// One finds a seed, one shows what it did, one makes it small enough to understand.
	cmd.AddCommand(a.simRunCommand(), a.simReplayCommand(), a.simShrinkCommand())
	return cmd
}

// scenarioHelp lists the scenarios for the help text, so that the list is always the true one.
func scenarioHelp() string {
	var b strings.Builder
	for _, s := range sim.Scenarios() {
		fmt.Fprintf(&b, "  %-11s %s\n", s.Name, s.About)
	}
	return b.String()
}

// Seeds are numbered, so a range of them can be divided among machines and nights, and none is played twice.
//
// simRunCommand plays many seeds.
func (a *app) simRunCommand() *cobra.Command {
	// Seeds from 1 on are as good as any: what a seed means changes with the code, so no range is ever used up.
	cfg := hunt.Config{}
	var scenario string
	var requireCoverage bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Play many seeds, each with other faults, and check every property in each",
		Long: "Play many seeds, each a world with other faults, and check every property in each. A violation is reported with its\n" +
			"class, place, seed, commit, and the commands that replay and shrink it. Exit 1 if there is one.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Scenario, err = scenarioFlag(cmd, scenario); err != nil {
				return err
			}
			if cfg.Seeds < 1 || cfg.Workers < 1 {
				return usage(cmd.CommandPath(), "for example --seeds 1000", "%d seeds on %d workers", cfg.Seeds, cfg.Workers)
			}
			// --timeout does not bound a hunt: how long it takes is what --seeds says.
			cfg.Say = a.progress()
			return a.reportHunt(cmd.Context(), cfg, requireCoverage)
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&cfg.Seeds, "seeds", 1000, "how many `seeds`")
	f.Uint64Var(&cfg.From, "from", 1, "the first `seed`")
	f.StringVar(&scenario, "scenario", "", "`name` of the scenario; empty: swarm, which is everything")
	f.IntVar(&cfg.Workers, "workers", runtime.GOMAXPROCS(0), "worlds that are played at the same time, a `number`")
	f.BoolVar(&requireCoverage, "require-coverage", false, "fail when a field of the fault space is empty and not on the list of those that may be")
	return cmd
}

// scenarioFlag finds the scenario that a flag names, or explains which there are.
func scenarioFlag(cmd *cobra.Command, name string) (sim.Scenario, error) {
	s, err := sim.ScenarioNamed(name)
	if err != nil {
		return s, usage(cmd.CommandPath(), "see `physalia sim --help`", "%v", err)
	}
	return s, nil
}

// Fields are only ever added. Scripts compare fingerprints, and read failures and figures; people read the table.
//
// huntDocument is the result of `sim run` under -o json.
type huntDocument struct {
	Scenario    string            `json:"scenario"`
	From        uint64            `json:"from"`
	Seeds       uint64            `json:"seeds"` // played
	Failed      int               `json:"failed"`
	Failures    []failureDocument `json:"failures,omitempty"` // the first of them
	Fingerprint string            `json:"fingerprint"`        // of all traces
	Seconds     float64           `json:"seconds"`            // of real time
	SeedsPerS   float64           `json:"seeds_per_second"`   // of real time
	EventsPerS  float64           `json:"events_per_second"`
	Simulated   float64           `json:"simulated_seconds"`
	Events      int               `json:"events"`
	Slots       int               `json:"slots"`    // chosen
	Answered    int               `json:"answered"` // operations of clients
	Crashes     int               `json:"crashes"`
	Quarantined int               `json:"quarantined"`         // nodes that were damaged, and went out of service as they must
	Reads       int               `json:"reads_in_trouble"`    // reads that were answered while a fault was in force
	Undecided   int               `json:"undecided"`           // histories too long for the independent search
	Uncovered   []string          `json:"uncovered,omitempty"` // fields of the fault space that are empty and should not be
	Commit      string            `json:"commit,omitempty"`    // of this binary
	Faults      map[string]int    `json:"faults"`              // how often each struck
}

// failureDocument is one world that did not keep a promise.
type failureDocument struct {
	Seed      string  `json:"seed"`
	Class     string  `json:"class"` // the property
	AtSeconds float64 `json:"at_seconds"`
	Server    string  `json:"server,omitempty"`
	Cell      string  `json:"cell,omitempty"`
	Slot      int     `json:"slot,omitempty"`
	Text      string  `json:"text"`
	Swarm     string  `json:"swarm"`
	Commit    string  `json:"commit,omitempty"`
	Replay    string  `json:"replay"`
	Shrink    string  `json:"shrink"`
}

// failuresMax is how many failures are told in full.
const failuresMax = 10

// reportHunt plays and tells what came of it.
func (a *app) reportHunt(ctx context.Context, cfg hunt.Config, requireCoverage bool) error {
	r := hunt.Run(ctx, cfg)
	d := describeHunt(cfg, &r)
	// The same figures as in the document, by what a reader asks: was anything wrong, how much was tried, how fast, and was
	// it rough enough to mean something.
	rows := [][]string{
		{"seeds", fmt.Sprintf("%d from %d, scenario %s: %d failed", d.Seeds, d.From, d.Scenario, d.Failed)},
		{"simulated", fmt.Sprintf("%.2f hours, %d events, %d slots chosen, %d operations answered", d.Simulated/3600, d.Events, d.Slots, d.Answered)},
		{"speed", fmt.Sprintf("%.1f s: %.0f seeds/s, %.0f events/s on %d workers", d.Seconds, d.SeedsPerS, d.EventsPerS, cfg.Workers)},
		{"damage", fmt.Sprintf("%d crashes, %d batches lost, %d nodes quarantined, %d servers stopped for good", d.Crashes, r.Sum.BatchesLost, d.Quarantined, r.Sum.Stopped)},
		{"reads while a fault was in force", fmt.Sprint(d.Reads)},
		{"histories too long to search", fmt.Sprint(d.Undecided)},
		{"fingerprint", d.Fingerprint},
	}
	if err := a.emit(d, nil, rows); err != nil {
		return err
	}
	if a.output == asTable {
		fmt.Fprintf(a.stdout, "\n%v", &r.Sum.Coverage)
	}
	for _, f := range d.Failures {
		fmt.Fprintf(a.stderr, "\n%s", f)
	}
	// A hunt that was called off, or that left fields of the fault space empty, proves less than was asked for.
	switch {
	case d.Failed > 0:
		return fmt.Errorf("%d of %d seeds failed", d.Failed, d.Seeds)
	case r.Played < cfg.Seeds:
		return fmt.Errorf("%d of %d seeds were played: %w", r.Played, cfg.Seeds, context.Cause(ctx))
	case requireCoverage && len(d.Uncovered) > 0:
		return fmt.Errorf("%d fields of the fault space are empty and not listed in sim/testdata/coverage.txt: %s", len(d.Uncovered), strings.Join(d.Uncovered, "; "))
	}
	return nil
}

// describeHunt turns the result of a hunt into its document. Only the first failures are told in full: a mistake that fails
// every seed would otherwise print megabytes.
func describeHunt(cfg hunt.Config, r *hunt.Result) huntDocument {
	seconds := r.Elapsed.Seconds()
	d := huntDocument{Scenario: cfg.Scenario.Name, From: cfg.From, Seeds: r.Played, Failed: len(r.Failures), Fingerprint: fmt.Sprintf("%016x", r.Fingerprint),
		Seconds: seconds, SeedsPerS: float64(r.Played) / seconds, EventsPerS: float64(r.Sum.Events) / seconds, Simulated: r.Sum.Simulated.Seconds(),
		Events: r.Sum.Events, Slots: r.Sum.Slots, Answered: r.Sum.Answered(), Crashes: r.Sum.Crashes, Quarantined: r.Sum.Quarantined,
		Reads: r.Sum.ReadsInTrouble, Undecided: r.Sum.Undecided, Uncovered: r.Sum.Coverage.Missing(), Commit: commit(), Faults: map[string]int{}}
	// All kinds are listed, those that never struck with zero.
	for k, n := range r.Sum.Faults {
		d.Faults[sim.FaultKind(k).String()] = n
	}
	for _, found := range r.Failures[:min(failuresMax, len(r.Failures))] {
		// The default scenario is not named, so that the line stays short enough to be typed.
		seed := "--seed " + fmt.Sprintf("%#x", found.Seed)
		if cfg.Scenario.Name != sim.Scenarios()[0].Name {
			seed += " --scenario " + cfg.Scenario.Name
		}
		d.Failures = append(d.Failures, describeFailure(found.Report, fmt.Sprintf("%#x", found.Seed), seed))
	}
	return d
}

// describeFailure turns a failed run into its document; which is how a command line names the world.
func describeFailure(r *sim.Report, seed, which string) failureDocument {
	// The commands come last, ready to be pasted; without --log, replay prints the trace only.
	f := r.Failure
	return failureDocument{Seed: seed, Class: f.Checker, AtSeconds: f.At.Seconds(), Server: f.Server, Cell: f.Cell, Slot: f.Slot, Text: f.Text,
		Swarm: r.Schedule.Swarm(), Commit: commit(), Replay: "physalia sim replay --log " + which, Shrink: "physalia sim shrink " + which}
}

// String shows a failure for people: class and place first, the commands last.
func (f failureDocument) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "FAIL %s at %.6fs", f.Class, f.AtSeconds)
	for _, part := range []string{f.Server, f.Cell} {
		if part != "" {
			b.WriteString(" " + part)
		}
	}
	if f.Slot > 0 {
		fmt.Fprintf(&b, " slot %d", f.Slot)
	}
	fmt.Fprintf(&b, " seed %s commit %s\n  %s\n  %s\n  replay: %s\n  shrink: %s\n", f.Seed, f.Commit, f.Text, f.Swarm, f.Replay, f.Shrink)
	return b.String()
}

// commit names what this binary was built from, as far as it knows.
func commit() string {
	// A world depends on the code as much as on the seed, so a changed working tree is said to be one.
	d := describeBuild()
	if d.Commit == "" {
		return d.Version
	}
	if d.Modified {
		return d.Commit + "+changes"
	}
	return d.Commit
}

// A bug report may hold a seed, or the text that a shrink left of one; every command takes either.
//
// world is which schedule a command is about: that of a seed, or a text.
type world struct{ seed, scenario, text string }

// flags adds the flags that name a world.
func (w *world) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.seed, "seed", "", "the `seed`, decimal or 0x...")
	f.StringVar(&w.scenario, "scenario", "", "`name` of the scenario that the seed was played in")
	f.StringVar(&w.text, "schedule", "", "instead of a seed: the `text` of a schedule, or @file with one")
}

// schedule makes the schedule, and tells how a command line names it.
func (w *world) schedule(cmd *cobra.Command) (p sim.Schedule, which string, err error) {
	if (w.seed == "") == (w.text == "") {
		return p, "", usage(cmd.CommandPath(), "give --seed or --schedule", "which world is meant?")
	}
	// A seed means nothing without the scenario that drew from it; a schedule stands for itself.
	if w.seed != "" {
		scenario, err := scenarioFlag(cmd, w.scenario)
		if err != nil {
			return p, "", err
		}
		seed, err := strconv.ParseUint(w.seed, 0, 64)
		if err != nil {
			return p, "", usage(cmd.CommandPath(), "for example --seed 0x5f2c91", "--seed %q is not a number", w.seed)
		}
		return scenario.Draw(sim.SeedSource(seed)), strings.TrimSuffix("--seed "+w.seed+" --scenario "+w.scenario, " --scenario "), nil
	}
	// Schedules are long, so they come in files more often than not.
	text := w.text
	if name, ok := strings.CutPrefix(text, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return p, "", usage(cmd.CommandPath(), "name a file that can be read", "--schedule: %v", err)
		}
		text = string(b)
	}
	if p, err = sim.Parse(text); err != nil {
		return p, "", usage(cmd.CommandPath(), "it is what `physalia sim shrink` prints", "--schedule: %v", err)
	}
	return p, "--schedule '" + p.String() + "'", nil
}

// replayDocument is the result of one world under -o json.
type replayDocument struct {
	Trace    string           `json:"trace"` // fingerprint of everything that happened
	Figures  string           `json:"figures"`
	Swarm    string           `json:"swarm"`
	Schedule sim.Schedule     `json:"schedule"`
	Failure  *failureDocument `json:"failure,omitempty"`
}

// Replaying is what makes a seed a bug report: on any machine, whatever its speed, the same commit goes the same way.
//
// simReplayCommand plays one world again.
func (a *app) simReplayCommand() *cobra.Command {
	var which world
	var log bool
	cmd := &cobra.Command{
		Use:         "replay",
		Short:       "Play one seed again, byte for byte, and show what happened",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The name goes into the report, so that what it says can be pasted.
			p, name, err := which.schedule(cmd)
			if err != nil {
				return err
			}
			// The log is for eyes and for diff; the fingerprint of the same events is on standard output either way.
			var to io.Writer
			if log {
				to = a.stderr
			}
			r := sim.RunLogged(p, to)
			d := replayDocument{Trace: fmt.Sprintf("%016x", r.Trace), Figures: r.String(), Swarm: p.Swarm(), Schedule: p}
			if r.Failure != nil {
				f := describeFailure(r, which.seed, name)
				d.Failure = &f
			}
			err = a.emit(d, nil, [][]string{{"trace", d.Trace}, {"figures", d.Figures}, {"swarm", strings.TrimPrefix(d.Swarm, "swarm: ")}})
			if err != nil || r.Failure == nil {
				return err
			}
			fmt.Fprintf(a.stderr, "\n%s", d.Failure)
			return errors.New("a property does not hold: " + r.Failure.Error())
		},
	}
	which.flags(cmd)
	cmd.Flags().BoolVar(&log, "log", false, "write every event to standard error")
	return cmd
}

// A failing seed has a dozen faults and a hundred operations, of which two and three matter.
//
// simShrinkCommand looks for the smallest world that fails like a given one.
func (a *app) simShrinkCommand() *cobra.Command {
	var which world
	// A run takes some ten milliseconds, and most failures are small after a few hundred.
	runs := 2000
	cmd := &cobra.Command{
		Use:   "shrink",
		Short: "Make a failing seed smaller, and print the schedule that is left",
		Long: "Leave out faults, clients, operations and knobs as long as the same property fails. Standard output is the schedule that\n" +
			"is left, for `physalia sim replay --schedule`, and for sim/testdata/schedules.txt once the mistake is mended.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, _, err := which.schedule(cmd)
			if err != nil {
				return err
			}
			if sim.Run(p).Failure == nil {
				return errors.New("every property holds in this world: there is nothing to shrink")
			}
			// The failure may move to another place on the way; its class stays.
			q, ran := sim.Shrink(p, runs)
			f := describeFailure(sim.Run(q), which.seed, "--schedule '"+q.String()+"'")
			fmt.Fprintf(a.stderr, "%d runs: %d faults are left of %d\n%s", ran, len(q.Faults), len(p.Faults), f)
			if a.output == asJSON {
				return a.emit(q, nil, nil)
			}
			_, err = fmt.Fprintln(a.stdout, q)
			return err
		},
	}
	which.flags(cmd)
	cmd.Flags().IntVar(&runs, "runs", runs, "try at most so `many` smaller schedules")
	return cmd
}
