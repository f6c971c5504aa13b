package member

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// store is the Pebble of one process, shared by all its groups, with the product's own settings.
type store struct {
	db    *pebble.DB
	syncs atomic.Int64 // how often a file was made durable
}

// openStore opens an empty store.
func openStore(dir string) (*store, error) {
	st := &store{}
	opts := &pebble.Options{
		FS: countingFS{vfs.Default, &st.syncs}, FormatMajorVersion: pebble.FormatNewest,
		MemTableSize: 64 << 20, MemTableStopWritesThreshold: 4, L0CompactionThreshold: 4, L0StopWritesThreshold: 24,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 1 },
	}
	var err error
	st.db, err = pebble.Open(dir, opts)
	return st, err
}

// countingFS counts syncs, whatever Pebble calls them.
type countingFS struct {
	vfs.FS
	syncs *atomic.Int64
}

// countingFile is a file whose syncs are counted.
type countingFile struct {
	vfs.File
	syncs *atomic.Int64
}

// Create implements vfs.FS.
func (f countingFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return countingFile{file, f.syncs}, nil
}

// ReuseForWrite implements vfs.FS; Pebble writes its log into old files.
func (f countingFS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(from, to, category)
	if err != nil {
		return nil, err
	}
	return countingFile{file, f.syncs}, nil
}

// Sync implements vfs.File.
func (f countingFile) Sync() error { f.syncs.Add(1); return f.File.Sync() }

// SyncData implements vfs.File.
func (f countingFile) SyncData() error { f.syncs.Add(1); return f.File.SyncData() }

// SyncTo implements vfs.File; only a full one makes anything durable.
func (f countingFile) SyncTo(length int64) (full bool, err error) {
	full, err = f.File.SyncTo(length)
	if full {
		f.syncs.Add(1)
	}
	return full, err
}
