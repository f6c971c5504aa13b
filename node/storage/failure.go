package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"

	"physalia/cell"
)

// failure is the one-way switch of a Pebble: the first error wins and stays. Safe for concurrent use.
type failure struct {
	mu     sync.Mutex
	err    error
	raised chan struct{} // closed with the first error
	lost   chan struct{} // closed when a goroutine will never come back from Pebble
}

func newFailure() *failure {
	return &failure{raised: make(chan struct{}), lost: make(chan struct{})}
}

// set notes the first error; later ones are consequences of it.
func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.raised)
	}
}

// lose notes an error after which Pebble's locks may be held for ever, so that nobody may wait for it any more.
func (f *failure) lose(err error) {
	f.set(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.isLost() {
		close(f.lost)
	}
}

func (f *failure) isLost() bool {
	select {
	case <-f.lost:
		return true
	default:
		return false
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// reportFailure reports the failure, at most once, from a goroutine that holds no lock of Pebble.
func (p *Pebble) reportFailure() {
	select {
	case <-p.failure.raised:
	case <-p.finished:
	}
	if err := p.failure.get(); err != nil {
		p.reporting.Lock()
		defer p.reporting.Unlock()
		p.log.Error("storage failed, the server must stop", "store", p.cfg.Dir, "err", err)
		p.sink.Failed(err)
	}
}

// reportDurable reports n unless the store has failed: after a failed sync the kernel may drop the very pages that a
// later sync claims to have written, so no later success is believed.
func (p *Pebble) reportDurable(n BatchNumber) {
	p.reporting.Lock()
	defer p.reporting.Unlock()
	if p.failure.get() == nil {
		p.sink.Durable(n)
	}
}

// ioError describes a failed operation; a full disk is named with its figures.
func (p *Pebble) ioError(op string, err error) error {
	e := &cell.Error{Op: "storage." + op, Kind: cell.Internal, Err: err,
		Detail: "disk error in " + p.cfg.Dir + ", nothing more is acknowledged",
		Hint:   "check the disk and the kernel's log, then start the server again; if records are gone it will refuse to vote"}
	if errors.Is(err, syscall.ENOSPC) {
		e.Detail = "disk full in " + p.cfg.Dir
		if usage, usageErr := p.cfg.FS.GetDiskUsage(p.cfg.Dir); usageErr == nil {
			e.Detail += fmt.Sprintf(": %d of %d bytes free", usage.AvailBytes, usage.TotalBytes)
		}
		e.Hint = "free space on this disk and start the server again; nothing acknowledged is lost"
	}
	return e
}

// diskFull notes that a write found no space, and keeps its goroutine for ever, and with it every later write. Pebble must
// not see that error: when it finds no space for the end of a log that it closes, it panics and unlocks a mutex twice on
// the way out, which ends the process without a word.
func (p *Pebble) diskFull() {
	p.failure.lose(p.ioError("write", syscall.ENOSPC))
	select {}
}

// pebbleLogger passes Pebble's log on. Pebble calls Fatalf when it cannot go on, for example after a failed write of its
// manifest, on any goroutine and with any of its locks held, and counts on it not to return. So Fatalf notes the failure
// and keeps the goroutine for ever. The Sink's owner then ends the process in its own way; Close does not wait.
type pebbleLogger struct {
	log     *slog.Logger
	failure *failure
}

// Infof implements pebble.Logger; Pebble tells its every step there.
func (l *pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. It does not return.
func (l *pebbleLogger) Fatalf(format string, args ...any) {
	l.failure.lose(&cell.Error{Op: "storage", Kind: cell.Internal, Detail: "pebble gave up: " + fmt.Sprintf(format, args...),
		Hint: "check the disk and the kernel's log, then start the server again"})
	select {}
}
