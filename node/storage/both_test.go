package storage

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	_ "physalia/internal/rapidseed"
)

// One schedule of operations is drawn and driven through the model and through Pebble, each checked against history, a
// list of whole states: what was reported durable is never missing, what a crash leaves is exactly the state after some
// batch, Recovered names that batch, and a read sees at least what was committed before it.

// history is the naive twin: the state after every batch since the beginning.
type history struct {
	states []map[string]string // states[n] is the state after batch n
}

func (h *history) last() BatchNumber { return BatchNumber(len(h.states) - 1) }

func (h *history) commit(b *Batch) {
	state := maps.Clone(h.states[len(h.states)-1])
	b.each(func(kind opKind, key, value []byte) {
		switch kind {
		case opSet:
			state[string(key)] = string(value)
		case opDelete:
			delete(state, string(key))
		case opDeleteRange:
			maps.DeleteFunc(state, func(k, _ string) bool { return k >= string(key) && k < string(value) })
		}
	})
	h.states = append(h.states, state)
}

// expect is what a read of the ranges returns after batch n.
func (h *history) expect(n BatchNumber, ranges []Range) []Pair {
	var pairs []Pair
	state := h.states[n]
	keys := slices.Sorted(maps.Keys(state))
	for _, r := range ranges {
		for _, k := range keys {
			if k >= string(r.Start) && (r.End == nil || k < string(r.End)) {
				pairs = append(pairs, Pair{[]byte(k), []byte(state[k])})
			}
		}
	}
	return pairs
}

// crashPlan says what an un-clean stop may lose: both storages interpret the same numbers.
type crashPlan struct {
	percent int // chance of each un-synced block, or share of un-synced batches, to survive
	seed    uint64
}

// subject is one storage under test with its history.
type subject struct {
	name    string
	storage Storage
	sink    *recorder
	history history
	reads   map[ReadID]pendingRead

	sync   func(n BatchNumber)           // returns when n is durable
	answer func()                        // returns when every read is answered
	crash  func(plan crashPlan)          // loses what is not synced and opens again; sets storage and sink
	reopen func(close func() error) bool // stops cleanly and opens again
}

type pendingRead struct {
	ranges []Range
	after  BatchNumber
}

func (s *subject) commit(fill func(*Batch)) {
	b := GetBatch()
	fill(b)
	b.Number = s.history.last() + 1
	s.history.commit(b)
	s.storage.Commit(b)
}

func (s *subject) read(id ReadID, ranges []Range) {
	s.reads[id] = pendingRead{ranges, s.history.last()}
	s.storage.Read(id, ranges...)
}

// checkReads answers all reads and compares each with every state that it may have seen.
func (s *subject) checkReads(t *rapid.T) {
	s.answer()
	for id, r := range s.reads {
		got := s.sink.waitAnswer(id)
		if got.err != nil {
			t.Fatalf("%s: read %d failed: %v", s.name, id, got.err)
		}
		seen := false
		for n := r.after; n <= s.history.last() && !seen; n++ {
			seen = samePairs(got.pairs, s.history.expect(n, r.ranges))
		}
		if !seen {
			t.Fatalf("%s: read %d after batch %d of %q returned %q, which is no state from then to batch %d",
				s.name, id, r.after, r.ranges, got.pairs, s.history.last())
		}
		delete(s.reads, id)
	}
}

// checkRecovered compares a freshly opened storage with what may have survived, and forgets what was lost.
func (s *subject) checkRecovered(t *rapid.T, durable BatchNumber) {
	n := s.storage.Recovered()
	if n < durable || n > s.history.last() {
		t.Fatalf("%s: recovered batch %d; %d was durable and %d the last", s.name, n, durable, s.history.last())
	}
	s.history.states = s.history.states[:n+1]
	clear(s.reads)
	s.read(0, []Range{everything})
	s.checkReads(t)
	delete(s.sink.answers, 0)
}

func samePairs(a, b []Pair) bool {
	return slices.EqualFunc(a, b, func(x, y Pair) bool { return bytes.Equal(x.Key, y.Key) && bytes.Equal(x.Value, y.Value) })
}

// newModelSubject drives a Model; its driver is the test itself.
func newModelSubject() *subject {
	s := &subject{name: "model", sink: newRecorder(0), reads: map[ReadID]pendingRead{}, history: emptyHistory()}
	model := NewModel(s.sink)
	s.storage = model
	open := func(image *Image) {
		s.sink = newRecorder(image.Last())
		model = OpenModel(image, s.sink)
		s.storage = model
	}
	s.sync = func(n BatchNumber) { model.Sync(n) }
	s.answer = func() { model.Pump() }
	s.crash = func(plan crashPlan) {
		open(model.Crash(model.Durable() + (model.Last()-model.Durable())*BatchNumber(plan.percent)/100))
	}
	s.reopen = func(close func() error) bool {
		ok := close() == nil
		open(model.Crash(model.Durable()))
		return ok
	}
	return s
}

// newPebbleSubject drives Pebble on a file system in memory that can lose what was not synced.
func newPebbleSubject(t *rapid.T) *subject {
	fs := vfs.NewCrashableMem()
	s := &subject{name: "pebble", reads: map[ReadID]pendingRead{}, history: emptyHistory()}
	open := func() {
		p, err := openTest(fs, &s.sink)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		s.storage = p
	}
	open()
	s.sync = func(n BatchNumber) { s.sink.waitDurable(n) }
	s.answer = func() {}
	s.crash = func(plan crashPlan) {
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: plan.percent, RNG: rand.New(rand.NewPCG(plan.seed, 0))})
		if err := s.storage.Close(); err != nil {
			t.Fatalf("close after the crash, without effect on what survived: %v", err)
		}
		fs = after
		open()
	}
	s.reopen = func(close func() error) bool {
		ok := close() == nil
		open()
		return ok
	}
	return s
}

// openTest opens the store of the tests with a small memtable, so that short runs flush and compact too.
func openTest(fs vfs.FS, sink **recorder) (*Pebble, error) {
	*sink = newRecorder(0)
	p, err := OpenPebble(PebbleConfig{FS: fs, Dir: "data/store", MemTableBytes: 256 << 10, CacheBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler)}, *sink)
	if err == nil {
		(*sink).durable = p.Recovered()
	}
	return p, err
}

func emptyHistory() history { return history{[]map[string]string{{}}} }

var keys = rapid.SampledFrom([]string{"a", "a1", "a2", "b", "b\x00", "c", "\x00", "\x00c", "\xff", "\xff\xff"})

func drawRange(t *rapid.T, label string) Range {
	r := Range{Start: []byte(keys.Draw(t, label+" start")), End: []byte(keys.Draw(t, label+" end"))}
	switch rapid.IntRange(0, 4).Draw(t, label+" open") {
	case 0:
		r.Start = nil
	case 1:
		r.End = nil
	}
	return r
}

// drawBatch returns a function that fills a batch, so that both subjects get the same writes.
func drawBatch(t *rapid.T) func(*Batch) {
	var fill []func(*Batch)
	for range rapid.IntRange(0, 6).Draw(t, "writes") {
		key := []byte(keys.Draw(t, "key"))
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			fill = append(fill, func(b *Batch) { b.Delete(key) })
		case 1:
			end := []byte(keys.Draw(t, "end"))
			fill = append(fill, func(b *Batch) { b.DeleteRange(key, end) })
		default:
			size := rapid.SampledFrom([]int{0, 1, 20, 20, 200, 200, 200, 2_000, 2_000, 40_000}).Draw(t, "size")
			value := bytes.Repeat([]byte{byte('a' + rapid.IntRange(0, 25).Draw(t, "value"))}, size)
			fill = append(fill, func(b *Batch) { b.Set(key, value) })
		}
	}
	return func(b *Batch) {
		for _, f := range fill {
			f(b)
		}
	}
}

// driveBoth runs one schedule.
func driveBoth(t *rapid.T) {
	subjects := []*subject{newModelSubject(), newPebbleSubject(t)}
	each := func(f func(s *subject)) {
		for _, s := range subjects {
			f(s)
		}
	}
	nextRead := ReadID(1)
	commit := func(t *rapid.T) {
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			fill := drawBatch(t)
			each(func(s *subject) { s.commit(fill) })
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"commit":      commit,
		"commit more": commit,
		"read": func(t *rapid.T) {
			ranges := []Range{drawRange(t, "first")}
			for range rapid.IntRange(0, 2).Draw(t, "more ranges") {
				ranges = append(ranges, drawRange(t, "next"))
			}
			each(func(s *subject) { s.read(nextRead, ranges) })
			nextRead++
		},
		"answer": func(t *rapid.T) { each(func(s *subject) { s.checkReads(t) }) },
		"sync": func(t *rapid.T) {
			back := rapid.IntRange(0, 5).Draw(t, "all but")
			each(func(s *subject) { s.sync(s.history.last() - min(s.history.last(), BatchNumber(back))) })
		},
		"crash": func(t *rapid.T) {
			plan := crashPlan{rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "percent"), rapid.Uint64().Draw(t, "seed")}
			each(func(s *subject) {
				durable := s.sink.durableNow()
				s.crash(plan)
				s.checkRecovered(t, durable)
			})
		},
		"reopen": func(t *rapid.T) {
			each(func(s *subject) {
				last, old := s.history.last(), s.sink
				if !s.reopen(s.storage.Close) {
					t.Fatalf("%s: close failed: %v", s.name, old.failures)
				}
				for id := range s.reads {
					old.waitAnswer(id) // Close answers every read
				}
				s.checkRecovered(t, last)
			})
		},
		"": func(t *rapid.T) { each(func(s *subject) { s.checkReports(t) }) },
	})
	each(func(s *subject) {
		s.sync(s.history.last())
		s.checkReads(t)
		if err := s.storage.Close(); err != nil {
			t.Fatalf("%s: close: %v", s.name, err)
		}
		s.checkReports(t)
	})
}

func (s *subject) checkReports(t *rapid.T) {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	if len(s.sink.broken) > 0 || len(s.sink.failures) > 0 {
		t.Fatalf("%s: %v %v", s.name, s.sink.broken, s.sink.failures)
	}
}

// TestModelAndPebble runs a few hundred schedules of some dozens of steps; -rapid.checks=N runs 4 N of them.
func TestModelAndPebble(t *testing.T) {
	for part := range 4 {
		t.Run(fmt.Sprint(part), rapid.MakeCheck(driveBoth))
	}
}
