package lifecycle

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
)

// Write is one change of the store. A nil Value removes the key.
type Write struct{ Key, Value []byte }

// Store keeps the desired state. A Store has one user; its methods block. Put and Close are not called at the same time.
type Store interface {
	// Put makes all writes durable, as one atomic batch, in order. After an error nothing is known about the batch, and
	// the process must stop and start again from Scan.
	Put(batch []Write) error
	// Scan visits everything stored at one moment, in key order. The slices are valid only during the visit. Unless the store
	// is a Snapshotter, it may run beside Put, on another goroutine: that is how backups are made.
	Scan(visit func(key, value []byte) error) error
	// Close releases the store.
	Close() error
}

// Snapshotter is a Store whose Scan is for its one user, and that has another way to read it beside Put.
type Snapshotter interface {
	// Snapshot is as Scan, and may run beside everything. Its failure does not concern the store.
	Snapshot(ctx context.Context, visit func(key, value []byte) error) error
}

// MemStore is a Store in memory, for tests and simulations. It is safe for concurrent use. What Put has accepted is
// durable; a test crashes the manager, never the store.
type MemStore struct {
	mu    sync.Mutex
	pairs map[string][]byte
	puts  int   // batches stored
	fail  error // what Put answers, if anything
}

// NewMemStore makes an empty store.
func NewMemStore() *MemStore { return &MemStore{pairs: map[string][]byte{}} }

// Put stores the batch, or fails as FailWith asked.
func (s *MemStore) Put(batch []Write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.puts++
	for _, w := range batch {
		if w.Value == nil {
			delete(s.pairs, string(w.Key))
			continue
		}
		s.pairs[string(w.Key)] = bytes.Clone(w.Value)
	}
	return nil
}

// Scan visits the pairs in key order.
func (s *MemStore) Scan(visit func(key, value []byte) error) error {
	s.mu.Lock()
	pairs := maps.Clone(s.pairs)
	s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		if err := visit([]byte(k), pairs[k]); err != nil {
			return err
		}
	}
	return nil
}

// Close does nothing: the content survives for the next manager.
func (s *MemStore) Close() error { return nil }

// FailWith makes every later Put fail with err, or succeed again when err is nil.
func (s *MemStore) FailWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Puts is the number of batches stored, so that a test can tell that they were grouped.
func (s *MemStore) Puts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts
}
