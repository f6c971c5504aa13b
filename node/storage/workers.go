package storage

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"physalia/cell"
)

// A group is bounded so that it stays far below what Pebble treats as a large batch (half a memtable).
const groupBytesMax = 256 << 10

// group is some consecutive batches on their way to the disk as one Pebble batch.
type group struct {
	pebble  *pebble.Batch
	batches []*Batch
	last    BatchNumber
	written time.Time // when it went into the log's buffer
	number  [numberBytes]byte
}

// add copies b's writes, in order.
func (g *group) add(b *Batch) error {
	var err error
	b.each(func(kind opKind, key, value []byte) {
		switch {
		case err != nil:
		case kind == opSet:
			err = g.pebble.Set(key, value, nil)
		case kind == opDelete:
			err = g.pebble.Delete(key, nil)
		case bytes.Compare(key, value) < 0:
			err = g.pebble.DeleteRange(key, value, nil)
		}
	})
	g.batches = append(g.batches, b)
	g.last = b.Number
	return err
}

// reset recycles the batches and keeps the group's memory.
func (g *group) reset() {
	for i, b := range g.batches {
		putBatch(b)
		g.batches[i] = nil
	}
	g.batches, g.pebble = g.batches[:0], nil
}

// commitLoop serves the inbox in order. A panic of Pebble (its answer to a broken log) leaves Pebble's locks held.
func (p *Pebble) commitLoop() {
	defer p.reading.close()
	defer close(p.syncing)
	defer func() {
		if r := recover(); r != nil {
			err, ok := r.(error)
			if !ok {
				err = fmt.Errorf("%v\n%s", r, debug.Stack())
			}
			p.failure.lose(p.ioError("write", err))
		}
	}()
	requests, more := p.inbox.takeAll(nil)
	for more {
		p.serve(requests)
		clear(requests)
		requests, more = p.inbox.takeAll(requests)
	}
}

// serve writes the batches, merged into as few groups as their size allows, and then passes the reads on: each read
// sees at least the batches before it.
func (p *Pebble) serve(requests []request) {
	var g *group
	for _, r := range requests {
		if r.batch == nil {
			continue
		}
		if p.failure.get() != nil {
			putBatch(r.batch)
			continue
		}
		if g == nil {
			g = <-p.free // waits for a sync when too many are under way
			g.pebble = p.db.NewBatch()
		}
		if err := g.add(r.batch); err != nil {
			p.failure.set(p.ioError("write", err))
		}
		if g.pebble.Len() >= groupBytesMax {
			p.write(g)
			g = nil
		}
	}
	if g != nil {
		p.write(g)
	}
	for _, r := range requests {
		if r.batch == nil {
			p.reading.put(r.read)
		}
	}
}

// write makes the group visible and starts its way to the disk. A group that a failure overtook is not written.
func (p *Pebble) write(g *group) {
	err := p.failure.get()
	if err == nil {
		err = g.pebble.Set(numberKey, appendNumber(g.number[:0], g.last), nil)
	}
	if err == nil {
		g.written = time.Now()
		err = p.db.ApplyNoSyncWait(g.pebble, pebble.Sync)
	}
	if err == nil {
		p.syncing <- g // never blocks: there are only so many groups
		return
	}
	p.failure.set(p.ioError("write", err))
	g.reset()
	p.free <- g
}

// syncLoop waits for the groups in order and reports them durable.
func (p *Pebble) syncLoop() {
	for g := range p.syncing {
		if err := g.pebble.SyncWait(); err != nil {
			p.failure.set(p.ioError("sync", err))
		} else {
			p.reportDurable(g.last)
			p.measure(time.Since(g.written))
		}
		if err := g.pebble.Close(); err != nil {
			p.failure.set(p.ioError("sync", err))
		}
		g.reset()
		p.free <- g
	}
}

// measure counts a group that became durable after d.
func (p *Pebble) measure(d time.Duration) {
	p.groups.Add(1)
	p.syncTime.Add(int64(d))
	if p.cfg.OnSlow != nil && d >= p.cfg.SlowAfter {
		p.cfg.OnSlow("sync", d)
	}
}

// readLoop serves reads until there will be no more.
func (p *Pebble) readLoop() {
	for {
		r, ok := p.reading.takeOne()
		if !ok {
			return
		}
		var pairs []Pair
		err := p.failure.get()
		if err == nil {
			if pairs, err = collect(p.db, r.ranges); err != nil {
				err, pairs = p.readError(err), nil
				if !errors.Is(err, ErrCorrupt) {
					p.failure.set(err)
				}
			}
			p.passBy(pairs)
		}
		p.answering.Lock()
		p.sink.ReadDone(r.id, pairs, err)
		p.answering.Unlock()
	}
}

// readError describes a failed read. A piece of the disk that does not have its checksum is no failure of the store: what else it
// holds is as sound as before, and the owner decides whom the loss concerns.
func (p *Pebble) readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return &cell.Error{Op: "storage.read", Kind: cell.Quarantined, Detail: "a part of a file in " + p.cfg.Dir + " is not what was written",
			Hint: "check the disk", Err: errors.Join(ErrCorrupt, err)}
	}
	return p.ioError("read", err)
}

// scanBytes is where a read counts as a part of a scan: more than a node has, but for the very largest.
const scanBytes = 512 << 10

// passBy empties the block cache behind a part of a scan. What was read for once, at a start, would stay for as long as nothing else is
// read: on a server that nobody uses, for ever.
func (p *Pebble) passBy(pairs []Pair) {
	size := 0
	for i := range pairs {
		size += len(pairs[i].Key) + len(pairs[i].Value)
	}
	if size >= scanBytes {
		p.cache.Reserve(int(p.cfg.CacheBytes))() // reserved and given back at once: evicts everything
	}
}

// collect copies the pairs of the ranges, all from one state of the store.
func collect(db *pebble.DB, ranges []Range) ([]Pair, error) {
	iter, err := db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	c := collector{iter: iter}
	for _, r := range ranges {
		if r.End == nil || bytes.Compare(r.Start, r.End) < 0 {
			iter.SetBounds(r.Start, r.End)
			if err := c.take(); err != nil {
				return nil, errors.Join(err, iter.Close())
			}
		}
	}
	return c.pairs(), iter.Close()
}

// collector copies pairs into one piece of memory: a cell's ring and rows are dozens of small pairs.
type collector struct {
	iter *pebble.Iterator
	data []byte
	ends []int // of key, value, key, value, ... in data
}

// take copies what lies within the iterator's bounds.
func (c *collector) take() error {
	for ok := c.iter.First(); ok; ok = c.iter.Next() {
		key := c.iter.Key()
		if bytes.Equal(key, numberKey) {
			continue
		}
		value, err := c.iter.ValueAndErr()
		if err != nil {
			return err
		}
		c.data = append(c.data, key...)
		c.ends = append(c.ends, len(c.data))
		c.data = append(c.data, value...)
		c.ends = append(c.ends, len(c.data))
	}
	return c.iter.Error()
}

func (c *collector) pairs() []Pair {
	pairs := make([]Pair, len(c.ends)/2)
	start := 0
	for i := range pairs {
		k, v := c.ends[2*i], c.ends[2*i+1]
		pairs[i] = Pair{Key: c.data[start:k:k], Value: c.data[k:v:v]}
		start = v
	}
	return pairs
}
