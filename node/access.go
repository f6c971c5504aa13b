package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"physalia/cell"
	"physalia/internal/grant"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// Whether a client may do what it asks is decided here, on the goroutine of its connection, before the server's loop and whatever the
// loop knows: a denial tells nothing about a cell, not even whether it exists. Members that pass a request on to another one have
// asked before, and are believed, as they are in everything else about their cells.

// allow decides about one request about one cell; nil is yes.
func (s *Server) allow(c *rpc.Conn, method string, r *core.Request) *cell.Error {
	rights := s.gate.Session(c).Rights
	if rights.All {
		return nil
	}
	var refusal *grant.Refusal
	switch now, id := s.gate.Now(), r.Header.Cell; method {
	case wire.MethodTxn, wire.MethodRead:
		refusal = rights.Txn(now, id, &r.Txn)
	case wire.MethodGrant, wire.MethodKeepAlive:
		refusal = rights.Leases(now, id, grant.HoldLease)
	case wire.MethodRevoke:
		refusal = rights.Leases(now, id, grant.RevokeLease)
	case wire.MethodLeases:
		refusal = rights.Leases(now, id, grant.ListLeases)
	case wire.MethodExplain:
		refusal = rights.Explain(now, id)
	default:
		refusal = &grant.Refusal{Reason: grant.ControlOnly, Who: rights.Who, Cell: id}
	}
	return s.gate.Deny(method, refusal)
}

// access exports what was denied, read at each scrape.
func (s *Server) exportAccess() {
	for why := range grant.Reasons {
		reason := grant.Reason(why)
		if reason == grant.Allowed {
			continue
		}
		labels := prometheus.Labels{"reason": reason.String()}
		for k, v := range s.metrics.labels {
			labels[k] = v
		}
		s.metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "physalia_requests_denied_total",
			Help: "Requests of clients that had no right to them.", ConstLabels: labels}, func() float64 { return float64(s.gate.Denied(reason)) }))
	}
	s.metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "physalia_tokens_shown_total",
		Help: "Tokens of clients that counted when they were shown.", ConstLabels: s.metrics.labels}, func() float64 { return float64(s.gate.Shown()) }))
}
