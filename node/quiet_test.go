package node

import "testing"

// Memory is given back once after a burst, and not while it lasts.
func TestThrift(t *testing.T) {
	var x thrift
	total := uint64(0)
	for i, step := range []struct {
		allocated uint64
		due       bool
	}{{64 << 20, false}, {quietBytes + 1, false}, {1 << 10, true}, {1 << 10, false}, {quietBytes, false}, {giveBackAfter, false}, {0, true}, {0, false}} {
		total += step.allocated
		if got := x.due(total, x.isQuiet(total)); got != step.due {
			t.Errorf("step %d: %v", i, got)
		}
	}
	for looks := 1; ; looks++ { // little by little
		total += quietBytes / 2
		if !x.due(total, x.isQuiet(total)) {
			continue
		}
		if want := 2 * giveBackAfter / quietBytes; looks != int(want) {
			t.Errorf("after %d looks, want %d", looks, want)
		}
		return
	}
}

// A small server that is busy lets headroom bytes of garbage gather; a large one collects as any other program, a quiet one earlier.
func TestCollectAt(t *testing.T) {
	for _, c := range []struct {
		live  uint64
		quiet bool
		want  int
	}{{1 << 20, false, 1600}, {8 << 20, false, 800}, {32 << 20, false, 200}, {headroom, false, 100}, {1 << 30, false, 100}, {8 << 20, true, quietGrowth}} {
		if got := collectAt(c.live, c.quiet); got != c.want {
			t.Errorf("%d bytes live, quiet %t: %d %%, want %d", c.live, c.quiet, got, c.want)
		}
	}
}
