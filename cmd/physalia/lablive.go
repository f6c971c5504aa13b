package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/cmd/physalia/operator"
	"physalia/health"
	"physalia/internal/topology"
	"physalia/internal/wire"
	"physalia/sim/lab"
)

// Servers and cells are asked for one after the other, so the picture is that of some seconds, not of a moment. Cells are read page by page:
// what is kept of one are the numbers of its servers and its name.
//
// liveQuestion asks the control plane for its servers, its cells, and what it lets repair do.
func (a *app) liveQuestion(cmd *cobra.Command, o *whatIfFlags) (*lab.Site, lab.Question, error) {
	op := cmd.CommandPath()
	if o.topology != "" || o.shape != "" || cmd.Flags().Changed("cells") || o.keep != "" {
		return nil, lab.Question{}, usage(op, "leave them out: the colony says what there is", "--live does not go with --topology, --shape, --cells or --keep")
	}
	// Each request has --timeout for itself, but for the cells: there may be a million.
	var colony lab.Live
	if err := a.liveServers(cmd.Context(), op, &colony); err != nil {
		return nil, lab.Question{}, err
	}
	ask := a.operator()
	err := ask.EachCell(cmd.Context(), op, "", func(page []wire.CellInfo) error {
		for i := range page {
			if err := addLive(&colony, &page[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = a.liveBudgets(cmd, o)
	}
	if err != nil {
		return nil, lab.Question{}, err
	}
	o.unjudged = colony.Unjudged()
	return colony.Question()
}

// liveServers adds the servers that ever registered.
func (a *app) liveServers(all context.Context, op string, colony *lab.Live) error {
	ctx, cancel := a.limited(all)
	defer cancel()
	servers, err := a.operator().Servers(ctx, op)
	if err != nil {
		return err
	}
	for i := range servers {
		g := &servers[i].Registration
		colony.AddServer(topology.Server{ID: g.Server, Name: g.Name, Brick: topology.Brick(g.Brick), Rack: topology.Rack(g.Rack),
			Power: topology.PowerDomain(g.Power), Color: topology.Color(g.Color), Capacity: g.Capacity, Load: g.Nodes}, servers[i].Up)
	}
	return nil
}

// addLive adds a cell. Those that are sealed, wiped or gone have nothing to lose; one that is being created is not promised yet.
func addLive(colony *lab.Live, c *wire.CellInfo) error {
	if c.State == "deleted" {
		return nil
	}
	jury := make([]cell.ServerID, len(c.Members))
	for i := range c.Members {
		jury[i] = c.Members[i].Server
	}
	return colony.AddCell(c.Cell, topology.PoolKey{Brick: topology.Brick(c.Brick), Color: topology.Color(c.Color)}, c.State == "live", jury)
}

// Two budgets bound repair: that of the repairer, and the lifecycle manager's limit on replacements. The smaller decides. Flags that
// were given go first, so that one can ask what another budget would do.
//
// liveBudgets takes the budgets that the control plane has, and notes what else keeps it back.
func (a *app) liveBudgets(cmd *cobra.Command, o *whatIfFlags) error {
	ctx, cancel := a.limited(cmd.Context())
	defer cancel()
	op, given := cmd.CommandPath(), o.policy
	// The active instance knows the limits; every instance repairs bricks of its own, with one and the same policy.
	status, err := a.operator().Status(ctx, op, 1)
	if err != nil {
		return err
	}
	instances, err := a.operator().Instances(ctx, op)
	if err != nil {
		return err
	}
	for n, i := range instances.Instances {
		one := operator.Operator{Colony: a.colony, Addresses: []string{i.Addr}, Certs: a.certs}
		report, err := one.Health(ctx, op, 1)
		if err != nil {
			return err
		}
		for _, b := range report.Budgets {
			if n == 0 {
				takeBudget(&o.policy, b)
			}
		}
		for _, h := range report.Holds {
			o.notes = append(o.notes, fmt.Sprintf("a hold on %s is in force: %d of %d servers died, %d are away", h.Domain, h.Died, h.Size, h.Away))
		}
	}
	// Both were decided by flags of `physalia control`, and neither knows of the other.
	for _, l := range status.Limits {
		takeLimit(&o.policy, l)
	}
	for _, p := range status.Pauses {
		o.notes = append(o.notes, fmt.Sprintf("the control plane is paused: %s, by %s: %s", p.Action, p.By, p.Reason))
	}
	// What was given on the command line, or in the environment or the file, is the question.
	for flag, set := range map[string]func(){
		"repairs-per-second":            func() { o.policy.Colony.Repairs = given.Colony.Repairs },
		"repair-bytes-per-second":       func() { o.policy.Colony.Bytes = given.Colony.Bytes },
		"repairs-per-second-brick":      func() { o.policy.Brick.Repairs = given.Brick.Repairs },
		"repair-bytes-per-second-brick": func() { o.policy.Brick.Bytes = given.Brick.Bytes },
	} {
		if cmd.Flags().Changed(flag) {
			set()
		}
	}
	slices.Sort(o.notes)
	return nil
}

// takeBudget takes what a process of the control plane may spend. Used bricks have the budget of each brick.
func takeBudget(policy *health.RepairConfig, b wire.BudgetInfo) {
	// On the wire are thousandths of repairs, so that one repair in ten minutes can be said.
	budget := health.Budget{Repairs: float64(b.Repairs) / 1000, Bytes: float64(b.Bytes)}
	switch b.Of {
	case "colony":
		policy.Colony = budget
	case "each brick":
		policy.Brick = budget
	}
}

// takeLimit takes a limit of the lifecycle manager where it is the smaller.
func takeLimit(policy *health.RepairConfig, l wire.LimitState) {
	perSecond := float64(l.Milli) / 1000
	switch {
	case l.Work != "repair" || perSecond <= 0:
	case l.Scope == "colony":
		policy.Colony.Repairs = min(policy.Colony.Repairs, perSecond)
	case l.Scope == "brick":
		policy.Brick.Repairs = min(policy.Brick.Repairs, perSecond)
	}
}
