package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/bench"
	"physalia/cmd/physalia/colony"
)

// The figures of this command are the ones by which density is judged (DESIGN.md, section 13). Most of its time is spent on doing
// nothing, which is what is measured; on a machine that others use as well, processor times come out too high, since every wake-up of
// an idle server finds its caches cold.
//
// benchDensityCommand measures what cells cost that nobody uses. Each server hosts a node of every cell, so the number of cells is that
// of nodes per server.
func (a *app) benchDensityCommand() *cobra.Command {
	spec := colony.Spec{Bricks: 1, Colors: 1, Servers: 7, Racks: 7, Powers: 7}
	var cfg bench.DensityConfig
	var keep string
	cmd := &cobra.Command{
		Use:   "density",
		Short: "Measure what idle cells cost: memory, processor time, restart, and waking them",
		Long: "Start seven server processes and a control process on loopback, create cells and leave them alone; kill -9 a server and wait\n" +
			"until it serves again; write each cell once; kill a server for good, write cells through the others, and leave them alone\n" +
			"again. Memory and processor time are read from the operating system. Run it on the disk that you mean (--keep), never in\n" +
			"memory. Exit 1 if an acknowledged write is missing in the end.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// What is not said is everything, and what is said of a part at most that.
			if !cmd.Flags().Changed("touch") {
				cfg.Touch = cfg.Cells
			}
			cfg.Failover = min(cfg.Failover, cfg.Touch)
			spec.Capacity = cfg.Cells + 1000
			var report bench.DensityReport
			return trial(cmd, keep, &spec, func() (err error) {
				cfg.Colony, cfg.Say = spec, a.progress()
				report, err = bench.Density(cmd.Context(), cfg)
				return err
			}, func() error {
				err := a.emit(report, nil, densityRows(report))
				if !report.Verified {
					err = errors.Join(err, fmt.Errorf("%d acknowledged writes are missing", report.Missing))
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Cells, "cells", 100_000, "`number` of cells, and of nodes on each server")
	f.DurationVar(&cfg.Window, "window", time.Minute, "how `long` to look at idle servers, each time")
	f.DurationVar(&cfg.Calm, "calm", 15*time.Second, "how `long` to wait before")
	f.IntVar(&cfg.Restarts, "restarts", 3, "how `often` to kill a server and start it again")
	f.IntVar(&cfg.Touch, "touch", 0, "`number` of cells to write once; all of them if not given")
	f.IntVar(&cfg.Failover, "failover", 10_000, "`number` of cells to write after the kill of a server")
	f.IntVar(&cfg.Clients, "clients", 64, "`number` of clients that write")
	f.IntVar(&spec.MemTableBytes, "memtable-bytes", demoMemTable, "size of each disk's write buffer in `bytes`; 0 for the server's default")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	return cmd
}

// densityRows shows a report for people.
func densityRows(r bench.DensityReport) [][]string {
	// Beside what is measured stands what it was measured on.
	silence := func(s bench.Silence) string {
		return fmt.Sprintf("%.1f MB resident, at most %.1f; %.4f core per server", s.RSSMB, s.PeakRSSMB, s.Core)
	}
	return [][]string{
		{"empty", silence(r.Empty)},
		{"with idle cells", fmt.Sprintf("%s; %.0f bytes per node above empty", silence(r.Created), r.BytesPerNode)},
		{"after a restart", fmt.Sprintf("%s; %.0f bytes per node above empty", silence(r.Restarted), r.RestartedPerNode)},
		{"restart", fmt.Sprintf("kill -9: serves after %v ms, %v ms of its processor time", r.ServingMS, r.ServingCPUMS)},
		{"touched once", fmt.Sprintf("in %.1f s, at most %.1f MB resident; then %s", r.TouchSeconds, r.TouchRSSMB, silence(r.Touched))},
		{"one dead", silence(r.FollowerDead)},
		{"failover", fmt.Sprintf("every cell written again after %.2f s; %.2f core-seconds of the others, %.2f above the same writes before", r.FailoverSeconds, r.FailoverCPU, r.FailoverExtraCPU)},
		{"setting", fmt.Sprintf("%d servers, %d cells, windows of %.0f s; created in %.1f s", r.Servers, r.Cells, r.WindowSeconds, r.CreateSeconds)},
		{"disk", fmt.Sprintf("fdatasync p50 %.0f us, p99 %.0f us", r.FdatasyncP50US, r.FdatasyncP99US)},
		{"load average", fmt.Sprintf("%s before, %s after", r.Load, r.LaterLoad)},
		{"errors", fmt.Sprint(r.Errors, " ", r.FirstError)},
		{"verified", fmt.Sprintf("%v: %d missing", r.Verified, r.Missing)},
	}
}
