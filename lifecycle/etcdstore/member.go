package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"physalia/cell"
	"physalia/internal/roster"
)

// Why a term, or the presence of an instance, ends.
var (
	errLeaseLost = errors.New("the lease in etcd is lost: it was not kept alive in time")
	errServed    = errors.New("the lifecycle manager has stopped")
	errLeaving   = errors.New("this instance is being stopped")
)

// How a Member paces itself.
const (
	askTimeout   = 3 * time.Second // one question to etcd
	againMin     = 200 * time.Millisecond
	againMax     = 5 * time.Second // between attempts to be present
	standBack    = 2 * time.Second // after a term that failed by itself: somebody else may do better
	leaveTimeout = 2 * time.Second // what is under way when the instance is stopped
)

// Member is one instance among those that share a store. Its methods are safe for concurrent use.
type Member struct {
	cfg   Config
	board *roster.Board

	mu      sync.Mutex
	problem error     // why etcd cannot be used now; nil: it answers
	since   time.Time // of problem

	// Owned by Run:
	client *clientv3.Client
	lease  clientv3.LeaseID // of the presence before this one, if it may still live
}

// New makes a member. It does not talk to etcd before Run.
func New(c Config) (*Member, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	m := &Member{cfg: c, board: roster.NewBoard(c.Name, roster.Instance{Name: c.Name, Addr: c.Addr}),
		since: time.Now(), problem: errors.New("it has not been asked yet")}
	return m, nil
}

// Roster is who is there. While etcd does not answer, it stays as it was known last; this instance is always in it.
func (m *Member) Roster() *roster.Board { return m.board }

// Problem tells why etcd cannot be used now, and for how long; nil when it answers.
func (m *Member) Problem() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem == nil {
		return nil
	}
	return &cell.Error{Op: "control.store", Kind: cell.Unavailable, Err: m.problem, RetryAfter: time.Second,
		Detail: fmt.Sprintf("the shared store, etcd at %v under %s, has not been usable for %v", m.cfg.Endpoints, m.cfg.Prefix, time.Since(m.since).Round(time.Second)),
		Hint:   "start etcd, or restore its majority; cells that exist serve without it"}
}

// note takes down whether etcd answers.
func (m *Member) note(problem error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (m.problem == nil) != (problem == nil) {
		m.since = time.Now()
		if problem == nil {
			m.cfg.Log.Info("the shared store answers")
		} else {
			m.cfg.Log.Warn("the shared store cannot be used", "etcd", m.cfg.Endpoints, "error", problem)
		}
	}
	m.problem = problem
}

// Run takes part until ctx ends: it keeps this instance in the roster, stands for election, and calls serve for every term
// that it wins. The term is over when serve returns; serve must return soon after Term.Done is closed. The error of serve is
// logged. After Run, nothing of this member is left in etcd, if etcd answers.
func (m *Member) Run(ctx context.Context, serve func(*Term) error) {
	defer m.disconnect()
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		err := m.present(ctx, serve)
		if time.Since(began) > m.cfg.TTL {
			failures = 0
		}
		failures++
		wait := min(againMin<<min(failures-1, 10), againMax)
		if errors.Is(err, errServed) {
			wait = max(wait, standBack)
		}
		if ctx.Err() == nil {
			m.cfg.Log.Warn("this instance is not present in the shared store", "error", err, "again", wait)
			pause(ctx, wait/2+rand.N(wait/2))
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// connect makes the client; with a password, that already asks etcd.
func (m *Member) connect(ctx context.Context) error {
	if m.client != nil {
		return nil
	}
	// The client's own messages are about attempts; what comes of them is returned, and logged by who asked.
	client, err := clientv3.New(clientv3.Config{Endpoints: m.cfg.Endpoints, TLS: m.cfg.TLS, Username: m.cfg.User, Password: m.cfg.Password,
		DialTimeout: askTimeout, DialKeepAliveTime: askTimeout, DialKeepAliveTimeout: askTimeout, Context: context.WithoutCancel(ctx), Logger: zap.NewNop()})
	if err == nil {
		m.client = client
	}
	return err
}

func (m *Member) disconnect() {
	if m.client == nil {
		return
	}
	if err := m.client.Close(); err != nil {
		m.cfg.Log.Debug("the connection to etcd ended with an error", "error", err)
	}
	m.client = nil
}

// present is one presence: a lease, what is bound to it, and at most one term. It ends with the lease, with the term, with ctx,
// or when etcd refuses; the error tells why.
func (m *Member) present(ctx context.Context, serve func(*Term) error) (err error) {
	p := &presence{member: m, serve: serve, outer: ctx, term: make(chan struct{})}
	defer func() { m.note(m.blame(ctx, err)) }()
	if err := m.connect(ctx); err != nil {
		return err
	}
	if err := m.leave(ctx); err != nil {
		return err
	}
	asking, cancelAsking := context.WithTimeout(ctx, askTimeout)
	defer cancelAsking()
	grant, err := m.client.Grant(asking, int64(m.cfg.TTL/time.Second))
	if err != nil {
		return err
	}
	m.lease = grant.ID
	// The lease outlives ctx for as long as the last term needs to end in good order.
	p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer func() {
		p.cancel(errLeaving)
		p.wait.Wait()
		if err := m.leave(context.WithoutCancel(ctx)); err != nil {
			m.cfg.Log.Info("the lease is left to expire", "error", err)
		}
	}()
	if err := p.enter(asking); err != nil {
		return err
	}
	err = p.watch(ctx)
	if p.began {
		<-p.term // ends by itself, since the term is told
	}
	return err
}

// blame is what a presence that ended says of etcd: nothing when it ended for a reason of this instance.
func (m *Member) blame(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, errServed) {
		return nil
	}
	return err
}

// leave ends the lease of the presence before, and with it everything that is bound to it. Nothing acts under it any more.
func (m *Member) leave(ctx context.Context) error {
	if m.lease == clientv3.NoLease {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	if _, err := m.client.Revoke(ctx, m.lease); err != nil && !isGone(err) {
		return err
	}
	m.lease = clientv3.NoLease
	return nil
}
