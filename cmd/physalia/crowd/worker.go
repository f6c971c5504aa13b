package crowd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/judge"
)

// worker is one client of one cell. It does one operation at a time, at its own pace.
type worker struct {
	crowd  *Crowd        // its clock
	newest *atomic.Int64 // its entry of Crowd.newest
	cell   *client.Cell
	volume *client.Volume     // the same cell as a volume
	log    *judge.Log         // owned by the worker until the crowd has stopped
	dice   *rand.Rand         // seeded by cell and client
	next   uint64             // value of the next write; unique in the cell
	state  client.VolumeState // what the manager of the volume believes; generation 0: nothing
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
	value, called := w.next, w.crowd.now()
	_, err := w.cell.Then(client.Put(RegisterKey, cell.Int(int64(value))), client.Increment(counterKey(w.log.Client), 1)).Commit(ctx)
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
	w.log.Wrote(value, called, w.crowd.now(), how, cell.KindOf(err))
	if how == judge.Acked {
		w.newest.Store(int64(called))
	}
}

// A read that fails says nothing about the register, so only its error is noted.
//
// read reads the register; one that does not exist yet reads as zero.
func (w *worker) read(ctx context.Context) {
	called := w.crowd.now()
	entry, err := w.cell.Get(ctx, RegisterKey)
	if errors.Is(err, cell.NotFound) {
		err = nil
	}
	n, _ := entry.Value.AsInt64()
	w.log.Read(uint64(n), called, w.crowd.now(), cell.KindOf(err))
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
		w.log.Failed(w.crowd.now(), cell.KindOf(err))
	}
}
