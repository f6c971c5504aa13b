package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/judge"
)

// The keys that clients use in each cell: one register that all of them write and read, and a counter for each.
const registerKey = "register"

// counterKey names the counter of one client.
func counterKey(i int) string { return fmt.Sprintf("writes/%d", i) }

// load is a crowd of clients at work.
type load struct {
	cancel context.CancelFunc // tells the workers to stop after their operation
	wait   sync.WaitGroup
	libs   []*client.Client // one per client of a cell
	logs   []*judge.Log     // one per worker
}

// worker is one client of one cell. It does one operation at a time, at its own pace.
type worker struct {
	demo   *Demo // its clock
	cell   *client.Cell
	volume *client.Volume     // the same cell as a volume
	log    *judge.Log         // owned by the worker until the load is over
	dice   *rand.Rand         // seeded by cell and client
	next   uint64             // value of the next write; unique in the cell
	state  client.VolumeState // what the manager of the volume believes; generation 0: nothing
}

// startLoad starts Config.Clients workers per cell. Workers of one cell use different client libraries, so that each has
// its own identity, routes and connections.
func (d *Demo) startLoad(ctx context.Context) (*load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for range d.cfg.Clients {
		// The library lives longer than the load, so that requests under way end as they end, not as interrupted.
		c, err := d.newClient(context.WithoutCancel(ctx))
		if err != nil {
			l.stop()
			return nil, err
		}
		l.libs = append(l.libs, c)
	}
	pause := time.Duration(len(d.cells)*d.cfg.Clients) * time.Second / time.Duration(d.cfg.Rate)
	d.cfg.Say("%d clients in each cell, about %d operations per second in all", d.cfg.Clients, d.cfg.Rate)
	for n, id := range d.cells {
		for i, lib := range l.libs {
			w := &worker{demo: d, cell: lib.Cell(id), volume: lib.Volume(id), log: &judge.Log{Cell: id, Client: i},
				dice: rand.New(rand.NewPCG(uint64(n), uint64(i))), next: uint64(i+1) << 40}
			l.logs = append(l.logs, w.log)
			l.wait.Go(func() { w.run(ctx, pause) })
		}
	}
	return l, nil
}

// stop lets every worker end its operation, and returns what they noted.
func (l *load) stop() []*judge.Log {
	l.cancel()
	l.wait.Wait()
	for _, c := range l.libs {
		c.Close()
	}
	return l.logs
}

// Half of the operations are writes, most others reads, and one in ten is about the volume record.
//
// run works until ctx ends. The pauses are spread evenly between nothing and twice the mean.
func (w *worker) run(ctx context.Context, pause time.Duration) {
	calls := context.WithoutCancel(ctx)
	timer := time.NewTimer(time.Duration(w.dice.Int64N(int64(2*pause) + 1)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		switch n := w.dice.IntN(10); {
		case n < 5:
			w.write(calls)
		case n < 9:
			w.read(calls)
		case w.log.Client == 0:
			w.manage(calls)
		default:
			w.lookup(calls)
		}
		timer.Reset(time.Duration(w.dice.Int64N(int64(2*pause) + 1)))
	}
}

// write sets the register to a new value and counts, in one transaction. An unknown outcome is resolved; if nobody knows,
// it stays unknown.
func (w *worker) write(ctx context.Context) {
	w.next++
	value, called := w.next, w.demo.now()
	_, err := w.cell.Then(client.Put(registerKey, cell.Int(int64(value))), client.Increment(counterKey(w.log.Client), 1)).Commit(ctx)
	var unknown *client.UnknownError
	if errors.As(err, &unknown) {
		_, err = w.cell.Resolve(ctx, unknown)
	}
	how := judge.Acked
	switch {
	case cell.MaybeApplied(err) || errors.Is(err, cell.Expired):
		how = judge.Unknown
	case err != nil:
		how = judge.NotApplied
	}
	w.log.Wrote(value, called, w.demo.now(), how, cell.KindOf(err))
}

// A read that fails says nothing about the register, so only its error is noted.
//
// read reads the register; one that does not exist yet reads as zero.
func (w *worker) read(ctx context.Context) {
	called := w.demo.now()
	entry, err := w.cell.Get(ctx, registerKey)
	if errors.Is(err, cell.NotFound) {
		err = nil
	}
	n, _ := entry.Value.AsInt64()
	w.log.Read(uint64(n), called, w.demo.now(), cell.KindOf(err))
}

// lookup reads the volume's record; a fence must not be below one seen before.
func (w *worker) lookup(ctx context.Context) {
	state, err := w.volume.Lookup(ctx, 0)
	w.saw(state, err)
}

// other is the storage server that is not this one.
var other = map[string]string{"storage-a": "storage-b", "storage-b": "storage-a"}

// manage is what a block store's control does, for one worker per cell: attach, then promote and replace in turn, each
// under the generation that it knows. When it does not know how a change ended, it looks the record up first.
func (w *worker) manage(ctx context.Context) {
	var state client.VolumeState
	var err error
	switch s := w.state; {
	case s.Generation == 0:
		if state, err = w.volume.Lookup(ctx, 0); errors.Is(err, cell.NotFound) {
			state, err = w.volume.Attach(ctx, 0, "storage-a", "storage-b")
		}
	case s.Replica != "":
		state, err = w.volume.Promote(ctx, 0, s.Generation, s.Replica)
	default:
		state, err = w.volume.Replace(ctx, 0, s.Generation, other[s.Primary])
	}
	w.state = state // the zero state after an error: look it up next time
	w.saw(state, err)
}

// saw notes a record or the error instead. A volume without a record is no error: nobody has attached it yet.
func (w *worker) saw(state client.VolumeState, err error) {
	switch {
	case err == nil:
		w.log.Saw(state.Fence)
	case !errors.Is(err, cell.NotFound):
		w.log.Failed(w.demo.now(), cell.KindOf(err))
	}
}
