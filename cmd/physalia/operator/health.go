package operator

import (
	"context"

	"physalia/internal/wire"
)

// Each brick is watched by one process, so whoever wants the whole picture asks all addresses, with an Operator for each.
//
// Health asks one control process how repair stands, with at most limit of the cells in danger; zero means as many as fit.
func (o Operator) Health(ctx context.Context, op string, limit int) (*wire.HealthReport, error) {
	var report wire.HealthReport
	if err := o.Ask(ctx, op, wire.MethodHealth, &wire.ListHealth{Limit: uint32(max(0, min(limit, wire.ListLimitMax)))}, &report); err != nil {
		return nil, err
	}
	return &report, nil
}

// EndHold ends the hold on a failure domain; without such a hold it is NotFound.
func (o Operator) EndHold(ctx context.Context, op, domain string) error {
	return o.Ask(ctx, op, wire.MethodEndHold, &wire.EndHold{Domain: domain}, nil)
}
