package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/figures"
	"physalia/sim/lab"
)

// A report is a directory: for each experiment its data and its figures, and one page with all of them. Everything in it follows from the seed
// and the effort, so that two people with the same binary can compare files instead of impressions.
//
// reportFlags are what `lab report` is asked for.
type reportFlags struct {
	out    string   // directory
	seed   uint64   // of all dice
	only   []string // names of experiments; none: all
	effort float64  // factor on trials
	fresh  bool     // take over nothing from a report that was interrupted
}

// labReportCommand runs experiments and draws them.
func (a *app) labReportCommand() *cobra.Command {
	var o reportFlags
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Run the experiments: figures, data, and one page with all of them",
		Long: "Run the experiments and write, for each, its data as JSON and its figures as SVG and PNG, and for all of them index.html,\n" +
			"which has everything in it and opens without a network. The same seed gives the same files. Interrupted, it keeps the\n" +
			"experiments that are finished, and the same command goes on with the others; --fresh begins anew.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.labReport(cmd, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "lab", "`directory` to write to; made if it does not exist")
	f.Uint64Var(&o.seed, "seed", 1, "`number` that everything is drawn from")
	f.StringSliceVar(&o.only, "only", nil, "`names` of experiments to run, as physalia lab --help lists them; empty: all")
	f.Float64Var(&o.effort, "effort", 1, "`factor` on the number of trials; less is faster and less certain")
	f.BoolVar(&o.fresh, "fresh", false, "run all experiments, also those that an interrupted report has finished")
	return cmd
}

// labReport checks what was asked for, runs it and writes the page.
func (a *app) labReport(cmd *cobra.Command, o *reportFlags) error {
	chosen, err := chosenExperiments(cmd.CommandPath(), o.only)
	if err != nil {
		return err
	}
	if !(o.effort > 0 && o.effort <= 100) {
		return usage(cmd.CommandPath(), "for example --effort 0.1", "effort is %g, allowed is above 0 to 100", o.effort)
	}
	// The directory comes first: an experiment that cannot be written should not be run.
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return usage(cmd.CommandPath(), "name another directory with --out", "%v", err)
	}
	// What an interrupted report has left is taken over, if it is of this program, seed and effort.
	before, err := resume(o)
	if err != nil {
		return err
	}
	results, rows, err := a.runExperiments(cmd.Context(), chosen, o, before)
	if err != nil {
		return err
	}
	// The page says how it was made, so that whoever gets it can make it again.
	var page bytes.Buffer
	command := fmt.Sprintf("physalia lab report --seed %d", o.seed)
	if o.effort != 1 {
		command += fmt.Sprintf(" --effort %g", o.effort)
	}
	if len(o.only) > 0 {
		command += " --only " + strings.Join(o.only, ",")
	}
	if err := figures.WritePage(&page, &figures.Page{Seed: o.seed, Command: command, Results: results}); err != nil {
		return err
	}
	index := filepath.Join(o.out, "index.html")
	if err := os.WriteFile(index, page.Bytes(), 0o644); err != nil {
		return err
	}
	if err := before.over(); err != nil {
		return err
	}
	a.note("open %s", index)
	documents := make([]map[string]any, len(results))
	for i, r := range results {
		documents[i] = map[string]any{"experiment": r.Number, "name": r.Name, "findings": r.Findings}
	}
	return a.emit(map[string]any{"page": index, "seed": o.seed, "experiments": documents}, []string{"EXPERIMENT", "VERDICT", "FOUND"}, rows)
}

// chosenExperiments finds the experiments that were named, all when none was.
func chosenExperiments(op string, only []string) ([]lab.Experiment, error) {
	all := lab.Experiments()
	if len(only) == 0 {
		return all, nil
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return nil, usage(op, didYouMean(name, names, "one of: "+strings.Join(names, ", ")), "no experiment is called %q", name)
		}
	}
	return slices.DeleteFunc(all, func(e lab.Experiment) bool { return !slices.Contains(only, e.Name) }), nil
}

// runExperiments runs experiments, as many at a time as there are processors, and writes each as soon as it is there.
func (a *app) runExperiments(user context.Context, chosen []lab.Experiment, o *reportFlags, before *unfinished) ([]lab.Result, [][]string, error) {
	ctx, cancel := context.WithCancel(user)
	defer cancel()
	// What a run leaves behind, and where it belongs.
	type outcome struct {
		at     int
		result *lab.Result
		err    error
	}
	done, seats := make(chan outcome, len(chosen)), make(chan struct{}, runtime.GOMAXPROCS(0))
	progress := &stages{to: a.stderr, shown: map[string]int{}}
	for i, e := range chosen {
		go func() {
			// An experiment is one thread; two of them share nothing but the line of progress.
			seats <- struct{}{}
			defer func() { <-seats }()
			if err := ctx.Err(); err != nil { // a run that nobody wants any more does not begin
				done <- outcome{at: i, err: err}
				return
			}
			r, err := a.runExperiment(&e, lab.Run{Seed: o.seed, Effort: o.effort, Watch: progress.watch(ctx.Err)}, o.out, before)
			done <- outcome{i, r, err}
		}()
	}
	// The order of the results is that of the experiments, whoever is ready first. The first failure, or an interruption, ends the others
	// at their next question to the watch.
	results, failures := make([]lab.Result, len(chosen)), []error(nil)
	for range chosen {
		o := <-done
		if o.err != nil {
			failures = append(failures, o.err)
			cancel()
			continue
		}
		results[o.at] = *o.result
	}
	if len(failures) > 0 {
		return nil, nil, firstCause(user, failures)
	}
	var rows [][]string
	for _, r := range results {
		for _, f := range r.Findings {
			rows = append(rows, []string{fmt.Sprintf("%d %s", r.Number, r.Name), string(f.Verdict), f.Ours})
		}
	}
	return results, rows, nil
}

// runExperiment runs an experiment and writes it, or takes it from a report that was interrupted.
func (a *app) runExperiment(e *lab.Experiment, run lab.Run, dir string, before *unfinished) (*lab.Result, error) {
	if r := before.kept(dir, e); r != nil {
		a.note("experiment %d, %s: finished before", e.Number, e.Name)
		return r, nil
	}
	began := time.Now()
	r, err := e.Run(run)
	if err != nil {
		return nil, err
	}
	if _, err := figures.Write(dir, &r); err != nil {
		return nil, err
	}
	a.note("experiment %d, %s: %.1f s", e.Number, e.Name, time.Since(began).Seconds())
	return before.finish(dir, e)
}
