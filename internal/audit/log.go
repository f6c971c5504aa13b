package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
)

// Config says where a Log is and how large it gets. Dir is required.
type Config struct {
	Dir       string // made if it does not exist; one process each
	FileBytes int    // of one file, a little more with its last line; 0: 16 MiB
	Files     int    // kept, the oldest go; 0: 8
	Control   string // name of the process, in every entry
	Now       func() time.Time
	Log       *slog.Logger // nil discards
}

// Bounds of a Log.
const (
	fileBytesDefault = 16 << 20
	filesDefault     = 8
	queueMax         = 8192    // entries that wait for the disk
	queueBytesMax    = 8 << 20 // and their bytes
	prefix, suffix   = "audit-", ".jsonl"
)

// Log appends entries to files. All methods are safe for concurrent use, and do nothing on a nil Log.
type Log struct {
	cfg  Config
	wake chan struct{} // capacity 1
	done chan struct{} // closed when the writer has ended

	written, lost atomic.Uint64

	mu     sync.Mutex
	queue  [][]byte
	bytes  int // of queue
	closed bool

	// The writer's own.
	file   *os.File
	number int // of the file
	size   int
}

// Open goes on with the newest file of a directory. The error is a *cell.Error of kind Invalid.
func Open(c Config) (*Log, error) {
	if c.FileBytes <= 0 {
		c.FileBytes = fileBytesDefault
	}
	if c.Files <= 0 {
		c.Files = filesDefault
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// A full file is not noticed here: the first entry goes on to the next.
	l := &Log{cfg: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	err := os.MkdirAll(c.Dir, 0o700)
	var numbers []int
	if err == nil {
		numbers, err = list(c.Dir)
	}
	if err == nil {
		l.number = 1
		if len(numbers) > 0 {
			l.number = numbers[len(numbers)-1]
		}
		err = l.open()
	}
	if err != nil {
		return nil, &cell.Error{Op: "audit.open", Kind: cell.Invalid, Detail: "the record of what is asked cannot be kept", Err: err,
			Hint: "check the directory and who may write there, or choose another with --audit-dir"}
	}
	go l.write()
	return l, nil
}

// Files are numbered and never renamed, so whoever copies them elsewhere can tell what he has by name and length.
//
// list finds the numbers of a directory's files, in order.
func list(dir string) (numbers []int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		text, isOurs := strings.CutPrefix(e.Name(), prefix)
		text, whole := strings.CutSuffix(text, suffix)
		if n, err := strconv.Atoi(text); isOurs && whole && err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

func fileName(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%08d%s", prefix, number, suffix))
}

// open opens the file of the current number for appending. A line that a crash has torn gets its end, so that the next one is whole.
func (l *Log) open() error {
	file, err := os.OpenFile(fileName(l.cfg.Dir, l.number), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	// Appending mode keeps two processes that share a directory by mistake from writing over each other.
	info, err := file.Stat()
	if err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err = file.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			_, err = file.Write([]byte{'\n'})
		}
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size = file, int(info.Size())
	return nil
}

// Record queues an entry; its time and its control process are set here. It never waits.
func (l *Log) Record(e Entry) {
	if l == nil {
		return
	}
	e.Time, e.Control = l.cfg.Now().UTC().Format("2006-01-02T15:04:05.000Z"), l.cfg.Control
	line := e.Line()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= queueMax || l.bytes+len(line) > queueBytesMax {
		l.lost.Add(1)
		return
	}
	// In the order of the answers, as far as there is one.
	l.queue = append(l.queue, line)
	l.bytes += len(line)
	select {
	case l.wake <- struct{}{}:
	default: // it has been told
	}
}

// write takes what has come together, writes and syncs it, until the Log is closed.
func (l *Log) write() {
	defer close(l.done)
	// One error is logged when it begins, however many entries it costs; the metric has the number.
	for failing := false; ; {
		<-l.wake
		l.mu.Lock()
		batch, closed := l.queue, l.closed
		l.queue, l.bytes = nil, 0
		l.mu.Unlock()
		err := l.append(batch)
		if err != nil && !failing {
			l.cfg.Log.Error("the record of what is asked cannot be written; entries are lost and counted until it can", "err", err)
		}
		failing = err != nil
		if closed {
			if l.file != nil {
				if err := l.file.Close(); err != nil {
					l.cfg.Log.Error("the record of what is asked", "err", err)
				}
			}
			return
		}
	}
}

// append writes lines in order, in as many files as they need. What is not written is lost, and counted.
func (l *Log) append(batch [][]byte) error {
	for len(batch) > 0 {
		if l.file == nil || l.size >= l.cfg.FileBytes {
			if err := l.turn(); err != nil {
				l.lost.Add(uint64(len(batch)))
				return err
			}
		}
		// As many as fit this file, but at least one: a line is never split.
		n, bytes := 0, 0
		for n < len(batch) && (n == 0 || l.size+bytes+len(batch[n]) <= l.cfg.FileBytes) {
			bytes += len(batch[n])
			n++
		}
		_, err := l.file.Write(slices.Concat(batch[:n]...))
		if err == nil {
			err = l.file.Sync()
		}
		if err != nil {
			// How much of it is there is not known; the next attempt opens the file anew, and ends a torn line.
			l.lost.Add(uint64(len(batch)))
			err = errors.Join(err, l.file.Close())
			l.file = nil
			return err
		}
		l.size += bytes
		l.written.Add(uint64(n))
		batch = batch[n:]
	}
	return nil
}

// turn opens the file that is to be written, the next one when the current is full, and removes those that are too many.
func (l *Log) turn() error {
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
		l.number++
	}
	// The new file is there before an old one goes, so there is never none.
	if err := l.open(); err != nil {
		return err
	}
	numbers, err := list(l.cfg.Dir)
	for len(numbers) > l.cfg.Files && err == nil {
		if err = os.Remove(fileName(l.cfg.Dir, numbers[0])); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		numbers = numbers[1:]
	}
	return err
}

// Written and Lost count entries since the start.
func (l *Log) Written() uint64 {
	if l == nil {
		return 0
	}
	return l.written.Load()
}

// Lost counts entries that were not written: the disk failed, or was too slow.
func (l *Log) Lost() uint64 {
	if l == nil {
		return 0
	}
	return l.lost.Load()
}

// Tail is the newest lines, at most limit of them and of bytes, the oldest first. What is queued is not among them yet.
func (l *Log) Tail(limit, bytesMax int) ([]string, error) {
	if l == nil {
		return nil, nil
	}
	return Tail(l.cfg.Dir, limit, bytesMax)
}

// Tail reads the newest lines of a directory, whether or not a process writes there.
func Tail(dir string, limit, bytesMax int) (lines []string, err error) {
	numbers, err := list(dir)
	if err != nil {
		return nil, &cell.Error{Op: "audit.read", Kind: cell.NotFound, Detail: "there is no record", Err: err, Hint: "name the directory of a control process's record"}
	}
	// From the end backwards, file by file: the newest are in the first one that is read, as a rule.
	size := 0
	for _, number := range slices.Backward(numbers) {
		text, err := os.ReadFile(fileName(dir, number))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was too many since
		}
		if err != nil {
			return nil, err
		}
		// The end of a file that is being written may be half a line.
		text = text[:bytes.LastIndexByte(text, '\n')+1]
		for _, line := range slices.Backward(bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'})) {
			if len(line) == 0 {
				continue
			}
			if size += len(line); len(lines) == limit || size > bytesMax {
				slices.Reverse(lines)
				return lines, nil
			}
			lines = append(lines, string(line))
		}
	}
	slices.Reverse(lines)
	return lines, nil
}

// Close writes what is queued, waits for the disk and closes the file. Later entries are lost.
func (l *Log) Close() {
	if l == nil {
		return
	}
	// Under the lock, so that what is queued was queued before the writer's last look.
	l.mu.Lock()
	l.closed = true
	select {
	case l.wake <- struct{}{}:
	default: // it has been told
	}
	l.mu.Unlock()
	<-l.done
}
