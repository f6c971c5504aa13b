package main

import (
	"context"

	"physalia/cmd/physalia/operator"
)

// operator is whom the flags say to ask.
func (a *app) operator() operator.Operator {
	return operator.Operator{Colony: a.colony, Addresses: a.controlPlane, Certs: a.certs, Token: a.token, Reason: a.reason}
}

// limited gives a command's context its --timeout.
func (a *app) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.timeout)
}
