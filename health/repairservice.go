package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Manager is who disposes of what a Repairer proposes: the lifecycle manager. Both methods must not block; each calls reply
// once, on any goroutine.
type Manager interface {
	Propose(p Repair, reply func(*cell.Error))
	Withdraw(w Withdrawal, reply func(given bool))
}

// RepairServiceConfig says what a RepairService works with. Manager and Now are required.
type RepairServiceConfig struct {
	Rule    RepairConfig
	Manager Manager
	Now     func() time.Duration    // the clock of the verdicts; see Observer.Now
	Owns    func(brick string) bool // nil: every brick
	Every   time.Duration           // between turns; zero means 100 ms
	Log     *slog.Logger            // nil discards
}

// RepairService runs a Repairer: a turn every so often, and again at once while there is more to do. All methods are safe for
// concurrent use, and none waits for anybody.
type RepairService struct {
	config RepairServiceConfig

	mu sync.Mutex
	r  *Repairer
}

// NewRepairService makes a service that knows nothing; Run makes it work. The error is of kind Invalid.
func NewRepairService(c RepairServiceConfig) (*RepairService, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Every <= 0 {
		c.Every = 100 * time.Millisecond
	}
	r, err := NewRepairer(c.Rule)
	if err != nil {
		return nil, err
	}
	if c.Owns != nil {
		r.Own(c.Owns)
	}
	return &RepairService{config: c, r: r}, nil
}

// Run takes turns until ctx ends. Answers that come later are taken, and nothing follows from them.
func (s *RepairService) Run(ctx context.Context) {
	tick := time.NewTicker(s.config.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for more := true; more && ctx.Err() == nil; {
			more = s.turn()
		}
	}
}

// turn takes one turn and carries it out; nobody is called under the lock.
func (s *RepairService) turn() bool {
	s.mu.Lock()
	turn := s.r.Turn(s.config.Now())
	s.mu.Unlock()
	for _, n := range turn.Notes {
		if n.Hold {
			s.config.Log.Warn("repairs are held", "domain", n.Domain, "text", n.Text)
		} else {
			s.config.Log.Info("a hold has ended", "domain", n.Domain, "text", n.Text)
		}
	}
	for _, w := range turn.Withdraw {
		s.config.Manager.Withdraw(w, func(given bool) {
			s.config.Log.Info("repair not wanted any more", "cell", w.Cell, "server", w.Remove, "given-up", given)
			s.do(func(r *Repairer, now time.Duration) { r.Withdrawn(now, w.Cell, w.Remove, given) })
		})
	}
	for _, p := range turn.Propose {
		s.config.Manager.Propose(p, func(err *cell.Error) {
			if err != nil {
				s.config.Log.Info("repair refused", "cell", p.Cell, "server", p.Remove, "why", p.Why, "error", err)
			} else {
				s.config.Log.Info("repair begins", "cell", p.Cell, "server", p.Remove, "raise", p.Raise, "why", p.Why)
			}
			s.do(func(r *Repairer, now time.Duration) { r.Outcome(now, p.Cell, p.Remove, err) })
		})
	}
	return turn.More
}

// do runs one input.
func (s *RepairService) do(f func(r *Repairer, now time.Duration)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.r, s.config.Now())
}

// Server takes a registration.
func (s *RepairService) Server(g wire.Registration) {
	s.do(func(r *Repairer, now time.Duration) { r.Server(now, &g) })
}

// Verdict takes a verdict; it is Observer's Events.
func (s *RepairService) Verdict(v Verdict) {
	s.do(func(r *Repairer, _ time.Duration) { r.Verdict(v) })
}

// Forget takes a server that is gone for good.
func (s *RepairService) Forget(id cell.ServerID) {
	s.do(func(r *Repairer, now time.Duration) { r.Forget(now, id) })
}

// Load takes what a server says of its nodes.
func (s *RepairService) Load(id cell.ServerID, nodes, bytes uint64) {
	s.do(func(r *Repairer, _ time.Duration) { r.Load(id, nodes, bytes) })
}

// Sick takes all nodes of a server that are out of service; see Repairer.Sick.
func (s *RepairService) Sick(id cell.ServerID, nodes []wire.CensusNode) {
	s.do(func(r *Repairer, now time.Duration) { r.Sick(now, id, nodes) })
}

// Routes takes a page of routes.
func (s *RepairService) Routes(routes []wire.Route) {
	s.do(func(r *Repairer, now time.Duration) {
		for i := range routes {
			r.Route(now, &routes[i])
		}
	})
}

// EndHold ends a hold by hand; see Repairer.EndHold.
func (s *RepairService) EndHold(domain string) (err error) {
	s.do(func(r *Repairer, now time.Duration) { err = r.EndHold(now, domain) })
	return err
}

// Report tells operators how things stand; see Repairer.Report.
func (s *RepairService) Report(limit int) (report wire.HealthReport) {
	s.do(func(r *Repairer, now time.Duration) { report = r.Report(now, limit) })
	return report
}

// Stats counts what the Repairer holds and did.
func (s *RepairService) Stats() (stats RepairStats) {
	s.do(func(r *Repairer, _ time.Duration) { stats = r.Stats() })
	return stats
}
