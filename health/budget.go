package health

import "time"

// bucket meters a Budget: repairs and bytes together, each up to what a fifth of a second brings: two turns' worth, so that
// nothing is lost between turns. In any window of w seconds at most (w + 0.2) times the rate is taken; a bucket always holds one
// repair, and a repair of more bytes than a bucket holds waits until it is full.
type bucket struct {
	at             time.Duration
	repairs, bytes float64
	used           bool // it has been filled once
}

// fill adds what has become due since. A bucket that is used for the first time is full.
func (b *bucket) fill(now time.Duration, of Budget) {
	if !b.used {
		*b = bucket{at: now, repairs: of.burst(), bytes: of.byteBurst(), used: true}
		return
	}
	s := (now - b.at).Seconds()
	b.at = now
	b.repairs = min(b.repairs+s*of.Repairs, of.burst())
	b.bytes = min(b.bytes+s*of.Bytes, of.byteBurst())
}

// burst is how many repairs may be taken at once, byteBurst how many bytes.
func (b Budget) burst() float64     { return max(b.Repairs/5, 1) }
func (b Budget) byteBurst() float64 { return b.Bytes / 5 }

// allows reports whether one repair of so many bytes can be taken now. One that is larger than the bucket waits until it is
// full, and leaves a debt.
func (b *bucket) allows(bytes float64, of Budget) bool {
	return b.repairs >= 1 && b.bytes >= min(bytes, of.byteBurst())
}

// take charges one repair.
func (b *bucket) take(bytes float64) {
	b.repairs--
	b.bytes -= bytes
}

// give returns what was taken, when nothing came of it.
func (b *bucket) give(bytes float64, of Budget) {
	b.repairs = min(b.repairs+1, of.burst())
	b.bytes = min(b.bytes+bytes, of.byteBurst())
}
