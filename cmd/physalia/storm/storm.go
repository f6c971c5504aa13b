// Package storm shows that the load on the control plane is a function of its own pace: it lets thousands of simulated servers
// come at once, over real TCP connections, to real instances of package fleet, and then restarts all instances under them.
//
// A simulated server is a duty.Seeker and the wire protocol; it has no disk and no nodes. Everything runs in one process, so
// memory and processor time are those of both sides together.
package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"physalia/cell"
	"physalia/internal/duty"
	"physalia/internal/fleet"
	"physalia/internal/roster"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Config says how large a storm is. All fields but Idle and Say are required.
type Config struct {
	Servers   int
	Bricks    int // that the servers stand in
	Instances int // of the control plane
	PerSecond float64
	Seed      uint64
	Idle      time.Duration                    // how long to measure between the storms
	Say       func(format string, args ...any) // takes progress; nil drops it
}

// Phase is what one storm did, from its first attempt until every server had somebody for every duty. The JSON names stay.
type Phase struct {
	Name              string  `json:"name"`
	Seconds           float64 `json:"seconds"`
	ExpectedSeconds   float64 `json:"expected_seconds"`    // registrations over pace, at the instance with the most
	Registrations     int     `json:"registrations"`       // that took a duty
	PeakPerSecond     int     `json:"peak_per_second"`     // of one instance, within any second
	Refused           int     `json:"refused"`             // early, with an appointment
	AttemptsPerServer float64 `json:"attempts_per_server"` // mean; an attempt is a connection or a request to register
	AttemptsMost      int     `json:"attempts_most"`
	CPUSeconds        float64 `json:"cpu_s"`
}

// Report is what was measured.
type Report struct {
	Servers       int     `json:"servers"`
	Instances     int     `json:"instances"`
	PerSecond     float64 `json:"pace_per_second"` // of one instance
	Phases        []Phase `json:"phases"`
	HeapMB        float64 `json:"heap_mb"`                // in use, with everybody connected
	PerConnection float64 `json:"heap_kb_per_connection"` // both ends together
	Goroutines    int     `json:"goroutines"`
	IdleCPU       float64 `json:"idle_cpu_cores"` // with everybody connected and pinged
	Paced         bool    `json:"paced"`          // no instance took more than its pace, its burst and those who were entering within any second
}

// Bounds of a storm. The shares are those of the fleet's defaults, written down a second time on purpose: a default that changes
// unnoticed shows here.
const (
	settleFactor   = 5 // times what is expected, and settleLeast, before a storm counts as lost
	settleLeast    = 30 * time.Second
	enteringLeast  = 16     // as fleet's default
	connectionsMax = 70_000 // as fleet's default, and all of them from this machine
	burstShare     = 0.25   // of a second's registrations, as fleet's default
)

// instance is one control process of the storm: a real fleet on a real port. The roster is set by hand, since no election and
// no shared store is the subject here.
type instance struct {
	name, addr string
	board      *roster.Board
	fleet      *fleet.Fleet

	mu    sync.Mutex
	times []time.Time // of registrations that took a duty
}

// storm is one run. The goroutine of Run owns everything but what is atomic or has a lock of its own.
type storm struct {
	cfg       Config
	instances []*instance
	servers   []*servant
	held      atomic.Int64 // servers with somebody for every duty
	report    Report
}

// Run runs the storms. The error tells of a storm that did not settle, or of something that could not be set up.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Servers < 1 || cfg.Bricks < 1 || cfg.Instances < 1 || cfg.Instances > wire.HoldersMax || cfg.PerSecond < 1 {
		return r, &cell.Error{Op: "bench.storm", Kind: cell.Invalid, Detail: fmt.Sprintf("%d servers, %d bricks, %d instances, %v per second", cfg.Servers, cfg.Bricks, cfg.Instances, cfg.PerSecond),
			Hint: "use positive numbers"}
	}
	w := &storm{cfg: cfg, report: Report{Servers: cfg.Servers, Instances: cfg.Instances, PerSecond: cfg.PerSecond, Paced: true}}
	if err := w.files(); err != nil {
		return r, err
	}
	empty := heap() // before anything of the storm exists
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); err = errors.Join(err, w.close()) }()
	if err := w.open(); err != nil {
		return r, err
	}
	cfg.Say("%d servers come at once", cfg.Servers)
	if err := w.phase(ctx, "all come at once", func() error { w.begin(ctx); return nil }); err != nil {
		return w.report, err
	}
	w.idle(ctx, empty)
	cfg.Say("all %d instances restart at once", cfg.Instances)
	err = w.phase(ctx, "all come back at once", w.restart)
	return w.report, err
}

// files refuses a storm that would run out of file descriptors: both ends of every connection are in this process.
func (w *storm) files() error {
	var limit syscall.Rlimit
	// In a storm a server may have a connection to each of three instances for a moment, and every connection has two ends.
	need := uint64(2*w.cfg.Servers*min(w.cfg.Instances, 3) + 200)
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= need {
		return nil // unknown: the storm finds out
	}
	return &cell.Error{Op: "bench.storm", Kind: cell.Invalid, Detail: fmt.Sprintf("%d files may be open, about %d are needed", limit.Cur, need),
		Hint: fmt.Sprintf("run `ulimit -n %d` before, or use fewer --servers", need)}
}

// open starts the instances; the first is the active one.
func (w *storm) open() error {
	var list []roster.Instance
	for i := range w.cfg.Instances {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		in := &instance{name: fmt.Sprintf("control-%d", i+1), addr: ln.Addr().String()}
		in.board = roster.NewBoard(in.name)
		w.instances = append(w.instances, in)
		list = append(list, roster.Instance{Name: in.name, Addr: in.addr, Active: i == 0})
		in.serve(ln, w.cfg)
	}
	// Nobody can have registered yet: no server has been started.
	for _, in := range w.instances {
		in.board.Set(list)
		in.fleet.RosterChanged()
	}
	return nil
}

// serve starts the instance's fleet.
func (in *instance) serve(ln net.Listener, c Config) {
	in.fleet = fleet.Serve(ln, fleet.Config{Colony: colony, Control: in.name, Roster: in.board, RegistersPerSecond: c.PerSecond, Limits: rpc.Limits{Connections: connectionsMax, PerAddress: connectionsMax, PerIdentity: connectionsMax},
		RegistersAtOnce: int(c.PerSecond*burstShare) + 1, Log: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError})),
		Joined: func(wire.Registration) {
			in.mu.Lock()
			defer in.mu.Unlock()
			in.times = append(in.times, time.Now())
		}})
}

// begin starts every server at once. Their dice are drawn from the seed; what the machine's scheduler adds is not, so two runs
// are alike and not the same.
func (w *storm) begin(ctx context.Context) {
	dice := rand.New(rand.NewPCG(w.cfg.Seed, 0))
	var addrs []string
	for _, in := range w.instances {
		addrs = append(addrs, in.addr)
	}
	for i := range w.cfg.Servers {
		s := newServant(i, w.cfg.Bricks, &w.held, duty.SeekerConfig{Control: addrs, Dice: rand.New(rand.NewPCG(dice.Uint64(), 1))})
		w.servers = append(w.servers, s)
		s.running.Go(func() { s.run(ctx) })
	}
}

// restart ends every instance, with all connections, and starts it again at its address. To the servers this is the worst hour
// of a control plane: all of them lose everything in the same moment, and there is nobody to ask until it is back. What
// follows shows whether their back-off and the gates bring them in as an orderly queue.
func (w *storm) restart() error {
	// All of them go before the first comes back: otherwise it would get everybody for a moment, and no storm.
	for _, in := range w.instances {
		if err := in.fleet.Close(); err != nil {
			return err
		}
	}
	for _, in := range w.instances {
		ln, err := net.Listen("tcp", in.addr)
		if err != nil {
			return err
		}
		in.serve(ln, w.cfg)
	}
	return nil
}

// phase lets something happen, waits until every server has somebody for every duty again, and reports.
func (w *storm) phase(ctx context.Context, name string, begin func() error) error {
	for _, in := range w.instances {
		in.times = nil // nobody registers now: all are settled
	}
	for _, s := range w.servers {
		s.attempts.Store(0)
	}
	cpu, began := ownCPU(), time.Now()
	if err := begin(); err != nil {
		return err
	}
	p := Phase{Name: name}
	if err := w.settle(ctx, &p); err != nil {
		return err
	}
	// What is read below belongs to this phase alone: an instance that restarts begins its counters anew.
	p.Seconds, p.CPUSeconds = time.Since(began).Seconds(), (ownCPU() - cpu).Seconds()
	for _, in := range w.instances {
		in.mu.Lock()
		p.Registrations += len(in.times)
		p.ExpectedSeconds = max(p.ExpectedSeconds, float64(len(in.times))/w.cfg.PerSecond)
		p.PeakPerSecond = max(p.PeakPerSecond, peak(in.times))
		in.mu.Unlock()
		s := in.fleet.Stats()
		p.Refused += int(s.Refused + s.Full)
	}
	sum := 0
	for _, s := range w.servers {
		n := int(s.attempts.Load())
		sum += n
		p.AttemptsMost = max(p.AttemptsMost, n)
	}
	// The mean says what a storm costs the network; the most, whether anybody was unlucky or misbehaved.
	p.AttemptsPerServer = float64(sum) / float64(w.cfg.Servers)
	// This bound holds on any machine. The gate admits no more than its pace and burst within a second, and those who were
	// admitted before and register late are no more than may be entering.
	if float64(p.PeakPerSecond) > w.cfg.PerSecond*(1+2*burstShare)+enteringLeast {
		w.report.Paced = false
	}
	w.report.Phases = append(w.report.Phases, p)
	return nil
}

// settle waits until nobody is without, after having seen somebody without: a restart takes a moment to be noticed.
func (w *storm) settle(ctx context.Context, p *Phase) error {
	all := int64(w.cfg.Servers)
	limit := settleLeast + time.Duration(settleFactor*float64(w.cfg.Servers*w.cfg.Instances)/w.cfg.PerSecond*float64(time.Second))
	deadline := time.After(limit)
	// Looking costs one atomic load; being told by every server would cost more than the storm has to spare.
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for missed := false; ; {
		held := w.held.Load()
		if missed = missed || held < all; missed && held == all {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		case <-deadline:
			return &cell.Error{Op: "bench.storm", Kind: cell.Unavailable, Detail: fmt.Sprintf("%s: after %v %d of %d servers have somebody for every duty", p.Name, limit, held, all)}
		}
	}
}

// idle measures what it costs that everybody is connected.
func (w *storm) idle(ctx context.Context, empty uint64) {
	// Both ends of a connection have a reader, a writer and their buffers; half of what is measured is the control plane's.
	w.report.HeapMB = float64(heap()-empty) / 1e6
	connections := 0
	for _, in := range w.instances {
		connections += in.fleet.Stats().Connected
	}
	w.report.PerConnection = w.report.HeapMB * 1000 / float64(max(connections, 1))
	w.report.Goroutines = runtime.NumGoroutine()
	if w.cfg.Idle <= 0 {
		return
	}
	cpu, began := ownCPU(), time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(w.cfg.Idle):
	}
	w.report.IdleCPU = (ownCPU() - cpu).Seconds() / time.Since(began).Seconds()
}

// close ends all servers and instances.
func (w *storm) close() error {
	// The servers were told to end by their context; waiting for them first keeps them from finding the instances gone.
	for _, s := range w.servers {
		s.running.Wait()
	}
	var errs []error
	for _, in := range w.instances {
		errs = append(errs, in.fleet.Close())
	}
	return errors.Join(errs...)
}

// peak is how many of these moments, which are in order, fall into one second at most.
func peak(times []time.Time) (most int) {
	for i, first := 0, 0; i < len(times); i++ {
		for times[i].Sub(times[first]) > time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// ownCPU is the processor time that this process has used, user and system.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail for the process itself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
