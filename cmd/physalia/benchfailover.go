package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/bench"
	"physalia/cmd/physalia/colony"
)

// benchFailoverCommand measures what the death of one of seven servers costs, of which each hosts a node of every cell: a seventh of the
// cells lose their proposer at once, and all lose a member.
func (a *app) benchFailoverCommand() *cobra.Command {
	spec := colony.Spec{Bricks: 1, Colors: 1, Servers: 7, Racks: 7, Powers: 7}
	var cfg bench.FailoverConfig
	var keep string
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure what the death of a server costs: until every cell takes writes, processor time, idling beside the dead",
		Long: "Start seven server processes and a control process on loopback, create cells and write each once; kill -9 a server and write\n" +
			"every cell at once; look at the idle others; start the server again until it leads its share; and kill it once more, with\n" +
			"nobody asking for anything. Processor times are read from the operating system. Run it on the disk that you mean (--keep),\n" +
			"never in memory. Exit 1 if an acknowledged write is missing in the end.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Every cell has a node on each of the seven; some room is left, so that creation is never refused.
			spec.Capacity = cfg.Cells + 1000
			var report bench.FailoverReport
			return trial(cmd, keep, &spec, func() (err error) {
				cfg.Colony, cfg.Say = spec, a.progress()
				report, err = bench.Failover(cmd.Context(), cfg)
				return err
			}, func() error {
				err := a.emit(report, nil, failoverRows(report))
				if !report.Verified {
					err = errors.Join(err, fmt.Errorf("%d acknowledged writes are missing", report.Missing))
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Cells, "cells", 10_000, "`number` of cells, and of nodes on each server")
	// A window is compared with another one: longer ones even out what the machine does besides, and the calm before lets servers forget
	// what they were busy with.
	f.DurationVar(&cfg.Window, "window", time.Minute, "how `long` to look at idle servers, each time")
	f.DurationVar(&cfg.Calm, "calm", 35*time.Second, "how `long` to wait before each measurement")
	f.DurationVar(&cfg.Return, "return", 2*time.Minute, "how `long` the server that came back has until it leads its share")
	f.IntVar(&spec.MemTableBytes, "memtable-bytes", demoMemTable, "size of each disk's write buffer in `bytes`; 0 for the server's default")
	f.StringArrayVar(&spec.ServerArgs, "server-flag", nil, "`flag` for every server, for example --balance=false")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	return cmd
}

// failoverRows shows a report for people.
func failoverRows(r bench.FailoverReport) [][]string {
	// One line per round of writes.
	round := func(x bench.Round) string {
		return fmt.Sprintf("p50 %.0f ms, p99 %.0f ms, at most %.0f ms; %.2f core-seconds, %d errors", x.P50MS, x.P99MS, x.MaxMS, x.CPU, x.Errors)
	}
	return [][]string{
		{"idle, all alive", fmt.Sprintf("%.4f core per server, %d cells led", r.Alive.Core, r.Led)},
		{"every cell, all alive", round(r.Again)},
		{"every cell, kill -9", fmt.Sprintf("%s; %.2f core-seconds more", round(r.Death), r.ExtraCPU)},
		{"idle, one dead", fmt.Sprintf("%.4f core per server: %+.4f, all others together %+.4f", r.Dead.Core, r.DeadMore, r.DeadMoreSum)},
		{"return", fmt.Sprintf("half of its share after %.1f s, %d cells in the end; %d writes, %d errors, at most %.0f ms", r.ReturnSeconds, r.ReturnLed, r.ReturnWrites, r.ReturnErrors, r.ReturnMaxMS)},
		{"kill -9, nobody asks", fmt.Sprintf("%.2f core-seconds more than idling in 3 s, %d cells led then", r.SilentCPU, r.SilentLed)},
		{"every cell after that", round(r.SilentAfter)},
		{"setting", fmt.Sprintf("%d servers, %d cells, windows of %.0f s", r.Servers, r.Cells, r.WindowSeconds)},
		{"disk", fmt.Sprintf("fdatasync p50 %.0f us, p99 %.0f us", r.FdatasyncP50, r.FdatasyncP99)},
		{"load average", fmt.Sprintf("%s before, %s after", r.Load, r.LaterLoad)},
		{"errors", fmt.Sprint(r.Errors, " ", r.FirstError)},
		{"verified", fmt.Sprintf("%v: %d missing", r.Verified, r.Missing)},
	}
}
