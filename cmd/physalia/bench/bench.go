// Package bench measures a colony of seven real server processes on one machine, through the client library over TCP, and
// says beside every number what it was measured on: the disk's own sync times, and processor time per write. It ends by
// killing one server and reading every acknowledged key back through the others.
//
// Each client is one goroutine that waits for its answer before it sends the next request. A cell is written by one client
// only, so the last acknowledged value of each key is known.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/judge"
	"physalia/internal/wire"
)

// Config says what to measure. Every field is required but Say.
type Config struct {
	Colony    colony.Spec
	Cells     int                              // databases; each client writes its own share of them
	Clients   int                              // goroutines that each wait for their answer
	Libraries int                              // client libraries, each with connections of its own, that the clients share
	ValueSize int                              // bytes of each value
	Duration  time.Duration                    // of the writes, and again of the reads
	Profiles  string                           // directory for processor profiles; empty: none
	Say       func(format string, args ...any) // takes progress, one line at a time; nil drops it
}

// Report is what was measured. The JSON names stay.
type Report struct {
	WritesPerS         float64 `json:"writes_per_s"`
	ReadsPerS          float64 `json:"reads_per_s"`           // linearizable, under read leases
	ConfirmedReadsPerS float64 `json:"confirmed_reads_per_s"` // linearizable, each confirmed by a majority
	ConfirmedReadP50MS float64 `json:"confirmed_read_p50_ms"`
	ConfirmedReadP99MS float64 `json:"confirmed_read_p99_ms"`
	WriteP50MS         float64 `json:"write_p50_ms"`
	WriteP99MS         float64 `json:"write_p99_ms"`
	ReadP50MS          float64 `json:"read_p50_ms"`
	ReadP99MS          float64 `json:"read_p99_ms"`
	ServersCPUPerWrite float64 `json:"servers_cpu_us_per_write"` // all servers together; 0 where it cannot be read
	ClientCPUPerWrite  float64 `json:"client_cpu_us_per_write"`
	ServersCPUPerVote  float64 `json:"servers_cpu_us_per_record"`    // a write is one record on each member, or a share of one
	BytesPerByte       float64 `json:"bytes_written_per_value_byte"` // by all servers together, logs and compactions included; 0 where it cannot be read
	FailoverP50MS      float64 `json:"failover_p50_ms"`              // from kill -9 of a server to the next acknowledged write, over all cells
	FailoverP99MS      float64 `json:"failover_p99_ms"`
	FailoverAllMS      float64 `json:"failover_all_ms"` // until every cell had taken one
	Errors             int     `json:"errors"`
	FirstError         string  `json:"first_error,omitempty"`
	Verified           bool    `json:"verified"` // every acknowledged key was read back after one server was killed
	VerifiedKeys       int     `json:"verified_keys"`
	LostKeys           int     `json:"lost_keys"`
	FdatasyncP50US     float64 `json:"fdatasync_p50_us"` // 4 KiB appends, alone on the same file system, before the load
	FdatasyncP99US     float64 `json:"fdatasync_p99_us"`
	Servers            int     `json:"servers"`
	Cells              int     `json:"cells"`
	Clients            int     `json:"clients"`
	Libraries          int     `json:"libraries"`
	ValueBytes         int     `json:"value_bytes"`
	CreateMS           float64 `json:"create_ms"`
	Seconds            float64 `json:"seconds"` // of the writes
}

// keysPerCell are written in turn, so that a cell stays small however long the bench runs. Clients that crowd in one cell have fewer.
const keysPerCell = 8

// keys is how many keys a client writes in each of its cells, so that they take half of what the cell may hold at most; 0 when not
// even one fits.
func (cfg *Config) keys() int {
	sharing := (cfg.Clients + cfg.Cells - 1) / cfg.Cells
	each := len(keyName(cfg.Clients, keysPerCell)) + cfg.ValueSize + 2*cell.KeyOverheadBytes
	return min(keysPerCell, cell.CellBytesMax/2/sharing/each)
}

// Bench is one run.
type Bench struct {
	stage
	cfg     Config
	libs    []*client.Client // shared by the workers, in turn
	workers []*worker
	report  Report
}

// worker is one client with the cells that only it writes.
type worker struct {
	cells []owned
	keys  int             // written in each cell
	turn  int             // counts operations; cells are taken in turn
	value []byte          // reused; the library has encoded it when a call returns
	times []time.Duration // of the operations of this phase that succeeded
	errs  int             // operations of this phase that did not
	first error
}

// owned is a cell that one client writes. A write whose outcome is unknown may take effect even after a later one, so in the
// end a key may hold the last acknowledged write or the last unknown one; anything else is a loss.
type owned struct {
	handle *client.Cell
	acked  [keysPerCell]uint64 // number of the last acknowledged write of each key; zero is none
	unsure [keysPerCell]uint64 // number of the last write with an unknown outcome
	next   uint64              // number of the last write sent
}

// Run runs the whole bench.
func Run(ctx context.Context, cfg Config) (r Report, err error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Cells < 1 || cfg.Clients < 1 || cfg.Libraries < 1 || cfg.ValueSize < 8 || cfg.ValueSize > cell.ValueBytesMax/2 || cfg.Duration < 100*time.Millisecond {
		return r, &cell.Error{Op: "bench", Kind: cell.Invalid, Hint: "use positive numbers, values of 8 bytes or more, and at least 100ms",
			Detail: fmt.Sprintf("%d cells, %d clients, %d libraries, values of %d bytes, for %v", cfg.Cells, cfg.Clients, cfg.Libraries, cfg.ValueSize, cfg.Duration)}
	}
	if cfg.keys() == 0 {
		return r, &cell.Error{Op: "bench", Kind: cell.Invalid, Hint: "use more cells, fewer clients, or smaller values",
			Detail: fmt.Sprintf("%d clients with values of %d bytes do not fit %d cells of %d bytes", cfg.Clients, cfg.ValueSize, cfg.Cells, cell.CellBytesMax)}
	}
	b := &Bench{cfg: cfg, report: Report{Servers: cfg.Colony.Bricks * cfg.Colony.Colors * cfg.Colony.Servers, Cells: cfg.Cells, Clients: cfg.Clients,
		Libraries: cfg.Libraries, ValueBytes: cfg.ValueSize}}
	if cfg.Profiles != "" {
		cfg.Colony.ServerArgs = append(cfg.Colony.ServerArgs, "--profiles")
		if err := os.MkdirAll(cfg.Profiles, 0o755); err != nil {
			return r, err
		}
	}
	defer func() {
		for _, c := range b.libs {
			c.Close()
		}
	}()
	err = b.play(ctx, cfg.Colony, &b.report.FdatasyncP50US, &b.report.FdatasyncP99US, b.found, b.connect, b.warm, b.writes, b.reads, b.confirmedReads, b.failover, b.verify)
	return b.report, err
}

// found waits for the servers and creates the cells.
func (b *Bench) found(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := b.op.AwaitServers(ctx, b.report.Servers, b.colony.Failed); err != nil {
		return err
	}
	began := time.Now()
	for from := 0; from < b.cfg.Cells; from += wire.BatchMax {
		var part []cell.ID
		for i := from; i < min(from+wire.BatchMax, b.cfg.Cells); i++ {
			part = append(part, cellName(i))
		}
		outcomes, err := b.op.Create(ctx, "bench.create", wire.CreateCells{Cells: part})
		if err != nil {
			return err
		}
		for i := range outcomes {
			if failure := outcomes[i].Err; failure != nil {
				return fmt.Errorf("create %s: %w", part[i], failure)
			}
		}
	}
	b.report.CreateMS = millis(time.Since(began))
	b.cfg.Say("%d servers are up, %d cells created in %.0f ms", b.report.Servers, b.cfg.Cells, b.report.CreateMS)
	return nil
}

// cellName is the i-th cell of the bench.
func cellName(i int) cell.ID { return cell.ID(fmt.Sprintf("bench-%d", i)) }

// Fewer libraries than clients is how programs use it: one client library in a process, shared by everybody. Each has one
// connection per server, so requests of many clients share frames and system calls.
//
// connect makes the libraries and deals the cells to the clients. With more clients than cells, some share a cell, each
// with keys of its own.
func (b *Bench) connect(ctx context.Context) error {
	for range b.cfg.Libraries {
		c, err := client.New(ctx, client.Config{Colony: colony.Name, Control: b.op.Addresses, CallTimeout: 20 * time.Second,
			CertsDir: b.op.Certs.Dir, PlainText: b.op.Certs.PlainText})
		if err != nil {
			return err
		}
		b.libs = append(b.libs, c)
	}
	for i := range b.cfg.Clients {
		w := &worker{value: make([]byte, b.cfg.ValueSize), keys: b.cfg.keys()}
		for n := i % b.cfg.Cells; n < b.cfg.Cells; n += b.cfg.Clients {
			w.cells = append(w.cells, owned{handle: b.libs[i%len(b.libs)].Cell(cellName(n))})
		}
		b.workers = append(b.workers, w)
	}
	return nil
}

// each runs f for every client until the time is over, and reports how long that really took.
func (b *Bench) each(ctx context.Context, d time.Duration, f func(ctx context.Context, client int, w *worker)) (time.Duration, error) {
	// The last operations end after the time is over; they count, and so does the time they took.
	began := time.Now()
	end := began.Add(d)
	var wait sync.WaitGroup
	for i, w := range b.workers {
		w.times, w.errs = w.times[:0], 0
		wait.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				f(ctx, i, w)
			}
		})
	}
	wait.Wait()
	return time.Since(began), ctx.Err()
}

// warm writes every cell once, so that routes and connections are there, and the servers' memory is in use.
func (b *Bench) warm(ctx context.Context) error {
	var wait sync.WaitGroup
	for i, w := range b.workers {
		wait.Go(func() {
			for range w.cells {
				w.write(ctx, i)
			}
		})
	}
	wait.Wait()
	b.collect()
	return ctx.Err()
}

// writes measures writes. Processor time is what the seven processes and this one used in the meantime, divided by the
// writes that were acknowledged; what idle servers would have used anyway is part of it.
func (b *Bench) writes(ctx context.Context) error {
	b.cfg.Say("writing for %v: %d clients, values of %d bytes", b.cfg.Duration, b.cfg.Clients, b.cfg.ValueSize)
	serversBefore, known := b.colony.CPU()
	writtenBefore, knownWritten := b.colony.Written()
	clientBefore := ownCPU()
	took, err := b.profiled(ctx, "write", func() (time.Duration, error) {
		return b.each(ctx, b.cfg.Duration, func(ctx context.Context, i int, w *worker) { w.write(ctx, i) })
	})
	if err != nil {
		return err
	}
	clientUsed := ownCPU() - clientBefore
	serversAfter, stillKnown := b.colony.CPU()
	writtenAfter, stillWritten := b.colony.Written()
	times := b.collect()
	n := float64(len(times))
	p := judge.Percentiles(times, 50, 99)
	b.report.Seconds, b.report.WritesPerS = took.Seconds(), rounded(n/took.Seconds())
	b.report.WriteP50MS, b.report.WriteP99MS = millis(p[0]), millis(p[1])
	if n > 0 {
		b.report.ClientCPUPerWrite = rounded(micros(clientUsed) / n)
		if known && stillKnown {
			b.report.ServersCPUPerWrite = rounded(micros(serversAfter-serversBefore) / n)
			b.report.ServersCPUPerVote = rounded(micros(serversAfter-serversBefore) / n / float64(b.report.Servers))
		}
		if knownWritten && stillWritten {
			b.report.BytesPerByte = rounded(float64(writtenAfter-writtenBefore) / n / float64(b.cfg.ValueSize))
		}
	}
	return nil
}

// reads measures linearizable reads of keys that exist; proposers answer them under their read leases.
func (b *Bench) reads(ctx context.Context) error {
	b.cfg.Say("reading for %v", b.cfg.Duration)
	r := &b.report
	return b.read(ctx, "read", client.Linearizable, &r.ReadsPerS, &r.ReadP50MS, &r.ReadP99MS)
}

// confirmedReads measures the same reads when every one of them is confirmed by a majority.
func (b *Bench) confirmedReads(ctx context.Context) error {
	b.cfg.Say("reading for %v, confirmed by a majority each", b.cfg.Duration)
	r := &b.report
	return b.read(ctx, "confirmed-read", client.Confirmed, &r.ConfirmedReadsPerS, &r.ConfirmedReadP50MS, &r.ConfirmedReadP99MS)
}

// read measures one kind of reads. Both kinds are measured in one run, by the same clients on the same keys, one right after the
// other, so that the difference is the jury's round trip and nothing else.
func (b *Bench) read(ctx context.Context, phase string, option client.ReadOption, perS, p50, p99 *float64) error {
	took, err := b.profiled(ctx, phase, func() (time.Duration, error) {
		return b.each(ctx, b.cfg.Duration, func(ctx context.Context, i int, w *worker) { w.read(ctx, i, option) })
	})
	if err != nil {
		return err
	}
	times := b.collect()
	// Reads that failed are in Errors, and in no percentile.
	p := judge.Percentiles(times, 50, 99)
	*perS, *p50, *p99 = rounded(float64(len(times))/took.Seconds()), millis(p[0]), millis(p[1])
	return nil
}

// collect takes the times and errors of all clients.
func (b *Bench) collect() (times []time.Duration) {
	for _, w := range b.workers {
		times = append(times, w.times...)
		b.report.Errors += w.errs
		if w.first != nil && b.report.FirstError == "" {
			b.report.FirstError = w.first.Error()
		}
		w.times, w.errs = w.times[:0], 0
	}
	return times
}

// keyName is a key of one client; clients that share a cell have different keys.
func keyName(client, slot int) string { return fmt.Sprintf("c%d/k%d", client, slot) }

// write writes the next key of the next cell in turn. A value begins with the number of its write, so that reading it back
// tells which write it is. Only acknowledged writes count as throughput.
func (w *worker) write(ctx context.Context, client int) {
	c := &w.cells[w.turn%len(w.cells)]
	w.turn++
	w.writeTo(ctx, client, c)
}

// writeTo is write to one cell.
func (w *worker) writeTo(ctx context.Context, client int, c *owned) {
	c.next++
	slot := int(c.next % uint64(w.keys))
	// Little-endian, whatever the machine.
	for i := range 8 {
		w.value[i] = byte(c.next >> (8 * i))
	}
	began := time.Now()
	_, err := c.handle.Put(ctx, keyName(client, slot), cell.Bytes(w.value))
	// What was not applied leaves the key as it was, so nothing has to be remembered.
	if err != nil {
		w.failed(err)
		if cell.MaybeApplied(err) {
			c.unsure[slot] = c.next
		}
		return
	}
	w.times = append(w.times, time.Since(began))
	c.acked[slot] = c.next
}

// read reads the key of the next cell in turn that was written last.
func (w *worker) read(ctx context.Context, client int, option client.ReadOption) {
	c := &w.cells[w.turn%len(w.cells)]
	w.turn++
	began := time.Now()
	if _, err := c.handle.Get(ctx, keyName(client, int(c.next%uint64(w.keys))), option); err != nil {
		w.failed(err)
		return
	}
	w.times = append(w.times, time.Since(began))
}

// failed counts an error and keeps the first, which is usually the one that explains the others.
func (w *worker) failed(err error) {
	w.errs++
	if w.first == nil {
		w.first = err
	}
}

// verify reads every key that was ever acknowledged; one server is dead by now.
func (b *Bench) verify(ctx context.Context) error {
	b.cfg.Say("reading every acknowledged key through the others")
	kept, lost := make([]int, len(b.workers)), make([]int, len(b.workers))
	var wait sync.WaitGroup
	for i, w := range b.workers {
		wait.Go(func() { kept[i], lost[i] = w.verify(ctx, i) })
	}
	wait.Wait()
	for i := range kept {
		b.report.VerifiedKeys += kept[i]
		b.report.LostKeys += lost[i]
	}
	b.collect()
	b.report.Verified = b.report.LostKeys == 0 && b.report.VerifiedKeys > 0
	return ctx.Err()
}

// verify reads the keys of one client and counts those that are there, and those that are missing, old, or unreadable.
func (w *worker) verify(ctx context.Context, client int) (kept, lost int) {
	for i := range w.cells {
		c := &w.cells[i]
		for slot, acked := range c.acked {
			if acked == 0 {
				continue
			}
			entry, err := c.handle.Get(ctx, keyName(client, slot))
			if err != nil && !errors.Is(err, cell.NotFound) {
				w.failed(err)
			}
			got := number(entry.Value)
			if err == nil && (got == acked || got != 0 && got == c.unsure[slot]) {
				kept++
			} else {
				lost++
			}
		}
	}
	return kept, lost
}

// number reads the write's number from a value; zero when it is none.
func number(v cell.Value) (n uint64) {
	b, ok := v.AsBytes()
	if !ok || len(b) < 8 {
		return 0
	}
	for i := range 8 {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}

// millis and micros are durations as the report has them, to a microsecond and a tenth of it.
func millis(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }

// micros is for processor times, which are a few microseconds for each operation.
func micros(d time.Duration) float64 { return float64(d.Round(100*time.Nanosecond)) / 1e3 }

// rounded is for rates: a tenth of an operation per second is more than any run can tell from another.
func rounded(x float64) float64 { return math.Round(x*10) / 10 }
