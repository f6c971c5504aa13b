package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// A control plane with a million cells is not measured with a million cells' servers: what counts is what it holds itself. So the
// lifecycle manager, its Pebble store, discovery with its snapshot, and health's index are the real ones, and the servers agree to
// everything at once. Three starts are measured one after the other:
//
//   - the manager alone, for its memory: records, placement's book, names in order, and all else that hangs on it;
//   - the manager with discovery and health listening, as in a control process, for the time to the first cell: it hands every
//     route on while it works, and each page holds its loop up;
//   - discovery from its snapshot, alone for its memory, and with health listening for the time.
//
// Memory is Go's heap after a collection. What the operating system sees is up to twice that, by GOGC.

// StoresConfig says how large a control plane is measured. Every field is required but Say.
type StoresConfig struct {
	Dir     string // of the lifecycle manager's store and of discovery's snapshots; on the disk that is meant
	Cells   int
	Servers int
	Say     func(format string, args ...any) // takes progress; nil drops it
}

// StoresReport is what so many cells cost the control plane. The JSON names stay; bytes per cell are those of Go's heap after a
// collection, of everything that the part holds, names included.
type StoresReport struct {
	FillSeconds        float64 `json:"fill_seconds"` // creation of all of them, by servers that answer at once
	PlacementsPerS     float64 `json:"created_per_s"`
	RestoreSeconds     float64 `json:"lifecycle_restore_seconds"`
	FirstCreateSeconds float64 `json:"lifecycle_first_create_seconds"` // from opening the store to the first acknowledged cell, routes handed on meanwhile
	LifecycleBytes     float64 `json:"lifecycle_bytes_per_cell"`
	CreateP50MS        float64 `json:"create_p50_ms"` // of single cells after that, the store's sync included
	HandOnSeconds      float64 `json:"hand_on_seconds"`
	LongestPageMS      float64 `json:"hand_on_longest_page_ms"` // that the manager's loop was held up by discovery and health
	SaveSeconds        float64 `json:"discovery_save_seconds"`
	LoadSeconds        float64 `json:"discovery_load_seconds"` // from the snapshot
	LoadHealthSeconds  float64 `json:"discovery_load_with_health_seconds"`
	SnapshotMiB        float64 `json:"snapshot_mib"`
	DiscoveryBytes     float64 `json:"discovery_bytes_per_cell"`
	HealthBytes        float64 `json:"health_bytes_per_cell"` // above discovery, whose names it shares
	Cells              int     `json:"cells"`
	Servers            int     `json:"servers"`
	Load               string  `json:"load_average"`
	LaterLoad          string  `json:"load_average_after"`
	CPUSeconds         float64 `json:"cpu_seconds"` // of this process, filling included
}

// stores is one run.
type stores struct {
	StoresConfig
	report StoresReport
}

// Stores fills the lifecycle manager's store, starts from it, and does the same with discovery and its snapshot.
func Stores(ctx context.Context, c StoresConfig) (StoresReport, error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	if c.Cells < 1 || c.Servers < 7 {
		return StoresReport{}, &cell.Error{Op: "bench.stores", Kind: cell.Invalid, Hint: "use at least one cell and seven servers",
			Detail: fmt.Sprintf("%d cells, %d servers", c.Cells, c.Servers)}
	}
	s := &stores{StoresConfig: c, report: StoresReport{Cells: c.Cells, Servers: c.Servers, Load: load()}}
	for _, phase := range []func(context.Context) error{s.fill, s.measureLifecycle, s.handOn, s.measureDiscovery} {
		if err := errors.Join(phase(ctx), ctx.Err()); err != nil {
			return s.report, err
		}
	}
	s.report.LaterLoad, s.report.CPUSeconds = load(), rounded(ownCPU().Seconds())
	return s.report, nil
}

// A server that has room always agrees; only real ones can be slow, down or full.
//
// willing is a fleet whose servers host at once whatever they are asked to.
type willing struct{}

// Call implements lifecycle.Caller.
func (willing) Call(_ context.Context, _ cell.ServerID, method string, params, result wire.Message) error {
	// Nothing else than foundings happens in this colony: no census, no move, no deletion.
	create, ok := params.(*wire.CreateNodes)
	if !ok {
		return &cell.Error{Op: method, Kind: cell.Unavailable, Detail: "this server only hosts nodes"}
	}
	result.(*wire.Outcomes).Outcomes = make([]wire.Outcome, len(create.Foundings))
	return nil
}

// open starts a manager from the store.
func (s *stores) open(limits lifecycle.Limits, routes func([]wire.Route)) (*lifecycle.Service, error) {
	store, err := lifecycle.OpenPebble(lifecycle.PebbleConfig{Dir: filepath.Join(s.Dir, "lifecycle")})
	if err != nil {
		return nil, err
	}
	m, err := lifecycle.Open(lifecycle.ServiceConfig{Manager: lifecycle.Config{Seed: 1, Limits: limits}, Store: store, Caller: willing{}, Routes: routes})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return m, nil
}

// join has every server register. They stand in 50 racks and 12 power domains of one brick, the hardest case for placement.
func (s *stores) join(m *lifecycle.Service) {
	for i := range s.Servers {
		m.ServerUp(s.registration(i))
	}
}

// registration is what the i-th server says of itself.
func (s *stores) registration(i int) wire.Registration {
	return wire.Registration{Server: cell.ServerID(fmt.Sprintf("s%04d-%08x", i, i*2654435761%(1<<32))), Name: fmt.Sprintf("s%04d", i), Boot: 1,
		Brick: "b1", Rack: fmt.Sprintf("r%02d", i%50), Power: fmt.Sprintf("p%02d", i%12), Color: "red", Capacity: 100_000,
		PeerAddr: fmt.Sprintf("10.0.%d.%d:7301", i/250, i%250+1), ClientAddr: fmt.Sprintf("10.0.%d.%d:7302", i/250, i%250+1)}
}

// volumes are the names of some cells, as long as those of EC2's volumes.
func volumes(from, to int) (names []cell.ID) {
	for i := from; i < to; i++ {
		names = append(names, cell.ID(fmt.Sprintf("vol-%017x", i)))
	}
	return names
}

// create asks for cells and waits.
func create(m *lifecycle.Service, part []cell.ID) error {
	// The answer comes on the manager's loop, which must not wait for us.
	answered := make(chan error, 1)
	m.Create(wire.CreateCells{Cells: part, Wait: 60_000}, func(o *wire.Outcomes, err *cell.Error) {
		if err != nil {
			answered <- err
			return
		}
		for i := range o.Outcomes {
			if failure := o.Outcomes[i].Err; failure != nil {
				answered <- failure
				return
			}
		}
		answered <- nil
	})
	return <-answered
}

// fill creates all cells. The limits of creations would make a million take minutes, which is their purpose.
func (s *stores) fill(ctx context.Context) error {
	boundless := lifecycle.DefaultLimits()
	most := lifecycle.Limit{PerSecond: 1e6, Burst: 1 << 20}
	boundless.Create = lifecycle.LimitsOf{Colony: most, Brick: most, Server: most}
	m, err := s.open(boundless, nil)
	if err != nil {
		return err
	}
	s.join(m)
	// One request at a time: each is four turns of the manager, and their syncs are not what fills the time.
	began := time.Now()
	for from := 0; from < s.Cells && ctx.Err() == nil; from += wire.BatchMax {
		if err := create(m, volumes(from, min(from+wire.BatchMax, s.Cells))); err != nil {
			return errors.Join(err, m.Close())
		}
		if done := from / wire.BatchMax; done%100 == 99 {
			s.Say("%d cells after %.0f s", from+wire.BatchMax, time.Since(began).Seconds())
		}
	}
	s.report.FillSeconds = millis(time.Since(began)) / 1000
	s.report.PlacementsPerS = rounded(float64(s.Cells) / time.Since(began).Seconds())
	return m.Close()
}

// heap is what is reachable now.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers of the first held on to
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// Two runs differ by a few bytes: tables are as large as the next power of two.
//
// perCell is what has been added since, per cell.
func (s *stores) perCell(before float64) float64 {
	return rounded((heap() - before) / float64(s.Cells))
}

// measureLifecycle starts a manager that nobody listens to, and measures what it holds once everybody has joined.
func (s *stores) measureLifecycle(context.Context) error {
	before := heap()
	began := time.Now()
	m, err := s.open(lifecycle.Limits{}, nil)
	if err != nil {
		return err
	}
	// Open returns when everything was read; nobody can be served before.
	s.report.RestoreSeconds = millis(time.Since(began)) / 1000
	s.join(m)
	if err := create(m, []cell.ID{"first"}); err != nil { // everybody has joined when it is answered
		return errors.Join(err, m.Close())
	}
	s.report.LifecycleBytes = s.perCell(before)
	if n := m.Stats().Cells[lifecycle.Live]; n <= s.Cells {
		return errors.Join(fmt.Errorf("%d cells live after the restart, want more than %d", n, s.Cells), m.Close())
	}
	s.Say("restored in %.2f s, %.0f bytes per cell", s.report.RestoreSeconds, s.report.LifecycleBytes)
	return m.Close()
}
