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

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/demo"
)

// demo and bench are trials: they start real processes by executing this very binary, so that what they prove is proven of
// what users run. Both keep their files in one directory, report progress on standard error and one document on standard
// output, and end with exit 1 when what they verify does not hold.

// loadDefault is how long the demo's load takes when no duration is given.
const loadDefault = 30 * time.Second

// trialDir is where a trial keeps its processes' data and logs: the given directory, which must be empty or absent, or a
// temporary one that forget removes.
func trialDir(op, keep string) (dir string, forget func() error, err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "physalia-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if dir, err = filepath.Abs(keep); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, usage(op, "name a directory that can be made", "--keep: %v", err)
	}
	inside, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, usage(op, "name a directory that can be read", "--keep: %v", err)
	}
	if len(inside) > 0 {
		return "", nil, usage(op, "name an empty directory, or one that does not exist", "--keep %s is not empty", dir)
	}
	return dir, func() error { return nil }, nil
}

// demoMemTable is the write buffer of each of the demo's many disks, in bytes: 32 servers with the default size would take
// gigabytes for cells that need kilobytes.
const demoMemTable = 8 << 20

// demoCommand has the shape of colony that the documentation speaks of as its defaults: two bricks, two colors, eight servers
// each, over four racks and three power domains.
func (a *app) demoCommand() *cobra.Command {
	spec := colony.Spec{Racks: 4, Powers: 3, MemTableBytes: demoMemTable}
	cfg := demo.Config{Clients: 3}
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a colony on this machine, kill parts of it, and verify that nothing was lost",
		Long: "Run a colony of real server processes and a control process on loopback, with cells and clients that look up,\n" +
			"promote and transact. A member of a busy cell is replaced; one server is killed and restarted, then the whole control plane is taken away for a while.\n" +
			"Meanwhile a small block store keeps blocks on servers of its own, which are killed too: it fails over through the\n" +
			"records of its volumes.\n" +
			"In the end every acknowledged write must be there, every history linearizable, and no volume's generation may have\n" +
			"gone back. Progress goes to standard error; the last line of standard output is the verdict. Exit 1 if it is not ok.\n" +
			"Without --duration, the colony stays up after the verdict, for you to use from another terminal.",
		Args: daemonArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this binary: %w", err)
			}
			dir, forget, err := trialDir(cmd.CommandPath(), keep)
			if err != nil {
				return err
			}
			// Without a duration the load still has one: the verdict must come.
			stay := cfg.Duration == 0
			if stay {
				cfg.Duration = loadDefault
			}
			spec.Binary, spec.Dir = binary, dir
			cfg.Colony, cfg.Say = spec, a.progress()
			return errors.Join(a.runDemo(cmd.Context(), cfg, stay), forget())
		},
	}
	f := cmd.Flags()
	f.IntVar(&spec.Bricks, "bricks", 2, "`number` of bricks")
	f.IntVar(&spec.Colors, "colors", 2, "`number` of colors in each brick")
	f.IntVar(&spec.Servers, "servers", 8, "`number` of servers of each color in each brick")
	f.IntVar(&cfg.Cells, "cells", 100, "`number` of cells")
	f.IntVar(&cfg.Rate, "rate", 400, "operations per second of all clients together, a `number`")
	f.IntVar(&cfg.Replace, "replace", 1, "`number` of members of the first cell that are replaced while it serves")
	f.DurationVar(&cfg.Duration, "duration", 0, "how `long` the load takes; when given, the demo ends with its verdict")
	f.StringVar(&keep, "keep", "", "keep data and logs in this `directory`, which must be empty")
	return cmd
}

// progress returns what a trial says its progress to: standard error, with the time since the start.
func (a *app) progress() func(format string, args ...any) {
	began := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(a.stderr, "%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// runDemo runs a demo to its verdict, and on to its interruption if it is to stay. The verdict comes before the hints, so that
// it is the last line of standard output in either case.
func (a *app) runDemo(ctx context.Context, cfg demo.Config, stay bool) (err error) {
	d, err := demo.Start(ctx, cfg)
	if err != nil {
		return logsOf(err, cfg.Colony.Dir)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	report, err := d.Run(ctx)
	if err != nil {
		return logsOf(err, cfg.Colony.Dir)
	}
	// From here on standard output is complete; what follows is for people, on standard error.
	if err := a.emit(report, nil, demoRows(report)); err != nil {
		return err
	}
	if report.Verdict != "ok" {
		return fmt.Errorf("verdict %s: %s", report.Verdict, strings.Join(report.Reasons, "; "))
	}
	if !stay {
		return nil
	}
	fmt.Fprintf(a.stderr, `
The colony stays up until Ctrl-C. From another terminal:

  export PHYSALIA_CONTROL_PLANE=%s
  %[2]s cell list
  %[2]s kv put vol-1 greeting hello
  %[2]s kv get vol-1 greeting
  %[2]s volume lookup vol-1
  %[2]s cell explain vol-1

`, d.ControlAddr(), os.Args[0])
	return d.Watch(ctx)
}

// logsOf adds to the error of a trial what its children complained about: one that could not start has said why in its log,
// which the user has not seen, and whose directory may soon be gone. An interruption needs no explanation.
func logsOf(err error, dir string) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	names, globErr := filepath.Glob(filepath.Join(dir, "*.log"))
	if globErr != nil {
		return errors.Join(err, globErr)
	}
	const most = 5
	var complaints []string
	for _, name := range names {
		text, readErr := os.ReadFile(name)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if len(complaints) < most && (strings.HasPrefix(line, "error:") || strings.HasPrefix(line, "  detail") || strings.Contains(line, "level=ERROR")) {
				complaints = append(complaints, filepath.Base(name)+": "+line)
			}
		}
	}
	if len(complaints) == 0 {
		return err
	}
	return fmt.Errorf("%w; the logs say:\n%s", err, strings.Join(complaints, "\n"))
}

// demoRows shows a report for people; the reasons of a failed verdict are in the error that follows.
func demoRows(r demo.Report) [][]string {
	return [][]string{
		{"verdict", r.Verdict},
		{"colony", fmt.Sprintf("%d servers, %d cells", r.Servers, r.Cells)},
		{"acknowledged writes", fmt.Sprintf("%d, lost %d, doubled %d, outcome unknown %d", r.AckedWrites, r.LostWrites, r.DoubledWrites, r.UnknownWrites)},
		{"linearizable", fmt.Sprint(r.Linearizable)},
		{"fences gone back", fmt.Sprint(r.FencesWentBack)},
		{"members replaced", fmt.Sprintf("%d in %.0f ms, errors meanwhile %d", r.MembersReplaced, r.ReplaceMS, r.ReplaceErrors)},
		{"longest time a cell was not writable after the kill", fmt.Sprintf("%.0f ms", r.UnavailableMSMax)},
		{"errors while the control plane was down", fmt.Sprintf("%d in %.0f s", r.ControlPlaneDownErrors, r.ControlPlaneDownSeconds)},
		{"block store", fmt.Sprintf("%d writes acknowledged, lost %d, split-brain acknowledgements %d, %d failovers, the longest %.0f ms",
			r.BlockWrites, r.BlockWritesLost, r.SplitBrainAcks, r.Failovers, r.FailoverMSMax)},
		{"write p50, p99", fmt.Sprintf("%.1f ms, %.1f ms", r.WriteP50MS, r.WriteP99MS)},
	}
}
