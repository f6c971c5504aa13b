package node

import (
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"physalia/cell"
	"physalia/internal/rpc"
)

// BenchmarkWrites measures one-key transactions over real sockets and real Pebbles: seven servers and their clients in
// this one process, so the figure is processor time of everything together. Compare runs of one machine only. Turns,
// batches, frames and writes (system calls of the mesh) are those of all servers: how well load is gathered.
func BenchmarkWrites(b *testing.B) {
	for _, load := range []struct{ cells, clients int }{{1, 1}, {100, 224}} {
		b.Run(fmt.Sprintf("cells=%d/clients=%d", load.cells, load.clients), func(b *testing.B) {
			c := newTestColony(b, 7)
			for i := range load.cells {
				c.createOwned(cell.ID(fmt.Sprintf("vol-%d", i)), uint64(i%7+1))
			}
			var conns []*rpc.Conn
			for i := range c.servers {
				conns = append(conns, c.connect(i))
			}
			value := cell.Bytes(make([]byte, 64))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range load.clients {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for i := w; i < b.N; i += load.clients {
						n := i % load.cells
						r := cell.Request{Client: cell.ClientID{byte(w), byte(w >> 8)}, Sequence: uint64(i + 1), Since: 1 << 40}
						if _, err := txn(conns[n%7], cell.ID(fmt.Sprintf("vol-%d", n)), r, putTxn("k", value), 0); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			wg.Wait()
			b.StopTimer()
			for name, value := range map[string]func(s *Server) float64{
				"turns/op":   func(s *Server) float64 { return testutil.ToFloat64(s.metrics.turns) },
				"batches/op": func(s *Server) float64 { return testutil.ToFloat64(s.metrics.batches) },
				"writes/op":  func(s *Server) float64 { return float64(s.mesh.Stats.Writes.Load()) },
				"frames/op":  func(s *Server) float64 { return float64(s.mesh.Stats.FramesSent.Load()) },
			} {
				total := 0.0
				for _, s := range c.servers {
					total += value(s)
				}
				b.ReportMetric(total/float64(b.N), name)
			}
		})
	}
}
