package admission

import (
	"fmt"
	"math"
	"time"
)

// Rate is a token bucket's shape: PerSecond tokens come in, at most Burst are kept. The zero Rate limits nothing.
type Rate struct {
	PerSecond float64
	Burst     int // at least 1 when PerSecond is set
}

// Off reports whether the rate limits nothing.
func (r Rate) Off() bool { return r.PerSecond <= 0 }

// validate reports what is wrong with a rate; what names whose it is.
func (r Rate) validate(what string) error {
	if r != (Rate{}) && (!(r.PerSecond > 0) || math.IsInf(r.PerSecond, 1) || r.Burst < 1) {
		return fmt.Errorf("rate of the %s is %g per second with a burst of %d: both must be positive", what, r.PerSecond, r.Burst)
	}
	return nil
}

// bucket is a token bucket. The zero value is a full one.
type bucket struct {
	spent float64 // tokens that are missing
	at    time.Duration
}

// take takes a token at now, or says how long to wait for one.
func (b *bucket) take(r Rate, now time.Duration) (wait time.Duration) {
	b.refill(r, now)
	if missing := b.spent + 1 - float64(r.Burst); missing > roundingMax {
		return max(1, time.Duration(missing/r.PerSecond*float64(time.Second))) // never zero: that would say that a token was taken
	}
	b.spent++
	return 0
}

// roundingMax is what a token may lack: sums of times are not exact.
const roundingMax = 1e-9

// refill credits the time since the bucket was last looked at.
func (b *bucket) refill(r Rate, now time.Duration) {
	b.spent = max(0, b.spent-r.PerSecond*(now-b.at).Seconds())
	b.at = now
}

// buckets are the buckets of many names. Those that are full again are forgotten, whenever the table has doubled.
type buckets[K comparable] struct {
	of    map[K]*bucket
	sweep int // size at which to look for full ones
}

// bucketsMin is the size below which nothing is forgotten; a bucket costs about 100 bytes.
const bucketsMin = 1024

func (t *buckets[K]) take(name K, r Rate, now time.Duration) (wait time.Duration) {
	b := t.of[name]
	if b == nil {
		if t.of == nil {
			t.of, t.sweep = make(map[K]*bucket), bucketsMin
		}
		if len(t.of) >= t.sweep {
			t.forget(r, now)
		}
		b = &bucket{at: now}
		t.of[name] = b
	}
	return b.take(r, now)
}

// forget drops the buckets that are full again: they say what no bucket says.
func (t *buckets[K]) forget(r Rate, now time.Duration) {
	for name, b := range t.of {
		if b.refill(r, now); b.spent == 0 {
			delete(t.of, name)
		}
	}
	t.sweep = max(bucketsMin, 2*len(t.of))
}
