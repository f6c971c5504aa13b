package rpc

import (
	"context"
	"runtime"
	"strings"
	"testing"
)

// BenchmarkEcho measures whole calls over loopback: 164 bytes there and back, both sides in this process.
func BenchmarkEcho(b *testing.B) {
	for name, callers := range map[string]int{"1": 1, "64": 64, "256": 256} {
		b.Run(name, func(b *testing.B) {
			s := serve(b, Config{Handler: HandlerFunc(echo)})
			c := dial(b, s, Config{})
			params := &text{strings.Repeat("x", 164)}
			b.ReportAllocs()
			b.SetParallelism((callers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			if callers == 1 {
				for b.Loop() {
					if err := c.Call(context.Background(), "echo", params, nil); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c.Call(context.Background(), "echo", params, nil); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
