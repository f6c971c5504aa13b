package sim

import (
	"fmt"
	"io"
	"time"
)

// trace is the fingerprint of a history: every event that somebody noted, in order (FNV-1a). Worlds with equal traces
// went the same way. With a log, the same events are written down for people.
type trace struct {
	sum uint64
	log io.Writer
}

const fnvPrime = 1099511628211

func (t *trace) add(values ...uint64) {
	for _, v := range values {
		for range 8 {
			t.sum = (t.sum ^ v&0xff) * fnvPrime
			v >>= 8
		}
	}
}

// note writes a line for people, if somebody reads it; arguments are formatted only then.
func (t *trace) note(now time.Duration, format string, args ...any) {
	if t.log != nil {
		fmt.Fprintf(t.log, "%9.3fms "+format+"\n", append([]any{float64(now.Microseconds()) / 1000}, args...)...)
	}
}
