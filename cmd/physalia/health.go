package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// healthCommand shows how repair stands. Each brick is watched by one control process, so all are asked.
func (a *app) healthCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Show who is dead, what is repaired and what waits, and every cell in danger",
		Long: "Show, for each process of the control plane: correlated failures that hold repairs back and how to end them; cells that\n" +
			"are not as they should be, by brick and color; budgets; servers that are dead, returning, or heard by their peers only; and\n" +
			"the cells that have lost their majority, or are about to, with what is known of every member.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > wire.ListLimitMax {
				return usage(cmd.CommandPath(), "for example --limit 100", "--limit is %d, allowed are 1 to %d", limit, wire.ListLimitMax)
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			var all []healthDocument
			var failures []error
			for _, addr := range a.controlPlane {
				one := a.operator()
				one.Addresses = []string{addr}
				report, err := one.Health(ctx, cmd.CommandPath(), limit)
				if err != nil {
					failures = append(failures, err)
					continue
				}
				all = append(all, describeHealth(report))
			}
			if len(all) == 0 {
				return errors.Join(failures...)
			}
			// Asked one by one, and not the first that answers as elsewhere: what one process repairs, another knows nothing of.
			// A process that is down watches nobody, and another has taken its bricks; all the same it is said.
			for _, err := range failures {
				a.note("%v", err)
			}
			if a.output == asJSON {
				return a.emit(map[string]any{"control": all}, nil, nil)
			}
			for i := range all {
				if err := all[i].print(a.stdout); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "`number` of cells in danger to show, those without a majority first")
	return cmd
}

// controlHold is the noun of holds.
func (a *app) controlHold() *cobra.Command {
	noun := &cobra.Command{
		Use:   "hold",
		Short: "End the hold that a correlated failure has put on repairs",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	noun.AddCommand(&cobra.Command{
		Use:   "end DOMAIN",
		Short: "End a hold: take the dead servers of a rack, power domain, brick or color for gone, and repair their cells",
		Long: "End the hold on a failure domain, named as `physalia health` names it, for example rack:b1/r2. Its dead servers are taken\n" +
			"for gone, and their cells are repaired within the budgets. A server that returns all the same is welcome.",
		Args: args("DOMAIN", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			op := cmd.CommandPath()
			if len(given[0]) > wire.DomainBytesMax {
				return usage(op, "see `physalia health`", "the domain has %d bytes, allowed are %d", len(given[0]), wire.DomainBytesMax)
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			if err := a.endHold(ctx, op, given[0]); err != nil {
				return err
			}
			return a.emit(map[string]any{"ended": given[0]}, nil, [][]string{{"ended: " + given[0]}})
		},
	})
	return noun
}

// A hold that one process does not know may be known to the next; only when none knows it, there is none.
//
// endHold asks every control process: a domain that spans bricks may be held by several.
func (a *app) endHold(ctx context.Context, op, domain string) error {
	var failures []error
	for _, addr := range a.controlPlane {
		one := a.operator()
		one.Addresses = []string{addr}
		err := one.EndHold(ctx, op, domain)
		if err != nil {
			failures = append(failures, err)
		}
	}
	if len(failures) == len(a.controlPlane) {
		return errors.Join(failures...)
	}
	for _, err := range failures {
		if !errors.Is(err, cell.NotFound) {
			return err // it may still be held there
		}
	}
	return nil
}

// What -o json prints. Times are seconds with fractions, so that programs need not know how Go writes durations, and lists are
// never null. The names are an interface: they are added to, not changed.

// healthDocument is the report of one control process.
type healthDocument struct {
	Control string            `json:"control"` // name of the process
	Holds   []holdDocument    `json:"holds"`   // oldest first
	Pools   []poolDocument    `json:"pools"`   // those of which there is something to say
	Budgets []budgetDocument  `json:"budgets"` // the colony's, what each brick may spend, then bricks that were used
	Servers []awayDocument    `json:"servers"` // dead, returning, or heard by their peers only
	Cells   []dangerDocument  `json:"cells"`   // without a majority first, then those on the brink
	Cut     bool              `json:"cut"`     // there are more such cells than --limit
	Counts  map[string]uint64 `json:"counts"`  // since the process started
}

// holdDocument is a correlated failure that keeps repairs back.
type holdDocument struct {
	Domain       string  `json:"domain"`        // rack:BRICK/NAME, power:BRICK/NAME, brick:NAME or color:NAME
	Died         uint64  `json:"died"`          // servers dead when it began
	Size         uint64  `json:"size"`          // of how many
	Away         uint64  `json:"away"`          // of those and since, not back
	SinceSeconds float64 `json:"since_seconds"` // how long it has lasted
	LeftSeconds  float64 `json:"left_seconds"`  // how long it lasts at most from now on
	End          string  `json:"end"`           // the command that ends it
}

// poolDocument counts the cells of one brick and color by class; those that are well, or being repaired, are in none.
type poolDocument struct {
	Brick   string `json:"brick"`
	Color   string `json:"color"`
	Owned   bool   `json:"owned"`             // it is this process that repairs there
	Lost    uint64 `json:"lost"`              // fewer than a majority alive: see cell recover
	Brink   uint64 `json:"brink"`             // exactly a majority alive
	Urgent  uint64 `json:"urgent"`            // two or more members dead
	Aged    uint64 `json:"aged"`              // one member dead for longer than the patience
	Held    uint64 `json:"held"`              // would be repaired but for a hold
	Waiting uint64 `json:"waiting"`           // for the patience, or for the dust to settle
	Refused string `json:"refused,omitempty"` // why the last proposal was not taken; empty when it was
}

// budgetDocument is one budget as it stands.
type budgetDocument struct {
	Of          string  `json:"of"`                 // "colony", or "brick" and its name
	Repairs     float64 `json:"repairs_per_second"` // what flows in
	Bytes       uint64  `json:"bytes_per_second"`
	RepairsLeft float64 `json:"repairs_left"` // what could be taken now
	BytesLeft   uint64  `json:"bytes_left"`
}

// awayDocument is a server that is not simply up.
type awayDocument struct {
	Server     string  `json:"server"`      // identity, not the name
	State      string  `json:"state"`       // dead, returning or unreachable
	ForSeconds float64 `json:"for_seconds"` // since its death, or since this process last heard it
}

// dangerDocument is a cell that has lost its majority, or would with the next member.
type dangerDocument struct {
	Cell        string         `json:"cell"`
	Incarnation uint64         `json:"incarnation"` // which life of the name
	Class       string         `json:"class"`       // lost or brink
	Doing       string         `json:"doing"`       // what is being done about it, in words
	Members     []healthMember `json:"members"`     // its jury as last heard
}

// healthMember is what is known of one member's server.
type healthMember struct {
	Server     string  `json:"server"`
	State      string  `json:"state"`                 // up, dead, returning or unknown: not heard of since this process started
	ForSeconds float64 `json:"for_seconds,omitempty"` // since its death
	Held       bool    `json:"held,omitempty"`        // its death is under a hold
}

// seconds is a time, or a rate in thousandths, as it is shown.
func seconds(millis uint64) float64 { return float64(millis) / 1000 }

// describeHealth turns a report into what is shown.
func describeHealth(r *wire.HealthReport) healthDocument {
	d := healthDocument{Control: r.Control, Cut: r.Cut, Holds: []holdDocument{}, Pools: []poolDocument{}, Budgets: []budgetDocument{}, Servers: []awayDocument{},
		Cells: []dangerDocument{}, Counts: map[string]uint64{}}
	for _, h := range r.Holds {
		d.Holds = append(d.Holds, holdDocument{h.Domain, h.Died, h.Size, h.Away, seconds(h.Since), seconds(h.Left), "physalia control hold end " + h.Domain})
	}
	for _, p := range r.Pools {
		d.Pools = append(d.Pools, poolDocument{p.Brick, p.Color, p.Owned, p.Lost, p.Brink, p.Urgent, p.Aged, p.Held, p.Waiting, p.Refused})
	}
	for _, b := range r.Budgets {
		d.Budgets = append(d.Budgets, budgetDocument{b.Of, seconds(b.Repairs), b.Bytes, seconds(b.RepairsLeft), b.BytesLeft})
	}
	for _, list := range [][]wire.ServerSince{r.Dead, r.Unreachable} {
		for _, s := range list {
			d.Servers = append(d.Servers, awayDocument{string(s.Server), s.State, seconds(s.For)})
		}
	}
	for _, c := range r.Cells {
		danger := dangerDocument{Cell: string(c.Cell), Incarnation: uint64(c.Incarnation), Class: c.Class, Doing: c.Doing}
		for _, m := range c.Members {
			danger.Members = append(danger.Members, healthMember{string(m.Server), m.State, seconds(m.For), m.Held})
		}
		d.Cells = append(d.Cells, danger)
	}
	for _, c := range r.Counts {
		d.Counts[c.Name] = c.Value
	}
	return d
}

// span is a time for people; fractions of a second tell them nothing here.
func span(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// Cells come last, since there may be many; what explains them, holds and servers, stands above. A member has a line of its own
// below its cell, so that an operator sees at a glance who would have to return.
//
// print shows a report as tables; those without rows are left out.
func (d *healthDocument) print(w io.Writer) error {
	// All rows first: a table without rows gets no header either.
	var holds, pools, budgets, servers, cells [][]string
	for _, h := range d.Holds {
		holds = append(holds, []string{h.Domain, fmt.Sprintf("%d of %d", h.Died, h.Size), fmt.Sprint(h.Away), span(h.SinceSeconds), span(h.LeftSeconds), h.End})
	}
	for _, p := range d.Pools {
		pools = append(pools, []string{p.Brick, p.Color, fmt.Sprint(p.Lost), fmt.Sprint(p.Brink), fmt.Sprint(p.Urgent), fmt.Sprint(p.Aged), fmt.Sprint(p.Held),
			fmt.Sprint(p.Waiting), p.Refused})
	}
	for _, b := range d.Budgets {
		budgets = append(budgets, []string{b.Of, fmt.Sprintf("%.1f of %.1f", b.RepairsLeft, b.Repairs), fmt.Sprintf("%d of %d", b.BytesLeft, b.Bytes)})
	}
	for _, s := range d.Servers {
		servers = append(servers, []string{s.Server, s.State, span(s.ForSeconds)})
	}
	for _, c := range d.Cells {
		cells = append(cells, []string{c.Cell, fmt.Sprint(c.Incarnation), c.Class, c.Doing, ""})
		for _, m := range c.Members {
			// Who is up, or never was heard of, has no time.
			state := m.State
			if m.State != "up" && m.State != "unknown" {
				state += " for " + span(m.ForSeconds)
			}
			if m.Held {
				state += ", held"
			}
			cells = append(cells, []string{"", "", "", m.Server, state})
		}
	}
	for _, t := range []struct {
		header []string
		rows   [][]string
	}{
		{[]string{"CONTROL", "CELLS KNOWN", "IN FLIGHT", "PROPOSED", "DONE", "REFUSED", "WITHDRAWN"}, [][]string{{d.Control, d.count("cells"), d.count("in-flight"), d.count("proposed"), d.count("done"), d.count("refused"), d.count("withdrawn")}}},
		{[]string{"HELD DOMAIN", "DIED", "STILL AWAY", "FOR", "AT MOST", "END IT WITH"}, holds},
		{[]string{"BRICK", "COLOR", "LOST", "BRINK", "TWO DEAD", "ONE DEAD", "HELD", "WAITING", "LAST REFUSED"}, pools},
		{[]string{"BUDGET", "REPAIRS LEFT PER SECOND", "BYTES LEFT PER SECOND"}, budgets},
		{[]string{"SERVER", "STATE", "FOR"}, servers},
		{[]string{"CELL", "INCARNATION", "STATE", "DOING / MEMBER", ""}, cells},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if err := table(w, t.header, t.rows); err != nil {
			return err
		}
	}
	if d.Cut {
		_, err := fmt.Fprintln(w, "there are more cells in danger; see --limit")
		return err
	}
	return nil
}

// count is one counter as text; one that the process does not know yet is zero.
func (d *healthDocument) count(name string) string { return fmt.Sprint(d.Counts[name]) }
