// Package demo runs a whole colony on one machine and hurts it: real server processes and a control process, cells,
// clients that look up, promote and transact; one server is killed and restarted, then the control plane is taken away for
// a while. On some of the volumes a small block store works all the time, whose own servers are killed too, and which
// lives on the volume records alone. In the end everything is read back and a verdict passed: no acknowledged write lost,
// every history linearizable, no volume's fence gone back, no two primaries at once, no error for lack of a control plane.
package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
	"physalia/cmd/physalia/judge"
	"physalia/cmd/physalia/operator"
)

// Config says what to run. Every field is required but Say.
type Config struct {
	Colony   colony.Spec
	Cells    int           // databases
	Clients  int           // per cell; each has an identity of its own
	Duration time.Duration // of the load; the accidents happen at fixed parts of it
	Rate     int           // operations per second, of all clients together
	Replace  int           // members of the first cell that are replaced under load, before anything is hurt
	// Say takes progress, one line at a time; nil drops it.
	Say func(format string, args ...any)
}

// Report is what a demo found. The JSON names stay.
type Report struct {
	Verdict                 string   `json:"verdict"` // "ok" or "fail"
	Reasons                 []string `json:"reasons,omitempty"`
	Servers                 int      `json:"servers"`
	Cells                   int      `json:"cells"`
	AckedWrites             uint64   `json:"acked_writes"`
	UnknownWrites           uint64   `json:"unknown_writes"` // may or may not have been applied; both is right
	LostWrites              uint64   `json:"lost_writes"`
	DoubledWrites           uint64   `json:"doubled_writes"` // took effect more than once
	Linearizable            bool     `json:"linearizable"`
	FencesWentBack          uint64   `json:"fences_went_back"`
	UnavailableMSMax        float64  `json:"unavailable_ms_max"` // longest time that any cell could not be written after the kill
	Errors                  int      `json:"errors"`             // requests that failed for good, at any time
	ControlPlaneDownErrors  int      `json:"control_plane_down_errors"`
	ControlPlaneDownSeconds float64  `json:"control_plane_down_s"`
	WriteP50MS              float64  `json:"write_p50_ms"`
	WriteP99MS              float64  `json:"write_p99_ms"`
	MembersReplaced         int      `json:"members_replaced"`
	ReplaceMS               float64  `json:"replace_ms"`     // all of them, one after the other
	ReplaceErrors           int      `json:"replace_errors"` // requests, of any cell, that failed for good meanwhile
	CreateMS                float64  `json:"create_ms"`      // all cells, from the request to the last answer
	BlockWrites             uint64   `json:"block_writes"`   // that the block store acknowledged
	BlockWritesLost         int      `json:"block_writes_lost"`
	SplitBrainAcks          uint64   `json:"split_brain_acks"` // by two primaries under one fence
	Failovers               int      `json:"failovers"`
	FailoverMSMax           float64  `json:"failover_ms_max"` // longest time from the last answer of one primary to the first of the next
}

// The accidents, as parts of the duration.
const (
	replaceAt     = 0.05
	killAt        = 0.20
	restartAt     = 0.45
	controlDownAt = 0.60
	controlUpAt   = 0.85
)

// checkMax bounds the time in which one cell's history must be decided.
const checkMax = 20 * time.Second

// Demo is a colony that has been started.
type Demo struct {
	cfg    Config
	colony *colony.Colony
	op     operator.Operator // asks the control plane
	cells  []cell.ID         // created and used
	report Report            // filled in as things become known
	origin time.Time         // of the durations in all logs
}

// Start starts the colony, waits until every server is up, and creates the cells. Close it in any case but an error.
func Start(ctx context.Context, cfg Config) (*Demo, error) {
	if cfg.Say == nil {
		cfg.Say = func(string, ...any) {}
	}
	if cfg.Cells < 1 || cfg.Clients < 1 || cfg.Rate < 1 || cfg.Duration < time.Second {
		return nil, &cell.Error{Op: "demo", Kind: cell.Invalid, Detail: fmt.Sprintf("%d cells, %d clients each, %d operations per second, for %v",
			cfg.Cells, cfg.Clients, cfg.Rate, cfg.Duration), Hint: "use positive numbers, and at least one second"}
	}
	c, err := colony.Start(cfg.Colony)
	if err != nil {
		return nil, err
	}
	d := &Demo{cfg: cfg, colony: c, op: operator.Operator{Colony: colony.Name, Addresses: []string{c.ControlAddr}}, origin: time.Now()}
	if err := d.found(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// found waits for the servers and creates the cells, named as volumes are. Any failure here ends the demo: a colony that
// does not come up whole is not worth a verdict.
func (d *Demo) found(ctx context.Context) error {
	n := len(d.colony.Servers)
	d.cfg.Say("starting %d servers and a control process in %s", n, d.cfg.Colony.Dir)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	if err := d.op.AwaitServers(ctx, n, d.colony.Failed); err != nil {
		return err
	}
	d.cfg.Say("all %d servers are up after %s", n, took(began))
	for i := range d.cfg.Cells {
		d.cells = append(d.cells, cell.ID(fmt.Sprintf("vol-%d", i+1)))
	}
	began = time.Now()
	if err := d.op.CreateAll(ctx, "demo.create", d.cells); err != nil {
		return err
	}
	d.report.CreateMS = millis(time.Since(began))
	d.cfg.Say("created %d cells of seven nodes in %s", len(d.cells), took(began))
	return nil
}

// Run puts load on the cells, lets the accidents happen, reads everything back and passes the verdict. It runs once.
func (d *Demo) Run(ctx context.Context) (Report, error) {
	d.cfg.Say("%d clients in each cell, about %d operations per second in all", d.cfg.Clients, d.cfg.Rate)
	load, err := crowd.Start(ctx, d.crowdConfig())
	if err != nil {
		return d.report, err
	}
	store, err := d.startBlocks(ctx)
	if err != nil {
		load.Stop()
		return d.report, err
	}
	times, accidentErr := d.accidents(ctx, store)
	logs := load.Stop()
	kept := store.stop(accidentErr)
	if accidentErr != nil {
		return d.report, accidentErr
	}
	d.cfg.Say("load is over; reading everything back through a fresh client")
	final, err := crowd.Final(ctx, d.crowdConfig(), func(err error) { d.cfg.Say("%v", err) })
	if err != nil {
		return d.report, err
	}
	d.cfg.Say("checking %d histories", len(d.cells))
	d.conclude(logs, judge.Judge(logs, final, checkMax), times)
	d.concludeBlocks(kept)
	return d.report, nil
}

// moments are when the accidents really happened, since the origin.
type moments struct{ replace, replaced, killed, controlDown, controlUp, end time.Duration }

// accident is something that happens at a part of the duration.
type accident struct {
	at float64
	do func() error
}

// accidents waits for each moment and hurts the colony. After the last one it waits until all servers are up again, so that the
// verdict is about a colony that has recovered: what is missing then is lost. Kills are SIGKILL, which leaves a process no
// time to finish anything; what its disk had not promised may be gone.
func (d *Demo) accidents(ctx context.Context, store *blockStore) (m moments, err error) {
	began := time.Now()
	victim := d.colony.Servers[0]
	for _, step := range store.among([]accident{
		{replaceAt, func() error {
			m.replace = d.now()
			err := d.replaceMembers(ctx)
			m.replaced = d.now()
			return err
		}},
		{killAt, func() error {
			m.killed = d.now()
			d.cfg.Say("killing server %s (SIGKILL)", victim.Name)
			return victim.Kill()
		}},
		{restartAt, func() error {
			d.cfg.Say("restarting server %s", victim.Name)
			return victim.Start()
		}},
		{controlDownAt, func() error {
			m.controlDown = d.now()
			d.cfg.Say("killing the whole control plane (SIGKILL)")
			return d.colony.Control.Kill()
		}},
		{controlUpAt, func() error {
			m.controlUp = d.now()
			d.cfg.Say("restarting the control plane")
			return d.colony.Control.Start()
		}},
		{1, func() error { m.end = d.now(); return nil }},
	}) {
		if err := d.waitUntil(ctx, began.Add(time.Duration(step.at*float64(d.cfg.Duration)))); err != nil {
			return m, err
		}
		if err := step.do(); err != nil {
			return m, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return m, d.op.AwaitServers(ctx, len(d.colony.Servers), d.colony.Failed)
}

// waitUntil waits for a moment; a child that dies by itself ends the demo.
func (d *Demo) waitUntil(ctx context.Context, at time.Time) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(at) {
		if err := d.colony.Failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// conclude fills in the report and passes the verdict. Everything that is wrong is a reason, and one reason is enough. Errors
// of requests alone are none, while a server is dead: some wait in vain for as long as their timeout. But with only the
// control plane away nothing at all may fail.
func (d *Demo) conclude(logs []*judge.Log, v judge.Verdict, m moments) {
	r := &d.report
	r.Servers, r.Cells = len(d.colony.Servers), len(d.cells)
	r.AckedWrites, r.UnknownWrites, r.LostWrites, r.DoubledWrites = v.Acked, v.Unknown, v.Lost, v.Doubled
	r.Linearizable, r.FencesWentBack = v.Linearizable(), v.WentBack
	r.UnavailableMSMax = millis(judge.LongestGap(logs, m.killed, m.end))
	p := judge.Percentiles(judge.WriteTimes(logs), 50, 99)
	r.WriteP50MS, r.WriteP99MS = millis(p[0]), millis(p[1])
	r.ControlPlaneDownSeconds = (m.controlUp - m.controlDown).Seconds()
	during := judge.ErrorsWithin(logs, m.controlDown, m.controlUp)
	for _, n := range during {
		r.ControlPlaneDownErrors += n
	}
	while := judge.ErrorsWithin(logs, m.replace, m.replaced)
	for _, n := range while {
		r.ReplaceErrors += n
	}
	for kind, n := range judge.ErrorsWithin(logs, 0, m.end+time.Hour) {
		r.Errors += n
		d.cfg.Say("%d requests ended as: %v", n, kind)
	}
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{v.Acked == 0, "nothing was written"},
		{v.Lost > 0, fmt.Sprintf("%d acknowledged writes are lost", v.Lost)},
		{v.Doubled > 0, fmt.Sprintf("%d writes took effect twice", v.Doubled)},
		{len(v.Bent) > 0, fmt.Sprintf("not linearizable: %v", v.Bent)},
		{len(v.Unsolved) > 0, fmt.Sprintf("not decided within %v: %v", checkMax, v.Unsolved)},
		{len(v.Unread) > 0, fmt.Sprintf("could not be read back: %v", v.Unread)},
		{v.WentBack > 0, fmt.Sprintf("%d fences went back", v.WentBack)},
		{r.ReplaceErrors > 0, fmt.Sprintf("%d errors while members were replaced: %v", r.ReplaceErrors, judge.Kinds(while))},
		{r.ControlPlaneDownErrors > 0, fmt.Sprintf("%d errors while the control plane was down: %v", r.ControlPlaneDownErrors, judge.Kinds(during))},
	} {
		if c.wrong {
			r.Reasons = append(r.Reasons, c.text)
		}
	}
	r.Verdict = "ok"
	if len(r.Reasons) > 0 {
		r.Verdict = "fail"
	}
}

// Each client of a cell gets a library of its own, and so its own identity, routes and connections.
//
// crowdConfig is the load: who works on what, with client libraries as users would make them.
func (d *Demo) crowdConfig() crowd.Config {
	return crowd.Config{Cells: d.cells, Clients: d.cfg.Clients, Rate: d.cfg.Rate, Origin: d.origin, Client: d.clientConfig()}
}

// clientConfig is more patient than the default: on a machine with far more processes than processors, an error that a few
// more seconds would have avoided says nothing.
func (d *Demo) clientConfig() client.Config {
	return client.Config{Colony: colony.Name, Control: d.op.Addresses, CallTimeout: 15 * time.Second}
}

// ControlAddr is where the colony is reached from another terminal.
func (d *Demo) ControlAddr() string { return d.colony.ControlAddr }

// Watch waits until ctx ends, or a child ends by itself.
func (d *Demo) Watch(ctx context.Context) error {
	if err := d.waitUntil(ctx, time.Now().Add(100*365*24*time.Hour)); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Close ends every process, politely for a few seconds. It may be called after any error, and more than once.
func (d *Demo) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return d.colony.Close(ctx)
}

// now is the time since the origin that all logs share.
func (d *Demo) now() time.Duration { return time.Since(d.origin) }

// millis is a duration as the report has it; took is one for people.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func took(since time.Time) time.Duration { return time.Since(since).Round(time.Millisecond) }
