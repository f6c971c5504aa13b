package subjects

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"physalia/bench/child"
	"physalia/bench/contest"
)

// Etcd is what users have today: one store of seven members for all volumes, each volume a prefix.
type Etcd struct {
	Binary    string // bin/etcd
	Version   string
	Volumes   int
	Libraries int // of its own clients, each with connections of its own, that the clients share

	fleet   child.Fleet        // by index
	clients []string           // addresses for clients and counters, one per member
	libs    []*clientv3.Client // shared by the clients, in turn
}

// Facts implements contest.Subject.
func (e *Etcd) Facts() contest.Facts {
	return contest.Facts{System: "etcd", Version: e.Version, Groups: 1, Volumes: e.Volumes, Reads: "confirmed by a majority (ReadIndex), the default"}
}

// Start implements contest.Subject. Snapshots, heartbeats and elections are etcd's defaults.
func (e *Etcd) Start(ctx context.Context, dir string) error {
	addresses, err := child.Addresses(2 * contest.Servers)
	if err != nil {
		return err
	}
	peers := addresses[contest.Servers:]
	e.clients = addresses[:contest.Servers]
	var members []string
	for i, p := range peers {
		members = append(members, fmt.Sprintf("m%d=http://%s", i, p))
	}
	for i := range contest.Servers {
		name := fmt.Sprintf("m%d", i)
		c, err := child.Start(name, filepath.Join(dir, name+".log"), e.Binary, "--name", name, "--data-dir", filepath.Join(dir, name),
			"--listen-client-urls", "http://"+e.clients[i], "--advertise-client-urls", "http://"+e.clients[i],
			"--listen-peer-urls", "http://"+peers[i], "--initial-advertise-peer-urls", "http://"+peers[i],
			"--initial-cluster", strings.Join(members, ","), "--initial-cluster-state", "new", "--log-level", "error")
		if err != nil {
			return err
		}
		e.fleet = append(e.fleet, c)
	}
	// Each knows all members and deals its requests over them.
	for range e.Libraries {
		c, err := clientv3.New(clientv3.Config{Endpoints: e.clients, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		e.libs = append(e.libs, c)
	}
	return e.ready(ctx)
}

// ready waits until there is a leader that answers.
func (e *Etcd) ready(ctx context.Context) error {
	for {
		// A linearizable read needs a leader.
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := e.libs[0].Get(attempt, "ready")
		cancel()
		if err == nil {
			return nil
		}
		if failure := errors.Join(e.Failed(), ctx.Err()); failure != nil {
			return errors.Join(failure, err)
		}
	}
}

// Client implements contest.Subject. Each client library deals its requests over all members, as etcd's does by default.
func (e *Etcd) Client(i int) contest.Client { return etcdClient{e.libs[i%len(e.libs)]} }

// etcdClient speaks through one of etcd's own clients.
type etcdClient struct{ lib *clientv3.Client }

// Put implements contest.Client.
func (c etcdClient) Put(ctx context.Context, volume int, key string, value []byte) error {
	_, err := c.lib.Put(ctx, path(volume, key), string(value))
	return err
}

// Get implements contest.Client.
func (c etcdClient) Get(ctx context.Context, volume int, key string, _ bool) ([]byte, error) {
	r, err := c.lib.Get(ctx, path(volume, key))
	if err != nil || len(r.Kvs) == 0 {
		return nil, err
	}
	return r.Kvs[0].Value, nil
}

// path is a key of a volume in the one store.
func path(volume int, key string) string { return fmt.Sprintf("volumes/%d/%s", volume, key) }

// Servers implements contest.Subject.
func (e *Etcd) Servers(context.Context) ([]contest.Usage, error) { return e.fleet.Usage() }

// Syncs implements contest.Subject: what the members count themselves, of the log and of the database behind it.
func (e *Etcd) Syncs(ctx context.Context) (sum float64, err error) {
	const log, backend = "etcd_disk_wal_fsync_duration_seconds_count", "etcd_disk_backend_commit_duration_seconds_count"
	for i, c := range e.fleet {
		if !c.Running() {
			continue // killed
		}
		n, err := child.Counters(ctx, "http://"+e.clients[i]+"/metrics", log, backend)
		if err != nil {
			return 0, err
		}
		sum += n[log] + n[backend]
	}
	return sum, nil
}

// KillLeader implements contest.Subject.
func (e *Etcd) KillLeader(ctx context.Context) error {
	for i, c := range e.fleet {
		// Each member knows who it is, and whom it follows.
		status, err := e.libs[0].Status(ctx, "http://"+e.clients[i])
		if err != nil {
			return err
		}
		if status.Leader == status.Header.MemberId {
			return c.Kill()
		}
	}
	return errors.New("no member says that it is the leader")
}

// Failed implements contest.Subject.
func (e *Etcd) Failed() error { return e.fleet.Failed() }

// Stop implements contest.Subject.
func (e *Etcd) Stop() (err error) {
	for _, c := range e.libs {
		err = errors.Join(err, c.Close())
	}
	return errors.Join(err, e.fleet.Kill())
}
