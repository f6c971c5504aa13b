package control

import (
	"cmp"
	"context"
	"slices"
	"time"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/fleet"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// The health of a brick may be watched by an instance that stands by, while repairs are the active one's to carry out. Then
// proposals and withdrawals cross from one to the other, by a connection of their own: the repairer's budget makes them few. One
// that gets lost is made again, since the repairer looks at what has become of the cell.

// forwardTimeout bounds one proposal to another instance.
const forwardTimeout = 5 * time.Second

// Propose implements health.Manager.
func (m manager) Propose(p health.Repair, reply func(*cell.Error)) {
	reply = m.control.recorded(wire.MethodPropose, []string{string(p.Cell), string(p.Remove)}, p.Why, reply)
	here, standing := m.control.seat.current(wire.MethodPropose)
	// The active instance disposes of its own bricks without a detour.
	if standing == nil {
		here.Propose(proposal(&wire.ProposeRepair{Cell: p.Cell, Incarnation: p.Incarnation, Remove: p.Remove, Raise: p.Raise, Why: p.Why}), reply)
		return
	}
	why := p.Why[:min(len(p.Why), wire.WhyBytesMax)]
	request := &wire.ProposeRepair{Cell: p.Cell, Incarnation: p.Incarnation, Remove: p.Remove, Raise: p.Raise, Why: why}
	m.control.forward(standing, wire.MethodPropose, request, nil, reply)
}

// Withdraw implements health.Manager. When nothing is known, it counts as too late: the repairer then waits for the outcome.
func (m manager) Withdraw(w health.Withdrawal, reply func(bool)) {
	here, standing := m.control.seat.current(wire.MethodWithdraw)
	if standing == nil {
		here.Withdraw(w.Cell, w.Remove, func(given bool, err *cell.Error) { reply(given && err == nil) })
		return
	}
	// An answer that is lost may have been yes; to count it as no costs the repairer a look at the cell.
	var answer wire.Withdrawn
	m.control.forward(standing, wire.MethodWithdraw, &wire.WithdrawRepair{Cell: w.Cell, Remove: w.Remove}, &answer,
		func(err *cell.Error) { reply(answer.Given && err == nil) })
}

// known asks the active instance for a page of the servers that its store remembers, in order of identity; reply is called once,
// on another goroutine.
func (p *Control) known(req *wire.ListServers, reply func(*wire.ServerList, *cell.Error)) {
	here, standing := p.seat.current(wire.MethodKnown)
	if standing != nil {
		var page wire.ServerList
		p.forward(standing, wire.MethodKnown, req, &page, func(err *cell.Error) { reply(&page, err) })
		return
	}
	here.Known(func(servers []wire.Registration, err *cell.Error) {
		page := knownPage(servers, req)
		reply(&page, err)
	})
}

// knownPage cuts a page out of all servers. They are few, and rarely asked for: whoever watches a brick asks after his start and
// after the instances have changed.
func knownPage(servers []wire.Registration, req *wire.ListServers) (page wire.ServerList) {
	limit := int(req.Limit)
	if limit < 1 || limit > wire.ListLimitMax {
		limit = wire.ListLimitMax
	}
	slices.SortFunc(servers, func(a, b wire.Registration) int { return cmp.Compare(a.Server, b.Server) })
	for _, r := range servers {
		if r.Server <= req.After {
			continue
		}
		if page.More = len(page.Servers) == limit; page.More {
			return page
		}
		page.Servers = append(page.Servers, wire.ServerState{Registration: r})
	}
	return page
}

// proposal is a proposal as the lifecycle manager takes it.
func proposal(p *wire.ProposeRepair) lifecycle.Proposal {
	cause := lifecycle.ByRepair
	if p.Raise {
		cause = lifecycle.ByRaise
	}
	return lifecycle.Proposal{Cell: p.Cell, Incarnation: p.Incarnation, Remove: p.Remove, Cause: cause, Why: p.Why}
}

// forward asks the instance that a refusal names, and replies once, on another goroutine. Without a name the refusal is the reply.
func (p *Control) forward(standing *cell.Error, method string, request, result wire.Message, reply func(*cell.Error)) {
	p.wait.Go(func() {
		if standing.LeaderAddr == "" {
			reply(standing)
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, forwardTimeout)
		defer cancel()
		conn, err := rpc.Dial(ctx, standing.LeaderAddr, rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: p.cfg.Colony}, FrameMax: wire.ControlFrameMax,
			DialContext: p.guard.Dialer(pki.ControlPort, nil)})
		if err == nil {
			err = conn.Call(ctx, method, request, result)
			conn.Close(nil)
		}
		reply(cell.AsError(method, cell.Unavailable, err))
	})
}

// An instance that stands by refuses with the name of the active one: whoever asked it knew an older roster, and proposes again.
//
// proposalHandlers take what other instances propose.
func (p *Control) proposalHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{
		wire.MethodPropose: func(r fleet.Request) {
			var req wire.ProposeRepair
			if !r.Decode(&req) {
				return
			}
			here, err := p.seat.current(r.Method)
			if err != nil {
				r.Reply(nil, err)
				return
			}
			here.Propose(proposal(&req), func(err *cell.Error) { r.Reply(nil, err) })
		},
		wire.MethodKnown: func(r fleet.Request) {
			var req wire.ListServers
			if !r.Decode(&req) {
				return
			}
			if _, err := p.seat.current(r.Method); err != nil {
				r.Reply(nil, err) // to be passed on once is enough
				return
			}
			p.known(&req, func(page *wire.ServerList, err *cell.Error) {
				if err != nil {
					r.Reply(nil, err)
					return
				}
				r.Reply(page, nil)
			})
		},
		wire.MethodWithdraw: func(r fleet.Request) {
			var req wire.WithdrawRepair
			if !r.Decode(&req) {
				return
			}
			here, err := p.seat.current(r.Method)
			if err != nil {
				r.Reply(nil, err)
				return
			}
			here.Withdraw(req.Cell, req.Remove, func(given bool, err *cell.Error) {
				if err != nil {
					r.Reply(nil, err)
					return
				}
				r.Reply(&wire.Withdrawn{Given: given}, nil)
			})
		},
	}
}
