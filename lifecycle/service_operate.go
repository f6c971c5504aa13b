package lifecycle

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// ParseDuty reads the name of a duty that an operator may order.
func ParseDuty(name string) (Duty, *cell.Error) {
	for d := Serving; d <= dutyMax; d++ {
		if d.String() == name {
			return d, nil
		}
	}
	return 0, &cell.Error{Op: "server.duty", Kind: cell.Invalid, Detail: fmt.Sprintf("%q is no duty", name),
		Hint: "the duties are serving, draining and decommissioning"}
}

// Pause stops actions; reply is called once, on another goroutine, when that is durable, and must not block. The same holds for
// Resume and SetDuty.
func (s *Service) Pause(list []Action, o Order, reply func(*cell.Error)) {
	s.request("control.pause", func(r Reply) { reply(r.Err) }, func(now time.Duration, id RequestID) { s.m.Pause(now, id, list, o) })
}

// Resume ends the pauses of actions.
func (s *Service) Resume(list []Action, reply func(*cell.Error)) {
	s.request("control.resume", func(r Reply) { reply(r.Err) }, func(now time.Duration, id RequestID) { s.m.Resume(now, id, list) })
}

// SetDuty orders what a server is to be.
func (s *Service) SetDuty(server cell.ServerID, duty Duty, o Order, reply func(*cell.Error)) {
	s.request("server.duty", func(r Reply) { reply(r.Err) }, func(now time.Duration, id RequestID) { s.m.SetDuty(now, id, server, duty, o) })
}

// Status asks what the manager is held back by; reply as of Pause.
func (s *Service) Status(req wire.StatusRequest, reply func(*wire.ControlStatus, *cell.Error)) {
	s.request("control.status", func(r Reply) { reply(r.Status, r.Err) }, func(now time.Duration, id RequestID) { s.m.Status(now, id, req) })
}

// Invite remembers an invitation for life from now on; reply as of Pause.
func (s *Service) Invite(v Invitation, life time.Duration, reply func(*cell.Error)) {
	wall := s.wall()
	v.Expires = wall + uint64(life.Milliseconds())
	s.request(wire.MethodInvite, func(r Reply) { reply(r.Err) }, func(now time.Duration, id RequestID) { s.m.Invite(now, id, wall, v) })
}

// Redeem uses an invitation up and tells its identity; reply as of Pause.
func (s *Service) Redeem(hash SecretHash, reply func(identity string, err *cell.Error)) {
	wall := s.wall()
	s.request(wire.MethodJoin, func(r Reply) { reply(r.Identity, r.Err) }, func(now time.Duration, id RequestID) { s.m.Redeem(now, id, wall, hash) })
}

// wall is the time of an order, for people.
func (s *Service) wall() uint64 { return uint64(s.cfg.Wall().UnixMilli()) }

// operating returns the methods by which operators hold the manager back and see what it does. Whoever orders something leaves a
// trace in the log.
func (s *Service) operating() map[string]fleet.Handler {
	// An order has no result: that it is durable is the answer.
	acted := func(r fleet.Request) func(*cell.Error) { return func(err *cell.Error) { r.Reply(nil, err) } }
	actions := func(r fleet.Request, do func(list []Action, o Order)) {
		var req wire.ActionOrder
		if !r.Decode(&req) {
			return
		}
		list, err := ParseActions(req.Actions)
		if err != nil {
			r.Reply(nil, err)
			return
		}
		s.cfg.Log.Warn("operator's order", "method", r.Method, "actions", list, "by", req.By, "reason", req.Reason)
		do(list, Order{By: req.By, Reason: req.Reason, At: s.wall()})
	}
	// The log has who ordered what, also when the order fails; the store has only what holds.
	return map[string]fleet.Handler{
		wire.MethodPause: func(r fleet.Request) {
			actions(r, func(list []Action, o Order) { s.Pause(list, o, acted(r)) })
		},
		wire.MethodResume: func(r fleet.Request) {
			actions(r, func(list []Action, _ Order) { s.Resume(list, acted(r)) })
		},
		wire.MethodDuty: func(r fleet.Request) {
			var req wire.ServerDuty
			if !r.Decode(&req) {
				return
			}
			// A duty that this version does not know is refused, not taken for another one.
			duty, err := ParseDuty(req.Duty)
			if err != nil {
				r.Reply(nil, err)
				return
			}
			s.cfg.Log.Warn("operator's order", "method", r.Method, "server", req.Server, "duty", duty, "by", req.By, "reason", req.Reason)
			s.SetDuty(req.Server, duty, Order{By: req.By, Reason: req.Reason, At: s.wall()}, acted(r))
		},
		wire.MethodStatus: func(r fleet.Request) {
			var req wire.StatusRequest
			if r.Decode(&req) {
				s.Status(req, func(st *wire.ControlStatus, err *cell.Error) { answer(&r, st, err) })
			}
		},
	}
}
