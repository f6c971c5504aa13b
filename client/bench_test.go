package client

import (
	"fmt"
	"net"
	"testing"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// preparedServer returns a Client of a server that answers every Put from a prepared reply.
func preparedServer(t testing.TB) *Client {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reply := (&wire.TxnReply{Incarnation: 1, Result: cell.TxnResult{Succeeded: true, Failed: -1, Revision: 7,
		Results: []cell.OpResult{{Entry: cell.Entry{Key: "key", Value: cell.Int(1), ModRevision: 7, Version: 1}}}}}).Append(nil)
	server := rpc.NewServer(ln, rpc.Config{Handler: rpc.HandlerFunc(func(c *rpc.Conn, r rpc.Request) {
		if r.Method == wire.MethodExplain {
			c.Reply(r.ID, nil, &cell.Error{Kind: cell.UnknownHere})
			return
		}
		c.ReplyRaw(r.ID, reply, nil)
	})})
	t.Cleanup(func() { server.Close() })
	c, err := New(t.Context(), Config{Servers: []string{ln.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// BenchmarkPut measures the client's half of a Put over thousands of cells.
func BenchmarkPut(b *testing.B) {
	c := preparedServer(b)
	cells := make([]*Cell, 1000)
	value := cell.String("0123456789012345678901234567890123456789012345678901234567890123")
	for i := range cells {
		cells[i] = c.Cell(cell.ID(fmt.Sprintf("vol-%d", i)))
		if _, err := cells[i].Put(b.Context(), "key", value); err != nil {
			b.Fatal(err)
		}
	}
	b.SetParallelism(112) // 224 goroutines on two cores
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			if _, err := cells[i%len(cells)].Put(b.Context(), "key", value); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
