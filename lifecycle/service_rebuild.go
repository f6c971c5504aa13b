package lifecycle

import (
	"context"
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// count carries out one page of the census and posts how it ended.
func (s *Service) count(ctx context.Context, c Call) {
	var nodes *wire.CensusPage
	var graves *wire.GravePage
	var into wire.Message
	if c.Method == wire.MethodCensus {
		nodes = new(wire.CensusPage)
		into = nodes
	} else {
		graves = new(wire.GravePage)
		into = graves
	}
	err := s.cfg.Caller.Call(ctx, c.Server, c.Method, c.Params, into)
	s.post(func(now time.Duration) {
		if err != nil {
			s.m.Heard(now, c.ID, nil, nil, asError(err))
			return
		}
		s.m.Heard(now, c.ID, nodes, graves, nil)
	})
}

// Rebuild asks to begin or end a rebuild of the store, or how far it is; reply as of Create.
func (s *Service) Rebuild(req wire.Rebuild, reply func(*wire.RebuildState, *cell.Error)) {
	s.request("lifecycle.rebuild", func(r Reply) { reply(r.Rebuild, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Rebuild(now, id, req)
	})
}

// rebuild answers wire.MethodRebuild. Whoever begins or ends one leaves a trace in the log.
func (s *Service) rebuild(r fleet.Request) {
	var req wire.Rebuild
	if r.Decode(&req) {
		if req.Action != wire.RebuildLook {
			s.cfg.Log.Warn("rebuild of the store", "begin", req.Action == wire.RebuildBegin, "end", req.Action == wire.RebuildEnd, "force", req.Force)
		}
		s.Rebuild(req, func(state *wire.RebuildState, err *cell.Error) { answer(&r, state, err) })
	}
}
