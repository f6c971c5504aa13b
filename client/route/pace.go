package route

import (
	"time"

	"physalia/cell"
)

// Rules are the settings that all calls of one client share. They do not change after the first use.
type Rules struct {
	Servers        []string      // client addresses of servers, tried when no route is known or none of it helps
	Preference     uint32        // shifts which member this client asks first for stale reads
	Discovery      bool          // there are discovery copies to look cells up in
	AttemptTimeout time.Duration // patience with one server for the first send of a call; it doubles with each lost answer
	BackoffMin     time.Duration // shortest pause between two rounds, and unit of the exponential backoff
	BackoffMax     time.Duration // bound of the exponential part of a pause
	FindTimeout    time.Duration // longest wait of a call for a lookup before it goes on without
}

// Bounds that no setting changes.
const (
	roundAsksMax     = 16               // addresses asked in one round
	hintsMax         = 6                // hints followed in one round
	probesMax        = 7                // of Rules.Servers, asked in one round
	pastMax          = 7                // former members remembered per cell
	unanimousRounds  = 3                // rounds in which everybody must deny the cell before a call believes it
	behindRounds     = 2                // rounds in which everybody is behind a stale read's session before the proposer is asked; even
	retryAfterMax    = 10 * time.Second // a server's wish to be left alone is honoured up to here
	lookupBatchMax   = 256              // cells of one lookup; their routes must fit a client's frame
	lookupPauseMax   = 5 * time.Second  // bound of the backoff between fruitless lookups
	lookupPauseUnits = 8                // a lookup's first pause, in units of BackoffMin
	learnPauseMin    = 2 * time.Second  // pause between two questions to an informant about the same cell
	learnPauseMax    = 5 * time.Minute
)

// Dice is a small deterministic source of jitter (splitmix64). The zero value is usable; equal seeds give equal rolls.
type Dice uint64

// roll returns the next 64 random bits.
func (d *Dice) roll() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a duration in [0, d), or 0 when d is not positive.
func (d *Dice) below(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(d.roll() % uint64(limit))
}

// Backoff is the full-jitter exponential backoff: the floor plus a random part below min(most, unit*2^failures).
func Backoff(d *Dice, floor, unit, most time.Duration, failures int) time.Duration {
	window := most
	if failures < 30 && unit<<failures > 0 && unit<<failures < most {
		window = unit << failures
	}
	return floor + d.below(window)
}

// Budget bounds how much a client's retries add to the load of a colony in trouble: a retry costs one token unless all that came before it was
// never sent, a call that begins earns a fifth of one, and time earns a few, so that a client without new calls finds out when things are well again.
// Over any stretch of time, therefore, retries are at most a fifth of the calls, plus the trickle, plus what a full budget
// holds at the beginning. A call that finds it empty is not failed but waits, in the longest backoff, until there is
// a token or its deadline comes: it costs the colony nothing meanwhile.
type Budget struct {
	tenths, most int
	trickled     time.Duration // until when the trickle is in tenths
}

// The trickle, in tokens per second: a tenth of a full budget, and not less than trickleMin.
const trickleMin = 10

// NewBudget makes a full budget of so many retries.
func NewBudget(retries int) Budget { return Budget{tenths: 10 * retries, most: 10 * retries} }

// Full reports whether earning would change nothing.
func (b *Budget) Full() bool { return b.tenths >= b.most }

// Left is how many retries there are now, but for the trickle.
func (b *Budget) Left() int { return b.tenths / 10 }

// earned is what a call brings, in tenths of a token.
const earned = 2

// Earn credits one call.
func (b *Budget) Earn() { b.tenths = min(b.most, b.tenths+earned) }

// Spend takes one retry at a moment of the owner's clock and reports whether there was one.
func (b *Budget) Spend(now time.Duration) bool {
	b.trickle(now)
	if b.tenths < 10 {
		return false
	}
	b.tenths -= 10
	return true
}

// trickle credits the time that passed; what is less than a tenth of a token waits for the next time.
func (b *Budget) trickle(now time.Duration) {
	each := time.Second / time.Duration(10*max(trickleMin, b.most/100)) // per tenth of a token
	n := int64((now - b.trickled) / each)
	if b.tenths += int(min(n, int64(max(0, b.most-b.tenths)))); b.Full() {
		b.trickled = now
		return
	}
	b.trickled += time.Duration(n) * each
}

// spread turns a cell's name into a number, to share first guesses out over members (FNV-1a).
func spread(id cell.ID) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(id); i++ {
		h = (h ^ uint32(id[i])) * 16777619
	}
	return h
}
