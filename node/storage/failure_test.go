package storage

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"physalia/cell"
	"physalia/internal/must"
)

var discard = slog.New(slog.DiscardHandler)

func testRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// beforeChange calls f before the change with the given index, from 0 on, is made to the disk.
func beforeChange(fs vfs.FS, index int32, f func()) vfs.FS {
	var n atomic.Int32
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && n.Add(1) == index+1 {
			f()
		}
		return nil
	}))
}

// breakable is a disk that begins to fail, once told to, in the operations that broken selects.
func breakable(fs vfs.FS, fault error, broken func(op errorfs.Op) bool) (vfs.FS, *errorfs.Toggle) {
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken(op) {
			return fault
		}
		return nil
	})}
	return errorfs.Wrap(fs, toggle), toggle
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

func isLog(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

// TestDiskErrors breaks the log in different ways. Failed comes once, nothing is durable after it, reads fail, Close
// returns the reason, and the next start finds everything that was reported durable.
func TestDiskErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  error
		broken func(op errorfs.Op) bool
		says   string
	}{
		{"sync", syscall.EIO, func(op errorfs.Op) bool { return isLog(op) && isSync(op) }, "input/output error"},
		{"write", syscall.EIO, func(op errorfs.Op) bool { return isLog(op) && op.Kind == errorfs.OpFileWrite }, "input/output error"},
		{"flush", syscall.EIO, func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".sst") && isSync(op) }, "input/output error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 12, TotalBytes: 1000, UsedBytes: 988})
			fs, toggle := breakable(mem, test.fault, test.broken)
			var sink *recorder
			p, err := openTest(fs, &sink)
			if err != nil {
				t.Fatal(err)
			}
			writeOneByOne(t, p, sink, 1, 10)
			toggle.On()
			failed := commitUntilFailed(p, sink)
			if !strings.Contains(failed.Error(), test.says) {
				t.Errorf("Failed(%v), want it to say %q", failed, test.says)
			}
			toggle.Off() // a disk that recovers is not believed
			last := p.last + 1
			p.Commit(batch(last, "late", "late"))
			p.Read(1, everything)
			if got := sink.waitAnswer(1); got.err == nil || got.pairs != nil {
				t.Errorf("a read after the failure returned %v", got)
			}
			if err := p.Close(); !errors.Is(err, test.fault) {
				t.Errorf("Close returned %v, want %v", err, test.fault)
			}
			sink.check(t, 1)
			checkSurvivors(t, powerLoss(mem), sink.durableNow(), last)
		})
	}
}

// commitUntilFailed keeps batches of 20 KB coming, enough to fill memtables, until the failure is reported.
func commitUntilFailed(p *Pebble, sink *recorder) error {
	value := strings.Repeat("x", 20<<10)
	for {
		n := p.last + 1
		p.Commit(batch(n, value, hazardKey(n)))
		if !sink.waitDurable(n) {
			return sink.waitFailed()
		}
	}
}

func checkSurvivors(t *testing.T, fs vfs.FS, durable, last BatchNumber) {
	t.Helper()
	var sink *recorder
	p, err := openTest(fs, &sink)
	if err != nil {
		t.Fatalf("next start: %v", err)
	}
	defer p.Close()
	n := p.Recovered()
	if n < durable || n >= last {
		t.Errorf("recovered batch %d; %d was durable and batch %d came after the failure", n, durable, last)
	}
	p.Read(1, everything)
	if got := sink.waitAnswer(1); BatchNumber(len(got.pairs)) != n {
		t.Errorf("%d records for %d batches", len(got.pairs), n)
	}
}

// TestReadError: a disk that returns errors to reads is not trusted with writes either.
func TestReadError(t *testing.T) {
	fs, toggle := breakable(vfs.NewMem(), syscall.EIO, func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileReadAt })
	var sink *recorder
	p, err := openTest(fs, &sink)
	if err != nil {
		t.Fatal(err)
	}
	writeOneByOne(t, p, sink, 1, 1)
	if err := p.db.Flush(); err != nil {
		t.Fatal(err)
	}
	toggle.On()
	p.Read(1, everything)
	if got := sink.waitAnswer(1); !errors.Is(got.err, syscall.EIO) {
		t.Errorf("read returned %v", got.err)
	}
	if err := sink.waitFailed(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Failed(%v)", err)
	}
	toggle.Off()
	if err := p.Close(); err == nil {
		t.Error("Close returned no error")
	}
	sink.check(t, 1)
}

// inOwnProcess runs a test again in a process of its own, where it returns true: Pebble's goroutines cannot be ended after it
// gave up, or was kept from going on. The process there must end as a server does on Failed, with a code of its own.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	if os.Getenv("STORAGE_TEST_ALONE") != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "STORAGE_TEST_ALONE=1")
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != aloneCode {
		t.Errorf("exit code %d (%v), want %d; output:\n%s", code, err, aloneCode, out)
	}
	return false
}

const aloneCode = 7

// TestDiskFull: the first write that finds no space is the last, whatever it was for. Batches keep coming, so that it may be the
// end of a log, behind which Pebble opens the next.
func TestDiskFull(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	mem := vfs.NewCrashableMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 12, TotalBytes: 1000, UsedBytes: 988})
	fs, toggle := breakable(mem, syscall.ENOSPC, func(op errorfs.Op) bool { return isLog(op) && op.Kind == errorfs.OpFileWrite })
	var sink *recorder
	p, err := openTest(fs, &sink)
	if err != nil {
		t.Fatal(err)
	}
	writeOneByOne(t, p, sink, 1, 10)
	toggle.On()
	for range 200 {
		n := p.last + 1
		p.Commit(batch(n, strings.Repeat("x", 20<<10), hazardKey(n)))
	}
	failed := sink.waitFailed()
	if says := "disk full in data/store: 12 of 1000 bytes free"; !strings.Contains(failed.Error(), says) {
		t.Errorf("Failed(%v), want it to say %q", failed, says)
	}
	toggle.Off() // space that returns is not believed before the next start
	if err := p.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close returned %v", err)
	}
	sink.check(t, 1)
	checkSurvivors(t, powerLoss(mem), sink.durableNow(), p.last+1)
	if !t.Failed() {
		os.Exit(aloneCode)
	}
}

func TestPebbleGivesUp(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	fs, toggle := breakable(vfs.NewMem(), syscall.EIO, func(op errorfs.Op) bool { return strings.Contains(op.Path, "MANIFEST") && isSync(op) })
	var sink *recorder
	p, err := openTest(fs, &sink)
	if err != nil {
		t.Fatal(err)
	}
	toggle.On()
	failed := commitUntilFailed(p, sink) // the first flush writes the manifest
	if !strings.Contains(failed.Error(), "MANIFEST") {
		t.Fatalf("Failed(%v)", failed)
	}
	if err := p.Close(); err != failed {
		t.Fatalf("Close returned %v", err)
	}
	sink.check(t, 1)
	if !t.Failed() {
		os.Exit(aloneCode)
	}
}

func TestOpenRefuses(t *testing.T) {
	fs := vfs.NewMem()
	open := func(cfg PebbleConfig) error {
		cfg.Logger = discard
		p, err := OpenPebble(cfg, newRecorder(0))
		if err == nil {
			err = p.Close()
		}
		return err
	}
	if err := open(PebbleConfig{FS: fs, Dir: "store", MustExist: true}); cell.KindOf(err) != cell.Refused {
		t.Errorf("an empty place where a store must be: %v", err)
	}
	if err := open(PebbleConfig{FS: fs, Dir: "store"}); err != nil {
		t.Error(err)
	}
	if err := open(PebbleConfig{FS: fs, Dir: "store", MustExist: true}); err != nil {
		t.Error(err)
	}
	for _, cfg := range []PebbleConfig{{}, {Dir: "x", MemTableBytes: 1}, {Dir: "x", CacheBytes: -1}, {Dir: "x", Syncs: SyncsMax + 1},
		{Dir: "x", Syncs: -1}, {Dir: "x", Readers: ReadersMax + 1}} {
		cfg.FS = fs
		if err := open(cfg); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%+v: %v, want it to be invalid", cfg, err)
		}
	}
	held, err := OpenPebble(PebbleConfig{FS: fs, Dir: "store", Logger: discard}, newRecorder(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := open(PebbleConfig{FS: fs, Dir: "store"}); !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a store that is open: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
}

// TestForeignStore: what another program, or a later version, wrote is not guessed at.
func TestForeignStore(t *testing.T) {
	for key, value := range map[string]string{"key": "of another program", string(numberKey): "N\x02 of a later version"} {
		fs := vfs.NewMem()
		db, err := pebble.Open("data/store", &pebble.Options{FS: fs, Logger: &pebbleLogger{discard, newFailure()}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set([]byte(key), []byte(value), pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		var sink *recorder
		if p, err := openTest(fs, &sink); cell.KindOf(err) != cell.Refused {
			t.Errorf("a store with %q = %q: %v", key, value, err)
			if err == nil {
				p.Close()
			}
		}
	}
}

// TestMisuse: what the contract forbids is an assertion, in both implementations alike.
func TestMisuse(t *testing.T) {
	fs := vfs.NewMem()
	var sink *recorder
	p, err := openTest(fs, &sink)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Storage{p, NewModel(newRecorder(0))} {
		for name, b := range map[string]*Batch{"gap": batch(2, "v", "k"), "repeated": batch(0, "v", "k"),
			"reserved": batch(1, "v", string(numberKey)), "empty key": batch(1, "v", "")} {
			if !violates(func() { s.Commit(b) }) {
				t.Errorf("%T took a batch: %s", s, name)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%T: second Close: %v", s, err)
		}
		if !violates(func() { s.Commit(batch(1, "v", "k")) }) || !violates(func() { s.Read(1) }) {
			t.Errorf("%T works after Close", s)
		}
	}
}

func violates(f func()) (violation bool) {
	defer func() { _, violation = recover().(*must.Violation) }()
	f()
	return false
}

// TestOnSlow: a sync that hangs is reported while it hangs, and once more when it came back.
func TestOnSlow(t *testing.T) {
	release, slow := make(chan struct{}), make(chan string, 100)
	fs, toggle := breakable(vfs.NewMem(), nil, func(op errorfs.Op) bool {
		if isLog(op) && isSync(op) {
			<-release
		}
		return false
	})
	sink := newRecorder(0)
	p, err := OpenPebble(PebbleConfig{FS: fs, Dir: "store", Logger: discard, SlowAfter: time.Millisecond,
		OnSlow: func(op string, d time.Duration) {
			select {
			case slow <- op:
			default:
			}
		}}, sink)
	if err != nil {
		t.Fatal(err)
	}
	toggle.On()
	p.Commit(batch(1, "v", "k"))
	for op := <-slow; !strings.Contains(op, "sync") || !strings.Contains(op, ".log"); op = <-slow {
	}
	if got := sink.durableNow(); got != 0 {
		t.Errorf("batch %d durable before its sync came back", got)
	}
	close(release)
	for op := <-slow; op != "sync"; op = <-slow {
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	sink.check(t, 0)
}
