package lifecycle

import (
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// Admit refuses a server whose identity was retired by a recovery. It is safe for concurrent use and does not block.
func (s *Service) Admit(g wire.Registration) *cell.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired[g.Server] {
		return Retired(g.Server)
	}
	return nil
}

// PlanRecovery asks what could be recovered; reply as of Create.
func (s *Service) PlanRecovery(req wire.PlanRecovery, reply func(*wire.RecoveryPlan, *cell.Error)) {
	s.request("recovery.plan", func(r Reply) { reply(r.Plan, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.PlanRecovery(now, id, req)
	})
}

// Recover asks to carry out a plan; reply as of Create.
func (s *Service) Recover(req wire.RecoverCells, reply func(*wire.Outcomes, *cell.Error)) {
	s.request("recovery.apply", func(r Reply) { reply(r.Outcomes, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Recover(now, id, req)
	})
}

// planRecovery answers wire.MethodPlanRecovery.
func (s *Service) planRecovery(r fleet.Request) {
	var req wire.PlanRecovery
	if r.Decode(&req) {
		s.PlanRecovery(req, func(p *wire.RecoveryPlan, err *cell.Error) { answer(&r, p, err) })
	}
}

// recoverCells answers wire.MethodRecoverCells. Whoever carries out a plan leaves a trace in the log.
func (s *Service) recoverCells(r fleet.Request) {
	var req wire.RecoverCells
	if r.Decode(&req) {
		s.cfg.Log.Warn("lossy recovery", "cells", len(req.Cells), "retired", req.Dead)
		s.Recover(req, func(o *wire.Outcomes, err *cell.Error) { answer(&r, o, err) })
	}
}
