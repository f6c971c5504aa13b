package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// namesBytesMax bounds the list of names on standard input: a million of the longest ones.
const namesBytesMax = (cell.IDBytesMax + 1) << 20

// The cell commands speak to the control plane, which knows which cells should exist; `cell explain` speaks to the members
// themselves, who know what is. Creating and deleting is for many names at once, since a colony has millions.

// cellCommand is the noun.
func (a *app) cellCommand() *cobra.Command {
	noun := &cobra.Command{
		Use:   "cell",
		Short: "Create, delete, list and look at cells",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	noun.AddCommand(a.cellCreate(), a.cellDelete(), a.cellList(), a.cellShow(), a.cellExplain(), a.cellReplace(), a.cellMove(), a.cellRecover())
	return noun
}

// cellCreate asks for cells. The answer comes when a majority of each founding jury is durable, so the cell can be used; the
// remaining nodes follow by themselves.
func (a *app) cellCreate() *cobra.Command {
	var brick, color string
	cmd := &cobra.Command{
		Use:   "create CELL...",
		Short: "Create cells; a name that exists with the same wishes succeeds",
		Long: "Create cells and wait until each is durable on four of its seven servers. Creating is idempotent by name, so it is\n" +
			"safe to repeat after exit 5 or 7. A single - reads names from standard input, one per line.",
		Args: args("CELL...", 1, -1),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.eachCell(cmd, given, "created", func(ctx context.Context, part []cell.ID) ([]wire.Outcome, error) {
				return a.operator().Create(ctx, cmd.CommandPath(), wire.CreateCells{Cells: part, Brick: brick, Color: color})
			})
		},
	}
	cmd.Flags().StringVar(&brick, "brick", "", "`brick` to place them in; placement chooses when empty")
	cmd.Flags().StringVar(&color, "color", "", "`color` of their servers; placement chooses when empty")
	return cmd
}

// cellDelete asks for seals. A deletion is by name and incarnation: with --incarnation, a script that decided on what it saw
// yesterday cannot delete a cell that was created again since.
func (a *app) cellDelete() *cobra.Command {
	var incarnation uint64
	cmd := &cobra.Command{
		Use:   "delete CELL...",
		Short: "Seal cells, so that nothing is ever chosen in them again, and wipe them",
		Long: "Seal cells and wait until each seal is chosen; wiping the nodes follows at its own pace. A cell without a quorum\n" +
			"cannot be sealed: its deletion stays pending, and its name taken, until it can be. A single - reads names from\n" +
			"standard input, one per line.",
		Args: args("CELL...", 1, -1),
		RunE: func(cmd *cobra.Command, given []string) error {
			if incarnation != 0 && (len(given) != 1 || given[0] == "-") {
				return usage(cmd.CommandPath(), "delete the cells one by one", "--incarnation goes with one cell")
			}
			return a.eachCell(cmd, given, "deleted", func(ctx context.Context, part []cell.ID) ([]wire.Outcome, error) {
				var request wire.DeleteCells
				for _, id := range part {
					request.Drops = append(request.Drops, wire.Drop{Cell: id, Incarnation: cell.Incarnation(incarnation)})
				}
				return a.operator().Delete(ctx, cmd.CommandPath(), request)
			})
		},
	}
	cmd.Flags().Uint64Var(&incarnation, "incarnation", 0, "delete only this `number`; 0 means the current one")
	return cmd
}

// outcomeDocument is what became of one cell, under -o json.
type outcomeDocument struct {
	Cell   string         `json:"cell"`
	Result string         `json:"result"` // "created", "deleted" or "failed"
	Error  *errorDocument `json:"error,omitempty"`
}

// eachCell sends names in batches and reports every outcome. The command fails with the first error among them, after
// all of them were tried; the others stand in the output.
func (a *app) eachCell(cmd *cobra.Command, given []string, done string, send func(context.Context, []cell.ID) ([]wire.Outcome, error)) error {
	names, err := a.cellNames(cmd.CommandPath(), given)
	if err != nil {
		return err
	}
	ctx, cancel := a.limited(cmd.Context())
	defer cancel()
	// The first error decides the exit code: usually all have the same reason.
	var documents []outcomeDocument
	var rows [][]string
	var first error
	// Batches go one after the other: the control plane works on one as a whole, and a failure in between leaves the rest
	// untouched and says so by not naming it.
	for part := range chunks(names, wire.BatchMax) {
		outcomes, err := send(ctx, part)
		if err != nil {
			return errors.Join(err, a.emitOutcomes(documents, rows))
		}
		for i, id := range part {
			d, result := outcomeDocument{Cell: string(id), Result: done}, done
			if failure := outcomes[i].Err; failure != nil {
				described := document(failure, exitOf(failure, false))
				d.Result, d.Error, result = "failed", &described, "failed: "+failure.Error()
				if first == nil {
					first = failure
				}
			}
			documents, rows = append(documents, d), append(rows, []string{string(id), result})
		}
	}
	return errors.Join(first, a.emitOutcomes(documents, rows))
}

// emitOutcomes prints what is known; nothing when no batch was answered.
func (a *app) emitOutcomes(documents []outcomeDocument, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	return a.emit(map[string]any{"cells": documents}, []string{"CELL", "RESULT"}, rows)
}

// chunks yields consecutive parts of at most n elements.
func chunks(ids []cell.ID, n int) func(yield func([]cell.ID) bool) {
	return func(yield func([]cell.ID) bool) {
		for len(ids) > 0 {
			part := ids[:min(n, len(ids))]
			if !yield(part) {
				return
			}
			ids = ids[len(part):]
		}
	}
}

// cellNames takes names from the arguments, or from standard input for a single "-", and checks them all first: one bad name
// in ten thousand is found before the first cell is created.
func (a *app) cellNames(op string, given []string) ([]cell.ID, error) {
	if len(given) == 1 && given[0] == "-" {
		given = nil
		size := 0
		for lines := bufio.NewScanner(a.stdin); ; {
			if !lines.Scan() {
				if err := lines.Err(); err != nil {
					return nil, usage(op, "one name per line", "reading names: %v", err)
				}
				break
			}
			if size += len(lines.Bytes()) + 1; size > namesBytesMax {
				return nil, usage(op, "split the list", "more than %d bytes of names", namesBytesMax)
			}
			if name := strings.TrimSpace(lines.Text()); name != "" {
				given = append(given, name)
			}
		}
		if len(given) == 0 {
			return nil, usage(op, "one name per line", "standard input names no cell")
		}
	}
	names := make([]cell.ID, len(given))
	for i, name := range given {
		names[i] = cell.ID(name)
		if err := names[i].Check(); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// cellDocument is a cell as the lifecycle manager wants it, with what health knows, under -o json.
type cellDocument struct {
	Cell        string           `json:"cell"`
	Incarnation uint64           `json:"incarnation"`       // which life of the name
	State       string           `json:"state"`             // creating, live, sealing, wiping or deleted
	Brick       string           `json:"brick"`             // that it lives in
	Color       string           `json:"color"`             // of its servers
	Live        uint32           `json:"live"`              // members on servers that are up
	Margin      int32            `json:"margin"`            // how many more members it can lose; negative: majority lost
	Plan        uint64           `json:"plan"`              // plan number
	Waiting     string           `json:"waiting,omitempty"` // what the current step waits for
	Members     []memberDocument `json:"members"`           // its jury, by node number
}

// memberDocument is one member of a cell's jury under -o json.
type memberDocument struct {
	Node   uint64 `json:"node"`                  // number within the cell
	Server string `json:"server"`                // identity, not the name
	Client string `json:"client_addr,omitempty"` // its address for clients
}

// describeCell makes the JSON form of a cell.
func describeCell(c *wire.CellInfo) cellDocument {
	d := cellDocument{Cell: string(c.Cell), Incarnation: uint64(c.Incarnation), State: c.State, Brick: c.Brick, Color: c.Color,
		Live: c.Live, Margin: c.Margin, Plan: c.Plan, Waiting: c.Waiting, Members: []memberDocument{}}
	for _, m := range c.Members {
		d.Members = append(d.Members, memberDocument{m.Node, string(m.Server), m.ClientAddr})
	}
	return d
}

// cellRow is a cell as a row of a table; the margin says in words what it means.
func cellRow(c *wire.CellInfo) []string {
	margin := fmt.Sprintf("can lose %d more", c.Margin)
	switch {
	case c.Margin == 0:
		margin = "BRINK: can lose none"
	case c.Margin < 0:
		margin = "LOST: no majority"
	}
	return []string{string(c.Cell), fmt.Sprint(c.Incarnation), c.State, c.Brick, c.Color,
		fmt.Sprintf("%d/%d", c.Live, len(c.Members)), margin, c.Waiting}
}

// cellHeader names the columns of cellRow.
var cellHeader = []string{"CELL", "INCARNATION", "STATE", "BRICK", "COLOR", "LIVE", "MARGIN", "WAITING FOR"}

// cellList shows all cells, in one answer: there is no paging for users.
func (a *app) cellList() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:         "list",
		Short:       "List cells in order of their names, with their margin: how many more nodes each can lose",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			cells, err := a.operator().Cells(ctx, cmd.CommandPath(), prefix)
			if err != nil {
				return err
			}
			documents, rows := []cellDocument{}, [][]string{}
			for i := range cells {
				documents, rows = append(documents, describeCell(&cells[i])), append(rows, cellRow(&cells[i]))
			}
			return a.emit(map[string]any{"cells": documents}, cellHeader, rows)
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only names that begin with this `text`")
	return cmd
}

// cellShow is `cell list` for one name, with the members and their addresses.
func (a *app) cellShow() *cobra.Command {
	return &cobra.Command{
		Use:         "show CELL",
		Short:       "Show one cell as the control plane wants and sees it, with its members",
		Args:        args("CELL", 1, 1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			c, err := a.operator().Cell(ctx, cmd.CommandPath(), cell.ID(given[0]))
			if err != nil {
				return err
			}
			if a.output == asJSON {
				return a.emit(describeCell(c), nil, nil)
			}
			if err := table(a.stdout, cellHeader, [][]string{cellRow(c)}); err != nil {
				return err
			}
			var rows [][]string
			for _, m := range c.Members {
				rows = append(rows, []string{"", fmt.Sprint(m.Node), string(m.Server), m.PeerAddr, m.ClientAddr})
			}
			return table(a.stdout, []string{"", "NODE", "SERVER", "PEER ADDRESS", "CLIENT ADDRESS"}, rows)
		},
	}
}
