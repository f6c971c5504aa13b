package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/drill"
)

// A drill, like a demo, is a trial of this very binary. Several drills run one after the other, each in a colony of its own, and
// those behind one that fails still run: a game day wants the whole list.

// drillCommand runs game days.
func (a *app) drillCommand() *cobra.Command {
	var cfg drill.Config
	var keep string
	var list bool
	cmd := &cobra.Command{
		Use:   "drill [NAME...]",
		Short: "Run game days on this machine: lose parts of a colony's control plane, and verify that nothing else is lost",
		Long: "Run drills, all of them when none is named; --list tells what each proves. Each starts a colony of real processes on\n" +
			"loopback, does to it what a bad day would do, and passes a verdict with figures. Progress goes to standard error; standard\n" +
			"output has one table, or with -o json one line, per drill. Exit 1 if a verdict is not ok. See docs/drills.md.",
		Args: args("[NAME...]", 0, -1),
		RunE: func(cmd *cobra.Command, given []string) error {
			drills, err := drill.Find(given)
			if err != nil {
				return err
			}
			if list {
				return a.emitDrills(drills)
			}
			if cfg.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("find this binary: %w", err)
			}
			// A drill that failed keeps its directory only when it was asked to: logs of a bad day are worth --keep.
			dir, forget, err := trialDir(cmd.CommandPath(), keep)
			if err != nil {
				return err
			}
			// The seed is told, so that the same accidents can be had again.
			if cfg.Seed == 0 {
				cfg.Seed = uint64(time.Now().UnixNano())
			}
			cfg.Say = a.progress()
			cfg.Say("seed %d", cfg.Seed)
			return errors.Join(a.runDrills(cmd.Context(), drills, cfg, dir), forget())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&list, "list", false, "only tell which drills there are, and what each proves")
	f.IntVar(&cfg.Cells, "cells", 0, "`number` of cells; 0 for the drill's default")
	f.DurationVar(&cfg.Span, "span", 0, "how `long` each phase under load takes; 0 for the drill's default")
	f.DurationVar(&cfg.Patience, "patience", 0, "`time` that a dead server is waited for in the drill about repair; 0 for its default")
	f.Uint64Var(&cfg.Seed, "seed", 0, "`number` that accidents are drawn from; 0 draws one")
	f.StringVar(&cfg.Other, "other-binary", "", "`file` with physalia of another version, to which the drill about upgrades goes and from which it comes back;\nthis one when empty")
	f.StringVar(&cfg.Store, "store", "", "`URL` of a store that several control processes share, as of physalia control; it must be empty")
	f.IntVar(&cfg.Instances, "instances", 0, "`number` of control processes that share it")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	return cmd
}

// emitDrills lists drills.
func (a *app) emitDrills(drills []drill.Drill) error {
	documents, rows := []map[string]string{}, [][]string{}
	for _, d := range drills {
		documents, rows = append(documents, map[string]string{"drill": d.Name, "proves": d.Proves}), append(rows, []string{d.Name, d.Proves})
	}
	return a.emit(map[string]any{"drills": documents}, []string{"DRILL", "PROVES"}, rows)
}

// runDrills runs drills one after the other, each in a directory named after it.
func (a *app) runDrills(ctx context.Context, drills []drill.Drill, cfg drill.Config, dir string) error {
	var failures []error
	for _, d := range drills {
		one := cfg
		one.Dir = filepath.Join(dir, d.Name)
		report, err := d.Run(ctx, one)
		if ctx.Err() != nil {
			return err // interrupted: the rest is not wanted
		}
		if err != nil {
			failures = append(failures, logsOf(fmt.Errorf("drill %s: %w", d.Name, err), one.Dir))
			continue
		}
		if err := a.emit(report, nil, drillRows(report)); err != nil {
			return err
		}
		if report.Verdict != "ok" {
			failures = append(failures, logsOf(fmt.Errorf("drill %s: verdict %s: %s", d.Name, report.Verdict, strings.Join(report.Reasons, "; ")), one.Dir))
		}
	}
	return errors.Join(failures...)
}

// drillRows shows a report for people; the reasons of a failed verdict are in the error that follows.
func drillRows(r drill.Report) [][]string {
	rows := [][]string{{r.Drill, fmt.Sprintf("%s in %.1f s", r.Verdict, r.Seconds)}}
	for _, f := range r.Figures {
		rows = append(rows, []string{"  " + f.Name, strings.TrimSpace(fmt.Sprintf("%.6g %s", f.Value, f.Unit))})
	}
	return rows
}
