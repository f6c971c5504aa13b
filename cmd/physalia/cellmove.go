package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// Members are replaced one at a time, and each time the cell is whole again before the next: a cell that is half moved when
// this command is interrupted is a cell like any other, and running the command again goes on where it ended.

// The control plane decides whether a member can be spared; what limits the pace of many replacements does not stand between an
// operator and the one that he asks for.
//
// cellReplace asks for one member of a cell to be replaced.
func (a *app) cellReplace() *cobra.Command {
	var remove, add string
	cmd := &cobra.Command{
		Use:   "replace CELL --remove SERVER",
		Short: "Replace one member of a cell while it serves",
		Long: "Replace the member of a cell on one server by a new one on another, and wait until the cell needs the old one no\n" +
			"more. The new member is taught first, and the cell serves all the time. It is safe to repeat after exit 5 or 7; what\n" +
			"was begun goes on in the control plane.",
		Args: args("CELL", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			// Nobody is removed by default: there is no member that an operator could mean without saying so.
			if remove == "" {
				return usage(cmd.CommandPath(), "`physalia cell show` tells the members' servers", "--remove is missing")
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			if err := a.operator().Replace(ctx, cmd.CommandPath(), cell.ID(given[0]), cell.ServerID(remove), cell.ServerID(add)); err != nil {
				return err
			}
			return a.emitMembers(ctx, cmd.CommandPath(), cell.ID(given[0]))
		},
	}
	cmd.Flags().StringVar(&remove, "remove", "", "identity of the `server` whose member goes")
	cmd.Flags().StringVar(&add, "add", "", "identity of the `server` that takes its place; placement chooses when empty")
	return cmd
}

// The plan lives in this command and not in the control plane: what is left to do can be seen from where the cell lives, so a
// second run with the same servers is the continuation of the first.
//
// cellMove replaces as many members as it takes for a cell to live on the given servers.
func (a *app) cellMove() *cobra.Command {
	var to []string
	cmd := &cobra.Command{
		Use:   "move CELL --to SERVER,SERVER,...",
		Short: "Move a cell to other servers while it serves, one member after the other",
		Long: "Replace the members of a cell, one after the other, until it lives on exactly the given servers; members that are\n" +
			"there already stay. It may be interrupted and repeated at any time: what is done stays done.",
		Args: args("CELL", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			op, id := cmd.CommandPath(), cell.ID(given[0])
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			c, err := a.operator().Cell(ctx, op, id)
			if err != nil {
				return err
			}
			// Who leaves and who enters are paired in the order of node numbers and of the command line. Which new member
			// replaces which old one makes no difference in the end.
			leave, enter := []cell.ServerID{}, []cell.ServerID{}
			for _, m := range c.Members {
				if !slices.Contains(to, string(m.Server)) {
					leave = append(leave, m.Server)
				}
			}
			for i, s := range to {
				if slices.Contains(to[:i], s) {
					return usage(op, "name each server once", "--to names %s twice", s)
				}
				if !slices.ContainsFunc(c.Members, func(m wire.Founder) bool { return string(m.Server) == s }) {
					enter = append(enter, cell.ServerID(s))
				}
			}
			if len(enter) != len(leave) {
				return usage(op, fmt.Sprintf("name %d servers", len(c.Members)), "--to names %d servers, the cell has %d members", len(to), len(c.Members))
			}
			// Each is whole before the next begins, so the cell never lacks more than it did before.
			for i := range leave {
				if err := a.operator().Replace(ctx, op, id, leave[i], enter[i]); err != nil {
					return fmt.Errorf("%d of %d members were replaced: %w", i, len(leave), err)
				}
			}
			return a.emitMembers(ctx, op, id)
		},
	}
	cmd.Flags().StringSliceVar(&to, "to", nil, "identities of the `servers` that shall host it, separated by commas")
	return cmd
}

// emitMembers shows where a cell lives now, as the control plane has seen it last; the cell may have moved on by somebody else's
// hand since.
func (a *app) emitMembers(ctx context.Context, op string, id cell.ID) error {
	c, err := a.operator().Cell(ctx, op, id)
	if err != nil {
		return err
	}
	if a.output == asJSON {
		return a.emit(describeCell(c), nil, nil)
	}
	var servers []string
	for _, m := range c.Members {
		servers = append(servers, string(m.Server))
	}
	return table(a.stdout, []string{"CELL", "MEMBERS ON"}, [][]string{{string(id), strings.Join(servers, " ")}})
}
