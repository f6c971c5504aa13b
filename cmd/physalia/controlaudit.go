package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"physalia/internal/audit"
	"physalia/internal/wire"
)

// auditPageBytes bounds what is read of a record on this machine, as the control plane bounds what it tells.
const auditPageBytes = wire.AuditPageBytesMax

// A record is kept where the control process runs, by whom it is about; who must not be able to change it should have a copy elsewhere,
// line by line, as any shipper of logs makes one. This command is for looking, and for the day on which the process does not run.
//
// controlAudit shows what was asked of the control plane. Every control process has its own record; all that are named are asked, and
// their entries put in order of time.
func (a *app) controlAudit() *cobra.Command {
	var limit int
	var dir string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who asked the control plane for what, and what became of it",
		Long: "Show the newest entries of the record of what was asked of the control plane: every action, whoever asked for it, and what was\n" +
			"denied. With --dir the record is read from a control process's directory on this machine, whether or not it runs.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			if limit < 1 || limit > wire.AuditLinesMax {
				return usage(op, "for example --limit 100", "--limit is %d, allowed are 1 to %d", limit, wire.AuditLinesMax)
			}
			// The files are there although nobody answers, for instance on the copy that somebody wants to look into.
			if dir != "" {
				lines, err := audit.Tail(dir, limit, auditPageBytes)
				if err != nil {
					return err
				}
				return a.emitAudit(lines, limit)
			}
			// One after the other: these are few, and what is slow is the one that does not answer.
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			var lines []string
			var failures []error
			for _, addr := range a.controlPlane {
				one := a.operator()
				one.Addresses = []string{addr}
				var page wire.AuditPage
				if err := one.Ask(ctx, op, wire.MethodAudit, &wire.AuditRequest{Limit: uint32(limit)}, &page); err != nil {
					failures = append(failures, err)
					continue
				}
				// What is missing is said: a record with holes is no proof.
				if page.Off {
					a.note("%s keeps no record; see --audit-dir", addr)
				}
				if page.Lost > 0 {
					a.note("%s has lost %d entries since it started: its log says why", addr, page.Lost)
				}
				// Each page is as long as what is wanted: the newest of all may be one process's alone.
				lines = append(lines, page.Lines...)
			}
			// One that answers is enough to show something, and what the others did not tell is said.
			if len(failures) == len(a.controlPlane) {
				return errors.Join(failures...)
			}
			for _, err := range failures {
				a.note("%v", err)
			}
			return a.emitAudit(lines, limit)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "most entries to show, a `number`")
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` of a record on this machine, instead of asking")
	return cmd
}

// emitAudit shows entries in order of time. A line that a crash has torn is shown as it is.
func (a *app) emitAudit(lines []string, limit int) error {
	// Whatever stands in the files is shown: what cannot be read may be what somebody is looking for.
	entries := make([]audit.Entry, 0, len(lines))
	for _, line := range lines {
		e, err := audit.Parse(line)
		if err != nil {
			e = audit.Entry{Action: "unreadable", Detail: line}
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(x, y audit.Entry) int { return cmp.Compare(x.Time, y.Time) })
	entries = entries[max(0, len(entries)-limit):]
	// One document per line, as in the files, so that a year of them needs no more memory than one.
	if a.output == asJSON {
		encoder := json.NewEncoder(a.stdout)
		for _, e := range entries {
			if err := encoder.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	// A table is for eyes: of a batch it shows the beginning, and of a record's fields those that people ask for.
	var rows [][]string
	for _, e := range entries {
		// The kind is for programs and the first thing that eyes look for; the detail says which element of a batch it was.
		result := e.Result
		if e.Detail != "" {
			result += ": " + e.Detail
		}
		rows = append(rows, []string{e.Time, e.Control, e.Who, e.Action, shorten(strings.Join(e.What, " ")), e.Why, result})
	}
	return a.emit(entries, []string{"TIME", "CONTROL", "WHO", "ACTION", "WHAT", "WHY", "RESULT"}, rows)
}

// shorten cuts what a table shows of a batch; -o json has all of it.
func shorten(text string) string {
	const most = 120
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
