package operator

import (
	"context"

	"physalia/cell"
	"physalia/internal/wire"
)

// PlanRecovery asks what could be recovered without the servers named dead: of the given cells, or of all that have lost
// their majority when none is given. It changes nothing.
func (o Operator) PlanRecovery(ctx context.Context, op string, dead []cell.ServerID, cells []cell.ID) ([]wire.RecoveryCell, error) {
	conn, err := o.Control(ctx, op)
	if err != nil {
		return nil, err
	}
	defer conn.Close(nil)
	// Pages go one after the other: the control plane asks the survivors of one page at a time, and a plan that is interrupted has
	// changed nothing.
	var all []wire.RecoveryCell
	request := wire.PlanRecovery{Dead: dead, Limit: wire.RecoveryPageMax}
	for rest := cells; ; {
		request.Cells = rest[:min(len(rest), wire.RecoveryPageMax)]
		rest = rest[len(request.Cells):]
		var page wire.RecoveryPlan
		if err := conn.Call(ctx, wire.MethodPlanRecovery, &request, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Cells...)
		if len(rest) == 0 && !page.More {
			return all, nil
		}
		request.After = page.Last
	}
}

// Recover asks to carry out a plan for at most wire.RecoveryPageMax cells, and waits for their founding as Create does. The
// servers named dead are retired even if no cell can be recovered. It is idempotent: what was done is not done again.
func (o Operator) Recover(ctx context.Context, op string, dead []cell.ServerID, cells []wire.RecoveryCell) ([]wire.Outcome, error) {
	request := wire.RecoverCells{Dead: dead, Cells: cells, Wait: waitFor(ctx)}
	return o.outcomes(ctx, op, wire.MethodRecoverCells, &request, len(cells))
}
