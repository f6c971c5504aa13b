package storage

// Batch is a list of writes that become durable together. The zero Batch is empty and ready to use. No key may be empty,
// nor equal to "\x00batch", under which storage keeps the batch number.
type Batch struct {
	Number BatchNumber
	ops    []batchOp
	data   []byte
}

type opKind uint8

const (
	opSet opKind = iota
	opDelete
	opDeleteRange
)

type batchOp struct {
	kind     opKind
	keyEnd   int // the key starts where the op before ended
	valueEnd int // opDeleteRange: the end key
}

// Set stores value under key, replacing what was there. Both are copied.
func (b *Batch) Set(key, value []byte) { b.add(opSet, key, value) }

// Delete removes key, if it is there.
func (b *Batch) Delete(key []byte) { b.add(opDelete, key, nil) }

// DeleteRange removes every key in [start, end).
func (b *Batch) DeleteRange(start, end []byte) { b.add(opDeleteRange, start, end) }

// Len is the number of writes.
func (b *Batch) Len() int { return len(b.ops) }

// Bytes is the size of all keys and values.
func (b *Batch) Bytes() int { return len(b.data) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.Number, b.ops, b.data = 0, b.ops[:0], b.data[:0] }

func (b *Batch) add(kind opKind, key, value []byte) {
	b.data = append(b.data, key...)
	k := len(b.data)
	b.data = append(b.data, value...)
	b.ops = append(b.ops, batchOp{kind, k, len(b.data)})
}

// each calls f for every write in order; the slices alias the batch.
func (b *Batch) each(f func(kind opKind, key, value []byte)) {
	start := 0
	for _, op := range b.ops {
		f(op.kind, b.data[start:op.keyEnd], b.data[op.keyEnd:op.valueEnd])
		start = op.valueEnd
	}
}
