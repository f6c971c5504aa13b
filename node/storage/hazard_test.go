package storage

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"physalia/cell"
)

// Hazard H10: a store that has forgotten acknowledged records must not open as if nothing had happened.

const (
	hazardBatches  = 2000
	hazardLogBlock = 32 << 10 // Pebble's log is written in blocks of this size
)

// writeOneByOne commits batches first to last, each durable before the next, as an idle server would.
func writeOneByOne(t *testing.T, p *Pebble, sink *recorder, first, last BatchNumber) {
	t.Helper()
	for n := first; n <= last; n++ {
		p.Commit(batch(n, fmt.Sprint(n), hazardKey(n)))
		if !sink.waitDurable(n) {
			t.Fatalf("batch %d: %v", n, sink.waitFailed())
		}
	}
}

func hazardKey(n BatchNumber) string { return fmt.Sprintf("record %05d", n) }

// powerLoss returns what a disk holds if the power goes now, every un-synced byte lost.
func powerLoss(fs *vfs.MemFS) *vfs.MemFS { return fs.CrashClone(vfs.CrashCloneCfg{}) }

// newestLog returns the bytes of the newest log in dir; changing them changes the file.
func newestLog(t *testing.T, fs *vfs.MemFS, dir string) []byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".log") })
	if len(names) == 0 {
		t.Fatalf("no log in %s", dir)
	}
	data, err := fs.UnsafeGetFileDataBuffer(fs.PathJoin(dir, slices.Max(names)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// flipBit damages the log in the middle of the named record's value.
func flipBit(t *testing.T, log []byte, record BatchNumber) {
	t.Helper()
	at := strings.Index(string(log), hazardKey(record))
	if at < 0 {
		t.Fatalf("record %d is not in the log", record)
	}
	log[at+len(hazardKey(record))] ^= 0x10
}

func TestDamagedLogIsRefused(t *testing.T) {
	for _, record := range []BatchNumber{1, 5, hazardBatches / 2} {
		t.Run(fmt.Sprint(record), func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			var sink *recorder
			p, err := openTest(fs, &sink)
			if err != nil {
				t.Fatal(err)
			}
			writeOneByOne(t, p, sink, 1, hazardBatches)
			after := powerLoss(fs)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			flipBit(t, newestLog(t, after, "data/store"), record)
			p, err = openTest(after, &sink)
			if err == nil {
				t.Errorf("opened, with %d of %d batches", p.Recovered(), hazardBatches)
				p.Close()
			} else if cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "data/store is damaged") {
				t.Errorf("the refusal does not say what is wrong: %v", err)
			}
		})
	}
}

// TestDamageInTheLastBlock documents what remains: there, damage looks like a torn write. The store opens and tells by
// Recovered that it ends early; peers that saw a higher number expose it.
func TestDamageInTheLastBlock(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var sink *recorder
	p, err := openTest(fs, &sink)
	if err != nil {
		t.Fatal(err)
	}
	writeOneByOne(t, p, sink, 1, hazardBatches)
	after := powerLoss(fs)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if log := newestLog(t, after, "data/store"); len(log) < 2*hazardLogBlock {
		t.Fatalf("the log has only %d bytes", len(log))
	}
	flipBit(t, newestLog(t, after, "data/store"), hazardBatches-1)
	p, err = openTest(after, &sink)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Recovered(); got != hazardBatches-2 {
		t.Errorf("recovered batch %d, want %d, the one before the damage", got, hazardBatches-2)
	}
	p.Read(1, everything)
	if pairs := sink.waitAnswer(1).pairs; len(pairs) != hazardBatches-2 {
		t.Errorf("%d records are left, want %d", len(pairs), hazardBatches-2)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestHazardIsReal shows what openSettled prevents: created and used without the second open, Pebble drops everything
// behind the damage without an error. Should a new version of Pebble refuse here too, openSettled can go.
func TestHazardIsReal(t *testing.T) {
	fs := vfs.NewCrashableMem()
	opts := &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: &pebbleLogger{discard, newFailure()}}
	db, err := pebble.Open("store", opts)
	if err != nil {
		t.Fatal(err)
	}
	for n := BatchNumber(1); n <= hazardBatches; n++ {
		if err := db.Set([]byte(hazardKey(n)), []byte(fmt.Sprint(n)), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	after := powerLoss(fs)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	flipBit(t, newestLog(t, after, "store"), 5)
	opts.FS = after
	db, err = pebble.Open("store", opts)
	if err != nil {
		t.Fatalf("pebble now refuses: %v", err)
	}
	if _, _, err := db.Get([]byte(hazardKey(hazardBatches))); err != pebble.ErrNotFound {
		t.Errorf("record %d: %v, want it to be silently gone", hazardBatches, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestTornCreation takes the power away before each change that the creation of a store makes to the disk. Whatever is
// left, the next start has a store that refuses damage. Where each un-synced name in a directory survives or not by the
// toss of a coin, which no journaling file system does, Pebble may find a marker without its manifest and refuse; that
// must be said clearly.
func TestTornCreation(t *testing.T) {
	for _, percent := range []int{0, 50, 100} {
		step := int32(0)
		for tornCreation(t, step, percent) {
			step++
		}
		if step < 20 {
			t.Errorf("creation took only %d changes", step)
		}
	}
}

// tornCreation returns false when the creation has no such step.
func tornCreation(t *testing.T, step int32, percent int) bool {
	t.Helper()
	fs := vfs.NewCrashableMem()
	var after *vfs.MemFS
	var sink *recorder
	p, err := openTest(beforeChange(fs, step, func() {
		after = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: testRand(uint64(step))})
	}), &sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if after == nil { // Close has ended Pebble's own goroutines, which make changes too
		return false
	}
	p, err = openTest(after, &sink)
	if percent == 50 && cell.KindOf(err) == cell.Refused && strings.Contains(err.Error(), "never been in use") {
		return true
	}
	if err != nil {
		t.Fatalf("step %d, %d%% of the un-synced data kept: %v", step, percent, err)
	}
	if p.Recovered() != 0 {
		t.Fatalf("step %d: a store without a batch recovered %d", step, p.Recovered())
	}
	for n := BatchNumber(1); n <= 60; n++ { // four blocks of the log
		p.Commit(batch(n, strings.Repeat("v", 2<<10), hazardKey(n)))
		sink.waitDurable(n)
	}
	damaged := powerLoss(after)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	flipBit(t, newestLog(t, damaged, "data/store"), 5)
	if p, err := openTest(damaged, &sink); err == nil {
		t.Errorf("step %d: a damaged store opened with %d of 60 batches", step, p.Recovered())
		p.Close()
	}
	return true
}
