package node

import (
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// A server that was busy and is quiet now keeps what it needed then: Go collects when the heap has doubled, which it may not do for
// hours, and gives pages back with an eye on what will be needed again. One of thousands of idle nodes should not be as large as its
// busiest minute. So whoever allocated much, and allocates next to nothing any more, collects once and gives everything back: some ten
// milliseconds of processor time, at most once per giveBackAfter bytes.
const (
	quietEvery    = 5 * time.Second
	quietBytes    = 6 << 20  // allocated since the last look, at most: it is quiet, but for a manager that asks what it hosts
	giveBackAfter = 48 << 20 // allocated since memory was last given back, at least: it is worth it
)

// thrift decides when memory is given back; total is all that was ever allocated, in bytes.
type thrift struct{ looked, given uint64 }

// due reports whether to do so now. It is asked every quietEvery.
func (t *thrift) due(total uint64) bool {
	quiet := total-t.looked <= quietBytes
	t.looked = total
	if !quiet || total-t.given < giveBackAfter {
		return false
	}
	t.given = total
	return true
}

// keepSmall gives memory back until the server is closed.
func (s *Server) keepSmall() {
	ticker := time.NewTicker(quietEvery)
	defer ticker.Stop()
	var t thrift
	allocated := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		if runtimemetrics.Read(allocated); t.due(allocated[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
