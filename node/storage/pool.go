package storage

import "sync"

// batchBytesKept bounds the memory of a recycled batch; a larger one (a snapshot that was installed) is left to the
// garbage collector, so that one burst does not pin memory for ever.
const batchBytesKept = 1 << 20

var batches = sync.Pool{New: func() any { return new(Batch) }}

// GetBatch returns an empty batch, recycled if possible. It comes back to the pool by itself after it was committed and
// reported durable (or dropped after a failure). Safe for concurrent use.
func GetBatch() *Batch { return batches.Get().(*Batch) }

// putBatch recycles a batch that storage no longer owns anything of.
func putBatch(b *Batch) {
	if cap(b.data) > batchBytesKept {
		return
	}
	b.Reset()
	batches.Put(b)
}
