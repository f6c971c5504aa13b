package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"physalia/cell"
	"physalia/internal/roster"
)

// presence is an instance's stay in the store, under one lease.
type presence struct {
	member *Member
	serve  func(*Term) error
	outer  context.Context // until the instance is stopped
	ctx    context.Context // until the lease is lost or given up; its cause says why
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup

	key      string        // election key
	revision int64         // that created it
	began    bool          // a term
	term     chan struct{} // closed when the term is over
}

// Term is the time in which an instance is the active one.
type Term struct {
	Number int64  // unique, and higher than that of every earlier term
	Store  *Store // of this term; it waits for etcd as long as the term lasts
	done   <-chan struct{}
}

// Done is closed when the term ends for a reason that is not the caller's: the lease is lost, or the instance is stopped.
func (t *Term) Done() <-chan struct{} { return t.done }

func (m *Member) instanceKey() string { return m.cfg.Prefix + liveKey + instanceKey + m.cfg.Name }

// Parts of keys; see the package comment.
const (
	liveKey     = "/live/"
	instanceKey = "instance/"
	electionKey = "election/"
)

// isGone reports that a lease does not exist any more.
func isGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

// enter puts the instance into the roster and among the candidates, in one transaction. A name that a live instance at
// another address bears is not taken from it.
func (p *presence) enter(ctx context.Context) error {
	m := p.member
	alive, err := m.client.KeepAlive(p.ctx, m.lease)
	if err != nil {
		return err
	}
	p.wait.Go(func() {
		for range alive { // closed when the lease was not kept alive for its time to live
		}
		p.cancel(errLeaseLost)
	})
	p.key = fmt.Sprintf("%s%s%s%x", m.cfg.Prefix, liveKey, electionKey, m.lease)
	name := m.instanceKey()
	bound := clientv3.WithLease(m.lease)
	ops := []clientv3.Op{clientv3.OpPut(name, m.cfg.Addr, bound), clientv3.OpPut(p.key, m.cfg.Name, bound)}
	// Free; or left by an earlier life of this very instance, since nobody else can listen at its address.
	for _, may := range []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(name), "=", 0), clientv3.Compare(clientv3.Value(name), "=", m.cfg.Addr)} {
		resp, err := m.client.Txn(ctx).If(may).Then(ops...).Commit()
		if err != nil {
			return err
		}
		if resp.Succeeded {
			p.revision = resp.Header.Revision
			return nil
		}
	}
	return &cell.Error{Op: "control.store", Kind: cell.Exists, Detail: fmt.Sprintf("another live instance is called %q", m.cfg.Name),
		Hint: "give each instance its own --name; one that has died is forgotten after its time to live"}
}

// watch follows who is there and who is active, and begins the term when it is this instance's turn, until the presence
// ends. Etcd not answering for a while is no reason: the lease decides.
func (p *presence) watch(ctx context.Context) error {
	for again := againMin; ; again = min(2*again, againMax) {
		err := p.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return errLeaving
		case p.ctx.Err() != nil:
			return context.Cause(p.ctx)
		}
		p.member.note(err)
		p.member.cfg.Log.Info("the roster is not followed", "error", err, "again", again)
		within, cancel := context.WithCancel(p.ctx)
		stop := context.AfterFunc(ctx, cancel)
		pause(within, again)
		stop()
		cancel()
	}
}

// follow looks once, and again after every change, until something is in the way.
func (p *presence) follow(ctx context.Context) error {
	m := p.member
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	revision, err := p.look(ctx)
	if err != nil {
		return err
	}
	live := m.cfg.Prefix + liveKey
	changes := m.client.Watch(clientv3.WithRequireLeader(ctx), live, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for change := range changes {
		if err := change.Err(); err != nil {
			return err
		}
		if _, err := p.look(ctx); err != nil {
			return err
		}
	}
	return errors.New("the watch has ended")
}

// look reads who is there and who is the oldest candidate: he is active, and stays it until his key is gone.
func (p *presence) look(ctx context.Context) (revision int64, err error) {
	m := p.member
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	live := m.cfg.Prefix + liveKey
	resp, err := m.client.Get(asking, live, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	m.note(nil)
	list := []roster.Instance{{Name: m.cfg.Name, Addr: m.cfg.Addr}}
	var oldest *mvccpb.KeyValue
	present := false
	for _, kv := range resp.Kvs {
		key := strings.TrimPrefix(string(kv.Key), live)
		if name, ok := strings.CutPrefix(key, instanceKey); ok && name != m.cfg.Name {
			list = append(list, roster.Instance{Name: name, Addr: string(kv.Value)})
		} else if strings.HasPrefix(key, electionKey) {
			present = present || string(kv.Key) == p.key && kv.CreateRevision == p.revision
			if oldest == nil || kv.CreateRevision < oldest.CreateRevision {
				oldest = kv
			}
		}
	}
	for i := range list {
		list[i].Active = oldest != nil && list[i].Name == string(oldest.Value)
	}
	m.board.Set(list)
	switch {
	case !present:
		p.cancel(errLeaseLost)
		return 0, errLeaseLost
	case string(oldest.Key) == p.key && !p.began:
		p.began = true
		p.wait.Go(p.act)
	}
	return resp.Header.Revision, nil
}

// act is the term: it takes the store over and serves until the end.
func (p *presence) act() {
	defer close(p.term)
	log := p.member.cfg.Log
	log.Info("this instance is active", "term", p.revision)
	err := p.reign()
	log.Info("this instance is not active any more", "term", p.revision, "error", err)
	p.cancel(fmt.Errorf("%w: %w", errServed, err))
}

// reign opens the store and has the term served. When the instance is stopped, what is being stored gets a moment.
func (p *presence) reign() error {
	done, end := context.WithCancel(p.ctx)
	defer end()
	defer context.AfterFunc(p.outer, func() {
		end()
		pause(p.ctx, leaveTimeout)
		p.cancel(errLeaving)
	})()
	m := p.member
	store, err := openStore(p.ctx, m.client, m.cfg.Prefix, p.key, p.revision, m.cfg.Log)
	if err != nil {
		return err
	}
	if err := p.serve(&Term{Number: p.revision, Store: store, done: done.Done()}); err != nil {
		return err
	}
	return errLeaving
}
