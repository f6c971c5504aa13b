package duty

import (
	"math/rand/v2"
	"time"
)

// Gate admits registrations at a pace: a token bucket that gives those whom it refuses appointments. It belongs to one
// owner. The zero Gate admits nothing; use NewGate.
type Gate struct {
	pace   time.Duration // between two tokens
	burst  int
	dice   *rand.Rand
	tokens time.Duration // saved up; one costs pace
	at     time.Duration // when tokens was right
	line   time.Duration // the last appointment given
}

// horizon bounds how far ahead appointments are given; whoever comes later is told a time within its second half.
const horizon = time.Minute

// NewGate makes a gate that admits perSecond, and burst at once after a pause; both at least 1. Times are durations since a
// moment of the caller's choice; now is the first of them.
func NewGate(now time.Duration, perSecond float64, burst int, dice *rand.Rand) *Gate {
	g := &Gate{pace: time.Duration(float64(time.Second) / max(perSecond, 1)), burst: max(burst, 1), dice: dice, at: now, line: now}
	g.tokens = g.most()
	return g
}

func (g *Gate) most() time.Duration { return time.Duration(g.burst) * g.pace }

// Admit takes a token, or says after what time to come again. Appointments are one pace apart. They are no promise: whoever
// comes first takes the token, and whoever is late gets another appointment.
func (g *Gate) Admit(now time.Duration) (ok bool, again time.Duration) {
	g.fill(now)
	if g.tokens >= g.pace {
		g.tokens -= g.pace
		return true, 0
	}
	return false, g.Appoint(now)
}

// Appoint gives an appointment without asking for a token.
func (g *Gate) Appoint(now time.Duration) time.Duration {
	if g.line-now > horizon {
		return horizon/2 + time.Duration(g.dice.Int64N(int64(horizon/2)))
	}
	g.line = max(g.line, now) + g.pace
	return g.line - now
}

// Wait is how long it takes until there is a token; 0 when there is one.
func (g *Gate) Wait(now time.Duration) time.Duration {
	g.fill(now)
	return max(g.pace-g.tokens, 0)
}

// fill adds the tokens of the time that has passed.
func (g *Gate) fill(now time.Duration) {
	if now > g.at {
		g.tokens = min(g.tokens+now-g.at, g.most())
		g.at = now
	}
}
