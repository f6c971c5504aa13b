package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/internal/wire"
)

// Lossy recovery is the one operation that may lose what was acknowledged. So it has two commands: one that says exactly what
// would be done and changes nothing, and one that does exactly that. The plan between them is a file that people can read, keep and
// show to each other before anybody goes on.
//
// Nothing of a plan is trusted by the control plane but names and numbers: it asks the survivors again, refuses cells that
// changed since, and begins with no less than the plan says. So an old plan, or one that was edited, cannot do harm that a new one
// could not.

// recoveryVersion is the version of the plan's format; recoveryBytesMax bounds a plan, about a hundred thousand cells.
const (
	recoveryVersion  = 1
	recoveryBytesMax = 256 << 20
)

// recoveryDocument is a recovery plan, as `recover plan -o json` prints it and `recover apply` reads it.
type recoveryDocument struct {
	V       int                    `json:"v"`
	Colony  string                 `json:"colony,omitempty"`
	Dead    []string               `json:"dead"` // identities that are retired for good
	Warning string                 `json:"warning"`
	Cells   []recoveryCellDocument `json:"cells"`
}

// recoveryCellDocument is the plan for one cell.
type recoveryCellDocument struct {
	Cell            string             `json:"cell"`
	Incarnation     uint64             `json:"incarnation"`     // the lost one
	NewIncarnation  uint64             `json:"new_incarnation"` // fences compare as pairs, so theirs are higher
	PlanNumber      uint64             `json:"plan_number"`     // makes an old plan harmless
	Brick           string             `json:"brick"`
	Color           string             `json:"color"`
	Lost            []string           `json:"lost"` // members on dead servers
	Survivors       []survivorDocument `json:"survivors"`
	Source          string             `json:"source"`              // whose state it is
	StateAtSlot     uint64             `json:"state_at_slot"`       // everything up to here was chosen
	RecoveredTo     uint64             `json:"recovered_to"`        // with the records above that may have been chosen
	HeardChosen     uint64             `json:"heard_chosen"`        // the highest slot that a survivor heard is chosen
	LostAtLeast     uint64             `json:"lost_slots_at_least"` // chosen slots that nobody holds; more may be lost, unknown to all survivors
	StateAtRevision uint64             `json:"state_at_revision"`   // of the cell, at that slot
	Members         []memberDocument   `json:"new_members"`
	Owner           uint64             `json:"owner"`
	Problem         string             `json:"problem,omitempty"` // why it is left alone
}

// survivorDocument is what one member answered: everything up to applied is known to be chosen, what it accepted above may be.
type survivorDocument struct {
	Server   string `json:"server"`
	Node     uint64 `json:"node,omitempty"`
	Promised string `json:"promised,omitempty"`
	Applied  uint64 `json:"applied"`
	Heard    uint64 `json:"heard_chosen"`
	Accepted uint64 `json:"accepted_above"`
	Note     string `json:"note,omitempty"`
}

// recoveryWarning stands in every plan. It says the three things that an operator must have understood: what is lost cannot be
// counted, identities do not come back, and a server that is declared dead must be dead.
const recoveryWarning = "What was acknowledged after the slot that a cell is recovered to is lost, and nobody can tell how much that is. The identities " +
	"named dead are retired for good. If one of those servers is alive in truth, it may go on serving the lost incarnation to clients that know its " +
	"address: see to it that they are dead."

// cellRecover is the noun of recovery.
func (a *app) cellRecover() *cobra.Command {
	noun := &cobra.Command{
		Use:   "recover",
		Short: "Bring back cells that lost their majority for good, from what the survivors hold",
		Long: "Bring back cells that lost their majority for good. This may lose what was acknowledged. First `recover plan` says what\n" +
			"would be done and changes nothing; then `recover apply` does that. See \"Losing a majority\" in docs/operations.md.",
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	noun.AddCommand(a.cellRecoverPlan(), a.cellRecoverApply())
	return noun
}

// cellRecoverPlan asks the survivors. Its exit code is about the question, not about the cells: with --all, cells that cannot be
// recovered stand in the plan and are no error; those that were named are.
func (a *app) cellRecoverPlan() *cobra.Command {
	var dead, cells []string
	var all bool
	cmd := &cobra.Command{
		Use:   "plan --dead SERVER,... {--cells CELL,... | --all}",
		Short: "Say what could be recovered without the servers named dead; changes nothing",
		Long: "Ask every survivor what it holds and say, per cell, what it would go on with, what may be lost, and where its new members\n" +
			"would be. Name all servers that are lost for good, by identity. With -o json the output is the plan that `recover apply` takes.",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			if len(dead) == 0 {
				return usage(op, "name every server that is lost for good, as `physalia cell show` names them", "--dead is missing")
			}
			if (len(cells) > 0) == all {
				return usage(op, "give one of them", "--cells and --all exclude each other, and one is needed")
			}
			names, err := a.cellNames(op, cells)
			if err != nil {
				return err
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			plan, err := a.operator().PlanRecovery(ctx, op, serverIDs(dead), names)
			if err != nil {
				return err
			}
			return a.emitRecovery(op, dead, plan, !all)
		},
	}
	cmd.Flags().StringSliceVar(&dead, "dead", nil, "`identities` of all servers that are lost for good")
	cmd.Flags().StringSliceVar(&cells, "cells", nil, "`names` of the cells to recover")
	cmd.Flags().BoolVar(&all, "all", false, "every cell that has lost its majority")
	return cmd
}

// serverIDs takes the names as they were typed. Whether there are such servers the control plane says.
func serverIDs(names []string) []cell.ServerID {
	ids := make([]cell.ServerID, len(names))
	for i, name := range names {
		ids[i] = cell.ServerID(name)
	}
	return ids
}

// The warning goes to people on standard error and to programs in the document: nobody gets a plan without it.
//
// emitRecovery prints a plan. A cell that was asked for by name and cannot be recovered is an error, after the output.
func (a *app) emitRecovery(op string, dead []string, plan []wire.RecoveryCell, named bool) error {
	doc := recoveryDocument{V: recoveryVersion, Colony: a.colony, Dead: dead, Warning: recoveryWarning, Cells: []recoveryCellDocument{}}
	var rows [][]string
	var problem error
	for i := range plan {
		d := describeRecovery(&plan[i])
		doc.Cells = append(doc.Cells, d)
		rows = append(rows, recoveryRow(&d))
		if d.Problem != "" && named && problem == nil {
			problem = &cell.Error{Op: op, Kind: cell.Refused, Cell: plan[i].Cell, Detail: d.Problem}
		}
	}
	if len(plan) == 0 {
		a.note("no cell has lost its majority without these servers")
	}
	a.note("%s", recoveryWarning)
	header := []string{"CELL", "LOST", "INCARNATION", "STATE OF", "RECOVERED TO SLOT", "LOST SLOTS", "NEW MEMBERS"}
	return errors.Join(problem, a.emit(doc, header, rows))
}

// describeRecovery turns the plan for one cell into its document.
func describeRecovery(c *wire.RecoveryCell) recoveryCellDocument {
	d := recoveryCellDocument{Cell: string(c.Cell), Incarnation: uint64(c.Incarnation), NewIncarnation: uint64(c.Incarnation) + 1, PlanNumber: c.Plan,
		Brick: c.Brick, Color: c.Color, Lost: []string{}, Survivors: []survivorDocument{}, Source: string(c.Source), StateAtSlot: c.Applied,
		RecoveredTo: c.Slot, HeardChosen: c.Known, StateAtRevision: uint64(c.Revision), Members: []memberDocument{}, Owner: c.Owner, Problem: c.Problem}
	if c.Known > c.Slot {
		d.LostAtLeast = c.Known - c.Slot
	}
	for _, id := range c.Lost {
		d.Lost = append(d.Lost, string(id))
	}
	for _, s := range c.Survivors {
		d.Survivors = append(d.Survivors, survivorDocument{Server: string(s.Server), Node: s.Node, Promised: s.Promised, Applied: s.Applied,
			Heard: s.Known, Accepted: s.Accepted, Note: s.Note})
	}
	for _, m := range c.Members {
		d.Members = append(d.Members, memberDocument{m.Node, string(m.Server), m.ClientAddr})
	}
	return d
}

// "And an unknown number" stands in every row on purpose: a zero there would be read as "nothing is lost".
//
// recoveryRow is one cell for eyes.
func recoveryRow(d *recoveryCellDocument) []string {
	if d.Problem != "" {
		return []string{d.Cell, fmt.Sprint(len(d.Lost)), fmt.Sprint(d.Incarnation), "left alone: " + d.Problem}
	}
	var members []string
	for _, m := range d.Members {
		members = append(members, m.Server)
	}
	return []string{d.Cell, fmt.Sprint(len(d.Lost)), fmt.Sprintf("%d -> %d", d.Incarnation, d.NewIncarnation), d.Source,
		fmt.Sprintf("%d (state %d, accepted %d)", d.RecoveredTo, d.StateAtSlot, d.RecoveredTo-d.StateAtSlot),
		fmt.Sprintf("%d and an unknown number", d.LostAtLeast), strings.Join(members, " ")}
}

// recoverBatch is how many cells are recovered at a time: the next ones begin when these have four durable nodes each. With states
// of some tens of kilobytes that is about a megabyte in the control plane, and a second or less.
const recoverBatch = 32

// The flag that confirms has no short form, and an environment variable of that name is for automation that somebody has thought
// about.
//
// cellRecoverApply carries out a plan.
func (a *app) cellRecoverApply() *cobra.Command {
	var file string
	var understood bool
	cmd := &cobra.Command{
		Use:   "apply --plan FILE --i-understand-data-may-be-lost",
		Short: "Carry out a plan: retire the dead servers, and found each cell anew from what its survivors hold",
		Long: "Carry out a plan of `recover plan`. The servers named dead are retired first. Cells go on " + fmt.Sprint(recoverBatch) + " at a time; --timeout counts for\n" +
			"each such batch. It is safe to repeat after any interruption: what was done is not done again. A cell that changed since the\n" +
			"plan was made is left alone; make a new plan for it.",
		Args: args("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			op := cmd.CommandPath()
			if !understood {
				return usage(op, "read the plan, then add --i-understand-data-may-be-lost", "what was acknowledged may be lost, and that was not confirmed")
			}
			plan, err := a.readRecovery(op, file)
			if err != nil {
				return err
			}
			return a.applyRecovery(cmd.Context(), op, plan)
		},
	}
	cmd.Flags().StringVar(&file, "plan", "", "`file` with the plan; - is standard input")
	cmd.Flags().BoolVar(&understood, "i-understand-data-may-be-lost", false, "confirm that acknowledged writes may be lost")
	return cmd
}

// A field that this version does not know may be a condition that it would ignore, so it is an error, as in a configuration file.
//
// readRecovery reads a plan and refuses what this version did not write.
func (a *app) readRecovery(op, file string) (*recoveryDocument, error) {
	if file == "" {
		return nil, usage(op, "make one with `physalia cell recover plan -o json`", "--plan is missing")
	}
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usage(op, "make a plan with `physalia cell recover plan -o json`", "%v", err)
		}
		defer f.Close()
		in = f
	}
	var plan recoveryDocument
	d := json.NewDecoder(io.LimitReader(in, recoveryBytesMax))
	d.DisallowUnknownFields()
	if err := d.Decode(&plan); err != nil {
		return nil, usage(op, "make a new plan; a plan is not edited", "the plan cannot be read: %v", err)
	}
	switch {
	case plan.V != recoveryVersion:
		return nil, usage(op, "make a new plan with this version", "the plan is of version %d, this binary knows %d", plan.V, recoveryVersion)
	case a.colony != "" && plan.Colony != "" && plan.Colony != a.colony:
		return nil, usage(op, "take the plan to its colony", "the plan is for colony %q, not %q", plan.Colony, a.colony)
	}
	if a.colony == "" {
		a.colony = plan.Colony
	}
	return &plan, nil
}

// A batch has its own time, unlike other commands: thousands of cells take minutes, and a plan that is half carried out because a
// default of ten seconds ran out helps nobody.
//
// applyRecovery sends the cells of a plan in batches and reports every outcome, as eachCell does.
func (a *app) applyRecovery(ctx context.Context, op string, plan *recoveryDocument) error {
	var documents []outcomeDocument
	var rows [][]string
	var first error
	report := func(name, result string, failure *cell.Error) {
		d := outcomeDocument{Cell: name, Result: result}
		if failure != nil {
			described := document(failure, exitOf(failure, false))
			d.Result, d.Error, result = "failed", &described, "failed: "+failure.Error()
			if first == nil {
				first = failure
			}
		}
		documents, rows = append(documents, d), append(rows, []string{name, result})
	}
	// Cells with a problem were refused when the plan was made; to send them would only have them refused again.
	todo := slices.DeleteFunc(slices.Clone(plan.Cells), func(d recoveryCellDocument) bool { return d.Problem != "" })
	for part := range slices.Chunk(todo, recoverBatch) {
		cells := make([]wire.RecoveryCell, len(part))
		for i := range part {
			cells[i] = part[i].wire()
		}
		batch, cancel := a.limited(ctx)
		outcomes, err := a.operator().Recover(batch, op, serverIDs(plan.Dead), cells)
		cancel()
		if err != nil {
			return errors.Join(err, a.emitOutcomes(documents, rows))
		}
		for i := range part {
			report(part[i].Cell, "recovered", outcomes[i].Err)
		}
	}
	if left := len(plan.Cells) - len(todo); left > 0 {
		a.note("%d cells of the plan cannot be recovered and were left alone", left)
	}
	return errors.Join(first, a.emitOutcomes(documents, rows))
}

// Survivors and addresses are for people; the control plane knows its own.
//
// wire is the part of a plan that the control plane acts by.
func (d *recoveryCellDocument) wire() wire.RecoveryCell {
	c := wire.RecoveryCell{Cell: cell.ID(d.Cell), Incarnation: cell.Incarnation(d.Incarnation), Plan: d.PlanNumber, Brick: d.Brick, Color: d.Color,
		Source: cell.ServerID(d.Source), Applied: d.StateAtSlot, Slot: d.RecoveredTo, Known: d.HeardChosen, Owner: d.Owner}
	for _, m := range d.Members {
		c.Members = append(c.Members, wire.Founder{Node: m.Node, Server: cell.ServerID(m.Server)})
	}
	return c
}
