package storage

import (
	"bytes"
	"slices"

	"physalia/internal/must"
)

// Model is a Storage in memory for tests and the simulator. It does nothing on its own: the driver says when batches
// become durable (Sync), when reads are answered (Pump), when the disk breaks (Fail) and what a crash leaves (Crash). It
// has no goroutine and no clock; all calls come from one goroutine, and reports are made from within the driver's calls,
// never from within Commit or Read, so that the sink is not re-entered.
//
// It is as unkind as the contract allows: a read is answered with the state at the time of Pump, which may be newer than
// the state at the time of the call.
type Model struct {
	sink      Sink
	disk      *table  // what survives every crash
	visible   *table  // disk plus everything committed
	unsynced  []write // committed, not durable, in order
	reads     []readRequest
	recovered BatchNumber
	durable   BatchNumber
	last      BatchNumber
	failed    error
	gone      bool // closed or crashed
}

// write is one committed batch, copied out, because the values are kept longer than the batch.
type write struct {
	number BatchNumber
	batch  *Batch
	ops    []modelOp
}

type modelOp struct {
	kind  opKind
	key   string
	value []byte
}

// readRequest is a Read that waits for its answer.
type readRequest struct {
	id     ReadID
	ranges []Range
}

// Image is what a disk holds after a crash or a clean stop. It never changes: opening it copies it, so a driver may
// keep an old image to roll a disk back, or open one server's image as another's.
type Image struct {
	state *table
	last  BatchNumber
}

// Last is the number of the newest batch in the image.
func (i *Image) Last() BatchNumber { return i.last }

// Flip returns a copy of the image with one bit of one value flipped, as broken hardware leaves it; n chooses which. An
// image without values stays as it is.
func (i *Image) Flip(n uint64) *Image {
	flipped := &Image{state: i.state.clone(), last: i.last}
	if len(flipped.state.keys) == 0 {
		return flipped
	}
	key := flipped.state.keys[n%uint64(len(flipped.state.keys))]
	value := bytes.Clone(flipped.state.values[key])
	if bits := uint64(len(value)) * 8; bits > 0 {
		at := n / uint64(len(flipped.state.keys)) % bits
		value[at/8] ^= 1 << (at % 8)
	}
	flipped.state.values[key] = value
	return flipped
}

// NewModel returns the storage of an empty directory.
func NewModel(sink Sink) *Model { return OpenModel(&Image{state: newTable()}, sink) }

// OpenModel returns the storage that finds image on its disk.
func OpenModel(image *Image, sink Sink) *Model {
	return &Model{sink: sink, disk: image.state.clone(), visible: image.state.clone(),
		recovered: image.last, durable: image.last, last: image.last}
}

// Commit takes a batch; it is visible to reads at once and durable after Sync. After Fail it is dropped.
func (m *Model) Commit(b *Batch) {
	m.mustLive("Commit")
	b.checkNext(m.last)
	m.last = b.Number
	if m.failed != nil {
		putBatch(b)
		return
	}
	w := write{number: b.Number, batch: b, ops: make([]modelOp, 0, b.Len())}
	b.each(func(kind opKind, key, value []byte) {
		w.ops = append(w.ops, modelOp{kind, string(key), bytes.Clone(value)})
	})
	w.applyTo(m.visible)
	m.unsynced = append(m.unsynced, w)
}

// Read takes a read; Pump answers it.
func (m *Model) Read(id ReadID, ranges ...Range) {
	m.mustLive("Read")
	m.reads = append(m.reads, readRequest{id, copyRanges(ranges)})
}

// Recovered tells the number of the last batch in the image that was opened.
func (m *Model) Recovered() BatchNumber { return m.recovered }

// Last is the number of the newest batch handed over.
func (m *Model) Last() BatchNumber { return m.last }

// Durable is the number of the newest batch that survives every crash.
func (m *Model) Durable() BatchNumber { return m.durable }

// Waiting is the number of reads that Pump would answer.
func (m *Model) Waiting() int { return len(m.reads) }

// Sync makes every batch up to and including n durable and reports it. A number at or below Durable does nothing, one
// above Last means everything. After Fail it does nothing.
func (m *Model) Sync(n BatchNumber) {
	m.mustLive("Sync")
	done := 0
	for done < len(m.unsynced) && m.unsynced[done].number <= n {
		w := m.unsynced[done]
		w.applyTo(m.disk)
		m.durable = w.number
		putBatch(w.batch)
		done++
	}
	m.unsynced = slices.Delete(m.unsynced, 0, done)
	if done > 0 {
		m.sink.Durable(m.durable)
	}
}

// SyncAll makes every batch durable and reports it once.
func (m *Model) SyncAll() { m.Sync(m.last) }

// Pump answers every read that waits, in order, and returns how many. Reads that the sink asks for meanwhile wait for
// the next Pump. After Fail the answer is the failure.
func (m *Model) Pump() int {
	m.mustLive("Pump")
	reads := m.reads
	m.reads = nil
	for _, r := range reads {
		if m.failed != nil {
			m.sink.ReadDone(r.id, nil, m.failed)
			continue
		}
		var pairs []Pair
		for _, span := range r.ranges {
			pairs = m.visible.appendRange(pairs, span)
		}
		m.sink.ReadDone(r.id, pairs, nil)
	}
	return len(reads)
}

// Disk is a copy of what is durable now: what somebody who takes an image of a running disk would get.
func (m *Model) Disk() *Image {
	m.mustLive("Disk")
	return &Image{state: m.disk.clone(), last: m.durable}
}

// Fail breaks the disk: Failed is reported once, nothing becomes durable any more. What is not durable by now may still
// survive, as Crash decides.
func (m *Model) Fail(err error) {
	m.mustLive("Fail")
	if m.failed == nil {
		m.failed = err
		m.sink.Failed(err)
	}
}

// Crash ends this Model without another report and returns what the disk holds: the batches up to and including keep,
// which lies between Durable and the newest batch that reached the disk's queue. After Close it returns the clean image.
func (m *Model) Crash(keep BatchNumber) *Image {
	most := m.durable + BatchNumber(len(m.unsynced))
	must.That(keep >= m.durable && keep <= most, "crash keeps %d, allowed are %d to %d", keep, m.durable, most)
	image := &Image{state: m.disk.clone(), last: keep}
	for _, w := range m.unsynced[:keep-m.durable] {
		w.applyTo(image.state)
	}
	m.gone = true
	return image
}

// Close makes everything durable, answers every read, and ends the Model; Crash(Durable()) then gives the image.
func (m *Model) Close() error {
	if m.gone {
		return m.failed
	}
	if m.failed == nil {
		m.SyncAll()
	}
	for m.Pump() > 0 {
	}
	m.gone = true
	return m.failed
}

func (m *Model) mustLive(call string) {
	must.That(!m.gone, "storage model: %s after Close or Crash", call)
}

func (w *write) applyTo(t *table) {
	for _, op := range w.ops {
		t.apply(op.kind, op.key, op.value)
	}
}

// copyRanges copies the keys, since the caller may reuse them before the read is served.
func copyRanges(ranges []Range) []Range {
	copied := make([]Range, len(ranges))
	for i, r := range ranges {
		copied[i] = Range{Start: bytes.Clone(r.Start), End: bytes.Clone(r.End)}
	}
	return copied
}
