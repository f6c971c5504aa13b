package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/bench"
)

// benchStoresCommand measures what a colony of a million cells costs the control plane, and how long it takes to start with it.
func (a *app) benchStoresCommand() *cobra.Command {
	var cfg bench.StoresConfig
	var keep string
	cmd := &cobra.Command{
		Use:   "stores",
		Short: "Measure the start of a control plane that has a million cells, and its memory",
		Long: "Create cells on servers that only pretend, in the lifecycle manager's real store; start the manager from it, measure the time\n" +
			"until it creates a cell and the memory that each cell takes; then the same of discovery and its snapshot, and of health.\n" +
			"Everything is in this one process. Filling takes most of the time.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, forget, err := trialDir(cmd.CommandPath(), keep)
			if err != nil {
				return err
			}
			cfg.Dir, cfg.Say = dir, a.progress()
			report, err := bench.Stores(cmd.Context(), cfg)
			if err != nil {
				return errors.Join(err, forget())
			}
			return errors.Join(a.emit(report, nil, storesRows(report)), forget())
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Cells, "cells", 1_000_000, "`number` of cells")
	f.IntVar(&cfg.Servers, "servers", 2000, "`number` of servers that they are placed on")
	f.StringVar(&keep, "keep", "", "keep the stores in this `directory`, which must be empty")
	return cmd
}

// storesRows shows a report for people. Bytes per cell are of the heap after a collection, with everything that a million cells make the
// process keep; what a snapshot or a page needs for a moment is not in them.
func storesRows(r bench.StoresReport) [][]string {
	return [][]string{
		{"lifecycle", fmt.Sprintf("restored in %.2f s; first cell after %.2f s with discovery and health listening; %.0f bytes per cell", r.RestoreSeconds, r.FirstCreateSeconds, r.LifecycleBytes)},
		{"creating after that", fmt.Sprintf("one cell p50 %.2f ms, without the servers' part", r.CreateP50MS)},
		{"routes handed on", fmt.Sprintf("all after %.2f s; the longest page held the manager up for %.2f ms", r.HandOnSeconds, r.LongestPageMS)},
		{"discovery", fmt.Sprintf("from its snapshot in %.2f s, %.2f s with health listening; %.0f bytes per cell", r.LoadSeconds, r.LoadHealthSeconds, r.DiscoveryBytes)},
		{"snapshot", fmt.Sprintf("%.1f MiB, written in %.2f s", r.SnapshotMiB, r.SaveSeconds)},
		{"health", fmt.Sprintf("%.0f bytes per cell above discovery", r.HealthBytes)},
		{"filling", fmt.Sprintf("%.0f s, %.0f cells/s placed and stored", r.FillSeconds, r.PlacementsPerS)},
		{"setting", fmt.Sprintf("%d cells, %d servers, %.0f s of processor time in all", r.Cells, r.Servers, r.CPUSeconds)},
		{"load average", fmt.Sprintf("%s before, %s after", r.Load, r.LaterLoad)},
	}
}
