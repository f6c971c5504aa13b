package storage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"physalia/internal/must"
)

// PebbleConfig says where and how a Pebble stores. The zero value of every field but Dir is a good default.
type PebbleConfig struct {
	FS     vfs.FS       // default: the operating system's file system
	Dir    string       // the store's own directory, created if its parent exists or can be created
	Logger *slog.Logger // default: slog.Default

	// MustExist refuses to create a store: for a data directory that is known to have held one, where an empty place
	// means that acknowledged records are gone (rule 8).
	MustExist bool

	MemTableBytes uint64 // one memtable, 16 MiB; up to memTablesMax exist at once. The demo's seven servers use 4 to 8 MiB
	CacheBytes    int64  // block cache, 32 MiB
	Syncs         int    // groups of batches between the write-ahead log and their fdatasync, 1 to SyncsMax; 2
	Readers       int    // goroutines that serve reads, 1 to ReadersMax; 2

	// OnSlow is told about slow events, from any goroutine; it must not block. It hears of a group that took SlowAfter
	// (default 100 ms) or longer to become durable, when it did; of a change to the disk that still runs after SlowAfter,
	// at the next of Pebble's looks, which come every 2 s; and of a write stall of Pebble, when it ends. Nil: nobody looks.
	OnSlow    func(op string, d time.Duration)
	SlowAfter time.Duration
}

// The bounds of PebbleConfig. Pebble itself blocks at 4,095 outstanding syncs; far fewer already keep a disk busy.
const (
	SyncsMax   = 1024
	ReadersMax = 64
)

// Pebble is a Storage on a disk. Commit and Read only append to a queue. Behind it run one committer, which turns
// consecutive batches into one Pebble batch (a group) and writes it without waiting, one syncer, which waits for the
// groups in order and reports them durable, and a few readers.
//
// Any error of a write, a sync or a read stops it for good: Failed is reported once, no Durable follows, nothing is
// retried, later batches are dropped and later reads fail or, when Pebble itself gave up, stay without an answer. The
// server is expected to stop; what was not reported durable may or may not be found by the next start.
type Pebble struct {
	cfg       PebbleConfig
	log       *slog.Logger
	sink      Sink
	db        *pebble.DB
	cache     *pebble.Cache
	closeFS   func() error
	failure   *failure
	recovered BatchNumber

	last BatchNumber // newest batch handed over; touched by the owner only

	inbox   *mailbox[request]
	reading *mailbox[readRequest]
	free    chan *group // groups not in use; their number bounds the syncs under way
	syncing chan *group // written to the log, in order

	workers   sync.WaitGroup // committer, syncer, readers
	finished  chan struct{}  // closed when nothing can fail any more
	reporter  sync.WaitGroup
	reporting sync.Mutex // no Durable after Failed
	answering sync.Mutex // ReadDone is never called concurrently

	closing sync.Once
	closed  error

	groups   atomic.Uint64 // groups durable
	syncTime atomic.Int64  // nanoseconds from the log to durable, of all these together
}

// request is one entry of the inbox: a batch, or a read that must come after the batches before it.
type request struct {
	batch *Batch
	read  readRequest
}

var _ Storage = (*Pebble)(nil)
var _ Storage = (*Model)(nil)

// OpenPebble opens the store in cfg.Dir, or creates it. A store whose log is damaged before its last block, whose files
// are missing or whose batch number is not understood is refused with the reason and never repaired.
//
// One kind of damage cannot be told from a torn write and is not refused: bits flipped in the last 32 KiB of the log.
// Then the batches from there on are missing, Recovered is lower than what was once reported durable, and the server
// notices by what its peers remember (rule 8).
func OpenPebble(cfg PebbleConfig, sink Sink) (*Pebble, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	p := &Pebble{
		cfg: cfg, log: cfg.Logger, sink: sink, failure: newFailure(),
		inbox: newMailbox[request](), reading: newMailbox[readRequest](),
		free: make(chan *group, cfg.Syncs), syncing: make(chan *group, cfg.Syncs),
		finished: make(chan struct{}),
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	p.start()
	return p, nil
}

// start starts the goroutines; Close ends them.
func (p *Pebble) start() {
	for range p.cfg.Syncs {
		p.free <- &group{}
	}
	p.workers.Go(p.commitLoop)
	p.workers.Go(p.syncLoop)
	for range p.cfg.Readers {
		p.workers.Go(p.readLoop)
	}
	p.reporter.Go(p.reportFailure)
}

// Commit implements Storage. It appends to a queue and never touches the disk.
func (p *Pebble) Commit(b *Batch) {
	b.checkNext(p.last)
	p.last = b.Number
	must.That(p.inbox.put(request{batch: b}), "storage: Commit after Close")
}

// Read implements Storage. The keys are copied.
func (p *Pebble) Read(id ReadID, ranges ...Range) {
	open := p.inbox.put(request{read: readRequest{id, copyRanges(ranges)}})
	must.That(open, "storage: Read after Close")
}

// Recovered implements Storage.
func (p *Pebble) Recovered() BatchNumber { return p.recovered }

// Close implements Storage. It is not to be called from within the Sink. When a disk hangs, Close hangs with it. When
// Pebble itself gave up (see pebbleLogger), Close returns at once and the directory stays locked until the process ends.
func (p *Pebble) Close() error {
	p.closing.Do(func() { p.closed = p.shut() })
	return p.closed
}

func (p *Pebble) shut() error {
	p.inbox.close()
	if p.finishes(p.workers.Wait) {
		p.finishes(p.release)
	}
	close(p.finished)
	p.reporter.Wait()
	return p.failure.get()
}

// finishes runs f and reports whether it came back, or false when Pebble has lost a goroutine and f may wait for ever.
func (p *Pebble) finishes(f func()) bool {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-p.failure.lost:
	}
	return !p.failure.isLost()
}

// release closes what open opened.
func (p *Pebble) release() {
	if err := p.db.Close(); err != nil {
		p.failure.set(p.ioError("close", err))
	}
	p.cache.Unref()
	if err := p.closeFS(); err != nil {
		p.failure.set(p.ioError("close", err))
	}
}

// Stats are figures for the metrics page. They are read without stopping anything and are consistent only each in itself.
type Stats struct {
	Waiting        int    // batches and reads not yet taken by the committer
	MemTableBytes  uint64 // memory in memtables, the flushing ones included
	DiskBytes      uint64 // what the store occupies
	LogBytes       uint64 // written to the write-ahead log since the store was opened
	FlushedBytes   uint64 // written by flushes since then
	CompactedBytes uint64 // written by compactions since then
	Level0Files    int64  // rising without bound: compactions do not keep up
	Groups         uint64 // groups of batches made durable since then, one log record each

	SyncTime time.Duration // time from the log's buffer to durable, of all groups together
}

// Stats returns the figures of now. It must not be called after Close. Safe for concurrent use.
func (p *Pebble) Stats() Stats {
	m := p.db.Metrics()
	total := m.Total()
	flushed := total.TableBytesFlushed - total.TableBytesIn // Pebble's total of flushes contains what went into the log
	return Stats{
		Waiting: p.inbox.len(), MemTableBytes: m.MemTable.Size, DiskBytes: m.DiskSpaceUsage(),
		LogBytes: m.WAL.BytesWritten, FlushedBytes: flushed + total.BlobBytesFlushed,
		CompactedBytes: total.TableBytesCompacted + total.BlobBytesCompacted, Level0Files: m.Levels[0].TablesCount,
		Groups: p.groups.Load(), SyncTime: time.Duration(p.syncTime.Load()),
	}
}
