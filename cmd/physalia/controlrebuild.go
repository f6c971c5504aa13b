package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/objects"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// The commands for the day on which the store is lost, and for the days before. A rebuild and a backup are done by the control
// process, since it has the store and the servers; the commands ask for them. A restoration has no process to ask: it writes
// the store of one that is not started yet.
//
// None of them can lose anything. A rebuild that is begun needlessly costs the time until it is ended, and a restored store that is older
// than the servers is brought up to date by the rebuild with which it starts.

// rebuildDocument is how far a rebuild is, for programs.
type rebuildDocument struct {
	Rebuilding bool              `json:"rebuilding"`
	Why        string            `json:"why,omitempty"`
	Complete   bool              `json:"complete"` // every connected server was heard since it began
	Round      uint64            `json:"round"`
	Connected  uint64            `json:"servers_connected"`
	Scanned    uint64            `json:"servers_heard"`
	Nodes      uint64            `json:"nodes_reported"`
	Live       uint64            `json:"cells_live"`
	Adopted    uint64            `json:"cells_adopted"`
	Deleted    uint64            `json:"cells_deleted"`
	Silent     []cell.ServerID   `json:"servers_silent"`
	Findings   []findingDocument `json:"findings"`
	Found      uint64            `json:"findings_total"`
}

// findingDocument is one thing that could not be decided, or that does not fit.
type findingDocument struct {
	Kind        string `json:"kind"`
	Cell        string `json:"cell"`
	Incarnation uint64 `json:"incarnation"`
	Detail      string `json:"detail"`
}

// describeRebuild is a rebuild as -o json has it. Fields are only ever added.
func describeRebuild(s *wire.RebuildState) rebuildDocument {
	d := rebuildDocument{Rebuilding: s.Rebuilding, Why: s.Why, Complete: s.Complete, Round: s.Round, Connected: s.Connected, Scanned: s.Scanned,
		Nodes: s.Nodes, Live: s.Live, Adopted: s.Adopted, Deleted: s.Deleted, Silent: s.Silent, Found: s.Found}
	for _, f := range s.Findings {
		d.Findings = append(d.Findings, findingDocument{f.Kind, string(f.Cell), uint64(f.Incarnation), f.Detail})
	}
	return d
}

// Silent servers and the sentence about the state go to standard error, so that standard output is the table of findings and nothing
// else; under -o json everything is in the one document.
//
// emitRebuild shows how far a rebuild is, and what an operator has to look at.
func (a *app) emitRebuild(s *wire.RebuildState) error {
	d := describeRebuild(s)
	if a.output == asJSON {
		return a.emit(d, nil, nil)
	}
	state := "not rebuilding"
	switch {
	case d.Rebuilding && d.Complete:
		state = "paused: read what follows, then `physalia control resume`"
	case d.Rebuilding:
		state = "listening"
	}
	a.note("%s (%d of %d connected servers heard in round %d; %d cells live, %d adopted; %d names deleted)", state, d.Scanned, d.Connected, d.Round, d.Live, d.Adopted, d.Deleted)
	for _, id := range d.Silent {
		a.note("silent: %s is known, or named as a member, and not connected: what only it hosts is not known", id)
	}
	if len(d.Findings) == 0 {
		a.note("nothing is undecided")
		return nil
	}
	rows := make([][]string, len(d.Findings))
	for i, f := range d.Findings {
		rows[i] = []string{f.Kind, f.Cell, fmt.Sprint(f.Incarnation), f.Detail}
	}
	return table(a.stdout, []string{"KIND", "CELL", "INCARNATION", "DETAIL"}, rows)
}

// controlRebuild recreates the store from the servers.
func (a *app) controlRebuild() *cobra.Command {
	var look bool
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Recreate the control plane's store from what the servers host",
		Long: "Stop everything that the control plane does, ask every connected server what it hosts, and make records of what enough of\n" +
			"them agree on. Cells serve meanwhile. It waits until every connected server was heard, lists what could not be decided,\n" +
			"and leaves the control plane paused: `physalia control resume` ends the rebuild. See docs/control.md.",
		Args: args("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			// The rebuild belongs to the control process: a command that is interrupted leaves it running, and one that is given
			// again joins it.
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			action := wire.RebuildBegin // the one under way, if there is one: it is not begun a second time
			if look {
				action = wire.RebuildLook
			}
			s, err := a.operator().Rebuild(ctx, op, action, false)
			for ; err == nil && !look && !s.Complete; s, err = a.operator().Rebuild(ctx, op, wire.RebuildLook, false) {
				select {
				case <-ctx.Done():
					return errors.Join(&cell.Error{Op: op, Kind: cell.Unavailable,
						Detail: fmt.Sprintf("%d of %d servers were heard", s.Scanned, s.Connected),
						Hint:   "it goes on; `physalia control rebuild --look` shows how far it is"}, ctx.Err())
				case <-time.After(rebuildPoll):
				}
			}
			if err != nil {
				return err
			}
			return a.emitRebuild(s)
		},
	}
	cmd.Flags().BoolVar(&look, "look", false, "only show how far it is, and what was found")
	return cmd
}

// rebuildPoll is how often a rebuild is looked at.
const rebuildPoll = 100 * time.Millisecond

// endRebuild ends a rebuild, if there is one.
func (a *app) endRebuild(ctx context.Context, op string, force bool) error {
	s, err := a.operator().Rebuild(ctx, op, wire.RebuildLook, false)
	if err != nil || !s.Rebuilding {
		return err
	}
	// Between the two questions somebody else may have ended it; ending it again is harmless.
	_, err = a.operator().Rebuild(ctx, op, wire.RebuildEnd, force)
	return err
}

// The place is opened by the control process, with its rights and its credentials: what this command could reach does not matter.
//
// controlBackup writes the store to an object store.
func (a *app) controlBackup() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "backup --to URL",
		Short: "Write the control plane's store, as it is now, to a directory or an S3 bucket",
		Long: "Have the control process write one consistent picture of its store to /directory, file:///directory or s3://bucket/prefix,\n" +
			"as that process sees them. Older backups stay. The control plane works on meanwhile.",
		Args: args("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usage(cmd.CommandPath(), "for example --to file:///var/backups/physalia", "--to is missing")
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			done, err := a.operator().Backup(ctx, cmd.CommandPath(), to)
			if err != nil {
				return err
			}
			return a.emitBackup(done)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`URL` of the place, as the control process sees it")
	return cmd
}

// emitBackup tells what was written, and how old what it was made from is: a backup is worth as much as its age.
func (a *app) emitBackup(done wire.BackupDone) error {
	return a.emit(map[string]any{"name": done.Name, "pairs": done.Pairs, "bytes": done.Bytes}, []string{"BACKUP", "PAIRS", "BYTES"},
		[][]string{{done.Name, fmt.Sprint(done.Pairs), fmt.Sprint(done.Bytes)}})
}

// A store that is not empty is refused: two histories in one store would be neither.
//
// controlRestore copies a backup into a new store; no control process is involved.
func (a *app) controlRestore() *cobra.Command {
	var from, dir, name string
	cmd := &cobra.Command{
		Use:   "restore --from URL --data-dir DIR",
		Short: "Copy a backup into a new store, which then starts with a rebuild",
		Long: "Copy the newest backup, or the one named, into an empty data directory. A control process that is started there rebuilds:\n" +
			"it asks the servers what happened since the backup, and does nothing else until `physalia control resume`.",
		Args: args("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			if from == "" {
				return usage(op, "for example --from file:///var/backups/physalia", "--from is missing")
			}
			if err := checkDirectory(op, dir); err != nil {
				return err
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			done, err := restoreStore(ctx, from, dir, name)
			if err != nil {
				return err
			}
			return a.emitBackup(done)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`URL` of the place of the backups")
	cmd.Flags().StringVar(&dir, "data-dir", "", "`directory` of the new store")
	cmd.Flags().StringVar(&name, "name", "", "`name` of the backup; the newest when empty")
	return cmd
}

// restoreStore copies a backup into the store of a data directory.
func restoreStore(ctx context.Context, from, dir, name string) (done wire.BackupDone, err error) {
	place, err := objects.Open(from)
	if err != nil {
		return done, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return done, &cell.Error{Op: "control.restore", Kind: cell.Refused, Detail: err.Error(), Hint: "choose another --data-dir"}
	}
	// The directory is that of a control process; opening it fails while one runs there.
	store, err := lifecycle.OpenPebble(lifecycle.PebbleConfig{Dir: filepath.Join(dir, "lifecycle"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return lifecycle.Restore(ctx, store, place, name)
}
