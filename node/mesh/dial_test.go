package mesh

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// A peer that is not there is dialled every few seconds, one that may be there every second, and one that was there just now at once.
func TestBackoff(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	for _, c := range []struct {
		name string
		err  error
		most time.Duration
	}{{"refused", refused, dialBackoffGone}, {"silent", errors.New("timeout"), dialBackoffMax}} {
		a, last := attempts{}, time.Duration(0)
		for n := range 100 {
			limit := a.limit(time.Millisecond, c.err)
			if n == 0 && limit != dialBackoffMin || limit < last || limit > c.most {
				t.Fatalf("%s: pause %d is %v after %v, allowed are %v to %v", c.name, n, limit, last, dialBackoffMin, c.most)
			}
			last = limit
		}
		if last != c.most {
			t.Errorf("%s: the longest pause is %v, want %v", c.name, last, c.most)
		}
		if limit := a.limit(time.Minute, c.err); limit != dialBackoffMin {
			t.Errorf("%s: after a connection that held the pause is %v", c.name, limit)
		}
	}
}
