package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"physalia/cell"
)

// Pebble's settings for very many small consensus groups in one store. Its own defaults are for toys: 4 MiB memtables
// and a stop at two of them stall under our load. But insertion into a memtable is a walk through memory, and the
// largest single cost of a record: a record of 110 bytes of one of 64,000 ring positions costs 4.3 and 4.9 us of processor with
// 64 MiB, 3.2 with 16, 3.0 and 3.2 with 8, where 2.1, 2.3 and 2.4 times the payload reach the disk.
const (
	memTableBytes    = 16 << 20
	cacheBytes       = 32 << 20
	syncsDefault     = 2
	readersDefault   = 2
	slowAfterDefault = 100 * time.Millisecond
	memTablesMax     = 4  // writes stop when so many memtables wait for a flush
	l0Compaction     = 4  // sublevels of L0 that start a compaction
	l0StopWrites     = 24 // sublevels of L0 that stop writes
	openFilesMax     = 500
	blockBytes       = 32 << 10 // of a table: a ring is 12 KiB, a state 2 to 10 (decision 0044)
)

// complete fills in the defaults and bounds what was given.
func (c PebbleConfig) complete() (PebbleConfig, error) {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.MemTableBytes = orDefault(c.MemTableBytes, memTableBytes)
	c.CacheBytes = orDefault(c.CacheBytes, cacheBytes)
	c.Syncs = orDefault(c.Syncs, syncsDefault)
	c.Readers = orDefault(c.Readers, readersDefault)
	c.SlowAfter = orDefault(c.SlowAfter, slowAfterDefault)
	switch {
	case c.Dir == "":
		return c, invalid("no directory given")
	case c.MemTableBytes < 256<<10 || c.MemTableBytes > 1<<30:
		return c, invalid("memtable of %d bytes, allowed are 256 KiB to 1 GiB", c.MemTableBytes)
	case c.CacheBytes < 0:
		return c, invalid("cache of %d bytes", c.CacheBytes)
	case c.Syncs < 1 || c.Syncs > SyncsMax:
		return c, invalid("%d outstanding syncs, allowed are 1 to %d", c.Syncs, SyncsMax)
	case c.Readers < 1 || c.Readers > ReadersMax:
		return c, invalid("%d readers, allowed are 1 to %d", c.Readers, ReadersMax)
	}
	return c, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func invalid(format string, args ...any) error {
	return &cell.Error{Op: "storage.open", Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...),
		Hint: "correct the storage settings"}
}

// open opens Pebble and reads where it ends.
func (p *Pebble) open() error {
	p.closeFS = func() error { return nil }
	fs := p.cfg.FS
	if p.cfg.OnSlow != nil {
		watched, closer := vfs.WithDiskHealthChecks(fs, p.cfg.SlowAfter, nil, func(info vfs.DiskSlowInfo) {
			p.cfg.OnSlow(info.OpType.String()+" "+fs.PathBase(info.Path), info.Duration)
		})
		fs, p.closeFS = watched, closer.Close
	}
	p.cache = pebble.NewCache(p.cfg.CacheBytes)
	opts := p.options(vfs.OnDiskFull(fs, p.diskFull))
	db, err := p.openSettled(opts)
	if err == nil {
		p.db = db
		if p.recovered, err = recoveredNumber(db); err == nil {
			err = p.failure.get()
		}
		if err != nil {
			err = errors.Join(p.refused(err), db.Close())
		}
	}
	if err != nil {
		p.cache.Unref()
		return errors.Join(err, p.closeFS())
	}
	p.last = p.recovered
	return nil
}

// openSettled opens the store so that its log is written in the newest format.
//
// Only that format lets the next start tell a damaged log from a torn tail (hazard H10), and Pebble writes a log in the
// format that the directory had when the log was created. A new directory, or one of an older version, is therefore
// opened once to be upgraded, closed, and opened again; no batch is written in between. A crash at any point of this is
// harmless: the next start either sees the old format and does the same, or opens the upgraded directory, with a new log.
func (p *Pebble) openSettled(opts *pebble.Options) (*pebble.DB, error) {
	found := &pebble.DBDesc{}
	_, err := opts.FS.Stat(p.cfg.Dir)
	if err == nil {
		found, err = pebble.Peek(p.cfg.Dir, opts.FS)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) { // Pebble makes the directory, and makes its name durable
		return nil, p.refused(err)
	}
	if p.cfg.MustExist && !found.Exists {
		return nil, &cell.Error{Op: "storage.open", Kind: cell.Refused,
			Detail: fmt.Sprintf("%s holds no store, but this server has stored there before", p.cfg.Dir),
			Hint:   "bring the directory back, or start this server as a new one on an empty data directory; its nodes are then replaced"}
	}
	if !found.Exists || found.FormatMajorVersion < pebble.FormatNewest {
		db, err := p.openOnce(opts)
		if err != nil {
			return nil, err
		}
		if err := db.Close(); err != nil {
			return nil, p.refused(err)
		}
	}
	return p.openOnce(opts)
}

// openOnce runs pebble.Open on a goroutine of its own, since Pebble's way to give up (Fatalf) does not return to it.
func (p *Pebble) openOnce(opts *pebble.Options) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				opened <- result{nil, fmt.Errorf("panic in pebble: %v\n%s", r, debug.Stack())}
			}
		}()
		db, err := pebble.Open(p.cfg.Dir, opts)
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, p.refused(r.err)
		}
		return r.db, nil
	case <-p.failure.lost:
		return nil, p.refused(p.failure.get())
	}
}

func (p *Pebble) options(fs vfs.FS) *pebble.Options {
	opts := &pebble.Options{
		FS: fs, Cache: p.cache, FormatMajorVersion: pebble.FormatNewest,
		MemTableSize: p.cfg.MemTableBytes, MemTableStopWritesThreshold: memTablesMax,
		L0CompactionThreshold: l0Compaction, L0StopWritesThreshold: l0StopWrites,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 1 }, // the loop needs the other cores
		MaxOpenFiles:               openFilesMax,
		Logger:                     &pebbleLogger{p.log, p.failure},
	}
	opts.Experimental.FileCacheShards = 1
	opts.Levels[0].BlockSize = blockBytes // the other levels take both from this one
	opts.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	stalled := time.Time{}
	opts.EventListener = &pebble.EventListener{
		// Both are called with Pebble's locks held: failure.set only notes the error, reportFailure reports it.
		BackgroundError: func(err error) { p.failure.set(p.ioError("background work", err)) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			// Who met it decides: a read fails alone (readError), a flush or compaction ends the store (BackgroundError).
			p.log.Error("a part of a file is not what was written", "store", p.cfg.Dir, "file", info.Path, "err", info.Details)
		},
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			p.log.Warn("disk space runs low", "store", p.cfg.Dir, "info", info.String())
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			stalled = time.Now()
			p.log.Warn("pebble stops writes", "store", p.cfg.Dir, "reason", info.Reason)
		},
		WriteStallEnd: func() {
			if p.cfg.OnSlow != nil {
				p.cfg.OnSlow("write stall", time.Since(stalled))
			}
		},
	}
	return opts
}

// recoveredNumber reads the number of the last batch, zero for a store without any key.
func recoveredNumber(db *pebble.DB) (BatchNumber, error) {
	record, closer, err := db.Get(numberKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, mustBeEmpty(db)
	}
	if err != nil {
		return 0, err
	}
	n, err := parseNumber(record)
	return n, errors.Join(err, closer.Close())
}

// mustBeEmpty refuses a store that has keys but no batch number: it was not written by this package.
func mustBeEmpty(db *pebble.DB) error {
	iter, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	if iter.First() {
		err = fmt.Errorf("the store has keys but no batch number: it was written by another program, or damaged")
	}
	return errors.Join(err, iter.Error(), iter.Close())
}

// refused is how a store that cannot be opened is reported.
func (p *Pebble) refused(err error) error {
	e := &cell.Error{Op: "storage.open", Kind: cell.Refused, Detail: "store " + p.cfg.Dir + " cannot be opened", Err: err}
	switch {
	case pebble.IsCorruptionError(err):
		e.Detail = "store " + p.cfg.Dir + " is damaged: records that were acknowledged may be gone"
		e.Hint = "keep the directory for inspection and start this server as a new one on an empty data directory; its nodes are then replaced"
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES):
		e.Detail += ": it is in use by another process, or not accessible"
		e.Hint = "stop the other server, or correct the permissions"
	case errors.Is(err, syscall.ENOSPC):
		return p.ioError("open", err)
	default:
		e.Hint = "correct the cause and start again; if this server was stopped in its very first start and has never been in use, remove the directory"
	}
	return e
}
