package node

import (
	"os"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// A server that was busy and is quiet now keeps what it needed then: Go collects when the heap has doubled, which it may not do for
// hours, and gives pages back with an eye on what will be needed again. One of thousands of idle nodes should not be as large as its
// busiest minute. So whoever allocated much, and allocates next to nothing any more, collects once and gives everything back: some ten
// milliseconds of processor time, at most once per giveBackAfter bytes. And while it is busy and small, it collects more rarely than when
// its heap has doubled: whatever it holds, headroom bytes may be garbage.
const (
	quietEvery    = 5 * time.Second
	quietBytes    = 16 << 20 // allocated since the last look, at most: it is quiet, but for a manager that asks what 100,000 nodes it hosts
	giveBackAfter = 48 << 20 // allocated since memory was last given back, at least: it is worth it
	headroom      = 64 << 20 // garbage of a busy server before it collects, at least
	growth        = 100      // percent by which the heap of a busy server grows before it is collected, at least: Go's own default
	quietGrowth   = 50       // percent by which that of a quiet one does: its garbage comes slowly, and shall not lie there for long
)

// collectAt is the growth of the heap in percent at which a server with so many live bytes collects.
func collectAt(live uint64, quiet bool) int {
	switch {
	case quiet:
		return quietGrowth
	case live >= headroom:
		return growth
	}
	return int(headroom * 100 / max(live, headroom/16))
}

// thrift decides when memory is given back; total is all that was ever allocated, in bytes.
type thrift struct{ looked, given uint64 }

// isQuiet reports whether next to nothing was allocated since it was last asked, which is every quietEvery.
func (t *thrift) isQuiet(total uint64) bool {
	quiet := total-t.looked <= quietBytes
	t.looked = total
	return quiet
}

// due reports whether memory is to be given back now.
func (t *thrift) due(total uint64, quiet bool) bool {
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
	percent := growth
	_, tuned := os.LookupEnv("GOGC") // whoever sets it means it
	heap := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		runtimemetrics.Read(heap)
		total, live := heap[0].Value.Uint64(), heap[1].Value.Uint64()
		quiet := t.isQuiet(total)
		if at := collectAt(live, quiet); at != percent && !tuned {
			debug.SetGCPercent(at)
			percent = at
		}
		if t.due(total, quiet) {
			debug.FreeOSMemory()
		}
	}
}
