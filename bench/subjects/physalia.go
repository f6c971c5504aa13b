// Package subjects are the systems that the contest compares: this project, etcd, and two Raft libraries in the same harness
// (package member). All of them are seven processes on loopback, and all requests go over TCP through a client.
package subjects

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"physalia/bench/child"
	"physalia/bench/contest"
	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
	"physalia/internal/wire"
)

// Physalia is this project: one cell for each volume. Its control process is not counted among the servers.
type Physalia struct {
	Binary    string // bin/physalia
	Version   string
	Cells     int
	Libraries int // client libraries, each with connections of its own, that the clients share

	colony *colony.Colony          // nil before Start
	op     operator.Operator       // asks the control plane
	libs   []*client.Client        // shared by the clients, in turn
	dead   map[*colony.Server]bool // killed by us
}

// Facts implements contest.Subject.
func (p *Physalia) Facts() contest.Facts {
	return contest.Facts{System: "physalia", Version: p.Version, Groups: p.Cells, Volumes: p.Cells, Sure: true,
		Reads: "by the proposer under its read lease; read-sure: confirmed by a majority"}
}

// name is the cell of a volume.
func (p *Physalia) name(volume int) cell.ID { return cell.ID(fmt.Sprintf("bench-%d", volume)) }

// Start implements contest.Subject.
func (p *Physalia) Start(ctx context.Context, dir string) (err error) {
	p.dead = map[*colony.Server]bool{}
	// Every server hosts a node of every cell, and has room for some more.
	p.colony, err = colony.Start(colony.Spec{Binary: p.Binary, Dir: dir, Bricks: 1, Colors: 1, Servers: contest.Servers, Racks: contest.Servers,
		Powers: contest.Servers, Capacity: 2*p.Cells + 1000})
	if err != nil {
		return err
	}
	p.op = operator.Operator{Colony: colony.Name, Addresses: []string{p.colony.ControlAddr}}
	if err := p.op.AwaitServers(ctx, contest.Servers, p.colony.Failed); err != nil {
		return err
	}
	// Creation is part of the start, as etcd's members finding each other is.
	ids := make([]cell.ID, p.Cells)
	for i := range ids {
		ids[i] = p.name(i)
	}
	if err := p.op.CreateAll(ctx, "bench.create", ids); err != nil {
		return err
	}
	for range p.Libraries {
		// What is given to New is its life, which Stop ends.
		c, err := client.New(context.Background(), client.Config{Colony: colony.Name, Control: p.op.Addresses})
		if err != nil {
			return err
		}
		p.libs = append(p.libs, c)
	}
	return nil
}

// Client implements contest.Subject.
func (p *Physalia) Client(i int) contest.Client {
	return physaliaClient{lib: p.libs[i%len(p.libs)], name: p.name}
}

// physaliaClient speaks through one client library.
type physaliaClient struct {
	lib  *client.Client
	name func(int) cell.ID
}

// Put implements contest.Client.
func (c physaliaClient) Put(ctx context.Context, volume int, key string, value []byte) error {
	_, err := c.lib.Cell(c.name(volume)).Put(ctx, key, cell.Bytes(value))
	return err
}

// Get implements contest.Client.
func (c physaliaClient) Get(ctx context.Context, volume int, key string, sure bool) ([]byte, error) {
	option := client.Linearizable
	if sure {
		option = client.Confirmed
	}
	entry, err := c.lib.Cell(c.name(volume)).Get(ctx, key, option)
	if errors.Is(err, cell.NotFound) {
		return nil, nil
	}
	value, _ := entry.Value.AsBytes()
	return value, err
}

// Servers implements contest.Subject.
func (p *Physalia) Servers(ctx context.Context) (all []contest.Usage, err error) {
	for _, s := range p.colony.Servers {
		if p.dead[s] {
			continue
		}
		cpu, ok := s.CPU()
		if !ok {
			return nil, fmt.Errorf("the processor time of %s cannot be read", s.Name)
		}
		// A colony does not tell its processes' numbers; the servers tell their memory themselves.
		n, err := child.Counters(ctx, "http://"+s.Ops+"/metrics", "process_resident_memory_bytes")
		if err != nil {
			return nil, err
		}
		all = append(all, contest.Usage{CPU: cpu, RSS: int64(n["process_resident_memory_bytes"])})
	}
	return all, nil
}

// Syncs implements contest.Subject: what the servers count themselves.
func (p *Physalia) Syncs(ctx context.Context) (sum float64, err error) {
	const counter = "physalia_storage_sync_seconds_count"
	for _, s := range p.colony.Servers {
		if p.dead[s] {
			continue
		}
		n, err := child.Counters(ctx, "http://"+s.Ops+"/metrics", counter)
		if err != nil {
			return 0, err
		}
		sum += n[counter]
	}
	return sum, nil
}

// KillLeader implements contest.Subject.
func (p *Physalia) KillLeader(ctx context.Context) error {
	// A server of seven hosts a member of every cell, so each can be asked.
	for _, s := range p.colony.Servers {
		role, err := p.role(ctx, s)
		if err != nil {
			return err
		}
		if role == "proposer" {
			p.dead[s] = true
			return s.Kill()
		}
	}
	return errors.New("no server says that it is the proposer of the first cell")
}

// role asks a server what it is in the first cell.
func (p *Physalia) role(ctx context.Context, s *colony.Server) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := p.op.Dial(ctx, s.Client)
	if err != nil {
		return "", err
	}
	defer conn.Close(nil)
	var e wire.Explanation
	err = conn.Call(ctx, wire.MethodExplain, &wire.ExplainRequest{Header: wire.Header{Cell: p.name(0), Timeout: 5000}}, &e)
	return e.Role, err
}

// Failed implements contest.Subject.
func (p *Physalia) Failed() error {
	if p.colony == nil {
		return nil
	}
	return p.colony.Failed()
}

// Stop implements contest.Subject.
func (p *Physalia) Stop() error {
	for _, c := range p.libs {
		c.Close()
	}
	if p.colony == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// One that does not end politely is killed; its data are removed either way, so that is no failure.
	if err := p.colony.Close(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "ending physalia: %v\n", err)
	}
	return nil
}
