package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/internal/wire"
)

// Moves are not the subject here, so their limits are lifted; a scan every few seconds is what the default does in minutes.
var chaosDrill = Drill{
	Name:   "chaos",
	Proves: "the control plane killed every few seconds while cells are created, moved and deleted: desired and actual agree afterwards",
	cells:  1000, span: 15 * time.Second,
	spec: shape(14, 5, 4, "--limit-move", "1000:1000", "--limit-move-brick", "1000:1000", "--limit-move-server", "500:500", "--scan-every", "5s"),
	run:  runChaos, shared: true,
}

// The work of the drill: how many cells each request names, how many are under way, and which share of the cells is moved,
// located, deleted and created again.
const (
	chaosBatch   = 10
	chaosWorkers = 8
	bornKey      = "born" // written once a creation is acknowledged, so that an incarnation that was lost would show
)

// chaos is one run. The workers share the client library and the counters; everything else of theirs is their own, since each cell
// is worked on by one of them.
type chaos struct {
	*site
	lib     *client.Client
	servers []cell.ServerID
	batches [][]cell.ID

	retries        [256]atomic.Uint64 // requests that failed and were repeated, by kind
	moves, kills   atomic.Uint64
	mu             sync.Mutex
	doomed, reborn map[cell.ID]bool // whose deletion was asked for; and those created once more after it
	deleted        int
	located        []wire.LocateVolume
}

// The deaths end before anything is compared: a comparison of two things that both still change would prove nothing.
//
// runChaos does the work while control processes die, and compares what is left.
func runChaos(ctx context.Context, s *site) (err error) {
	c := &chaos{site: s, doomed: map[cell.ID]bool{}, reborn: map[cell.ID]bool{}}
	if c.servers, err = s.identities(ctx); err != nil {
		return err
	}
	if c.lib, err = client.New(ctx, s.clients()); err != nil {
		return err
	}
	defer c.lib.Close()
	all := names("vol", s.cfg.Cells)
	for from := 0; from < len(all); from += chaosBatch {
		c.batches = append(c.batches, all[from:min(from+chaosBatch, len(all))])
	}
	dying, calm := context.WithTimeout(ctx, 2*s.cfg.Span) // then the rest is done in calm
	defer calm()
	died := make(chan error, 1)
	go func() { died <- c.dieAgain(dying) }()
	workErr := c.work(ctx)
	calm()
	if err := errors.Join(workErr, <-died); err != nil {
		return err
	}
	if err := s.awaitServers(ctx); err != nil {
		return err
	}
	settling := time.Now()
	for _, word := range c.located {
		near, cancel := context.WithTimeout(ctx, convergeMax)
		err := s.op.Locate(near, "drill.locate", word)
		cancel()
		if err != nil {
			return fmt.Errorf("in calm: %w", err)
		}
	}
	if err := s.converged(ctx); err != nil {
		return err
	}
	s.figure("converged after the last kill", time.Since(settling).Seconds(), "s")
	return c.compare(ctx, all)
}

// The moments are drawn from the seed, but what they hit depends on the machine: a seed does not repeat a run, it only makes
// the rhythm of two runs the same.
//
// dieAgain kills the control plane and starts it again, until ctx ends.
func (c *chaos) dieAgain(ctx context.Context) error {
	dice := rand.New(rand.NewPCG(c.cfg.Seed, 1))
	for {
		if err := c.wait(ctx, time.Second+time.Duration(dice.Int64N(int64(2*time.Second)))); ctx.Err() != nil {
			return nil // enough
		} else if err != nil {
			return err
		}
		// One of several instances, or all of them: what stands by has to take over, and what has nobody to wait for, to begin anew.
		victims := c.Instances
		if n := dice.IntN(len(c.Instances) + 1); n < len(c.Instances) {
			victims = c.Instances[n : n+1]
		}
		for _, v := range victims {
			if err := v.Kill(); err != nil {
				return err
			}
		}
		c.kills.Add(1)
		for _, v := range victims {
			if err := v.Start(); err != nil {
				return err
			}
		}
	}
}

// The pace keeps the work from being over before the first death: creations alone take a second or two. A worker that waits for a
// move does not hold up the others, unless all of them do.
//
// work spreads the batches over the span and waits for all of them.
func (c *chaos) work(ctx context.Context) error {
	c.cfg.Say("%d cells are created, moved and deleted while the control plane is killed every 1 to 3 s", c.cfg.Cells)
	began := time.Now()
	pace := c.cfg.Span / time.Duration(max(1, len(c.batches)))
	todo := make(chan int)
	errs := make([]error, chaosWorkers)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Span+convergeMax)
	defer cancel()
	var wait sync.WaitGroup
	for w := range errs {
		wait.Go(func() {
			for n := range todo {
				if err := c.batch(ctx, n); err != nil {
					errs[w] = errors.Join(errs[w], fmt.Errorf("batch %d: %w", n, err))
				}
			}
		})
	}
	for n := range c.batches {
		if err := c.wait(ctx, time.Until(began.Add(time.Duration(n)*pace))); err != nil {
			errs[0] = errors.Join(err, ctx.Err())
			break
		}
		todo <- n
	}
	close(todo)
	wait.Wait()
	c.figure("the work took", time.Since(began).Seconds(), "s")
	return errors.Join(errs...)
}

// Creations go together, as a batch of volumes would; all else goes cell by cell.
//
// batch is the life of ten cells: all are created; two get another member, one is located in every fourth batch, two are deleted,
// and one of those is created again.
func (c *chaos) batch(ctx context.Context, n int) error {
	ids := c.batches[n]
	if err := c.createAll(ctx, ids); err != nil {
		return err
	}
	for i, id := range ids {
		var err error
		switch {
		case i < 2:
			err = c.move(ctx, id)
		case i == 2 && n%4 == 0:
			err = c.locate(ctx, id, c.servers[n%len(c.servers)])
		case i == 3 || i == 4:
			err = c.remove(ctx, id)
		}
		if i == 4 && err == nil {
			c.mu.Lock()
			c.reborn[id] = true
			c.mu.Unlock()
			err = c.createAll(ctx, []cell.ID{id})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

// What went wrong is counted by kind. Whatever kind it is, the request is repeated: an operator cannot know either which of his
// requests arrived, and all of these are idempotent.
//
// insist repeats a request until it is acknowledged.
func (c *chaos) insist(ctx context.Context, ask func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := ask(one)
		cancel()
		if err == nil {
			return nil
		}
		c.retries[cell.KindOf(err)].Add(1)
		if waitErr := c.wait(ctx, pollEvery); waitErr != nil {
			return fmt.Errorf("%w; the last request ended with: %w", waitErr, err)
		}
	}
}

// A client that still has the route of the incarnation before is told Stale once, as guarantees.md says; that is repeated, too.
//
// createAll creates cells, and then writes into each.
func (c *chaos) createAll(ctx context.Context, ids []cell.ID) error {
	if err := c.insist(ctx, func(ctx context.Context) error { return c.op.CreateAll(ctx, "drill.create", ids) }); err != nil {
		return err
	}
	for _, id := range ids {
		if err := c.insist(ctx, func(ctx context.Context) error {
			_, err := c.lib.Cell(id).Put(ctx, bornKey, cell.String(string(id)))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Seven moves in a row need more time than one life of the control plane. So what is insisted on meanwhile is that the word is
// durable; afterwards, in calm, that it was followed.
//
// locate tells where a cell's users are.
func (c *chaos) locate(ctx context.Context, id cell.ID, at cell.ServerID) error {
	word := wire.LocateVolume{Cell: id, Client: at, Primary: at, Replica: at}
	err := c.insist(ctx, func(ctx context.Context) error {
		var reply wire.Outcomes
		if err := c.op.Ask(ctx, "drill.locate", wire.MethodLocate, &word, &reply); err != nil {
			return err
		}
		if len(reply.Outcomes) == 1 && reply.Outcomes[0].Err != nil {
			return reply.Outcomes[0].Err
		}
		return nil
	})
	c.mu.Lock()
	c.located = append(c.located, word)
	c.mu.Unlock()
	return err
}

// move replaces the first member of a cell. A request whose answer was lost is not repeated once the member is gone.
func (c *chaos) move(ctx context.Context, id cell.ID) error {
	var leaves cell.ServerID
	err := c.insist(ctx, func(ctx context.Context) error {
		info, err := c.op.Cell(ctx, "drill.move", id)
		if err != nil {
			return err
		}
		if leaves == "" {
			leaves = info.Members[0].Server
		}
		for _, m := range info.Members {
			if m.Server == leaves {
				return c.op.Replace(ctx, "drill.move", id, leaves, "")
			}
		}
		return nil
	})
	c.moves.Add(1)
	return err
}

// From the moment of the first request on the cell may be gone, whether or not that request was acknowledged.
//
// remove deletes a cell.
func (c *chaos) remove(ctx context.Context, id cell.ID) error {
	c.mu.Lock()
	c.doomed[id] = true
	c.mu.Unlock()
	err := c.insist(ctx, func(ctx context.Context) error {
		outcomes, err := c.op.Delete(ctx, "drill.delete", wire.DeleteCells{Drops: []wire.Drop{{Cell: id}}})
		if err == nil && outcomes[0].Err != nil {
			return outcomes[0].Err
		}
		return err
	})
	c.mu.Lock()
	c.deleted++
	c.mu.Unlock()
	return err
}

// Three sides are compared: the list of the lifecycle manager, the lists of the servers, and what clients were told. A name that was
// deleted and created again must have a higher incarnation; fences that left the cell count on it.
//
// compare asks both sides, and reads what was written into every cell that must exist.
func (c *chaos) compare(ctx context.Context, all []cell.ID) error {
	cells, err := c.op.Cells(ctx, "drill.list", "")
	if err != nil {
		return err
	}
	h, err := c.witness(ctx)
	if err != nil {
		return err
	}
	c.agree(cells, h, func(id cell.ID) bool { return c.doomed[id] })
	state := map[cell.ID]wire.CellInfo{}
	for _, v := range cells {
		c.wrong(state[v.Cell].Cell != "", "%s is listed twice", v.Cell)
		state[v.Cell] = v
	}
	live := 0
	for _, id := range all {
		v, gone := state[id], c.doomed[id] && !c.reborn[id]
		c.wrong(gone && v.State != "deleted" && v.Cell != "", "the deletion of %s was acknowledged, it is %s", id, v.State)
		c.wrong(!gone && v.State != "live", "the creation of %s was acknowledged, it is %q", id, v.State)
		c.wrong(!gone && c.reborn[id] && v.Incarnation < 2, "%s was created again after its deletion, and is incarnation %d", id, v.Incarnation)
		if gone || v.State != "live" {
			continue
		}
		live++
		e, err := c.lib.Cell(id).Get(ctx, bornKey)
		c.wrong(err != nil || !e.Value.Equal(cell.String(string(id))), "%s does not hold what was written into it: %v, %v", id, e.Value, err)
	}
	c.count("control plane killed", int(c.kills.Load()))
	c.count("cells live in the end", live)
	c.count("members replaced by request", int(c.moves.Load()))
	c.count("cells moved to their users", len(c.located))
	c.count("deletions acknowledged", c.deleted)
	c.count("created again", len(c.reborn))
	for k := range c.retries {
		if n := c.retries[k].Load(); n > 0 {
			c.count("requests repeated after "+cell.Kind(k).String(), int(n))
		}
	}
	return nil
}
