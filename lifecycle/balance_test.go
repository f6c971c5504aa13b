package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"physalia/cell"
)

// fills tells how full the fullest and the emptiest server are, in percent.
func (w *world) fills() (least, most int) {
	least = 1000
	for _, s := range w.servers {
		fill := 100 * len(s.nodes) / int(s.reg.Capacity)
		least, most = min(least, fill), max(most, fill)
	}
	return least, most
}

// TestNewServersAreFilled: the cells of a full colony spread to servers that are new, a few at a time, and then nothing moves any
// more and no timer runs.
func TestNewServersAreFilled(t *testing.T) {
	w := racked(t.Fatalf, seven(), 24, 6, 4)
	for i, s := range w.servers {
		s.reg.Capacity = 20
		if i >= 12 {
			s.up = false
		}
	}
	w.crash()
	var names []cell.ID
	for i := range 24 {
		names = append(names, cell.ID(fmt.Sprintf("c%02d", i)))
	}
	w.create(time.Minute, names...)
	for len(w.flight) > 0 {
		w.deliver(0, true, true)
	}
	for _, s := range w.servers[12:] {
		w.setUp(s, true)
	}
	if least, most := w.fills(); least != 0 || most < 60 {
		t.Fatalf("servers are %d to %d %% full", least, most)
	}
	began := w.now
	w.settle()
	if least, most := w.fills(); most-least >= 2*unevenMin {
		t.Fatalf("servers are %d to %d %% full", least, most)
	}
	if at, ok := w.m.Next(); ok {
		t.Fatalf("at %v something is due at %v", w.now, at)
	}
	moved := 0
	for _, c := range w.cells {
		moved += int(c.conf.Number) - 1
	}
	if moved < 40 || moved > 200 {
		t.Fatalf("%d members were moved in %v", moved, w.now-began)
	}
	w.checkSettled()
}

// TestBalanceMayBePaused: by the button for moves.
func TestBalanceMayBePaused(t *testing.T) {
	c := seven()
	c.BalanceEvery = -1
	w := racked(t.Fatalf, c, 24, 6, 4)
	for _, s := range w.servers {
		s.reg.Capacity = 20
	}
	w.create(time.Minute, "a")
	w.settle()
	if w.m.level.awake {
		t.Fatal("nothing shall be levelled")
	}
}
