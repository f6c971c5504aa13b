package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/duty"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// Slow repair: verdicts and routes go to the repairer, its proposals to the lifecycle manager.
//
//	observer --- verdicts, sizes ---> repairs <--- newer routes --- discovery
//	                                     |
//	                                     +--- proposals, withdrawals ---> lifecycle --- answers ---> repairs

// recallAfter is when the servers that the store remembers, and that have not come back since this process started, begin to be
// missed: a fleet that reconnects at the pace of registrations is not dead.
const recallAfter = time.Minute

// watchServers makes the observer and the repairer, and has discovery tell the latter of routes.
func (p *Control) watchServers(reach *reach) (err error) {
	// Whoever makes a Config by hand, as tests do, need not know the policy.
	rule := p.cfg.Repair
	if rule.Patience == 0 {
		rule = health.DefaultRepairConfig()
	}
	rule.Seed = p.cfg.Seed
	// A node that is out of service shall be known of well before the patience with it is over.
	every := min(time.Minute, max(rule.Patience/4, time.Second))
	p.observer, err = health.NewObserver(health.ObserverConfig{Rule: health.DefaultConfig(), Pinger: reach, Report: reach.Report, LoadEvery: every,
		Load:      func(id cell.ServerID, nodes, bytes uint64) { p.repairs.Load(id, nodes, bytes) },
		Sick:      reach.Sick,
		SickNodes: func(id cell.ServerID, nodes []wire.CensusNode) { p.repairs.Sick(id, nodes) }, Events: p.verdict})
	if err != nil {
		return err
	}
	p.repairs, err = health.NewRepairService(health.RepairServiceConfig{Rule: rule, Manager: manager{p}, Now: p.observer.Now,
		Owns: p.watches, Log: p.cfg.Logger})
	if err == nil {
		p.discovery.OnNewer(p.repairs.Routes)
	}
	return err
}

// verdict passes on what the observer has decided.
func (p *Control) verdict(v health.Verdict) {
	p.cfg.Logger.Info("verdict", "server", v.Server, "up", v.Up, "why", v.Why)
	p.repairs.Verdict(v)
}

// watches reports whether the health of a brick's servers is this instance's business.
func (p *Control) watches(brick string) bool {
	// Called in every turn of the repairer, once per pool with work: an atomic load and a few hashes.
	t := p.table.Load()
	return t != nil && t.Mine(brick)&wire.DutyHealth != 0
}

// retable takes the roster as it is.
func (p *Control) retable() {
	t := duty.NewTable(p.roster.Self(), p.roster.Instances())
	p.table.Store(&t)
}

// watch begins or ends to watch a server. One whose session has ended is watched all the more; one that another instance watches
// now is forgotten.
func (p *Control) watch(r wire.Registration, had, has wire.Duties) {
	switch {
	case has&wire.DutyHealth != 0:
		if err := p.observer.ServerSeen(r); err != nil {
			p.cfg.Logger.Error("health does not accept the server", "server", r.Server, "error", err)
			return
		}
		p.repairs.Server(r)
	case had&wire.DutyHealth != 0 && !p.watches(r.Brick):
		p.observer.Forget(r.Server)
		p.repairs.Forget(r.Server)
	}
}

// recall has the observer miss whoever the store remembers and nobody has heard: a while after the start, and after every change of
// the roster, which may have given this instance the bricks of another one. The store is the active instance's, whoever that is.
func (p *Control) recall() {
	for {
		timer := time.NewTimer(recallAfter)
		select {
		case <-p.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := p.recallAll(); err != nil && p.ctx.Err() == nil {
			p.cfg.Logger.Warn("servers are not recalled; it is tried again", "error", err)
			continue
		}
		select {
		case <-p.ctx.Done():
			return
		case <-p.moved:
		}
	}
}

// recallAll goes through all pages of servers that the store remembers. What the observer knows already is left alone there; so a
// server that came in the very last moment is not counted twice.
func (p *Control) recallAll() *cell.Error {
	type answer struct {
		page *wire.ServerList
		err  *cell.Error
	}
	for req := (wire.ListServers{Limit: wire.ListLimitMax}); ; {
		answers := make(chan answer, 1)
		p.known(&req, func(page *wire.ServerList, err *cell.Error) { answers <- answer{page, err} })
		a := <-answers // every question is answered, at the latest when its time is over or the manager stops
		if a.err != nil {
			return a.err
		}
		for i := range a.page.Servers {
			if r := a.page.Servers[i].Registration; p.watches(r.Brick) {
				p.miss(r)
			}
			req.After = a.page.Servers[i].Registration.Server
		}
		if !a.page.More {
			return nil
		}
	}
}

// miss has one server watched that may never have been heard.
func (p *Control) miss(r wire.Registration) {
	if err := p.observer.Recall(r); err != nil {
		p.cfg.Logger.Warn("server is not recalled", "server", r.Server, "error", err)
		return
	}
	p.repairs.Server(r)
}

// manager is the lifecycle manager as the repairer sees it. It is made before the manager, since routes come as soon as that is
// opened; nothing is proposed before everything runs. Its methods are in forward.go.
type manager struct{ control *Control }

// healthHandlers are the methods of health for operators.
func (p *Control) healthHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{
		wire.MethodListServers: p.listServers,
		wire.MethodHealth: func(r fleet.Request) {
			var req wire.ListHealth
			if r.Decode(&req) {
				// Repair and verdicts are told as of two moments, a few microseconds apart: nobody decides by this.
				report := p.repairs.Report(int(req.Limit))
				report.Control = p.cfg.Name
				report.Unreachable = p.observer.Unreachable()
				report.Unreachable = report.Unreachable[:min(len(report.Unreachable), wire.ListLimitMax)]
				r.Reply(&report, nil)
			}
		},
		wire.MethodEndHold: func(r fleet.Request) {
			var req wire.EndHold
			if r.Decode(&req) {
				r.Reply(nil, cell.AsError(wire.MethodEndHold, cell.Internal, p.repairs.EndHold(req.Domain)))
			}
		},
	}
}

// repairMetrics collects what the repairer counts. Nothing is labelled by cell or server.
func (p *Control) repairMetrics(r *prometheus.Registry) {
	// Stats costs O(pools), and is asked anew for each series: a scrape is rare.
	gauge := func(name, help string, labels prometheus.Labels, value func(health.RepairStats) int) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "physalia", Subsystem: "health", Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value(p.repairs.Stats())) }))
	}
	// The classes are those of `physalia health`; cells that a replacement is proposed for are in none of them.
	for class := range (health.RepairStats{}).Queued {
		if name := health.ClassName(class); name != "" {
			gauge("cells", "Cells that are not as they should be, by class.", prometheus.Labels{"class": name}, func(s health.RepairStats) int { return s.Queued[class] })
		}
	}
	gauge("cells_indexed", "Cells whose members are known.", nil, func(s health.RepairStats) int { return s.Cells })
	gauge("repairs_in_flight", "Replacements that are proposed or under way.", nil, func(s health.RepairStats) int { return s.InFlight })
	gauge("repairs_resting", "Cells that wait after a refusal.", nil, func(s health.RepairStats) int { return s.Resting })
	gauge("members_quarantined", "Members whose node is out of service although its server is up.", nil, func(s health.RepairStats) int { return s.Sick })
	gauge("servers_away", "Servers that are dead or not yet back for long enough.", nil, func(s health.RepairStats) int { return s.Troubled })
	gauge("holds", "Correlated failures that hold repairs back now.", nil, func(s health.RepairStats) int { return s.HoldsOn })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "physalia", Subsystem: "health", Name: "servers_unreachable",
		Help: "Servers that are up only because their peers hear them."}, func() float64 { return float64(len(p.observer.Unreachable())) }))
	// Rates of these, against the budgets, show a storm: or rather that there is none.
	counter := func(name, help string, labels prometheus.Labels, value func(health.RepairStats) uint64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "physalia", Subsystem: "health", Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value(p.repairs.Stats())) }))
	}
	const repairs = "Repairs, by what became of them."
	for result, value := range map[string]func(health.RepairStats) uint64{
		"proposed":  func(s health.RepairStats) uint64 { return s.Proposed },
		"raised":    func(s health.RepairStats) uint64 { return s.Raised },
		"begun":     func(s health.RepairStats) uint64 { return s.Begun },
		"done":      func(s health.RepairStats) uint64 { return s.Done },
		"refused":   func(s health.RepairStats) uint64 { return s.Refused },
		"withdrawn": func(s health.RepairStats) uint64 { return s.Withdrawn },
	} {
		counter("repairs_total", repairs, prometheus.Labels{"result": result}, value)
	}
	counter("repair_bytes_total", "State that repairs were charged for, by the estimate.", nil, func(s health.RepairStats) uint64 { return s.BytesProposed })
	counter("holds_total", "Holds begun.", nil, func(s health.RepairStats) uint64 { return s.Holds })
}
