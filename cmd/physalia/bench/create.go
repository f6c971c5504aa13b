package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/judge"
	"physalia/internal/wire"
)

// CreateConfig says how creation is measured. Every field is required but Say.
type CreateConfig struct {
	Colony  colony.Spec
	Cells   int                              // created at once, in requests of wire.BatchMax
	Singles int                              // created one after the other before that, with nothing else going on
	Say     func(format string, args ...any) // takes progress, one line at a time; nil drops it
}

// CreateReport is what creation cost. The JSON names stay.
type CreateReport struct {
	SingleP50MS       float64 `json:"single_p50_ms"` // from the request to the answer, on a connection of its own each
	SingleP99MS       float64 `json:"single_p99_ms"`
	SingleSyncs       float64 `json:"single_p50_in_fdatasyncs"` // the same in units of the disk's own median, of before and after
	Seconds           float64 `json:"seconds"`                  // until every request of the crowd was answered
	CellsPerS         float64 `json:"cells_per_s"`
	SettledSeconds    float64 `json:"settled_seconds"`         // until all seven members of each cell had confirmed
	ServersCPUPerCell float64 `json:"servers_cpu_us_per_cell"` // all servers together, until settled; 0 where it cannot be read
	ControlCPUPerCell float64 `json:"control_cpu_us_per_cell"`
	AskerCPUPerCell   float64 `json:"asker_cpu_us_per_cell"` // this process
	Verified          bool    `json:"verified"`              // every cell answered a linearizable read
	Missing           int     `json:"missing"`
	FirstError        string  `json:"first_error,omitempty"`
	FdatasyncP50US    float64 `json:"fdatasync_p50_us"` // before, of a file beside the stores, alone
	FdatasyncP99US    float64 `json:"fdatasync_p99_us"`
	LaterSyncP50US    float64 `json:"fdatasync_after_p50_us"` // the same after the crowd
	Load              string  `json:"load_average"`           // of the machine when the crowd began, 1, 5 and 15 minutes; empty where it cannot be read
	LaterLoad         string  `json:"load_average_after"`
	Servers           int     `json:"servers"`
	Cells             int     `json:"cells"`
	Singles           int     `json:"singles"`
}

// creation is one run.
type creation struct {
	stage
	cfg    CreateConfig
	report CreateReport
}

// Create measures the creation of cells through the operator's path, on real servers with real disks; at the end it reads every cell.
func Create(ctx context.Context, cfg CreateConfig) (r CreateReport, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Cells < 1 || cfg.Singles < 1 {
		return r, &cell.Error{Op: "bench.create", Kind: cell.Invalid, Hint: "use positive numbers",
			Detail: fmt.Sprintf("%d cells, %d of them one by one", cfg.Cells, cfg.Singles)}
	}
	c := &creation{cfg: cfg, report: CreateReport{Servers: cfg.Colony.Count(), Cells: cfg.Cells, Singles: cfg.Singles}}
	err = c.play(ctx, cfg.Colony, &c.report.FdatasyncP50US, &c.report.FdatasyncP99US, c.await, c.singles, c.crowd, c.verify)
	return c.report, err
}

// await waits for the servers, and warms up what a control plane that has run for a minute has warm: connections and pages of code.
func (c *creation) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := c.op.AwaitServers(ctx, c.report.Servers, c.colony.Failed); err != nil {
		return err
	}
	return c.ask(ctx, names("warm", 0, 10))
}

// names are some cells of a kind.
func names(kind string, from, to int) []cell.ID {
	part := make([]cell.ID, 0, to-from)
	for i := from; i < to; i++ {
		part = append(part, cell.ID(fmt.Sprintf("%s-%d", kind, i)))
	}
	return part
}

// ask has one batch of cells created.
func (c *creation) ask(ctx context.Context, part []cell.ID) error {
	outcomes, err := c.op.Create(ctx, "bench.create", wire.CreateCells{Cells: part})
	if err != nil {
		return err
	}
	// One cell that fails is enough to make the figures worthless.
	for i := range outcomes {
		if failure := outcomes[i].Err; failure != nil {
			return fmt.Errorf("create %s: %w", part[i], failure)
		}
	}
	return nil
}

// singles creates cells one at a time, as `physalia cell create` does: each with a connection of its own.
func (c *creation) singles(ctx context.Context) error {
	times := make([]time.Duration, 0, c.cfg.Singles)
	// Names differ only in their last digits, as those of volumes often do.
	for i := range c.cfg.Singles {
		if err := c.settle(ctx); err != nil { // the three slower members of the one before
			return err
		}
		began := time.Now()
		if err := c.ask(ctx, names("single", i, i+1)); err != nil {
			return err
		}
		times = append(times, time.Since(began))
	}
	// With 200 of them the 99th percentile is the third worst: a hint, not more.
	p := judge.Percentiles(times, 50, 99)
	c.report.SingleP50MS, c.report.SingleP99MS = millis(p[0]), millis(p[1])
	c.cfg.Say("%d cells one by one: p50 %.1f ms, p99 %.1f ms (load %s)", c.cfg.Singles, c.report.SingleP50MS, c.report.SingleP99MS, load())
	return nil
}

// settle waits until every member of every cell has confirmed.
func (c *creation) settle(ctx context.Context) error {
	const op = "bench.settle"
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		s, err := c.op.Status(ctx, op, 1)
		if err != nil || s.Open == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// crowd creates all cells at once: every batch is asked for at the same time.
func (c *creation) crowd(ctx context.Context) error {
	// The single cells are out of the way first.
	if err := c.settle(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r := &c.report
	// A machine that others work on as well gives a share of its processors; the figures of processor time tell what it would be alone.
	r.Load = load()
	servers, known := c.colony.CPU()
	control, knownControl := c.colony.Control.CPU()
	own, began := ownCPU(), time.Now()
	// One goroutine per request, as so many operators would.
	var wait sync.WaitGroup
	errs := make([]error, (c.cfg.Cells+wire.BatchMax-1)/wire.BatchMax)
	for i := range errs {
		from := i * wire.BatchMax
		wait.Go(func() { errs[i] = c.ask(ctx, names("crowd", from, min(from+wire.BatchMax, c.cfg.Cells))) })
	}
	wait.Wait()
	took := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// The rest of the work, of the three members that nobody waited for and of discovery, belongs to the cost.
	r.AskerCPUPerCell = rounded(micros(ownCPU()-own) / float64(c.cfg.Cells))
	if err := c.settle(ctx); err != nil {
		return err
	}
	r.Seconds, r.SettledSeconds = millis(took)/1000, millis(time.Since(began))/1000
	r.CellsPerS = rounded(float64(c.cfg.Cells) / took.Seconds())
	if after, still := c.colony.CPU(); known && still {
		r.ServersCPUPerCell = rounded(micros(after-servers) / float64(c.cfg.Cells))
	}
	if after, still := c.colony.Control.CPU(); knownControl && still {
		r.ControlCPUPerCell = rounded(micros(after-control) / float64(c.cfg.Cells))
	}
	r.LaterLoad = load()
	c.cfg.Say("%d cells in %.2f s, settled after %.2f s", c.cfg.Cells, r.Seconds, r.SettledSeconds)
	var err error
	r.LaterSyncP50US, _, err = measureSync(c.cfg.Colony.Dir)
	r.SingleSyncs = rounded(r.SingleP50MS * 1000 / ((r.FdatasyncP50US + r.LaterSyncP50US) / 2))
	return err
}

// What is acknowledged must be there: who only measures how fast cells are promised measures nothing.
//
// verifiers read cells at the same time.
const verifiers = 64

// verify reads every cell, each through its members.
func (c *creation) verify(ctx context.Context) error {
	c.cfg.Say("reading every cell")
	lib, err := client.New(ctx, client.Config{Colony: colony.Name, Control: c.op.Addresses, CallTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer lib.Close()
	// A cell that nobody wrote has no keys: NotFound is its own answer, given under a read lease or confirmed by a majority.
	all := append(names("single", 0, c.cfg.Singles), names("crowd", 0, c.cfg.Cells)...)
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for first := range verifiers {
		wait.Go(func() {
			for i := first; i < len(all); i += verifiers {
				if _, err := lib.Cell(all[i]).Get(ctx, "nothing"); !errors.Is(err, cell.NotFound) {
					errs[i] = fmt.Errorf("read %s: %w", all[i], err)
				}
			}
		})
	}
	wait.Wait()
	// All are counted, the first in order is told.
	for _, err := range errs {
		if err == nil {
			continue
		}
		c.report.Missing++
		if c.report.FirstError == "" {
			c.report.FirstError = err.Error()
		}
	}
	c.report.Verified = c.report.Missing == 0
	return ctx.Err()
}

// load is the machine's load average, or empty where it cannot be read.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 3 {
		return ""
	}
	return strings.Join(fields[:3], " ")
}
