package drill

import (
	"context"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
)

// A crowd waits for its answers, so it slows down with the servers: it cannot overload them. A surge does not wait: requests come
// at the rate of a world that does not know how the servers are.
//
// surge sends increments to cells, through a few clients, and notes what became of each.
type surge struct {
	origin time.Time
	cells  []cell.ID
	libs   []*client.Client

	mu   sync.Mutex
	done []shot
	left map[cell.ID]count // increments of each cell
}

// shot is one increment.
type shot struct {
	called, took time.Duration
	kind         cell.Kind // 0: acknowledged
}

// count is how many increments of a cell were acknowledged, and of how many nobody knows.
type count struct{ acked, unknown uint64 }

// surgeKey is the counter in each cell.
const surgeKey = "surge"

func newSurge(ctx context.Context, s *site, cells []cell.ID, clients int, how client.Config) (*surge, error) {
	g := &surge{origin: s.origin, cells: cells, left: map[cell.ID]count{}}
	for range clients {
		lib, err := client.New(ctx, how)
		if err != nil {
			g.close()
			return nil, err
		}
		g.libs = append(g.libs, lib)
	}
	return g, nil
}

func (g *surge) close() {
	for _, lib := range g.libs {
		lib.Close()
	}
}

// fire sends the n-th increment and waits for what becomes of it.
func (g *surge) fire(ctx context.Context, n int) {
	id := g.cells[n%len(g.cells)]
	called := time.Since(g.origin)
	_, err := g.libs[n/len(g.cells)%len(g.libs)].Cell(id).Then(client.Increment(surgeKey, 1)).Commit(ctx)
	one := shot{called: called, took: time.Since(g.origin) - called, kind: cell.KindOf(err)}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = append(g.done, one)
	c := g.left[id]
	switch {
	case err == nil:
		c.acked++
	case cell.MaybeApplied(err):
		c.unknown++
	}
	g.left[id] = c
}

// saturate has so many callers fire as fast as they are answered, for a while.
func (g *surge) saturate(ctx context.Context, callers int, span time.Duration) {
	var wait sync.WaitGroup
	end := time.Now().Add(span)
	for i := range callers {
		wait.Go(func() {
			for n := i; time.Now().Before(end) && ctx.Err() == nil; n += callers {
				g.fire(ctx, n)
			}
		})
	}
	wait.Wait()
}

// run fires at a rate, whatever becomes of it, for a while. It returns at once when that is over: answers may still be out.
func (g *surge) run(ctx context.Context, s *site, perSecond float64, span time.Duration, out *sync.WaitGroup) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	began, fired := time.Now(), 0
	for {
		gone := time.Since(began)
		for due := int(perSecond * min(gone, span).Seconds()); fired < due; fired++ {
			n := fired
			out.Go(func() { g.fire(ctx, n) })
		}
		if gone >= span {
			return s.Failed()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// between are the increments that were called in a span of time, and are answered.
func (g *surge) between(from, to time.Duration) (some []shot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, one := range g.done {
		if one.called >= from && one.called < to {
			some = append(some, one)
		}
	}
	return some
}

// misread lists the cells whose counter is not what the answers allow: not below what was acknowledged, nor above that and
// what is unknown.
func (g *surge) misread(ctx context.Context, tell func(cell.ID, uint64, count)) error {
	for _, id := range g.cells {
		entry, err := g.libs[0].Cell(id).Get(ctx, surgeKey)
		if err != nil {
			return err
		}
		n, _ := entry.Value.AsInt64()
		if c := g.left[id]; uint64(n) < c.acked || uint64(n) > c.acked+c.unknown {
			tell(id, uint64(n), c)
		}
	}
	return nil
}
