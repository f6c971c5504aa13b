//go:build !race

package client

import (
	"testing"

	"physalia/cell"
)

// TestPutDoesNotAllocate, once its cell is known: all that a Put needs is kept for the next. (The race detector makes pools forget.)
func TestPutDoesNotAllocate(t *testing.T) {
	h := preparedServer(t).Cell("vol-1")
	value := cell.String("value")
	put := func() {
		if _, err := h.Put(t.Context(), "key", value); err != nil {
			t.Fatal(err)
		}
	}
	put()
	if n := testing.AllocsPerRun(500, put); n >= 1 {
		t.Errorf("%v allocations per Put, both sides together", n)
	}
}
