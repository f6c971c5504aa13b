package node

import "testing"

// Memory is given back once after a burst, and not while it lasts.
func TestThrift(t *testing.T) {
	var x thrift
	total := uint64(0)
	for i, step := range []struct {
		allocated uint64
		due       bool
	}{{64 << 20, false}, {8 << 20, false}, {1 << 10, true}, {1 << 10, false}, {quietBytes, false}, {giveBackAfter, false}, {0, true}, {0, false}} {
		total += step.allocated
		if got := x.due(total); got != step.due {
			t.Errorf("step %d: %v", i, got)
		}
	}
	for looks := 1; ; looks++ { // little by little
		total += quietBytes / 2
		if !x.due(total) {
			continue
		}
		if want := 2 * giveBackAfter / quietBytes; looks != int(want) {
			t.Errorf("after %d looks, want %d", looks, want)
		}
		return
	}
}
