package node

import (
	"testing"

	"physalia/node/core"
)

// TestRoomHasHysteresis: down at once, up with a margin; a disk that lingers at an edge changes its mind once.
func TestRoomHasHysteresis(t *testing.T) {
	r := room{reserve: 1000}
	for i, step := range []struct {
		free uint64
		want core.Space
	}{
		{5000, core.Ample}, {1000, core.Ample}, {999, core.Low}, {1001, core.Low}, {1249, core.Low}, {1250, core.Ample}, {1100, core.Ample},
		{250, core.Low}, {249, core.Full}, {260, core.Full}, {499, core.Full}, {500, core.Low}, {1200, core.Low}, {0, core.Full}, {1250, core.Ample},
	} {
		if got := r.judge(step.free); got != step.want {
			t.Errorf("step %d, %d bytes free: %v, want %v", i, step.free, got, step.want)
		}
	}
}

func TestReserve(t *testing.T) {
	for _, c := range []struct{ configured, total, want uint64 }{
		{0, 256 << 20, 256 << 20 / 20}, {0, 1 << 40, reserveMost}, {1 << 20, 1 << 40, 1 << 20},
	} {
		if got := reserveOf(c.configured, c.total); got != c.want {
			t.Errorf("reserve %d of %d bytes: %d, want %d", c.configured, c.total, got, c.want)
		}
	}
}
