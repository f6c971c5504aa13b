package crowd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/judge"
)

// Config says who works on what. Every field is required.
type Config struct {
	Cells   []cell.ID
	Clients int // per cell; each has an identity of its own
	Rate    int // operations per second, of all clients together
	Client  client.Config
	Origin  time.Time // of the durations in all logs
}

// Crowd is clients at work.
type Crowd struct {
	cfg    Config
	cancel context.CancelFunc // tells the workers to stop after their operation
	wait   sync.WaitGroup
	libs   []*client.Client // one per client of a cell
	logs   []*judge.Log     // one per worker
	newest []atomic.Int64   // per worker: when it called its newest acknowledged write
}

// RegisterKey is the key in each cell that all its clients write and read. Beside it, each has a counter.
const RegisterKey = "register"

// counterKey names the counter of one client.
func counterKey(i int) string { return fmt.Sprintf("writes/%d", i) }

// Start starts Config.Clients workers per cell. Workers of one cell use different client libraries, so that each has its
// own identity, routes and connections. Stop it in any case but an error.
func Start(ctx context.Context, cfg Config) (*Crowd, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &Crowd{cfg: cfg, cancel: cancel}
	for range cfg.Clients {
		// The library lives longer than the load, so that requests under way end as they end, not as interrupted.
		lib, err := client.New(context.WithoutCancel(ctx), cfg.Client)
		if err != nil {
			c.Stop()
			return nil, err
		}
		c.libs = append(c.libs, lib)
	}
	pause := time.Duration(len(cfg.Cells)*cfg.Clients) * time.Second / time.Duration(cfg.Rate)
	c.newest = make([]atomic.Int64, len(cfg.Cells)*cfg.Clients)
	for n, id := range cfg.Cells {
		for i, lib := range c.libs {
			w := &worker{crowd: c, newest: &c.newest[len(c.logs)], cell: lib.Cell(id), volume: lib.Volume(id), log: &judge.Log{Cell: id, Client: i},
				dice: rand.New(rand.NewPCG(uint64(n), uint64(i))), next: uint64(i+1) << 40}
			c.logs = append(c.logs, w.log)
			c.wait.Go(func() { w.run(ctx, pause) })
		}
	}
	return c, nil
}

// Stop lets every worker end its operation, and returns what they noted.
func (c *Crowd) Stop() []*judge.Log {
	c.cancel()
	c.wait.Wait()
	for _, lib := range c.libs {
		lib.Close()
	}
	return c.logs
}

// Waiting lists the cells with a client that has had no write acknowledged that it called since a moment, of the clock of the logs.
func (c *Crowd) Waiting(since time.Duration) (cells []cell.ID) {
	for i := range c.newest {
		if id := c.cfg.Cells[i/c.cfg.Clients]; c.newest[i].Load() <= int64(since) && !slices.Contains(cells, id) {
			cells = append(cells, id)
		}
	}
	return cells
}

// now is the time since the origin that all logs share.
func (c *Crowd) now() time.Duration { return time.Since(c.cfg.Origin) }

// A fresh client has no routes, so this also shows that every cell is found.
//
// Final reads every client's counter of every cell, through a client that knows nothing yet. A cell that cannot be read
// is missing in the answer, and tell hears why.
func Final(ctx context.Context, cfg Config, tell func(error)) (map[cell.ID]judge.Counters, error) {
	lib, err := client.New(ctx, cfg.Client)
	if err != nil {
		return nil, err
	}
	defer lib.Close()
	txn := cell.Txn{}
	for i := range cfg.Clients {
		txn.Then = append(txn.Then, client.Get(counterKey(i)))
	}
	final := map[cell.ID]judge.Counters{}
	for _, id := range cfg.Cells {
		result, err := lib.Cell(id).Read(ctx, txn, client.Linearizable)
		if err != nil {
			tell(err)
			continue
		}
		counters := judge.Counters{}
		for i, got := range result.Results {
			if n, ok := got.Entry.Value.AsInt64(); ok && n > 0 {
				counters[i] = uint64(n)
			}
		}
		final[id] = counters
	}
	return final, ctx.Err()
}
