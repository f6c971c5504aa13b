package operator

import (
	"context"

	"physalia/internal/wire"
)

// Pause stops actions of the control plane; none named means all.
func (o Operator) Pause(ctx context.Context, op string, order wire.ActionOrder) error {
	return o.Ask(ctx, op, wire.MethodPause, &order, nil)
}

// Resume ends pauses; none named means all.
func (o Operator) Resume(ctx context.Context, op string, order wire.ActionOrder) error {
	return o.Ask(ctx, op, wire.MethodResume, &order, nil)
}

// SetDuty orders what a server is to be; it returns when the order is durable, not when it is carried out.
func (o Operator) SetDuty(ctx context.Context, op string, duty wire.ServerDuty) error {
	return o.Ask(ctx, op, wire.MethodDuty, &duty, nil)
}

// Status asks what the control plane is held back by, with at most limit of what has not converged, oldest first. The pages are
// not one snapshot; all but the steps are of the first.
func (o Operator) Status(ctx context.Context, op string, limit int) (*wire.ControlStatus, error) {
	conn, err := o.Control(ctx, op)
	if err != nil {
		return nil, err
	}
	defer conn.Close(nil)
	// The first page has the pauses, limits and counts; of the others only the steps are taken, so the numbers belong together.
	var all *wire.ControlStatus
	for after := uint64(0); ; {
		left := limit
		if all != nil {
			left -= len(all.Waiting)
		}
		var page wire.ControlStatus
		if err := conn.Call(ctx, wire.MethodStatus, &wire.StatusRequest{After: after, Limit: uint32(min(left, wire.StatusPageMax))}, &page); err != nil {
			return nil, err
		}
		if all == nil {
			all = &page
		} else {
			all.Waiting, all.More = append(all.Waiting, page.Waiting...), page.More
		}
		if len(page.Waiting) > 0 {
			after = page.Waiting[len(page.Waiting)-1].Number
		}
		if !page.More || len(all.Waiting) >= limit || after == 0 {
			return all, nil
		}
	}
}
