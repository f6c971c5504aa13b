package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// BenchmarkRestart starts a server that hosts a hundred thousand nodes, whose cells have other members on a hundred servers that do not
// exist, until the restart scan is done. Beside the time stands what it then holds above a server without nodes in the same process,
// in bytes per node: Go's heap after a collection, and what the operating system sees.
func BenchmarkRestart(b *testing.B) {
	const nodes = 100_000
	c := newTestColony(b, 1)
	c.stop(0)
	heap, resident := held(b)
	c.start(0)
	emptyHeap, emptyResident := held(b)
	emptyHeap, emptyResident = emptyHeap-heap, emptyResident-resident
	dice := rand.New(rand.NewPCG(1, 2))
	for from := 0; from < nodes; {
		m := &wire.CreateNodes{}
		for ; from < nodes && len(m.Foundings) < wire.BatchMax; from++ {
			f := wire.Founding{Cell: cell.ID(fmt.Sprintf("vol-%017x", from)), Incarnation: 1, Alpha: 8, Owner: 1,
				Members: []wire.Founder{{Node: 1, Server: c.servers[0].Identity().Server}}}
			for i, other := range dice.Perm(100)[:6] {
				f.Members = append(f.Members, wire.Founder{Node: uint64(i + 2), Server: cell.ServerID(fmt.Sprintf("s%d-01234567", other))})
			}
			m.Foundings = append(m.Foundings, f)
		}
		c.ask(c.servers[0], wire.MethodCreateNodes, m, new(wire.Outcomes))
	}
	c.stop(0)
	for b.Loop() {
		began := time.Now()
		c.start(0)
		eventually(b, "the restart scan", c.servers[0].vitals.ready.Load)
		took := time.Since(began)
		b.StopTimer()
		if n := c.servers[0].vitals.nodes.Load(); n != nodes {
			b.Fatalf("%d nodes", n)
		}
		full, fullResident := held(b)
		b.ReportMetric(float64(took.Milliseconds()), "ms")
		b.ReportMetric((full-heap-emptyHeap)/nodes, "heap-B/node")
		b.ReportMetric((fullResident-resident-emptyResident)/nodes, "resident-B/node")
		c.stop(0)
		b.StartTimer()
	}
	c.start(0) // to be stopped by the colony
}

// held is Go's heap after a collection, and the process's resident memory before it, where that can be read.
func held(b *testing.B) (heap, resident float64) {
	text, err := os.ReadFile("/proc/self/status")
	_, rest, ok := strings.Cut(string(text), "VmRSS:")
	if fields := strings.Fields(rest); err == nil && ok && len(fields) > 0 {
		kib, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			b.Fatal(err)
		}
		resident = kib * 1024
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), resident
}
