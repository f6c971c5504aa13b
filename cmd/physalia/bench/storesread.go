package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/judge"
	"physalia/discovery"
	"physalia/health"
	"physalia/internal/objects"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// handed counts the pages of routes that a manager's loop hands on, and how long the longest held it up.
type handed struct {
	mu      sync.Mutex
	routes  int
	longest time.Duration
	all     chan struct{} // closed once everything was handed on
	want    int
}

// through wraps what takes the pages.
func (h *handed) through(put func([]wire.Route)) func([]wire.Route) {
	return func(page []wire.Route) {
		began := time.Now()
		put(page)
		took := time.Since(began)
		h.mu.Lock()
		defer h.mu.Unlock()
		// Changes come through here, too: those after the last page are counted and change nothing.
		before := h.routes
		h.routes += len(page)
		h.longest = max(h.longest, took)
		if before < h.want && h.routes >= h.want {
			close(h.all)
		}
	}
}

// repairer is health's part in a control plane: told of every newer route.
func repairer() (*health.RepairService, error) {
	return health.NewRepairService(health.RepairServiceConfig{Rule: health.DefaultRepairConfig(), Manager: nobody{}, Now: func() time.Duration { return 0 }})
}

// Repairs have a benchmark of their own, in package health.
//
// nobody disposes of nothing: no server dies here.
type nobody struct{}

// Propose refuses: nothing is to be repaired where nobody runs.
func (nobody) Propose(p health.Repair, reply func(*cell.Error)) {
	reply(&cell.Error{Op: "bench", Kind: cell.Refused, Cell: p.Cell})
}

// Withdraw finds nothing to take back.
func (nobody) Withdraw(_ health.Withdrawal, reply func(bool)) { reply(false) }

// handOn starts the manager as a control process does: every route goes on to discovery and to health, which hold up the
// manager's loop page by page, while the first creation is already waiting.
func (s *stores) handOn(ctx context.Context) error {
	repairs, err := repairer()
	if err != nil {
		return err
	}
	k, err := s.keeper()
	if err != nil {
		return err
	}
	copied := discovery.NewService(discovery.ServiceConfig{Keeper: k})
	copied.OnNewer(repairs.Routes)
	h := &handed{all: make(chan struct{}), want: s.Cells}
	runtime.GC() // a new process has no garbage of an earlier life
	began := time.Now()
	m, err := s.open(lifecycle.Limits{}, h.through(copied.Put))
	if err != nil {
		return err
	}
	s.join(m)
	if err := create(m, []cell.ID{"second"}); err != nil {
		return errors.Join(err, m.Close())
	}
	s.report.FirstCreateSeconds = millis(time.Since(began)) / 1000
	select {
	case <-h.all:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), m.Close())
	}
	s.report.HandOnSeconds = millis(time.Since(began)) / 1000
	h.mu.Lock()
	s.report.LongestPageMS = millis(h.longest)
	h.mu.Unlock()
	// Now that the loop is free: what a creation costs in a store of this size, with one sync.
	var times []time.Duration
	for i := range 100 {
		began := time.Now()
		if err := create(m, []cell.ID{cell.ID(fmt.Sprintf("later-%d", i))}); err != nil {
			return errors.Join(err, m.Close())
		}
		times = append(times, time.Since(began))
	}
	s.report.CreateP50MS = millis(judge.Percentiles(times, 50)[0])
	s.Say("first cell after %.2f s, all routes handed on after %.2f s", s.report.FirstCreateSeconds, s.report.HandOnSeconds)
	return errors.Join(s.save(ctx, copied), m.Close())
}

// The default period is a minute, far longer than a start takes, so nothing is written meanwhile.
//
// keeper is where discovery's snapshots are.
func (s *stores) keeper() (k discovery.KeeperConfig, err error) {
	store, err := objects.Open(filepath.Join(s.Dir, "objects"))
	return discovery.KeeperConfig{Store: store, Copy: "bench"}, err
}

// save writes the snapshot that the next phase starts from.
func (s *stores) save(ctx context.Context, copied *discovery.Service) error {
	began := time.Now()
	if err := copied.Save(ctx); err != nil {
		return err
	}
	s.report.SaveSeconds = millis(time.Since(began)) / 1000
	s.report.SnapshotMiB = rounded(float64(copied.Kept().Bytes) / (1 << 20))
	return nil
}

// measureDiscovery starts a copy from the snapshot, first alone and then with health listening.
func (s *stores) measureDiscovery(ctx context.Context) error {
	before := heap()
	alone, seconds, err := s.load(ctx, nil)
	if err != nil {
		return err
	}
	s.report.DiscoveryBytes, s.report.LoadSeconds = s.perCell(before), seconds
	runtime.KeepAlive(alone)
	// The first copy stays reachable until here, so that it is in neither difference.
	before = heap()
	repairs, err := repairer()
	if err != nil {
		return err
	}
	both, seconds, err := s.load(ctx, repairs.Routes)
	if err != nil {
		return err
	}
	s.report.HealthBytes = rounded(s.perCell(before) - s.report.DiscoveryBytes)
	s.report.LoadHealthSeconds = seconds
	if n := repairs.Stats().Cells; n < s.Cells {
		return fmt.Errorf("health knows %d cells, want at least %d", n, s.Cells)
	}
	s.Say("discovery started in %.2f s, with health listening in %.2f s", s.report.LoadSeconds, seconds)
	runtime.KeepAlive(both)
	return nil
}

// load starts a copy of discovery from the newest snapshot, and returns it once every cell is there, with the seconds that took.
func (s *stores) load(ctx context.Context, newer func([]wire.Route)) (*discovery.Service, float64, error) {
	k, err := s.keeper()
	if err != nil {
		return nil, 0, err
	}
	copied := discovery.NewService(discovery.ServiceConfig{Keeper: k})
	if newer != nil {
		copied.OnNewer(newer)
	}
	// Run goes on to ask servers, of whom there are none; it is ended as soon as the snapshot is in.
	running, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer stop()
	began := time.Now()
	wait.Go(func() { copied.Run(running) })
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for copied.Kept().Restored == 0 {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-look.C:
		}
	}
	took := millis(time.Since(began)) / 1000
	if n := copied.Stats().Cells; n < s.Cells {
		return nil, 0, fmt.Errorf("the snapshot has %d cells, want at least %d", n, s.Cells)
	}
	return copied, took, nil
}
