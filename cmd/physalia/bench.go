package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/bench"
	"physalia/cmd/physalia/colony"
)

// benchCommand measures the smallest colony in which every server has a node of every cell: what a cell costs, not what a fleet
// can do. The clients run in this process and share its processors with the servers, as the report says.
func (a *app) benchCommand() *cobra.Command {
	spec := colony.Spec{Bricks: 1, Colors: 1, Servers: 7, Racks: 7, Powers: 7}
	var cfg bench.Config
	var keep string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure seven real server processes on this machine, and verify what they acknowledged",
		Long: "Start seven server processes and a control process on loopback, write and read through the client library, then kill\n" +
			"one server and read every acknowledged key back through the others. Beside the numbers stand those of the disk they\n" +
			"were measured on: run it on the disk that you mean (--keep), never in memory. Exit 1 if an acknowledged key is missing.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if spec.Secure && cfg.Profiles != "" {
				return usage(cmd.CommandPath(), "use --profile without --tls", "profiles are fetched in plain text")
			}
			// Every server hosts a node of every cell, and has room for some more.
			spec.Capacity = 2*cfg.Cells + 1000
			var report bench.Report
			return trial(cmd, keep, &spec, func() (err error) {
				cfg.Colony, cfg.Say = spec, a.progress()
				report, err = bench.Run(cmd.Context(), cfg)
				return err
			}, func() error {
				// The figures are shown also when the verdict is bad: they are part of the evidence.
				err := a.emit(report, nil, benchRows(report))
				if !report.Verified {
					err = errors.Join(err, fmt.Errorf("%d of %d acknowledged keys are missing", report.LostKeys, report.LostKeys+report.VerifiedKeys))
				}
				return err
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Cells, "cells", 1000, "`number` of cells")
	f.IntVar(&cfg.Clients, "clients", 224, "`number` of clients; each waits for its answer before it sends the next request")
	f.IntVar(&cfg.Libraries, "libraries", 1, "`number` of client libraries, with connections of their own, that the clients share")
	f.IntVar(&cfg.ValueSize, "value-size", 64, "`bytes` of each value")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how `long` to write, and again how long to read")
	f.StringVar(&cfg.Profiles, "profile", "", "write processor profiles of all processes to this `directory`, for go tool pprof")
	f.BoolVar(&spec.Secure, "tls", false, "give every process a certificate: what TLS costs")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	cmd.AddCommand(a.benchStormCommand(), a.benchCreateCommand(), a.benchStoresCommand(), a.benchDensityCommand(), a.benchFailoverCommand(), a.benchHotCommand(), a.benchServersCommand())
	return cmd
}

// benchRows shows a report for people, with what it was measured on beside what was measured.
func benchRows(r bench.Report) [][]string {
	return [][]string{
		{"writes", fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms", r.WritesPerS, r.WriteP50MS, r.WriteP99MS)},
		{"reads under read leases", fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms", r.ReadsPerS, r.ReadP50MS, r.ReadP99MS)},
		{"reads confirmed by juries", fmt.Sprintf("%.0f/s, p50 %.2f ms, p99 %.2f ms", r.ConfirmedReadsPerS, r.ConfirmedReadP50MS, r.ConfirmedReadP99MS)},
		{"failover", fmt.Sprintf("kill -9: every cell written again after %.0f ms, p50 %.0f ms, p99 %.0f ms", r.FailoverAllMS, r.FailoverP50MS, r.FailoverP99MS)},
		{"processor time per write", fmt.Sprintf("servers together %.0f us (%.1f us per member's record), client %.0f us", r.ServersCPUPerWrite, r.ServersCPUPerVote, r.ClientCPUPerWrite)},
		{"written to disks", fmt.Sprintf("%.1f bytes per byte of value, seven members together", r.BytesPerByte)},
		{"disk", fmt.Sprintf("fdatasync p50 %.0f us, p99 %.0f us", r.FdatasyncP50US, r.FdatasyncP99US)},
		{"setting", fmt.Sprintf("%d servers, %d cells, %d clients, %d libraries, values of %d bytes", r.Servers, r.Cells, r.Clients, r.Libraries, r.ValueBytes)},
		{"creation", fmt.Sprintf("%.0f ms for all cells", r.CreateMS)},
		{"errors", fmt.Sprint(r.Errors)},
		{"verified", fmt.Sprintf("%v: %d keys there, %d missing", r.Verified, r.VerifiedKeys, r.LostKeys)},
	}
}
