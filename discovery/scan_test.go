package discovery

import (
	"testing"
	"time"

	"physalia/internal/wire"
)

// TestAllCopiesRestartEmpty: with 10,000 cells, three copies that begin with nothing are full again. The load follows from
// the pace and the number of pages; nobody but servers and copies is asked, and nobody is asked per cell.
func TestAllCopiesRestartEmpty(t *testing.T) {
	const cells, servers = 10_000, 14
	w := newWorld(t, servers, 3, Pace{})
	w.fill(cells)
	for _, c := range w.copies {
		w.restart(c)
	}
	w.join()
	clear(w.asked)
	w.busiest = 0
	took := w.settle(time.Minute)
	total := 0
	for _, n := range w.asked {
		total += n
	}
	pages := cells * 7 / 256 // of the servers, at least
	t.Logf("full after %v with %v, at most %d requests to one source within a second", took, w.asked, w.busiest)
	if n := w.asked[wire.MethodPull]; n < pages || n > 3*pages {
		t.Errorf("%d pages for %d", n, pages)
	}
	if total > cells/4 {
		t.Errorf("%d requests for %d cells", total, cells)
	}
	if w.busiest > 3*w.pace.withDefaults().PagesPerSec {
		t.Errorf("one source was asked %d times within a second", w.busiest)
	}
}

// TestSteadyState: while nothing changes, what is asked does not depend on how many cells there are, and carries nothing.
func TestSteadyState(t *testing.T) {
	asked := map[int]map[string]int{}
	for _, cells := range []int{100, 5000} {
		w := newWorld(t, 14, 2, Pace{})
		w.fill(cells)
		w.settle(time.Minute)
		for range 3000 {
			w.step(20 * time.Millisecond)
		}
		clear(w.asked)
		for range 3000 { // one minute
			w.step(20 * time.Millisecond)
		}
		if w.asked[wire.MethodPull]+w.asked[wire.MethodPush] != 0 {
			t.Errorf("%d cells: %v, though nothing changes", cells, w.asked)
		}
		asked[cells] = w.asked
	}
	for method, n := range asked[100] {
		if m := asked[5000][method]; m < n-2 || m > n+2 {
			t.Errorf("%s: %d times with 100 cells, %d times with 5000", method, n, m)
		}
	}
}

// TestDeltas: changes reach every copy by pushes and from copy to copy, and the next comparison finds that nothing was
// missed: no bucket is pulled for them.
func TestDeltas(t *testing.T) {
	w := newWorld(t, 14, 3, Pace{})
	w.fill(500)
	w.settle(time.Minute)
	for range 3000 {
		w.step(20 * time.Millisecond)
	}
	clear(w.asked)
	before := w.copies["copy-0:1"].scanner.Stats()
	for i := range 50 {
		w.set(w.route(i*10, 2))
	}
	if took := w.settle(10 * time.Second); took > 3*time.Second {
		t.Errorf("it took %v for changes to be everywhere", took)
	}
	for range 3000 { // two comparisons with everybody
		w.step(20 * time.Millisecond)
	}
	if w.asked[wire.MethodPull] != 0 || w.asked[wire.MethodPush] == 0 {
		t.Errorf("asked %v", w.asked)
	}
	if after := w.copies["copy-0:1"].scanner.Stats(); after.Missed != before.Missed || after.Compared < before.Compared+14 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// TestLostPushes: what pushes missed is found by the next comparison, and only what was missed is pulled.
func TestLostPushes(t *testing.T) {
	w := newWorld(t, 14, 2, Pace{})
	w.fill(500)
	w.settle(time.Minute)
	clear(w.asked)
	w.lose = true
	for i := range 5 {
		w.set(w.route(i*10, 2))
	}
	w.step(time.Millisecond)
	w.lose = false
	if took := w.settle(time.Minute); took > 40*time.Second {
		t.Errorf("found after %v", took)
	}
	if n := w.asked[wire.MethodPull]; n == 0 || n > 2*14+2*5 {
		t.Errorf("%d pages for 5 changed cells", n)
	}
}

// TestOverflow: a server that changes faster than it remembers says so, and nothing is missed.
func TestOverflow(t *testing.T) {
	w := newWorld(t, 7, 2, Pace{})
	w.fill(100)
	w.settle(time.Minute)
	for round := range uint64(400) {
		for i := range 100 {
			w.set(w.route(i, round+2))
		}
	}
	w.settle(time.Minute)
	missed := uint64(0)
	for _, c := range w.copies {
		missed += c.scanner.Stats().Missed
	}
	if missed == 0 {
		t.Error("nobody noticed that changes were lost")
	}
}

// TestCopyRestarts: one copy that begins with nothing fills itself from its servers and the other copy, which does not take
// the positions of its former life for those of the new one.
func TestCopyRestarts(t *testing.T) {
	w := newWorld(t, 14, 2, Pace{})
	w.fill(300)
	w.settle(time.Minute)
	c := w.copies["copy-1:1"]
	w.restart(c)
	for i := range 20 {
		w.set(w.route(i, 2))
	}
	for i := range len(w.servers) {
		if s := w.servers[worldID(i)]; s.copy == c.addr {
			c.cache.Address(&wire.Registration{Server: s.id, Brick: "b", PeerAddr: string(s.id) + ":1", ClientAddr: string(s.id) + ":2", Boot: 1})
			s.told = s.ledger.Position()
			c.scanner.Begin(w.now, Source{Server: s.id})
		}
	}
	w.settle(time.Minute)
}
