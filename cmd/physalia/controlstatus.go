package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"physalia/internal/wire"
)

// Orders are durable when a command ends with 0. After exit 5 or 7 nobody knows, and repeating one is harmless: a pause that holds
// stays as it is, with its first reason.

// controlPause is the red button.
func (a *app) controlPause() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use:   "pause [ACTION...]",
		Short: "Red button: the control plane begins nothing more of an action, or of any",
		Long: "Stop what the control plane does: create, delete, move, repair, or all of them when none is named. The pause is durable\n" +
			"and holds until it is resumed. What could leave a cell worse if it stopped half way goes on; nothing is undone.",
		Args: args("ACTION", 0, 4),
		RunE: a.order(&by, func(ctx context.Context, op string, o wire.ActionOrder) error { return a.operator().Pause(ctx, op, o) }),
	}
	orderFlags(cmd, &by)
	return cmd
}

// controlResume ends pauses.
func (a *app) controlResume() *cobra.Command {
	var by string
	var force bool
	cmd := &cobra.Command{
		Use:   "resume [ACTION...]",
		Short: "Let the control plane go on with an action, or with all",
		Long: "End the pauses of the named actions, or of all; what they held back goes on where it was, within the limits. When none is\n" +
			"named, a rebuild of the store ends, too.",
		Args: args("ACTION", 0, 4),
		RunE: a.order(&by, func(ctx context.Context, op string, o wire.ActionOrder) error {
			if len(o.Actions) == 0 {
				if err := a.endRebuild(ctx, op, force); err != nil {
					return err
				}
			}
			return a.operator().Resume(ctx, op, o)
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "end a rebuild although not every connected server was heard")
	orderFlags(cmd, &by)
	return cmd
}

// orderFlags are the flags of every order beside --reason, which every command has: who gives it.
func orderFlags(cmd *cobra.Command, by *string) {
	cmd.Flags().StringVar(by, "by", "", "`name` of who orders it; the user and host when empty")
}

// orderer is who gives an order. It is for people who look for whom to ask; nothing is allowed or refused by it.
func orderer(by string) string {
	if by == "" {
		by = "unknown"
		if u, err := user.Current(); err == nil && u.Username != "" {
			by = u.Username
		}
		if host, err := os.Hostname(); err == nil {
			by += "@" + host
		}
	}
	return by[:min(len(by), wire.NameBytesMax)]
}

// order runs a pause or a resumption, and shows what is paused then.
func (a *app) order(by *string, do func(ctx context.Context, op string, o wire.ActionOrder) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, given []string) error {
		op := cmd.CommandPath()
		ctx, cancel := a.limited(cmd.Context())
		defer cancel()
		// The control plane knows which actions there are; a name that it does not know pauses nothing.
		if err := do(ctx, op, wire.ActionOrder{Actions: given, By: orderer(*by), Reason: a.reason}); err != nil {
			return err
		}
		// What is shown is what holds now, not what was ordered: another operator may have been quicker.
		s, err := a.operator().Status(ctx, op, 0)
		if err != nil {
			return err
		}
		d := describeStatus(s)
		if a.output == asTable && len(d.Pauses) == 0 {
			a.note("nothing is paused")
			return nil
		}
		return a.emit(map[string]any{"pauses": d.Pauses}, pauseHeader, pauseRows(d.Pauses))
	}
}

// controlStatus shows what the control plane is held back by.
func (a *app) controlStatus() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show pauses, limits, servers that are emptied, and what has not converged",
		Long: "Show what holds the control plane back: pauses, token buckets with what is left in them, servers that are being emptied,\n" +
			"how many workflows there are in each state, and of those that have not converged the oldest, with what each waits for.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			// Pages are fetched until there are enough; the bound is for the memory of this command.
			if limit < 0 || limit > 100_000 {
				return usage(op, "for example --limit 50", "--limit is %d, allowed are 0 to 100000", limit)
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			s, err := a.operator().Status(ctx, op, limit)
			if err != nil {
				return err
			}
			d := describeStatus(s)
			if a.output == asJSON {
				return a.emit(d, nil, nil)
			}
			return d.print(a.stdout)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "`number` of workflows to show that have not converged, oldest first")
	return cmd
}

// The documents of -o json. Fields are only ever added.

// statusView is the whole status. Lists are never null, so that a program need not tell "none" from "not said".
type statusView struct {
	UptimeSeconds float64     `json:"uptime_seconds"` // of the lifecycle manager, not of the process: it may have taken over
	Pauses        []pauseView `json:"pauses"`         // in the order create, delete, move, repair
	Limits        []limitView `json:"limits"`         // by work: the colony's, the bricks'; then the servers' that are spent most
	Counts        []countView `json:"counts"`         // zeros included
	Draining      []drainView `json:"draining"`       // in order of identities; those that are retired last
	Unconverged   uint64      `json:"unconverged"`    // all of them, also those that are not listed
	Waiting       []stepView  `json:"waiting"`        // what has not begun first, then by age
	More          bool        `json:"more"`           // the list was cut at --limit
}

// pauseView is one action that is paused.
type pauseView struct {
	Action string    `json:"action"` // create, delete, move or repair
	By     string    `json:"by"`     // as --by said, or the user and host
	At     time.Time `json:"at"`     // by the clock of the control process
	Reason string    `json:"reason"` // as --reason said
}

// limitView is one token bucket.
type limitView struct {
	Work      string  `json:"work"`           // create, move or repair
	Scope     string  `json:"scope"`          // colony, brick or server
	Name      string  `json:"name,omitempty"` // of the brick, or the server's identity
	PerSecond float64 `json:"per_second"`     // tokens that come
	Burst     uint64  `json:"burst"`          // tokens that it holds
	Left      uint64  `json:"left"`           // whole ones that are there now
}

// countView is how many workflows are in one state.
type countView struct {
	Workflow string `json:"workflow"` // create, delete or replace
	State    string `json:"state"`    // of the incarnation; of a replacement, its cause
	Count    uint64 `json:"count"`
}

// drainView is a server that is being emptied, or was retired.
type drainView struct {
	Server  string    `json:"server"`  // identity
	Duty    string    `json:"duty"`    // draining, decommissioning or retired
	By      string    `json:"by"`      // as of a pause
	At      time.Time `json:"at"`      // of the order; 1970 for who is retired
	Reason  string    `json:"reason"`  // as of a pause
	Nodes   uint64    `json:"nodes"`   // that the lifecycle manager has there still, those included that wait to be wiped
	Moving  uint64    `json:"moving"`  // replacements under way from there, or to there
	Waiting string    `json:"waiting"` // why nothing more begins, or which cell cannot be moved; empty while it goes on
}

// stepView is one workflow that has not converged.
type stepView struct {
	Workflow     string  `json:"workflow"`      // create, delete or replace
	Cell         string  `json:"cell"`          // name
	Incarnation  uint64  `json:"incarnation"`   // 0: none is planned yet
	State        string  `json:"state"`         // of the incarnation, or "asked for"
	SinceSeconds float64 `json:"since_seconds"` // that the lifecycle manager has seen it so
	Waiting      string  `json:"waiting"`       // for people
}

// Numbers of the wire are turned into what people and programs count in: tokens per second, seconds, times.
//
// describeStatus turns the answer into what is shown.
func describeStatus(s *wire.ControlStatus) statusView {
	d := statusView{UptimeSeconds: float64(s.Uptime) / 1000, Unconverged: s.Open, More: s.More, Pauses: []pauseView{}, Limits: []limitView{},
		Counts: []countView{}, Draining: []drainView{}, Waiting: []stepView{}}
	for _, p := range s.Pauses {
		d.Pauses = append(d.Pauses, pauseView{p.Action, p.By, time.UnixMilli(int64(p.At)).UTC(), p.Reason})
	}
	for _, l := range s.Limits {
		d.Limits = append(d.Limits, limitView{l.Work, l.Scope, l.Name, float64(l.Milli) / 1000, l.Burst, l.Left})
	}
	for _, c := range s.Counts {
		d.Counts = append(d.Counts, countView(c))
	}
	for _, x := range s.Drains {
		d.Draining = append(d.Draining, drainView{string(x.Server), x.Duty, x.By, time.UnixMilli(int64(x.At)).UTC(), x.Reason, x.Nodes, x.Moving, x.Waiting})
	}
	for _, w := range s.Waiting {
		d.Waiting = append(d.Waiting, stepView{w.Workflow, string(w.Cell), uint64(w.Incarnation), w.State, float64(w.Since) / 1000, w.Why})
	}
	return d
}

var pauseHeader = []string{"PAUSED", "BY", "AT", "REASON"}

// pauseRows shows pauses for people: what is paused, by whom, since when, and why. The reason is what the next one on duty needs.
func pauseRows(list []pauseView) (rows [][]string) {
	for _, p := range list {
		rows = append(rows, []string{p.Action, p.By, p.At.Format(time.RFC3339), p.Reason})
	}
	return rows
}

// The tables stand in the order in which somebody looks who wonders why nothing happens: what is allowed, what is forbidden, how much
// there is to do, what is being emptied, and where it sticks.
//
// print shows a status as tables with empty lines between them; a table without rows is left out, save that of the limits.
func (d *statusView) print(w io.Writer) error {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	var limits, counts, drains, steps [][]string
	for _, l := range d.Limits {
		limits = append(limits, []string{l.Work, strings.TrimSpace(l.Scope + " " + l.Name), fmt.Sprintf("%g/s", l.PerSecond), number(l.Burst), number(l.Left)})
	}
	for _, c := range d.Counts {
		// Zeros are for programs; a person reads what there is.
		if c.Count > 0 {
			counts = append(counts, []string{c.Workflow, c.State, number(c.Count)})
		}
	}
	for _, x := range d.Draining {
		drains = append(drains, []string{x.Server, x.Duty, number(x.Nodes), number(x.Moving), x.By, x.Reason, x.Waiting})
	}
	for _, s := range d.Waiting {
		// Ages are rounded: they are of when this manager first looked, not of when it began.
		since := time.Duration(s.SinceSeconds * float64(time.Second)).Round(time.Second)
		steps = append(steps, []string{s.Workflow, s.Cell, number(s.Incarnation), s.State, since.String(), s.Waiting})
	}
	// What has no rows says nothing, and a status should fit a screen.
	for i, t := range []struct {
		header []string
		rows   [][]string
	}{{[]string{"LIMIT OF", "IN", "RATE", "BURST", "LEFT"}, limits}, {pauseHeader, pauseRows(d.Pauses)}, {[]string{"WORKFLOW", "STATE", "COUNT"}, counts},
		{[]string{"SERVER", "DUTY", "NODES LEFT", "MOVING", "BY", "REASON", "WAITS FOR"}, drains},
		{[]string{"WORKFLOW", "CELL", "INCARNATION", "STATE", "SINCE", "WAITS FOR"}, steps}} {
		if len(t.rows) == 0 {
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := table(w, t.header, t.rows); err != nil {
			return err
		}
	}
	// That the list was cut is part of the answer, so it stands where the list is, not on standard error.
	if left := d.Unconverged - uint64(len(d.Waiting)); d.More {
		_, err := fmt.Fprintf(w, "and %d more; see --limit\n", left)
		return err
	}
	return nil
}
