package storage

import (
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answer is what a Read came back with.
type answer struct {
	pairs []Pair
	err   error
}

// recorder is a Sink that remembers everything and complains about reports that break the contract.
type recorder struct {
	mu       sync.Mutex
	changed  sync.Cond
	durable  BatchNumber
	answers  map[ReadID]answer
	failures []error
	broken   []string
}

func newRecorder(durable BatchNumber) *recorder {
	r := &recorder{durable: durable, answers: map[ReadID]answer{}}
	r.changed.L = &r.mu
	return r
}

func (r *recorder) Durable(n BatchNumber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n <= r.durable {
		r.broken = append(r.broken, fmt.Sprintf("Durable(%d) after Durable(%d)", n, r.durable))
	}
	if len(r.failures) > 0 {
		r.broken = append(r.broken, fmt.Sprintf("Durable(%d) after Failed", n))
	}
	r.durable = n
	r.changed.Broadcast()
}

func (r *recorder) ReadDone(id ReadID, pairs []Pair, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.answers[id]; ok {
		r.broken = append(r.broken, fmt.Sprintf("read %d answered twice", id))
	}
	r.answers[id] = answer{pairs, err}
	r.changed.Broadcast()
}

func (r *recorder) Failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, err)
	r.changed.Broadcast()
}

// wait returns when done holds; done is called with the lock held.
func (r *recorder) wait(done func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !done() {
		r.changed.Wait()
	}
}

// waitDurable returns when n is durable, and false when the storage failed before.
func (r *recorder) waitDurable(n BatchNumber) bool {
	r.wait(func() bool { return r.durable >= n || len(r.failures) > 0 })
	return r.durableNow() >= n
}

func (r *recorder) waitAnswer(id ReadID) answer {
	r.wait(func() bool { _, ok := r.answers[id]; return ok })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[id]
}

func (r *recorder) waitFailed() error {
	r.wait(func() bool { return len(r.failures) > 0 })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures[0]
}

func (r *recorder) durableNow() BatchNumber {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.durable
}

// check fails the test for every broken promise, and unless exactly so many failures were reported.
func (r *recorder) check(t testing.TB, failures int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.broken {
		t.Error(b)
	}
	if len(r.failures) != failures {
		t.Errorf("Failed was reported %d times, want %d: %v", len(r.failures), failures, r.failures)
	}
}

// batch makes a batch that sets each given key to value.
func batch(n BatchNumber, value string, keys ...string) *Batch {
	b := GetBatch()
	b.Number = n
	for _, k := range keys {
		b.Set([]byte(k), []byte(value))
	}
	return b
}

// everything is the range of all keys.
var everything = Range{}
