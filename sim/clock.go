package sim

import (
	"math/rand/v2"
	"time"
)

// clock is somebody's own monotonic clock. It starts anywhere, so that a time that crosses from one process to another
// shows, and it runs a little fast or slow: support, read leases and leases must do with that.
type clock struct {
	began  time.Duration // when it stood at zero
	permil int64         // of the real rate
}

// newClock draws a clock whose rate differs by at most Schedule.Skew.
func (w *World) newClock(dice *rand.Rand) clock {
	skew := int64(w.plan.Skew)
	c := clock{permil: 1000 - skew + dice.Int64N(2*skew+1)}
	c.restart(w.now, dice)
	return c
}

// restart lets the clock start anywhere; its rate is that of the machine and stays.
func (c *clock) restart(now time.Duration, dice *rand.Rand) { c.began = now - between(dice, time.Hour) }

// at is what the clock shows at a time of the world.
func (c *clock) at(now time.Duration) time.Duration {
	return (now - c.began) * time.Duration(c.permil) / 1000
}

// when is the time of the world at which the clock shows something.
func (c *clock) when(shows time.Duration) time.Duration { return c.began + c.real(shows) }

// real is how long something takes that takes d by this clock. It rounds up: who waits until a time must not find, when he
// looks, that the time has not come.
func (c *clock) real(d time.Duration) time.Duration {
	return (max(0, d)*1000 + time.Duration(c.permil) - 1) / time.Duration(c.permil)
}
