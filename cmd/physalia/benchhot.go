package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/bench"
	"physalia/cmd/physalia/colony"
)

// benchHotCommand measures what one hot cell does to all others. That is what a server's queue is fair for: no cell waits for another one's
// crowd, but for the processor and the disk, which are everybody's.
func (a *app) benchHotCommand() *cobra.Command {
	spec := colony.Spec{Bricks: 1, Colors: 1, Servers: 7, Racks: 7, Powers: 7}
	var cfg bench.Config
	var rounds int
	var keep string
	cmd := &cobra.Command{
		Use:   "hot",
		Short: "Measure what users of all other cells notice of one hot cell",
		Long: "Start seven server processes and a control process on loopback. In turn, let all clients spread over all cells, and let half of\n" +
			"them write to one cell; compare the latencies of the other half. Run it on the disk that you mean (--keep), never in memory.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Every server hosts a node of every cell, and has room for some more.
			spec.Capacity = 2*cfg.Cells + 1000
			var report bench.HotReport
			return trial(cmd, keep, &spec, func() (err error) {
				cfg.Colony, cfg.Say = spec, a.progress()
				report, err = bench.Hot(cmd.Context(), cfg, rounds)
				return err
			}, func() error { return a.emit(report, nil, hotRows(report)) })
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Cells, "cells", 1000, "`number` of cells")
	f.IntVar(&cfg.Clients, "clients", 224, "`number` of clients; each waits for its answer before it sends the next request")
	f.IntVar(&cfg.Libraries, "libraries", 1, "`number` of client libraries, with connections of their own, that the clients share")
	f.IntVar(&cfg.ValueSize, "value-size", 64, "`bytes` of each value")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "how `long` each phase takes")
	// Both kinds of phases alternate, so what else the machine does meets both; the median of an odd number is one of them.
	f.IntVar(&rounds, "rounds", 3, "`number` of phases of each kind")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	return cmd
}

// hotRows shows a report for people. The ratio is what it is about: with fair queues the others pay for the processor time that the hot cell
// takes, and for nothing else.
func hotRows(r bench.HotReport) [][]string {
	return [][]string{
		{"load spread over all cells", fmt.Sprintf("p50 %.1f ms, p99 %.1f ms; %.0f writes/s in all", r.EvenP50MS, r.EvenP99MS, r.EvenPerS)},
		{"half of it on one cell", fmt.Sprintf("p50 %.1f ms, p99 %.1f ms of the others; %.0f writes/s in all, %.0f of them to the hot cell", r.HotP50MS, r.HotP99MS, r.HotPerS, r.HotCellPerS)},
		{"p99 of the others", fmt.Sprintf("%.2f times what it was", r.Ratio)},
		{"setting", fmt.Sprintf("%d servers, %d cells, %d clients in %d libraries; medians of %d rounds", r.Servers, r.Cells, r.Clients, r.Libraries, r.Rounds)},
		{"disk", fmt.Sprintf("fdatasync p50 %.0f us, p99 %.0f us", r.FdatasyncP50US, r.FdatasyncP99US)},
		{"errors", fmt.Sprint(r.Errors, " ", r.FirstError)},
	}
}
