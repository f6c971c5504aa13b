package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/bench"
	"physalia/cmd/physalia/colony"
)

// benchCreateCommand measures how fast cells are created. All servers are in one process, so that a machine with two processors
// does not spend its time on switching between them; each has its own Pebble, its own syncs and its own sockets.
func (a *app) benchCreateCommand() *cobra.Command {
	spec := colony.Spec{Bricks: 1, Colors: 1, Racks: 7, Powers: 7, Crowded: true, MemTableBytes: demoMemTable}
	var cfg bench.CreateConfig
	var keep string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Measure the creation of cells, one by one and thousands at once",
		Long: "Start a control process, and one process that hosts all servers, on loopback; create cells one after the other, then all\n" +
			"others at once, through the path that operators use; and read every cell in the end. Run it on the disk that you mean\n" +
			"(--keep), never in memory. Exit 1 if a cell does not answer.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Room for every cell wherever placement wants it.
			spec.Capacity = cfg.Cells + cfg.Singles + 1000
			var report bench.CreateReport
			return trial(cmd, keep, &spec, func() (err error) {
				cfg.Colony, cfg.Say = spec, a.progress()
				report, err = bench.Create(cmd.Context(), cfg)
				return err
			}, func() error {
				// A cell that was created and does not answer is worth more than any figure.
				err := a.emit(report, nil, createRows(report))
				if !report.Verified {
					err = errors.Join(err, fmt.Errorf("%d of %d cells do not answer", report.Missing, report.Cells+report.Singles))
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Cells, "cells", 10_000, "`number` of cells created at once")
	f.IntVar(&cfg.Singles, "singles", 200, "`number` of cells created one after the other before")
	f.IntVar(&spec.Servers, "servers", 14, "`number` of servers")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	return cmd
}

// createRows shows a report for people, with what it was measured on beside what was measured.
func createRows(r bench.CreateReport) [][]string {
	return [][]string{
		{"one cell", fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; the median is %.1f fdatasyncs", r.SingleP50MS, r.SingleP99MS, r.SingleSyncs)},
		{"all cells", fmt.Sprintf("%d in %.2f s, %.0f/s; all members after %.2f s", r.Cells, r.Seconds, r.CellsPerS, r.SettledSeconds)},
		{"processor time per cell", fmt.Sprintf("servers together %.0f us, control plane %.0f us, who asks %.0f us", r.ServersCPUPerCell, r.ControlCPUPerCell, r.AskerCPUPerCell)},
		{"disk", fmt.Sprintf("fdatasync p50 %.0f us, p99 %.0f us before, p50 %.0f us after", r.FdatasyncP50US, r.FdatasyncP99US, r.LaterSyncP50US)},
		{"load average", fmt.Sprintf("%s when all cells began, %s after", r.Load, r.LaterLoad)},
		{"setting", fmt.Sprintf("%d servers in one process, %d cells at once, %d one by one", r.Servers, r.Cells, r.Singles)},
		{"verified", fmt.Sprintf("%v: %d of %d cells do not answer a read", r.Verified, r.Missing, r.Cells+r.Singles)},
	}
}
