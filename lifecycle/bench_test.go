package lifecycle

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// BenchmarkCreate creates cells through a Service with a Pebble store on disk; the 14 servers answer at once, so what is
// measured is the manager with its syncs.
func BenchmarkCreate(b *testing.B) {
	for _, batch := range []int{1, wire.BatchMax} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			h := &hosts{w: newWorld(b.Errorf, Config{Limits: noLimits()}, 14)}
			store, err := OpenPebble(PebbleConfig{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			s, err := Open(ServiceConfig{Manager: Config{Limits: noLimits()}, Store: store, Caller: quick{h}})
			if err != nil {
				b.Fatal(err)
			}
			h.join(s)
			b.ResetTimer()
			for n := 0; n < b.N; n += batch {
				names := make([]cell.ID, min(batch, b.N-n))
				for i := range names {
					names[i] = cell.ID(fmt.Sprintf("vol-%08d", n+i))
				}
				if o, err := createAll(s, names...); err != nil || o.Outcomes[0].Err != nil {
					b.Fatal(o, err)
				}
			}
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// quick is servers that answer yes to everything.
type quick struct{ *hosts }

func (quick) Call(_ context.Context, _ cell.ServerID, _ string, params, result wire.Message) error {
	if p, ok := params.(*wire.CreateNodes); ok {
		result.(*wire.Outcomes).Outcomes = make([]wire.Outcome, len(p.Foundings))
	}
	return nil
}

// BenchmarkRestore measures the start of a manager with so many live cells, and what one of them costs in memory.
func BenchmarkRestore(b *testing.B) {
	const cells = 100_000
	source := NewManager(Config{Limits: noLimits()})
	var stored []Write
	for i := range 100 {
		if err := source.ServerUp(0, testServer(i)); err != nil {
			b.Fatal(err)
		}
	}
	for i := range cells {
		source.want(&wish{cell: cell.ID(fmt.Sprintf("vol-%08d", i))})
	}
	for len(source.backlog) > 0 {
		for _, w := range source.Effects(0).Persist {
			stored = append(stored, live(b, w))
		}
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := NewManager(Config{})
		for _, w := range stored {
			if err := m.Restore(w.Key, w.Value); err != nil {
				b.Fatal(err)
			}
		}
		m.Effects(0)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if m.Stats().Cells[Live] != cells {
			b.Fatal(m.Stats())
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/cells, "B/cell")
		runtime.KeepAlive(m)
	}
}

// live turns a stored creation into one that has converged.
func live(b *testing.B, w Write) Write {
	if w.Key[0] != keyRecord {
		return w
	}
	r, err := decodeRecord(w.Value, intern{})
	if err != nil {
		b.Fatal(err)
	}
	r.State, r.Founded = Live, r.all()
	return Write{w.Key, appendRecord(nil, &r)}
}

// noLimits are limits that no benchmark reaches: what is measured is the work, not the pace.
func noLimits() Limits {
	most := Limit{1e6, 1e7}
	of := LimitsOf{most, most, most}
	return Limits{Create: of, Move: of, Repair: of}
}
