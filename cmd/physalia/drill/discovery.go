package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/internal/wire"
)

// News that survives a restart is taken away: first the snapshots, then the lifecycle manager's store as well, from which its own
// process would know all routes. What is left is what the servers know.
var discoveryDrill = Drill{
	Name:   "discovery",
	Proves: "every copy of discovery restarted empty at once: full again without asking the lifecycle manager, and clients find their cells",
	cells:  2000,
	spec:   withCopies(shape(9, 4, 3), 2),
	run:    runDiscovery,
}

// withCopies adds copies of discovery.
func withCopies(s colony.Spec, n int) colony.Spec {
	s.Copies = n
	return s
}

// discoverySeekers are clients that look for one cell each, again and again, with nothing remembered in between.
const discoverySeekers = 2

// Names of metrics of the control process.
const (
	routesMetric    = "physalia_control_routes"
	connectedMetric = "physalia_control_servers_connected"
	behindMetric    = "physalia_discovery_sources_behind"
	requestsMetric  = "physalia_control_requests_total"
	answeredMetric  = `physalia_discovery_requests_total{result="answered"}`
	failedMetric    = `physalia_discovery_requests_total{result="failed"}`
)

// seekers are clients that know the control plane alone.
type seekers struct {
	stop context.CancelFunc
	wait sync.WaitGroup
	mu   sync.Mutex
	done int
	errs []error
}

// runDiscovery empties discovery and watches it fill.
func runDiscovery(ctx context.Context, s *site) error {
	ids := names("vol", s.cfg.Cells)
	began := time.Now()
	if err := s.create(ctx, ids); err != nil {
		return err
	}
	s.figure("cells created within", time.Since(began).Seconds(), "s")
	if err := s.full(ctx, len(ids)); err != nil {
		return err
	}
	seek := s.seek(ctx, ids)
	defer seek.end()
	if err := s.sought(ctx, seek); err != nil {
		return err
	}
	for _, lost := range []struct {
		what string
		dirs []string // below each process's own
	}{{"snapshots lost", []string{"objects"}}, {"snapshots and store lost", []string{"objects", "lifecycle"}}} {
		if err := s.empty(ctx, lost.what, lost.dirs, len(ids)); err != nil {
			return err
		}
		if err := s.sought(ctx, seek); err != nil {
			return err
		}
	}
	seek.end()
	s.count("cells looked for by clients that remember nothing", seek.done)
	s.count("and not found or not served", len(seek.errs))
	s.wrong(len(seek.errs) > 0, "%d of %d clients failed, the first with %v", len(seek.errs), seek.done, errors.Join(seek.errs[:min(1, len(seek.errs))]...))
	return nil
}

// copies lists every copy of discovery with its address for operators.
func (s *site) copies() map[*colony.Process]string {
	all := map[*colony.Process]string{s.Control: s.ControlOps}
	for _, v := range s.Copies {
		all[v.Process] = v.Ops
	}
	return all
}

// All copies are dead before the first one starts: none can learn from one that still knew. Processor time is that of all of them, and
// of everything else they do when they start.
//
// empty restarts every copy at once without what it had on disk, waits until all are full, and notes what that took.
func (s *site) empty(ctx context.Context, what string, dirs []string, cells int) error {
	s.cfg.Say("all copies of discovery restart empty: %s", what)
	spent := map[*colony.Process]time.Duration{}
	for p := range s.copies() {
		if err := p.Kill(); err != nil {
			return err
		}
		spent[p], _ = p.CPU()
		for _, dir := range dirs {
			if err := os.RemoveAll(filepath.Join(s.spec.Dir, p.Name, dir)); err != nil {
				return err
			}
		}
	}
	began := time.Now()
	for p := range s.copies() {
		if err := p.Start(); err != nil {
			return err
		}
	}
	if err := s.full(ctx, cells); err != nil {
		return err
	}
	s.figure(what+": all copies full again after", time.Since(began).Seconds(), "s")
	total, cpu := asked{}, time.Duration(0)
	for p, ops := range s.copies() {
		m, err := metricsOf(ctx, ops)
		if err != nil {
			return err
		}
		total.add(m)
		now, _ := p.CPU()
		cpu += now - spent[p]
	}
	s.figure(what+": processor time of all copies", cpu.Seconds(), "s")
	s.figure(what+": requests to the lifecycle manager", total.lifecycle, "")
	s.figure(what+": requests to servers and other copies", total.out, "")
	s.figure(what+": pushes of servers", total.pushes, "")
	s.wrong(total.lifecycle > 0, "%s: %v requests to the lifecycle manager while discovery was filled", what, total.lifecycle)
	s.wrong(total.out+total.pushes > float64(cells), "%s: %v requests and pushes for %d cells: more than one for each", what, total.out+total.pushes, cells)
	return nil
}

// A copy that knows as many cells as there are, and has nothing left to compare, knows these: names are never reused here.
//
// full waits until every copy knows every cell, every server has come back, and nothing is left that was not compared.
func (s *site) full(ctx context.Context, cells int) error {
	return s.until(ctx, convergeMax, "every copy of discovery knows every cell", func(ctx context.Context) (bool, error) {
		for p, ops := range s.copies() {
			m, err := metricsOf(ctx, ops)
			if err != nil {
				return false, err
			}
			if int(m[routesMetric]) != cells || m[behindMetric] > 0 || p == s.Control && int(m[connectedMetric]) != len(s.Servers) {
				return false, fmt.Errorf("%s: %v of %d routes, %v not compared, %v servers connected", p.Name, m[routesMetric], cells, m[behindMetric], m[connectedMetric])
			}
		}
		return true, nil
	})
}

// asked is what was asked of whom since the processes started.
type asked struct{ lifecycle, out, pushes float64 }

// Requests are counted by whoever takes them, and discovery counts what it sends; a request between two copies is in both.
//
// add adds what one process shows.
func (a *asked) add(m map[string]float64) {
	a.out += m[answeredMetric] + m[failedMetric]
	for name, n := range m {
		method, ok := strings.CutPrefix(name, requestsMetric+`{method="`)
		switch {
		case ok && strings.HasPrefix(method, "lifecycle."):
			a.lifecycle += n
		case ok && strings.HasPrefix(method, wire.MethodPush):
			a.pushes += n
		}
	}
}

// While no copy answers, a client waits and asks again; while a copy is still empty, it is told that what is not known may exist.
// Neither may become an error within the time of a call.
//
// seek starts the seekers.
func (s *site) seek(ctx context.Context, ids []cell.ID) *seekers {
	ctx, cancel := context.WithCancel(ctx)
	k := &seekers{stop: cancel}
	for n := range discoverySeekers {
		dice := rand.New(rand.NewPCG(s.cfg.Seed, uint64(n)))
		k.wait.Go(func() {
			for ctx.Err() == nil {
				id := ids[dice.IntN(len(ids))]
				err := s.seekOne(context.WithoutCancel(ctx), id)
				k.mu.Lock()
				k.done++
				if err != nil {
					k.errs = append(k.errs, fmt.Errorf("%s: %w", id, err))
				}
				k.mu.Unlock()
			}
		})
	}
	return k
}

// A new library for every cell: routes, connections and sessions of the one before are gone with it.
//
// seekOne writes into a cell through a client that knows nothing yet.
func (s *site) seekOne(ctx context.Context, id cell.ID) error {
	lib, err := client.New(ctx, client.Config{Colony: colony.Name, Control: s.DiscoveryAddrs(), CallTimeout: callTimeout})
	if err != nil {
		return err
	}
	defer lib.Close()
	_, err = lib.Cell(id).Put(ctx, "found", cell.Bool(true))
	return err
}

// sought waits until the seekers have found some more.
func (s *site) sought(ctx context.Context, k *seekers) error {
	count := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.done
	}
	from := count()
	return s.until(ctx, startMax, "clients look for cells", func(context.Context) (bool, error) { return count() >= from+20, nil })
}

// end ends the seekers; it may be called twice.
func (k *seekers) end() {
	k.stop()
	k.wait.Wait()
}
