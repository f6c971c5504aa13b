package subjects

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"physalia/bench/child"
	"physalia/bench/contest"
	"physalia/bench/thin"
)

// Groups are consensus groups of a Raft library in the harness of package member, one group for each volume.
type Groups struct {
	Self      string // this binary, which knows the word "member"
	Engine    string // "raft/v3" or "hashicorp/raft"
	Version   string
	Count     int
	Libraries int // connections per server, dealt to the clients

	fleet child.Fleet    // by index
	ops   []string       // addresses of counters, by index
	libs  []*thin.Client // shared by the clients, in turn
}

// Facts implements contest.Subject.
func (g *Groups) Facts() contest.Facts {
	reads := "confirmed by a majority (ReadIndex), once for all reads of a group that came together"
	if g.Engine == "hashicorp/raft" {
		reads = "confirmed by a majority (VerifyLeader), once for all reads of a group that came together"
	}
	return contest.Facts{System: g.Engine, Version: g.Version, Groups: g.Count, Volumes: g.Count, Reads: reads}
}

// Start implements contest.Subject.
func (g *Groups) Start(ctx context.Context, dir string) error {
	addresses, err := child.Addresses(3 * contest.Servers)
	if err != nil {
		return err
	}
	peers, clients := addresses[:contest.Servers], addresses[contest.Servers:2*contest.Servers]
	g.ops = addresses[2*contest.Servers:]
	for i := range contest.Servers {
		name := fmt.Sprintf("m%d", i)
		c, err := child.Start(name, filepath.Join(dir, name+".log"), g.Self, "member", "--engine", g.Engine, "--me", strconv.Itoa(i),
			"--groups", strconv.Itoa(g.Count), "--dir", filepath.Join(dir, name), "--peers", strings.Join(peers, ","),
			"--clients", strings.Join(clients, ","), "--ops", g.ops[i])
		if err != nil {
			return err
		}
		g.fleet = append(g.fleet, c)
	}
	for range g.Libraries {
		g.libs = append(g.libs, thin.New(clients, g.Count))
	}
	return g.ready(ctx)
}

// ready waits until the first group answers; the contest waits for the others.
func (g *Groups) ready(ctx context.Context) error {
	for {
		// A read needs a leader that a majority follows.
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := g.libs[0].Get(attempt, 0, "ready")
		cancel()
		if err == nil {
			return nil
		}
		if failure := errors.Join(g.Failed(), ctx.Err()); failure != nil {
			return errors.Join(failure, err)
		}
	}
}

// Client implements contest.Subject.
func (g *Groups) Client(i int) contest.Client { return thinClient{g.libs[i%len(g.libs)]} }

// thinClient makes no difference between kinds of reads: all are confirmed.
type thinClient struct{ *thin.Client }

// Get implements contest.Client.
func (c thinClient) Get(ctx context.Context, volume int, key string, _ bool) ([]byte, error) {
	return c.Client.Get(ctx, volume, key)
}

// Servers implements contest.Subject.
func (g *Groups) Servers(context.Context) ([]contest.Usage, error) { return g.fleet.Usage() }

// Syncs implements contest.Subject: what the harness counts below Pebble.
func (g *Groups) Syncs(ctx context.Context) (sum float64, err error) {
	const counter = "bench_syncs_total"
	for i, c := range g.fleet {
		if !c.Running() {
			continue
		}
		n, err := child.Counters(ctx, "http://"+g.ops[i]+"/metrics", counter)
		if err != nil {
			return 0, err
		}
		sum += n[counter]
	}
	return sum, nil
}

// KillLeader implements contest.Subject. Only a leader answers a read, so whoever answered last leads.
func (g *Groups) KillLeader(ctx context.Context) error {
	if _, err := g.libs[0].Get(ctx, 0, "leader"); err != nil {
		return err
	}
	return g.fleet[g.libs[0].Leader(0)].Kill()
}

// Failed implements contest.Subject.
func (g *Groups) Failed() error { return g.fleet.Failed() }

// Stop implements contest.Subject.
func (g *Groups) Stop() error {
	for _, c := range g.libs {
		c.Close()
	}
	return g.fleet.Kill()
}
