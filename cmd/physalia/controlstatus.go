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

// controlPause is the red button.
func (a *app) controlPause() *cobra.Command {
	var reason, by string
	cmd := &cobra.Command{
		Use:   "pause [ACTION...]",
		Short: "Red button: the control plane begins nothing more of an action, or of any",
		Long: "Stop what the control plane does: create, delete, move, repair, or all of them when none is named. The pause is durable\n" +
			"and holds until it is resumed. What could leave a cell worse if it stopped half way goes on; nothing is undone.",
		Args: args("ACTION", 0, 4),
		RunE: a.order(&reason, &by, func(ctx context.Context, op string, o wire.ActionOrder) error { return a.operator().Pause(ctx, op, o) }),
	}
	orderFlags(cmd, &reason, &by)
	return cmd
}

// controlResume ends pauses.
func (a *app) controlResume() *cobra.Command {
	var reason, by string
	var force bool
	cmd := &cobra.Command{
		Use:   "resume [ACTION...]",
		Short: "Let the control plane go on with an action, or with all",
		Long: "End the pauses of the named actions, or of all; what they held back goes on where it was, within the limits. When none is\n" +
			"named, a rebuild of the store ends, too.",
		Args: args("ACTION", 0, 4),
		RunE: a.order(&reason, &by, func(ctx context.Context, op string, o wire.ActionOrder) error {
			if len(o.Actions) == 0 {
				if err := a.endRebuild(ctx, op, force); err != nil {
					return err
				}
			}
			return a.operator().Resume(ctx, op, o)
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "end a rebuild although not every connected server was heard")
	orderFlags(cmd, &reason, &by)
	return cmd
}

// orderFlags are the flags of every order: who gives it and why.
func orderFlags(cmd *cobra.Command, reason, by *string) {
	cmd.Flags().StringVar(reason, "reason", "", "`text` that everybody is shown who meets the order")
	cmd.Flags().StringVar(by, "by", "", "`name` of who orders it; the user and host when empty")
}

// orderer is who gives an order.
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
func (a *app) order(reason, by *string, do func(ctx context.Context, op string, o wire.ActionOrder) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, given []string) error {
		op := cmd.CommandPath()
		if len(*reason) > wire.StatusTextMax {
			return usage(op, "shorten it", "--reason has %d bytes, allowed are %d", len(*reason), wire.StatusTextMax)
		}
		ctx, cancel := a.limited(cmd.Context())
		defer cancel()
		if err := do(ctx, op, wire.ActionOrder{Actions: given, By: orderer(*by), Reason: *reason}); err != nil {
			return err
		}
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

// statusView is the status as -o json shows it.
type statusView struct {
	UptimeSeconds float64     `json:"uptime_seconds"`
	Pauses        []pauseView `json:"pauses"`
	Limits        []limitView `json:"limits"`
	Counts        []countView `json:"counts"`
	Draining      []drainView `json:"draining"`
	Unconverged   uint64      `json:"unconverged"`
	Waiting       []stepView  `json:"waiting"`
	More          bool        `json:"more"`
}

type pauseView struct {
	Action string    `json:"action"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

type limitView struct {
	Work      string  `json:"work"`
	Scope     string  `json:"scope"`
	Name      string  `json:"name,omitempty"`
	PerSecond float64 `json:"per_second"`
	Burst     uint64  `json:"burst"`
	Left      uint64  `json:"left"`
}

type countView struct {
	Workflow string `json:"workflow"`
	State    string `json:"state"`
	Count    uint64 `json:"count"`
}

type drainView struct {
	Server  string    `json:"server"`
	Duty    string    `json:"duty"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Nodes   uint64    `json:"nodes"`
	Moving  uint64    `json:"moving"`
	Waiting string    `json:"waiting"`
}

type stepView struct {
	Workflow     string  `json:"workflow"`
	Cell         string  `json:"cell"`
	Incarnation  uint64  `json:"incarnation"`
	State        string  `json:"state"`
	SinceSeconds float64 `json:"since_seconds"`
	Waiting      string  `json:"waiting"`
}

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

func pauseRows(list []pauseView) (rows [][]string) {
	for _, p := range list {
		rows = append(rows, []string{p.Action, p.By, p.At.Format(time.RFC3339), p.Reason})
	}
	return rows
}

// print shows a status as tables with empty lines between them; a table without rows is left out, save that of the limits.
func (d *statusView) print(w io.Writer) error {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	var limits, counts, drains, steps [][]string
	for _, l := range d.Limits {
		limits = append(limits, []string{l.Work, strings.TrimSpace(l.Scope + " " + l.Name), fmt.Sprintf("%g/s", l.PerSecond), number(l.Burst), number(l.Left)})
	}
	for _, c := range d.Counts {
		if c.Count > 0 {
			counts = append(counts, []string{c.Workflow, c.State, number(c.Count)})
		}
	}
	for _, x := range d.Draining {
		drains = append(drains, []string{x.Server, x.Duty, number(x.Nodes), number(x.Moving), x.By, x.Reason, x.Waiting})
	}
	for _, s := range d.Waiting {
		since := time.Duration(s.SinceSeconds * float64(time.Second)).Round(time.Second)
		steps = append(steps, []string{s.Workflow, s.Cell, number(s.Incarnation), s.State, since.String(), s.Waiting})
	}
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
	if left := d.Unconverged - uint64(len(d.Waiting)); d.More {
		_, err := fmt.Fprintf(w, "and %d more; see --limit\n", left)
		return err
	}
	return nil
}
