package contest

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// keysPerVolume are written in turn by each client, so that a volume stays small however long the run is. Where many clients share a volume,
// each has fewer, at least one: a volume is tens of kilobytes.
const keysPerVolume = 8

// callLimit bounds one request. One that takes longer counts as failed, and its write as one that may have happened.
const callLimit = 20 * time.Second

// worker is one client with the volumes that it uses. Keys bear the worker's number, so that nobody else writes them.
type worker struct {
	number int
	client Client
	own    []volume
	slots  int             // keys that it uses of each volume, at most keysPerVolume
	turn   int             // operations so far; volumes are taken in turn
	value  []byte          // reused
	times  []time.Duration // of the operations of this point that succeeded
	inTime int             // of them that ended before the point's time was over
	until  time.Time       // when that is
	errs   int             // operations of this point that failed
	first  error           // of them
}

// A write whose outcome is unknown may take effect even after a later one, so in the end a key may hold the last acknowledged write
// or the last unknown one; anything else is a loss.
//
// volume is what one worker knows of one volume.
type volume struct {
	number int
	acked  [keysPerVolume]uint64 // number of the last acknowledged write of each key; zero is none
	unsure [keysPerVolume]uint64 // number of the last write with an unknown outcome
	next   uint64                // number of the last write sent
}

// workers deals volumes to n clients. With more clients than volumes, some share a volume, each with keys of its own.
func workers(n, volumes, valueBytes int, client func(int) Client) (all []*worker) {
	for i := range n {
		w := &worker{number: i, client: client(i), value: make([]byte, valueBytes), slots: min(keysPerVolume, max(1, keysPerVolume*volumes/n))}
		for v := i % volumes; v < volumes; v += n {
			w.own = append(w.own, volume{number: v})
		}
		all = append(all, w)
	}
	return all
}

// key is the name of one of the worker's keys.
func (w *worker) key(slot int) string { return fmt.Sprintf("c%d/k%d", w.number, slot) }

// slot is the key of a volume that was written last.
func (w *worker) slot(v *volume) int { return int(v.next % uint64(w.slots)) }

// next takes the volume whose turn it is.
func (w *worker) next() *volume {
	v := &w.own[w.turn%len(w.own)]
	w.turn++
	return v
}

// work does one operation of a kind.
func (w *worker) work(ctx context.Context, k Kind) {
	// The writes of a mix move on by one volume with every pass over the volumes.
	if k == Write || k == Mixed && (w.turn+w.turn/len(w.own))%10 == 0 {
		w.write(ctx)
		return
	}
	w.read(ctx, k == ReadSure)
}

// write writes the next key of the next volume. A value begins with the number of its write, so that reading it back tells which
// write it is.
func (w *worker) write(ctx context.Context) {
	v := w.next()
	v.next++
	slot := w.slot(v)
	putNumber(w.value, v.next)
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	began := time.Now()
	if err := w.client.Put(ctx, v.number, w.key(slot), w.value); err != nil {
		v.unsure[slot] = v.next
		w.failed(fmt.Errorf("write to volume %d: %w", v.number, err))
		return
	}
	w.done(began)
	v.acked[slot] = v.next
}

// startKey is a key that every volume has since the subject started.
const startKey = "start"

// read reads the key of the next volume that was written last; one that this worker never wrote has the key of the start.
func (w *worker) read(ctx context.Context, sure bool) {
	v := w.next()
	key := startKey
	if v.next > 0 {
		key = w.key(w.slot(v))
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	began := time.Now()
	if _, err := w.client.Get(ctx, v.number, key, sure); err != nil {
		w.failed(fmt.Errorf("read from volume %d: %w", v.number, err))
		return
	}
	w.done(began)
}

// done notes an operation that succeeded.
func (w *worker) done(began time.Time) {
	now := time.Now()
	w.times = append(w.times, now.Sub(began))
	if now.Before(w.until) {
		w.inTime++
	}
}

// failed counts an error and keeps the first, which is usually the one that explains the others.
func (w *worker) failed(err error) {
	w.errs++
	if w.first == nil {
		w.first = err
	}
}

// verify reads the worker's keys back and counts those that are there, and those that are missing, old or unreadable.
func (w *worker) verify(ctx context.Context) (kept, lost int) {
	w.first = nil // what failed before has been told
	for i := range w.own {
		v := &w.own[i]
		for slot, acked := range v.acked {
			if acked == 0 {
				continue
			}
			value, err := w.get(ctx, v.number, slot)
			if err != nil {
				w.failed(fmt.Errorf("verify volume %d: %w", v.number, err))
			}
			got := number(value)
			if err == nil && (got == acked || got != 0 && got == v.unsure[slot]) {
				kept++
			} else {
				lost++
			}
		}
	}
	return kept, lost
}

// get reads one key within the limit of a call.
func (w *worker) get(ctx context.Context, volume, slot int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return w.client.Get(ctx, volume, w.key(slot), false)
}

// putNumber writes a write's number into the first eight bytes of its value; number reads it, zero when there is none.
func putNumber(value []byte, n uint64) {
	for i := range 8 {
		value[i] = byte(n >> (8 * i))
	}
}

func number(value []byte) (n uint64) {
	if len(value) < 8 {
		return 0
	}
	for i := range 8 {
		n |= uint64(value[i]) << (8 * i)
	}
	return n
}

// all runs f for every worker and waits.
func all(ws []*worker, f func(*worker)) {
	var wait sync.WaitGroup
	for _, w := range ws {
		wait.Go(func() { f(w) })
	}
	wait.Wait()
}
