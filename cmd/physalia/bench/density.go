package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/internal/wire"
)

// A cell that nobody uses must cost next to nothing: that is why a database per volume is affordable at all. What is measured is
// therefore mostly silence. The same seven processes are looked at before and after they host the cells, so that a figure per cell
// is a difference, and what a server costs anyway is in neither.

// DensityConfig says how much silence is measured. Every field is required but Say.
type DensityConfig struct {
	Colony   colony.Spec   // of seven servers or more
	Cells    int           // created through the control plane
	Window   time.Duration // over which processor time of idle servers is measured
	Calm     time.Duration // waited before each window, so that what went before is not in it
	Restarts int           // kill -9 and start of one server, one after the other
	Touch    int           // cells that clients write once, at most Cells
	Failover int           // cells that are written after a server was killed, at most Touch
	Clients  int           // that write at the same time
	Say      func(format string, args ...any)
}

// Silence is what one phase without requests costs. Memory is that of the first server, as the operating system counts it.
type Silence struct {
	RSSMB     float64 `json:"rss_mb"`          // resident, 10^6 bytes
	PeakRSSMB float64 `json:"peak_rss_mb"`     // the most since the process began
	Core      float64 `json:"core_per_server"` // processor time per second; the mean of all servers that live
}

// DensityReport is what was measured. The JSON names stay.
type DensityReport struct {
	Empty            Silence   `json:"empty"`
	Created          Silence   `json:"created"`              // after the cells were created and left alone
	Restarted        Silence   `json:"restarted"`            // after the restarts
	Touched          Silence   `json:"touched"`              // after Touch cells were written once, and left alone
	FollowerDead     Silence   `json:"follower_dead"`        // one server is dead, and leads nothing any more
	BytesPerNode     float64   `json:"bytes_per_node"`       // created above empty
	RestartedPerNode float64   `json:"restarted_per_node"`   // restarted above empty
	ServingMS        []float64 `json:"restart_serving_ms"`   // from exec to the first answer of a cell that the server hosts, sorted
	ServingCPUMS     []float64 `json:"restart_cpu_ms"`       // processor time of the server until then; on a busy machine it says more
	CreateSeconds    float64   `json:"create_seconds"`       // until every member of every cell had confirmed
	TouchSeconds     float64   `json:"touch_seconds"`        // to write Touch cells once
	TouchRSSMB       float64   `json:"touch_most_rss_mb"`    // the most that the first server held meanwhile
	AgainCPUSeconds  float64   `json:"again_cpu_seconds"`    // of the others of whom is killed next, to write Failover cells while everybody lives
	FailoverSeconds  float64   `json:"failover_seconds"`     // from kill -9 until each of them was written again
	FailoverCPU      float64   `json:"failover_cpu_s"`       // of the others meanwhile
	FailoverExtraCPU float64   `json:"failover_extra_cpu_s"` // that minus again_cpu_seconds
	Errors           int       `json:"errors"`
	FirstError       string    `json:"first_error,omitempty"`
	Verified         bool      `json:"verified"` // every acknowledged write was read through the others
	Missing          int       `json:"missing"`
	FdatasyncP50US   float64   `json:"fdatasync_p50_us"`
	FdatasyncP99US   float64   `json:"fdatasync_p99_us"`
	Load             string    `json:"load_average"`
	LaterLoad        string    `json:"load_average_after"`
	Servers          int       `json:"servers"`
	Cells            int       `json:"cells"`
	WindowSeconds    float64   `json:"window_seconds"`
}

// density is one run.
type density struct {
	stage
	cfg    DensityConfig
	lib    *client.Client
	report DensityReport
	acked  []atomic.Int64 // number of the last acknowledged write, by cell
}

// check reports what is wrong with a DensityConfig.
func (c DensityConfig) check() error {
	if c.Cells < 1 || c.Touch < 0 || c.Touch > c.Cells || c.Failover < 0 || c.Failover > c.Touch || c.Clients < 1 || c.Restarts < 0 || c.Window < time.Second {
		return &cell.Error{Op: "bench.density", Kind: cell.Invalid, Hint: "use a window of a second or more, and at most as many cells touched as there are",
			Detail: fmt.Sprintf("%d cells, %d touched, %d after the kill, %d clients, window of %v", c.Cells, c.Touch, c.Failover, c.Clients, c.Window)}
	}
	return onDisk(c.Colony.Dir)
}

// Density measures what cells cost that nobody uses: memory, processor time, the restart of a server; and what it takes to wake them.
func Density(ctx context.Context, cfg DensityConfig) (r DensityReport, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if err := cfg.check(); err != nil {
		return r, err
	}
	// A phase that fails ends the run, with what was measured until then.
	d := &density{cfg: cfg, acked: make([]atomic.Int64, cfg.Cells)}
	d.report = DensityReport{Servers: cfg.Colony.Count(), Cells: cfg.Cells, Load: load(), WindowSeconds: cfg.Window.Seconds()}
	defer func() {
		if d.lib != nil {
			d.lib.Close()
		}
	}()
	if err := d.play(ctx, cfg.Colony, &d.report.FdatasyncP50US, &d.report.FdatasyncP99US, d.empty, d.create, d.restarts, d.touch, d.kill, d.verify); err != nil {
		return d.report, err
	}
	d.report.LaterLoad = load()
	return d.report, nil
}

// silence waits until it is calm, and measures for a window.
func (d *density) silence(ctx context.Context, what string) (s Silence, err error) {
	if err := pause(ctx, d.cfg.Calm); err != nil {
		return s, err
	}
	// Processor times are counted in hundredths of a second: over a minute and seven servers, that is nothing.
	before, lives := d.cpu(d.colony.Servers)
	began := time.Now()
	if err := pause(ctx, d.cfg.Window); err != nil {
		return s, err
	}
	after, _ := d.cpu(d.colony.Servers)
	if lives > 0 {
		s.Core = float64(after-before) / float64(time.Since(began)) / float64(lives)
	}
	if m, ok := d.colony.Servers[0].Memory(); ok {
		s.RSSMB, s.PeakRSSMB = rounded(float64(m.Resident)/1e6), rounded(float64(m.Peak)/1e6)
	}
	d.cfg.Say("%s: %.1f MB resident (at most %.1f), %.4f core per server (load %s)", what, s.RSSMB, s.PeakRSSMB, s.Core, load())
	return s, nil
}

// empty measures the servers without cells.
func (d *density) empty(ctx context.Context) (err error) {
	up, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := d.op.AwaitServers(up, d.report.Servers, d.colony.Failed); err != nil {
		return err
	}
	d.report.Empty, err = d.silence(ctx, "empty")
	return err
}

// create founds the cells, and measures the servers that host them and nothing else.
func (d *density) create(ctx context.Context) (err error) {
	began := time.Now()
	// A few batches at a time: what is measured is not how fast cells are created.
	const atOnce = 4
	step := atOnce * wire.BatchMax
	for from := 0; from < d.cfg.Cells; from += step {
		batch, cancel := context.WithTimeout(ctx, 5*time.Minute)
		err := d.op.CreateAll(batch, "bench.density", names("idle", from, min(from+step, d.cfg.Cells)))
		cancel()
		if err != nil {
			return err
		}
	}
	if err := (&creation{stage: d.stage}).settle(ctx); err != nil {
		return err
	}
	d.report.CreateSeconds = millis(time.Since(began)) / 1000
	d.cfg.Say("%d cells created in %.1f s", d.cfg.Cells, d.report.CreateSeconds)
	d.report.Created, err = d.silence(ctx, "created")
	d.report.BytesPerNode = d.perNode(d.report.Created)
	return err
}

// perNode is what a node takes above an empty server.
func (d *density) perNode(s Silence) float64 {
	return rounded((s.RSSMB - d.report.Empty.RSSMB) * 1e6 / float64(d.cfg.Cells))
}

// restarts kills the first server and starts it again, a few times, and measures it after that.
func (d *density) restarts(ctx context.Context) (err error) {
	for range d.cfg.Restarts {
		if err := pause(ctx, 3*time.Second); err != nil { // peers find it dead, and support for it ends
			return err
		}
		took, used, err := d.restart(ctx)
		if err != nil {
			return err
		}
		d.report.ServingMS, d.report.ServingCPUMS = append(d.report.ServingMS, millis(took)), append(d.report.ServingCPUMS, millis(used))
		d.cfg.Say("restarted: serves after %.0f ms, %.0f ms of its processor time (load %s)", millis(took), millis(used), load())
	}
	slices.Sort(d.report.ServingMS)
	slices.Sort(d.report.ServingCPUMS)
	if d.cfg.Restarts > 0 {
		d.report.Restarted, err = d.silence(ctx, "restarted")
		d.report.RestartedPerNode = d.perNode(d.report.Restarted)
	}
	return err
}

// restart is how long it takes from exec until a node of the server answers, and the processor time that it takes the server: the
// scan is done then, and that node was read.
func (d *density) restart(ctx context.Context) (took, used time.Duration, err error) {
	server := d.colony.Servers[0]
	if err := server.Kill(); err != nil {
		return 0, 0, err
	}
	spent, _ := server.CPU()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// A stale read is answered by the node itself, whoever leads its cell. Until the scan is done it is refused, and asked again.
	ask := &wire.ReadRequest{Stale: true, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "nothing"}}}}
	ask.Header = wire.Header{Cell: names("idle", d.cfg.Cells/2, d.cfg.Cells/2+1)[0], Timeout: 60_000}
	began := time.Now()
	if err := server.Start(); err != nil {
		return 0, 0, err
	}
	for {
		conn, err := d.op.Dial(ctx, server.Client)
		if err == nil {
			err = conn.Call(ctx, wire.MethodRead, ask, new(wire.ReadReply))
			took := time.Since(began)
			now, _ := server.CPU()
			conn.Close(nil)
			if err == nil {
				return took, now - spent, nil
			}
		}
		if e := pause(ctx, time.Millisecond); e != nil {
			return 0, 0, errors.Join(e, err)
		}
	}
}

// write writes some cells once, by all clients together.
func (d *density) write(ctx context.Context, n int, number int64) {
	var wait sync.WaitGroup
	var next atomic.Int64
	var first sync.Once
	errs := atomic.Int64{}
	for range d.cfg.Clients {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if _, err := d.lib.Cell(names("idle", i, i+1)[0]).Put(ctx, "k", cell.Int(number)); err != nil {
					errs.Add(1)
					first.Do(func() { d.report.FirstError = err.Error() })
					continue
				}
				d.acked[i].Store(number)
			}
		})
	}
	wait.Wait()
	d.report.Errors += int(errs.Load())
}

// touch writes cells once, and watches what the first server holds meanwhile and after.
func (d *density) touch(ctx context.Context) (err error) {
	if d.lib, err = client.New(ctx, client.Config{Colony: colony.Name, Control: d.op.Addresses, CallTimeout: time.Minute}); err != nil || d.cfg.Touch == 0 {
		return err
	}
	began, done, watched := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		d.watch(done)
	}()
	d.write(ctx, d.cfg.Touch, 1)
	close(done)
	<-watched
	d.report.TouchSeconds = millis(time.Since(began)) / 1000
	d.cfg.Say("%d cells written once in %.1f s, at most %.1f MB resident", d.cfg.Touch, d.report.TouchSeconds, d.report.TouchRSSMB)
	d.report.Touched, err = d.silence(ctx, "touched")
	return err
}

// watch notes the most that the first server holds, until done.
func (d *density) watch(done chan struct{}) {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		if m, ok := d.colony.Servers[0].Memory(); ok {
			d.report.TouchRSSMB = max(d.report.TouchRSSMB, rounded(float64(m.Resident)/1e6))
		}
		select {
		case <-done:
			return
		case <-look.C:
		}
	}
}

// kill kills the last server and writes cells through the others: first, for comparison, while it lives. After that it is dead and
// led nothing for a while, and nobody should care.
func (d *density) kill(ctx context.Context) (err error) {
	r, last := &d.report, len(d.colony.Servers)-1
	others := d.colony.Servers[:last]
	// What the same writes cost without a death is subtracted: the rest is the failover's.
	if d.cfg.Failover > 0 {
		before, _ := d.cpu(others)
		d.write(ctx, d.cfg.Failover, 2)
		after, _ := d.cpu(others)
		r.AgainCPUSeconds = millis(after-before) / 1000
	}
	victim := d.colony.Servers[last]
	if err := victim.Kill(); err != nil {
		return err
	}
	if d.cfg.Failover > 0 {
		began := time.Now()
		before, _ := d.cpu(others)
		d.write(ctx, d.cfg.Failover, 3)
		after, _ := d.cpu(others)
		r.FailoverSeconds, r.FailoverCPU = millis(time.Since(began))/1000, millis(after-before)/1000
		r.FailoverExtraCPU = millis(time.Duration((r.FailoverCPU-r.AgainCPUSeconds)*1e9)) / 1000
		d.cfg.Say("killed %s: %d cells written again within %.2f s, %.2f core-seconds against %.2f before", victim.Name, d.cfg.Failover, r.FailoverSeconds, r.FailoverCPU, r.AgainCPUSeconds)
	}
	r.FollowerDead, err = d.silence(ctx, "one dead")
	return err
}

// verify reads every acknowledged write; one server is dead by now.
func (d *density) verify(ctx context.Context) error {
	d.cfg.Say("reading every acknowledged write through the others")
	var wait sync.WaitGroup
	var next, missing atomic.Int64
	for range d.cfg.Clients {
		wait.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= d.cfg.Touch {
					return
				}
				// A write whose outcome is unknown may have been applied, so more than what was acknowledged is fine.
				want := d.acked[i].Load()
				entry, err := d.lib.Cell(names("idle", i, i+1)[0]).Get(ctx, "k")
				if got, _ := entry.Value.AsInt64(); want != 0 && (err != nil || got < want) {
					missing.Add(1)
				}
			}
		})
	}
	wait.Wait()
	d.report.Missing = int(missing.Load())
	d.report.Verified = d.report.Missing == 0
	return ctx.Err()
}
