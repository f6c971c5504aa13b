// Package storage is the disk of a server as an actor: ordered, atomic batches in, durability reports out.
//
// Everything with a meaning (ring, lazy state, rows, recovery) lives above it, in the server's deterministic loop. Below
// the interface is either Pebble (a thin shell, see pebble.go) or Model, which can lose any suffix of un-synced batches.
// One test drives both with the same operations and crashes.
package storage

import "errors"

// BatchNumber counts the batches of one data directory, from 1 on, without gaps; it continues after a restart (rule 8).
type BatchNumber uint64

// ReadID is the caller's name for a read; it comes back with the result.
type ReadID uint64

// Range is a half-open range of keys: Start <= key < End. A nil Start means from the first key, a nil End to the last.
type Range struct{ Start, End []byte }

// Pair is one stored key with its value.
type Pair struct{ Key, Value []byte }

// ErrCorrupt is wrapped by the error of a read that met a damaged part of the disk. Only that read failed.
var ErrCorrupt = errors.New("damaged on disk")

// Storage keeps keys and values. Its methods never block on the disk and are called by one owner only.
type Storage interface {
	// Commit hands over one batch. Batches become durable in order, each whole or not at all. Storage owns the batch
	// until it has reported it durable, and may then recycle it; the caller must not touch it again.
	Commit(b *Batch)
	// Read collects the pairs of some ranges, in key order per range. It sees every batch committed before the call,
	// durable or not.
	Read(id ReadID, ranges ...Range)
	// Recovered tells the number of the last batch that the data directory held when it was opened; zero when new.
	Recovered() BatchNumber
	// Close waits for everything handed over to be durable or failed, and releases the directory.
	Close() error
}

// Sink receives the reports of a Storage; the calls may come from any goroutine, but never concurrently for one method,
// and must not block.
type Sink interface {
	// Durable reports that every batch up to and including n is on disk.
	Durable(n BatchNumber)
	// ReadDone answers a Read. The pairs belong to the receiver.
	ReadDone(id ReadID, pairs []Pair, err error)
	// Failed reports that the disk can no longer be trusted (a failed write or sync). Nothing after the last Durable is
	// promised; the server must stop. It is reported once.
	Failed(err error)
}
