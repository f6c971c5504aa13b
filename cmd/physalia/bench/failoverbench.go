package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/judge"
	"physalia/internal/wire"
)

// The death of one server is told by four figures: until when some cell takes no write, what it costs the others, what it still costs
// them minutes later, and whether anybody notices when the server comes back. Every figure stands beside the same one without a death.

// FailoverConfig says how the death of a server is measured. Every field is required but Say.
type FailoverConfig struct {
	Colony colony.Spec   // of seven servers or more
	Cells  int           // created through the control plane, and written once each
	Window time.Duration // over which processor time of idle servers is measured
	Calm   time.Duration // waited before each measurement, so that what went before is not in it; beyond half a minute idle nodes are cold
	Return time.Duration // how long the server that came back has for being given its cells again
	Say    func(format string, args ...any)
}

// Round is one write to every cell, all sent at once. Times are from the moment before, which is that of the death if there is one.
type Round struct {
	P50MS  float64 `json:"p50_ms"`
	P99MS  float64 `json:"p99_ms"`
	MaxMS  float64 `json:"max_ms"`
	CPU    float64 `json:"cpu_s"` // of the servers that outlive the next death, all together
	Errors int     `json:"errors"`
}

// FailoverReport is what was measured. The JSON names stay.
type FailoverReport struct {
	Alive         Silence `json:"alive"`          // idle, all servers live
	Again         Round   `json:"again"`          // everybody lives
	Death         Round   `json:"death"`          // a server was killed the moment before
	ExtraCPU      float64 `json:"extra_cpu_s"`    // that minus the one before: what the writes did not cost
	Dead          Silence `json:"dead"`           // idle, one server is dead
	DeadMore      float64 `json:"dead_more_core"` // above Alive, per server
	DeadMoreSum   float64 `json:"dead_more_all"`  // above the same servers before, all together
	ReturnSeconds float64 `json:"return_seconds"` // from its start until the server leads half of its share again; 0: it does not
	ReturnLed     int     `json:"return_led"`     // cells that it leads in the end
	ReturnWrites  int     `json:"return_writes"`  // acknowledged meanwhile, one at a time
	ReturnErrors  int     `json:"return_errors"`  // of the same
	ReturnMaxMS   float64 `json:"return_max_ms"`  // the slowest of the same
	SilentCPU     float64 `json:"silent_cpu_s"`   // of a death that no client noticed: above idling for as long, all others together
	SilentLed     int     `json:"silent_led"`     // cells that are led then, and by whom does not matter
	SilentAfter   Round   `json:"silent_after"`   // written three seconds after that death
	Led           int     `json:"led"`            // cells that are led before the first death
	Errors        int     `json:"errors"`
	FirstError    string  `json:"first_error,omitempty"`
	Verified      bool    `json:"verified"` // every acknowledged write was read through the others
	Missing       int     `json:"missing"`
	FdatasyncP50  float64 `json:"fdatasync_p50_us"`
	FdatasyncP99  float64 `json:"fdatasync_p99_us"`
	Load          string  `json:"load_average"`
	LaterLoad     string  `json:"load_average_after"`
	Servers       int     `json:"servers"`
	Cells         int     `json:"cells"`
	WindowSeconds float64 `json:"window_seconds"`
}

// failovers is one run.
type failovers struct {
	stage
	cfg    FailoverConfig
	libs   []*client.Client // shared by all writers, in turn
	report FailoverReport
	number int64          // of the last round
	acked  []atomic.Int64 // number of the last acknowledged write, by cell
	first  sync.Once      // guards FirstError
}

// failoverLibraries is how many client libraries share the cells: ten thousand requests at once are those of some programs, not of one.
const failoverLibraries = 4

// Failover kills servers under cells that are hardly used, and measures what that costs.
func Failover(ctx context.Context, cfg FailoverConfig) (FailoverReport, error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	f := &failovers{cfg: cfg, acked: make([]atomic.Int64, max(cfg.Cells, 0))}
	f.report = FailoverReport{Servers: cfg.Colony.Count(), Cells: cfg.Cells, Load: load(), WindowSeconds: cfg.Window.Seconds()}
	if cfg.Cells < 1 || cfg.Window < time.Second {
		return f.report, &cell.Error{Op: "bench.failover", Kind: cell.Invalid, Hint: "use at least one cell and a window of a second",
			Detail: fmt.Sprintf("%d cells, window of %v", cfg.Cells, cfg.Window)}
	}
	if err := onDisk(cfg.Colony.Dir); err != nil {
		return f.report, err
	}
	defer func() {
		for _, lib := range f.libs {
			lib.Close()
		}
	}()
	err := f.play(ctx, cfg.Colony, &f.report.FdatasyncP50, &f.report.FdatasyncP99, f.found, f.again, f.death, f.comeback, f.silentDeath, f.verify)
	f.report.LaterLoad = load()
	return f.report, err
}

// found creates the cells and writes each once, so that every node of them has something on its disk.
func (f *failovers) found(ctx context.Context) error {
	up, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := f.op.AwaitServers(up, f.report.Servers, f.colony.Failed); err != nil {
		return err
	}
	// A few batches at a time: what is measured is not how fast cells are created.
	const atOnce = 4 * wire.BatchMax
	for from := 0; from < f.cfg.Cells; from += atOnce {
		batch, cancel := context.WithTimeout(ctx, 5*time.Minute)
		err := f.op.CreateAll(batch, "bench.failover", names("idle", from, min(from+atOnce, f.cfg.Cells)))
		cancel()
		if err != nil {
			return err
		}
	}
	if err := (&creation{stage: f.stage}).settle(ctx); err != nil {
		return err
	}
	// A library has one connection per server, as a program's has.
	for range failoverLibraries {
		lib, err := client.New(ctx, client.Config{Colony: colony.Name, Control: f.op.Addresses, CallTimeout: time.Minute})
		if err != nil {
			return err
		}
		f.libs = append(f.libs, lib)
	}
	r := f.round(ctx, time.Now())
	f.cfg.Say("%d cells created, and written once in %.0f ms", f.cfg.Cells, r.MaxMS)
	return ctx.Err()
}

// round writes every cell once, all at once, and waits for the last.
func (f *failovers) round(ctx context.Context, began time.Time) (r Round) {
	f.number++
	number := f.number
	times := make([]time.Duration, f.cfg.Cells)
	errs := atomic.Int64{}
	// One goroutine per cell: nobody waits for another cell than its own.
	var wait sync.WaitGroup
	for i, id := range names("idle", 0, f.cfg.Cells) {
		wait.Go(func() {
			_, err := f.libs[i%len(f.libs)].Cell(id).Put(ctx, "k", cell.Int(number))
			times[i] = time.Since(began)
			if err != nil {
				errs.Add(1)
				f.first.Do(func() { f.report.FirstError = err.Error() })
				return
			}
			f.acked[i].Store(number)
		})
	}
	wait.Wait()
	p := judge.Percentiles(times, 50, 99, 100)
	r = Round{P50MS: millis(p[0]), P99MS: millis(p[1]), MaxMS: millis(p[2]), Errors: int(errs.Load())}
	f.report.Errors += r.Errors
	return r
}

// others are the servers that outlive a death: all but the last.
func (f *failovers) others() []*colony.Server { return f.colony.Servers[:len(f.colony.Servers)-1] }

// spent is the processor time that the others use while something is done, in seconds.
func (f *failovers) spent(do func()) float64 {
	before, _ := f.cpu(f.others())
	do()
	after, _ := f.cpu(f.others())
	return millis(after-before) / 1000
}

// silence measures the others when nobody asks for anything.
func (f *failovers) silence(ctx context.Context, what string) (s Silence, err error) {
	if err := pause(ctx, f.cfg.Calm); err != nil {
		return s, err
	}
	began := time.Now()
	used := f.spent(func() { err = pause(ctx, f.cfg.Window) })
	if err != nil {
		return s, err
	}
	s.Core = used / time.Since(began).Seconds() / float64(len(f.others()))
	if m, ok := f.colony.Servers[0].Memory(); ok {
		s.RSSMB, s.PeakRSSMB = rounded(float64(m.Resident)/1e6), rounded(float64(m.Peak)/1e6)
	}
	f.cfg.Say("%s: %.4f core per server, %.1f MB resident (load %s)", what, s.Core, s.RSSMB, load())
	return s, nil
}

// again is what a round costs when everybody lives.
func (f *failovers) again(ctx context.Context) (err error) {
	r := &f.report
	if r.Alive, err = f.silence(ctx, "idle, all alive"); err != nil {
		return err
	}
	r.Led = f.led(ctx, f.colony.Servers)
	used := f.spent(func() { r.Again = f.round(ctx, time.Now()) })
	r.Again.CPU = used
	return ctx.Err()
}

// death kills the last server and writes every cell at once; then nobody asks for anything.
func (f *failovers) death(ctx context.Context) (err error) {
	r := &f.report
	if err := pause(ctx, f.cfg.Calm); err != nil {
		return err
	}
	// The clock starts before the kill, so what the kill itself takes counts as well.
	victim := f.colony.Servers[len(f.others())]
	used := f.spent(func() {
		began := time.Now()
		if err = victim.Kill(); err == nil {
			r.Death = f.round(ctx, began)
		}
	})
	if err != nil {
		return err
	}
	r.Death.CPU = used
	r.ExtraCPU = millis(time.Duration((r.Death.CPU-r.Again.CPU)*1e9)) / 1000
	f.cfg.Say("killed %s: every cell written within %.0f ms (p50 %.0f), %.2f core-seconds; %.2f with everybody alive", victim.Name, r.Death.MaxMS, r.Death.P50MS, r.Death.CPU, r.Again.CPU)
	if r.Dead, err = f.silence(ctx, "idle, one dead"); err != nil {
		return err
	}
	r.DeadMore = r.Dead.Core - r.Alive.Core
	r.DeadMoreSum = r.DeadMore * float64(len(f.others()))
	return nil
}

// comeback starts the server again, and writes one cell after the other while it is given cells to lead.
func (f *failovers) comeback(ctx context.Context) error {
	r, victim := &f.report, f.colony.Servers[len(f.others())]
	began := time.Now()
	if err := victim.Start(); err != nil {
		return err
	}
	// What a round wrote before the server came back says nothing of its nodes: only cells that are written since are given to it.
	share := r.Led / len(f.colony.Servers)
	looked := began
	for i := 0; time.Since(began) < f.cfg.Return && r.ReturnLed < share*9/10; i++ {
		sent := time.Now()
		if _, err := f.libs[0].Cell(names("idle", i%f.cfg.Cells, i%f.cfg.Cells+1)[0]).Put(ctx, "k", cell.Int(f.number)); err != nil {
			r.ReturnErrors++
		}
		r.ReturnWrites++
		r.ReturnMaxMS = max(r.ReturnMaxMS, millis(time.Since(sent)))
		if time.Since(looked) > 500*time.Millisecond {
			looked = time.Now()
			if r.ReturnLed = f.led(ctx, f.colony.Servers[len(f.others()):]); r.ReturnLed >= share/2 && r.ReturnSeconds == 0 {
				r.ReturnSeconds = millis(time.Since(began)) / 1000
			}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	f.cfg.Say("%s came back and leads %d cells after %.1f s; %d writes meanwhile, %d errors, at most %.0f ms", victim.Name, r.ReturnLed, time.Since(began).Seconds(), r.ReturnWrites, r.ReturnErrors, r.ReturnMaxMS)
	return nil
}

// silentDeath kills the same server again, when nobody asks for anything; what that costs is the servers' own doing.
func (f *failovers) silentDeath(ctx context.Context) (err error) {
	r, victim := &f.report, f.colony.Servers[len(f.others())]
	if err := pause(ctx, f.cfg.Calm); err != nil {
		return err
	}
	// By then every cell must have a proposer again.
	const patience = 3 * time.Second
	used := f.spent(func() {
		if err = victim.Kill(); err == nil {
			err = pause(ctx, patience)
		}
	})
	if err != nil {
		return err
	}
	r.SilentCPU = millis(time.Duration((used-r.Alive.Core*float64(len(f.others()))*patience.Seconds())*1e9)) / 1000
	r.SilentLed = f.led(ctx, f.others())
	used = f.spent(func() { r.SilentAfter = f.round(ctx, time.Now()) })
	r.SilentAfter.CPU = used
	f.cfg.Say("killed %s again, in silence: %.2f core-seconds more than idling in %v, %d cells are led then and take a write within %.0f ms (p50 %.0f)", victim.Name, r.SilentCPU, patience, r.SilentLed, r.SilentAfter.MaxMS, r.SilentAfter.P50MS)
	return ctx.Err()
}

// led sums up how many cells servers say that they lead; one that does not answer leads nothing.
func (f *failovers) led(ctx context.Context, servers []*colony.Server) (sum int) {
	for _, v := range servers {
		n, err := gauge(ctx, v.Ops, "physalia_cells_led")
		if err == nil {
			sum += int(n)
		}
	}
	return sum
}

// gauge reads one number from a server's metrics.
func gauge(ctx context.Context, addr, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		}
	}
	return 0, fmt.Errorf("server at %s has no metric %s", addr, name)
}

// verify reads every acknowledged write; one server is dead by now.
func (f *failovers) verify(ctx context.Context) error {
	f.cfg.Say("reading every acknowledged write through the others")
	var wait sync.WaitGroup
	var missing atomic.Int64
	for i, id := range names("idle", 0, f.cfg.Cells) {
		wait.Go(func() {
			want := f.acked[i].Load()
			entry, err := f.libs[i%len(f.libs)].Cell(id).Get(ctx, "k")
			// A write whose outcome is unknown may have been applied, so more than what was acknowledged is fine.
			if got, _ := entry.Value.AsInt64(); want != 0 && (err != nil || got < want) {
				missing.Add(1)
			}
		})
	}
	wait.Wait()
	f.report.Missing = int(missing.Load())
	f.report.Verified = f.report.Missing == 0
	return ctx.Err()
}
