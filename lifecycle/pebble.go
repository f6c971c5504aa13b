package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"physalia/cell"
)

// PebbleStore is the embedded Store: one Pebble directory, one sync per Put.
type PebbleStore struct{ db *pebble.DB }

// PebbleConfig says where the store lives. Its zero value of FS is the real file system.
type PebbleConfig struct {
	Dir string
	FS  vfs.FS
	Log *slog.Logger // nil discards Pebble's own messages
}

// OpenPebble opens the store, creating it when the directory is empty. A fresh store is closed and opened once more:
// only then does Pebble refuse a damaged log instead of silently dropping its tail (rule 8, hazard H10).
func OpenPebble(c PebbleConfig) (*PebbleStore, error) {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	desc, err := pebble.Peek(c.Dir, c.FS)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, c.failed("look into", err)
	}
	db, err := pebble.Open(c.Dir, c.options())
	if err != nil {
		return nil, c.failed("open", err)
	}
	if desc != nil && desc.Exists {
		return &PebbleStore{db}, nil
	}
	if err := db.Close(); err != nil {
		return nil, c.failed("create", err)
	}
	if db, err = pebble.Open(c.Dir, c.options()); err != nil {
		return nil, c.failed("open", err)
	}
	return &PebbleStore{db}, nil
}

// options asks for the newest format; see OpenPebble.
func (c *PebbleConfig) options() *pebble.Options {
	return &pebble.Options{FS: c.FS, FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLog{c.Log}}
}

// failed says what could not be done with the directory.
func (c *PebbleConfig) failed(what string, err error) error {
	return &cell.Error{Op: "lifecycle.store", Kind: cell.Unavailable, Detail: fmt.Sprintf("%s %s", what, c.Dir), Err: err,
		Hint: "only one control process may use the directory; if the log is damaged, restore a backup or rebuild from the servers"}
}

// Put writes the batch and waits for the sync.
func (s *PebbleStore) Put(batch []Write) error {
	b := s.db.NewBatch()
	defer b.Close()
	for _, w := range batch {
		var err error
		if w.Value == nil {
			err = b.Delete(w.Key, nil)
		} else {
			err = b.Set(w.Key, w.Value, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

// Scan visits everything in key order.
func (s *PebbleStore) Scan(visit func(key, value []byte) error) (err error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := visit(it.Key(), value); err != nil {
			return err
		}
	}
	return it.Error()
}

// Close releases the directory.
func (s *PebbleStore) Close() error { return s.db.Close() }

// pebbleLog forwards what Pebble has to say; it reports a fatal error by this log and then by panicking itself.
type pebbleLog struct{ log *slog.Logger }

func (l pebbleLog) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l pebbleLog) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }
func (l pebbleLog) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Error(text)
	panic("pebble: " + text)
}
