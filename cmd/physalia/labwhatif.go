package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"physalia/health"
	"physalia/sim/lab"
)

// The question is about a data centre, not about a running colony: cells are placed anew, by the code that would place them, near users that
// are drawn. The answer has numbers for programs and rows for people; both have the same content.
//
// whatIfFlags are what `lab what-if` is asked.
type whatIfFlags struct {
	topology string              // file
	shape    string              // instead of a file
	live     bool                // ask the control plane instead
	keep     string              // directory for placed cells
	cells    int                 // to place
	kill     []string            // level=name
	seed     uint64              // of users and placements
	names    int                 // of lost cells to tell, at most
	policy   health.RepairConfig // budgets and patience
	unjudged int                 // cells of a running colony that are not live
	notes    []string            // what else keeps repair back in a running colony
}

// whatIfCellsMax bounds the cells of a question: some 250 bytes each.
const whatIfCellsMax = 20_000_000

// labWhatIfCommand answers a question about a data centre.
func (a *app) labWhatIfCommand() *cobra.Command {
	var o whatIfFlags
	cmd := &cobra.Command{
		Use:   "what-if",
		Short: "Tell what the loss of parts of a data centre would cost: which cells lose their quorum, what margins are left, how long repair takes",
		Long: "Place cells on a described data centre with the code that places them in production, each near users drawn in its brick, take parts\n" +
			"of it away, and count. A rack or power domain named without its brick is that of every brick. --shape makes a regular data centre\n" +
			"instead: bricks x racks x servers x power domains x colors, for example 10x20x50x4x4.\n" +
			"\n" +
			"--live asks about the running colony instead: its servers, those that are down included, its cells where they are, and the repair\n" +
			"budgets that the control plane has. Nothing is changed or taken away.",
		Example: "  physalia lab what-if --topology dc.toml --cells 100000 --kill rack=b1/r3,power=b1/p1\n" +
			"  physalia lab what-if --shape 10x20x50x4x4 --cells 1000000 --kill brick=b03\n" +
			"  physalia lab what-if --live --control-plane 10.0.0.1:7300 --kill rack=b1/r3",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.whatIf(cmd, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.topology, "topology", "", "TOML `file` that describes the data centre (docs/laboratory.md)")
	f.StringVar(&o.shape, "shape", "", "`size` of a regular data centre instead of a file: bricks x racks x servers x power domains x colors")
	f.BoolVar(&o.live, "live", false, "ask about the colony that --control-plane runs")
	f.IntVar(&o.cells, "cells", 10_000, "`number` of cells to place; not with --live")
	f.StringSliceVar(&o.kill, "kill", nil, "what fails, as `level=name`: server, rack, power, brick, color or device")
	f.StringVar(&o.keep, "keep", "", "`directory` for cells that are placed, pool by pool: an interrupted question goes on there, and the next about the same\ndata centre places nothing")
	f.Uint64Var(&o.seed, "seed", 1, "`number` that users and placements are drawn from")
	f.IntVar(&o.names, "names", 20, "how many of the lost cells are named, a `number`")
	repairFlags(f, &o.policy)
	return cmd
}

// The cells are placed as the lifecycle manager would place them in an empty data centre; those of a colony that has grown lie otherwise,
// and lose a little more.
//
// whatIf checks the question, places, kills and tells.
func (a *app) whatIf(cmd *cobra.Command, o *whatIfFlags) error {
	if o.cells < 1 || o.cells > whatIfCellsMax || o.names < 0 {
		return usage(cmd.CommandPath(), fmt.Sprintf("1 to %d cells", whatIfCellsMax), "%d cells, %d names", o.cells, o.names)
	}
	if err := o.policy.Check(); err != nil {
		return err
	}
	// --timeout does not bound the question: a million cells take their time, and an interruption ends it at any moment.
	progress := &stages{to: a.stderr, shown: map[string]int{}}
	watch := progress.watch(cmd.Context().Err)
	site, q, err := a.whatIfQuestion(cmd, o)
	if err != nil {
		return err
	}
	// A colony that runs brings its cells along, the others are placed below.
	// What is to be killed is looked up before anything is placed: a mistyped name should not cost minutes.
	for _, text := range o.kill {
		k, err := site.ParseKill(text)
		if err != nil {
			return err
		}
		q.Kills = append(q.Kills, k...)
	}
	if !o.live {
		q.Pools = site.Share(o.cells)
		kept, err := newPlaced(site, o)
		if err == nil {
			err = placePools(cmd.Context(), site, q.Pools, o, kept, watch)
		}
		if err != nil {
			return err
		}
	}
	q.Policy, q.Names, q.Watch = o.policy, o.names, watch
	answer, err := site.WhatIf(q)
	if err != nil {
		return err
	}
	answer.Unjudged = o.unjudged
	return a.emit(answer, nil, answerRows(&answer, o))
}

// whatIfQuestion reads, makes or asks for the data centre.
func (a *app) whatIfQuestion(cmd *cobra.Command, o *whatIfFlags) (*lab.Site, lab.Question, error) {
	if o.live {
		return a.liveQuestion(cmd, o)
	}
	site, err := whatIfSite(cmd.CommandPath(), o)
	return site, lab.Question{}, err
}

// whatIfSite reads or makes the data centre.
func whatIfSite(op string, o *whatIfFlags) (*lab.Site, error) {
	switch {
	case (o.topology == "") == (o.shape == ""):
		return nil, usage(op, "give --topology FILE, or --shape 10x20x50x4x4, or --live", "one of --topology, --shape and --live is needed")
	case o.topology == "":
		shape, err := parseShape(op, o.shape)
		if err != nil {
			return nil, err
		}
		return shape.Site()
	}
	f, err := os.Open(o.topology)
	if err != nil {
		return nil, usage(op, "name an existing file with --topology", "%v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, lab.FileBytesMax+1)) // one byte beyond the bound shows that it was exceeded
	if err != nil {
		return nil, usage(op, "check the file", "%v", err)
	}
	return lab.ParseTopology(o.topology, text)
}

// The numbers are those of lab.Shape, from the outside to the inside: bricks, racks of each, servers of each rack, power domains of each
// brick, colors.
//
// parseShape reads 10x20x50x4x4.
func parseShape(op, text string) (lab.Shape, error) {
	parts := strings.Split(text, "x")
	numbers := make([]int, len(parts))
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return lab.Shape{}, usage(op, "for example --shape 10x20x50x4x4", "shape %q: %q is no number", text, part)
		}
		numbers[i] = n
	}
	if len(numbers) != 5 {
		return lab.Shape{}, usage(op, "bricks x racks x servers x power domains x colors, for example 10x20x50x4x4", "shape %q has %d numbers, wanted are 5", text, len(numbers))
	}
	return lab.Shape{Bricks: numbers[0], Racks: numbers[1], ServersPerRack: numbers[2], Powers: numbers[3], Colors: numbers[4],
		Aggregations: max(2, numbers[1]/2), Capacity: 1_000_000}, nil
}

// placePools places the cells of all pools, as many pools at a time as there are processors. Pools know nothing of each other.
func placePools(user context.Context, site *lab.Site, pools []lab.PoolFleet, o *whatIfFlags, kept *placed, watch lab.Watch) error {
	ctx, cancel := context.WithCancel(user)
	defer cancel()
	var wait sync.WaitGroup
	next, failures := make(chan int), make([]error, len(pools))
	// The first pool that fails ends the others: watch asks the user's context, stop both.
	stop := func(what string, done, total int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return watch(what, done, total)
	}
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := range next {
				// A pool ends where the next begins.
				n := o.cells
				if i+1 < len(pools) {
					n = pools[i+1].First
				}
				if kept.read(&pools[i], n-pools[i].First) {
					continue
				}
				failures[i] = site.PlacePool(&pools[i], n-pools[i].First, o.seed, stop)
				if failures[i] == nil {
					failures[i] = kept.write(&pools[i])
				}
				if failures[i] != nil {
					cancel()
				}
			}
		})
	}
	for i := range pools {
		if ctx.Err() != nil {
			failures[i] = ctx.Err()
			break
		}
		next <- i
	}
	close(next)
	wait.Wait()
	return firstCause(user, failures)
}

// answerRows shows an answer for people.
func answerRows(w *lab.Answer, o *whatIfFlags) [][]string {
	share := func(n int) string { return fmt.Sprintf("%d (%.3g %%)", n, 100*float64(n)/float64(max(w.Cells, 1))) }
	rows := [][]string{{"data centre", w.Site}, {"killed", fmt.Sprintf("%d servers, %d devices", w.ServersDown, w.DevicesDown)},
		{"cells", fmt.Sprint(w.Cells)}, {"without a majority", share(w.Lost)}, {"cut apart", share(w.CutOff)}}
	for m := len(w.Margins) - 1; m >= 0; m-- {
		rows = append(rows, []string{fmt.Sprintf("margin %d", m), share(w.Margins[m])})
	}
	if w.AlreadyDown+w.AlreadyLost > 0 {
		rows = append(rows, []string{"already", fmt.Sprintf("%d of the servers are down, %d of the cells without a majority", w.AlreadyDown, w.AlreadyLost)})
	}
	if w.Unjudged > 0 {
		rows = append(rows, []string{"not judged", fmt.Sprintf("%d cells that are being created or deleted", w.Unjudged)})
	}
	rows = append(rows, []string{"repair", repairText(w, o)})
	for _, note := range o.notes {
		rows = append(rows, []string{"", note})
	}
	if w.Beyond > 0 {
		rows = append(rows, []string{"beyond repair", fmt.Sprintf("%d members of cells without a majority: bring servers back, or physalia cell recover", w.Beyond)})
	}
	if len(w.LostCells) > 0 {
		rows = append(rows, []string{"lost, for example", strings.Join(w.LostCells, " ")})
	}
	return rows
}

// Patience and hold come before the budget: the time is that of the work alone. A running control plane does not tell its patience.
//
// repairText says how long repair takes.
func repairText(w *lab.Answer, o *whatIfFlags) string {
	if w.Repairs == 0 {
		return "nothing to replace"
	}
	patience, most := fmt.Sprintf("a patience of %s", o.policy.Patience), fmt.Sprintf("at most %s", o.policy.HoldMax)
	if o.live {
		patience, most = "its --repair-patience", "at most its --hold-max"
	}
	repair := fmt.Sprintf("%d members, %s at the budgets (%s decides), after %s", w.Repairs, w.Repair.Round(time.Second), w.Slowest, patience)
	if w.Hold {
		repair += "; a hold keeps back all but the brink, for " + most
	}
	return repair
}
