package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
	"physalia/cmd/physalia/judge"
	"physalia/cmd/physalia/operator"
	"physalia/internal/wire"
)

// site is the place of one drill: its colony, and what was found there. What several goroutines of a drill may call says so.
type site struct {
	cfg  Config
	spec colony.Spec
	*colony.Colony
	op     operator.Operator
	origin time.Time // of the clock of all logs

	mu     sync.Mutex // of the report
	report Report
}

// Waits of a drill, in times that a machine with far more processes than processors may need. None of them is a promise.
const (
	startMax    = 90 * time.Second
	convergeMax = 2 * time.Minute
	callTimeout = 15 * time.Second // of clients: an error that a few more seconds would have avoided says nothing
	checkMax    = 20 * time.Second // in which one cell's history must be decided
	pollEvery   = 50 * time.Millisecond
)

// start starts the colony and waits for its servers.
func (s *site) start(ctx context.Context) (err error) {
	s.cfg.Say("%s: starting %d servers and a control process in %s", s.report.Drill, s.spec.Bricks*s.spec.Colors*s.spec.Servers, s.spec.Dir)
	if s.Colony, err = colony.Start(s.spec); err != nil {
		return err
	}
	s.op = operator.Operator{Colony: colony.Name, Addresses: s.ControlAddresses()}
	if err := s.awaitServers(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	return nil
}

// close ends every process.
func (s *site) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.Close(ctx)
}

// awaitServers waits until the control plane says that every server is up.
func (s *site) awaitServers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	return s.op.AwaitServers(ctx, len(s.Servers), s.Failed)
}

// The two functions below are the only places that kill and start the control plane as a whole: where it has several instances,
// "the control plane" is all of them.
//
// killControl kills the control plane with SIGKILL, which leaves it no time to finish anything.
func (s *site) killControl() (err error) {
	for _, v := range s.Instances {
		err = errors.Join(err, v.Kill())
	}
	return err
}

// startControl starts the control plane again; it does not wait for anything.
func (s *site) startControl() (err error) {
	for _, v := range s.Instances {
		err = errors.Join(err, v.Start())
	}
	return err
}

// restartControl starts the control plane again and waits until every server has come back to it.
func (s *site) restartControl(ctx context.Context) error {
	if err := s.startControl(); err != nil {
		return err
	}
	return s.awaitServers(ctx)
}

// figure notes a number. It is safe for concurrent use.
func (s *site) figure(name string, value float64, unit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Figures = append(s.report.Figures, Figure{name, value, unit})
}

// count is figure for a count.
func (s *site) count(name string, n int) { s.figure(name, float64(n), "") }

// wrong notes a reason for the verdict to be "fail", if there is one. It is safe for concurrent use.
func (s *site) wrong(is bool, format string, args ...any) {
	if !is {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Verdict = "fail"
	s.report.Reasons = append(s.report.Reasons, fmt.Sprintf(format, args...))
}

// now is the time since the origin of all logs.
func (s *site) now() time.Duration { return time.Since(s.origin) }

// Waiting is by condition wherever there is one. Its bound says when a drill gives up, not how fast anything has to be.
//
// until looks again and again until holds does, for most at most. A child that dies by itself ends the wait; what holds cannot
// find out, it is asked for again, and the last such error is told when the time is over.
func (s *site) until(ctx context.Context, most time.Duration, what string, holds func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		ok, err := holds(ctx)
		if ok {
			return nil
		}
		if err := s.Failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("in vain for %v: %s", most, what), err)
		case <-ticker.C:
		}
	}
}

// wait lets time pass for a load; a child that dies by itself ends it.
func (s *site) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return s.Failed()
	}
}

// names makes cell names.
func names(prefix string, n int) (ids []cell.ID) {
	for i := range n {
		ids = append(ids, cell.ID(fmt.Sprintf("%s-%04d", prefix, i+1)))
	}
	return ids
}

// create creates cells while the control plane is well.
func (s *site) create(ctx context.Context, ids []cell.ID) error {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	return s.op.CreateAll(ctx, "drill.create", ids)
}

// clientAddrs lists where clients reach the servers.
func (s *site) clientAddrs() (all []string) {
	for _, v := range s.Servers {
		all = append(all, v.Client)
	}
	return all
}

// clients is how clients of a drill are set up: with the control plane, and the servers for when it is away.
func (s *site) clients() client.Config {
	return client.Config{Colony: colony.Name, Control: s.op.Addresses, Servers: s.clientAddrs(), CallTimeout: callTimeout}
}

// crowd is a load on cells of about so many operations per second in each.
func (s *site) crowd(ids []cell.ID, perCell int, how client.Config) crowd.Config {
	return crowd.Config{Cells: ids, Clients: 2, Rate: perCell * len(ids), Client: how, Origin: s.origin}
}

// Data and requests are judged apart: lost data is wrong in every drill, a request that failed only where nothing excuses it.
//
// judge ends a load, reads everything back through a fresh client and notes what is wrong with the data, errors of requests apart.
func (s *site) judge(ctx context.Context, what string, load *crowd.Crowd, how crowd.Config) ([]*judge.Log, error) {
	logs := load.Stop()
	final, err := crowd.Final(ctx, how, func(err error) { s.cfg.Say("%v", err) })
	if err != nil {
		return nil, err
	}
	v := judge.Judge(logs, final, checkMax)
	s.count(what+": writes acknowledged", int(v.Acked))
	s.wrong(v.Acked == 0, "%s: nothing was written", what)
	s.wrong(v.Lost > 0, "%s: %d acknowledged writes are lost", what, v.Lost)
	s.wrong(v.Doubled > 0, "%s: %d writes took effect twice", what, v.Doubled)
	s.wrong(!v.Linearizable(), "%s: not linearizable %v, not decided %v", what, v.Bent, v.Unsolved)
	s.wrong(v.WentBack > 0, "%s: %d fences went back", what, v.WentBack)
	s.wrong(len(v.Unread) > 0, "%s: could not be read back: %v", what, v.Unread)
	return logs, nil
}

// errorsWithin counts the failed requests of logs, and names their kinds.
func errorsWithin(logs []*judge.Log, from, to time.Duration) (n int, kinds []cell.Kind) {
	count := judge.ErrorsWithin(logs, from, to)
	for _, k := range count {
		n += k
	}
	return n, judge.Kinds(count)
}

// converged waits until the lifecycle manager has nothing left to do.
func (s *site) converged(ctx context.Context) error {
	return s.until(ctx, convergeMax, "everything is as it should be", func(ctx context.Context) (bool, error) {
		status, err := s.op.Status(ctx, "drill.status", 1)
		if err != nil {
			return false, err
		}
		if len(status.Waiting) > 0 {
			w := status.Waiting[0]
			err = fmt.Errorf("%d have not converged, the oldest is %+v", status.Open, w)
		}
		return status.Open == 0, err
	})
}

// identities finds the identities of servers, in the order of s.Servers.
func (s *site) identities(ctx context.Context) ([]cell.ServerID, error) {
	servers, err := s.op.Servers(ctx, "drill.servers")
	if err != nil {
		return nil, err
	}
	ids := make([]cell.ServerID, len(s.Servers))
	for i, v := range s.Servers {
		at := slices.IndexFunc(servers, func(w wire.ServerState) bool { return w.Registration.Name == v.Name })
		if at < 0 {
			return nil, fmt.Errorf("the control plane does not know server %s", v.Name)
		}
		ids[i] = servers[at].Registration.Server
	}
	return ids, nil
}
