package drill

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/client/snapshots"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
	"physalia/cmd/physalia/judge"
)

var staticDrill = Drill{
	Name:   "static",
	Proves: "with every control process dead for good, cells serve, fail over and are found, without one error more than before",
	cells:  24, span: 12 * time.Second,
	spec: shape(9, 4, 3, "--snapshot-every", "1s"),
	run:  runStatic,
}

// What happens in each phase, as parts of the span: the same with the control plane up as with it dead.
const (
	staticKill    = 0.15 // of a server, for good half of the phase
	staticFind    = 0.30 // clients that know little look for cells
	staticReturn  = 0.50 // of the server
	staticRestart = 0.60 // of another server, at once
	staticClients = 0.65 // new clients begin to work
	staticRate    = 4    // operations per second in each cell
)

// static is one run. A third of the cells has clients all the time; of the others each phase's restarted clients get half.
type static struct {
	*site
	always   []cell.ID
	fresh    [2][]cell.ID
	lost     cell.ID // whose past member is all that one client knows
	past     *colony.Server
	present  *colony.Server // a member of it
	snapshot string
	found    [2]struct{ tried, failed int }
	late     [2]*crowd.Crowd // of the restarted clients
}

// runStatic measures one phase with the control plane and one without, then restarts every server at once.
func runStatic(ctx context.Context, s *site) error {
	ids := names("vol", max(s.cfg.Cells, 6))
	third := len(ids) / 3
	t := &static{site: s, always: ids[:third], fresh: [2][]cell.ID{ids[third : 2*third], ids[2*third:]}, lost: ids[0],
		snapshot: filepath.Join(s.spec.Dir, "control", "objects")}
	if err := t.prepare(ctx, ids); err != nil {
		return err
	}
	how := t.patient()
	load, err := crowd.Start(ctx, s.crowd(t.always, staticRate, how))
	if err != nil {
		return err
	}
	from := [3]time.Duration{s.now()}
	err = t.phase(ctx, 0)
	from[1] = s.now()
	if err == nil {
		s.cfg.Say("killing the control plane for the rest of the drill; the same accidents again")
		err = errors.Join(s.killControl(), t.phase(ctx, 1))
	}
	from[2] = s.now()
	if err == nil {
		err = t.allServers(ctx)
	}
	logs, judgeErr := s.judge(ctx, "clients that stayed", load, s.crowd(t.always, staticRate, how))
	err = errors.Join(err, judgeErr)
	for i, late := range t.late {
		if late != nil {
			more, judgeErr := s.judge(ctx, fmt.Sprintf("clients restarted %s", staticPhase[i]), late, s.crowd(t.fresh[i], staticRate, how))
			logs, err = append(logs, more...), errors.Join(err, judgeErr)
		}
	}
	if err != nil {
		return err
	}
	t.conclude(logs, from)
	return nil
}

// staticPhase names the phases.
var staticPhase = [2]string{"with the control plane", "without it"}

// The member that is moved away, and the one that a client knows, are on servers that stay up: a client that knows one server
// only, and that one is dead, finds nothing, with or without a control plane.
//
// prepare creates the cells, moves a member of one of them away, and waits until a snapshot knows all that.
func (t *static) prepare(ctx context.Context, ids []cell.ID) error {
	if err := t.create(ctx, ids); err != nil {
		return err
	}
	info, err := t.op.Cell(ctx, "drill.static", t.lost)
	if err != nil {
		return err
	}
	// The two servers that are hurt must not be those that a client of the drill relies on.
	identities, err := t.identities(ctx)
	if err != nil {
		return err
	}
	server := func(of cell.ServerID) *colony.Server { return t.Servers[slices.Index(identities, of)] }
	for _, m := range info.Members {
		switch v := server(m.Server); {
		case v == t.Servers[0] || v == t.Servers[1]:
		case t.past == nil:
			t.past = v
			one, cancel := context.WithTimeout(ctx, startMax)
			err := t.op.Replace(one, "drill.static", t.lost, m.Server, "")
			cancel()
			if err != nil {
				return err
			}
		case t.present == nil:
			t.present = v
		}
	}
	files, err := snapshots.Open(t.snapshot)
	if err != nil {
		return err
	}
	// Snapshots are written one after the other: the second one from now has been begun after all that.
	before, err := t.newestSnapshot(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		if err := t.until(ctx, startMax, "a new snapshot is written", func(ctx context.Context) (bool, error) {
			at, err := t.newestSnapshot(ctx)
			newer := at > before
			if newer {
				before = at
			}
			return newer, err
		}); err != nil {
			return err
		}
	}
	_, err = files.List(ctx, "")
	return err
}

// The metric tells when a snapshot was begun, so two of them in a row are needed to know that one was begun after something.
//
// newestSnapshot is when the newest snapshot was begun, in seconds.
func (t *static) newestSnapshot(ctx context.Context) (float64, error) {
	m, err := t.metrics(ctx)
	return m["physalia_discovery_snapshot_timestamp_seconds"], err
}

// A call may take long: while a server is dead, its cells wait for a successor, in both phases alike.
//
// patient is a client that survives what the drill does: beside the control plane it knows the servers.
func (t *static) patient() client.Config {
	how := t.clients()
	how.CallTimeout = 2 * callTimeout
	return how
}

// Everything in here is done twice. Nothing may depend on the control plane, or on what the first time left behind.
//
// phase hurts the colony in the same way each time.
func (t *static) phase(ctx context.Context, n int) error {
	t.cfg.Say("%v of accidents %s", t.cfg.Span, staticPhase[n])
	began := time.Now()
	for _, step := range []struct {
		at float64
		do func() error
	}{
		{staticKill, t.Servers[0].Kill},
		{staticFind, func() error { return t.find(ctx, n) }},
		{staticReturn, t.Servers[0].Start},
		{staticRestart, func() error { return errors.Join(t.Servers[1].Kill(), t.Servers[1].Start()) }},
		{staticClients, func() (err error) {
			// They restart where neither a control process nor every server is known: from the snapshots.
			files, err := snapshots.Open(t.snapshot)
			if err != nil {
				return err
			}
			how := client.Config{Colony: colony.Name, Control: t.op.Addresses, Snapshots: files, CallTimeout: 2 * callTimeout}
			t.late[n], err = crowd.Start(ctx, t.crowd(t.fresh[n], staticRate, how))
			return err
		}},
		{1, func() error { return nil }},
	} {
		if err := t.wait(ctx, time.Until(began.Add(time.Duration(step.at*float64(t.cfg.Span))))); err != nil {
			return err
		}
		if err := step.do(); err != nil {
			return err
		}
	}
	return nil
}

// Each library is new, so it has neither routes nor connections. It writes, since a read could be served by a member of the past.
//
// find has clients look for cells that know one thing each: a member, a member of the past, or the snapshots.
func (t *static) find(ctx context.Context, n int) error {
	files, err := snapshots.Open(t.snapshot)
	if err != nil {
		return err
	}
	base := client.Config{Colony: colony.Name, CallTimeout: 2 * callTimeout}
	member, past, snapshot := base, base, base
	member.Servers, past.Servers, snapshot.Snapshots = []string{t.present.Client}, []string{t.past.Client}, files
	for _, c := range []struct {
		knows string
		how   client.Config
		cells []cell.ID
	}{{"a member", member, []cell.ID{t.lost}}, {"a past member", past, []cell.ID{t.lost}}, {"the snapshots", snapshot, t.always}} {
		lib, err := client.New(ctx, c.how)
		if err != nil {
			return err
		}
		for _, id := range c.cells {
			t.found[n].tried++
			if _, err := lib.Cell(id).Put(ctx, "found", cell.Int(int64(n))); err != nil {
				t.found[n].failed++
				t.wrong(true, "%s, who knows only %s does not find %s: %v", staticPhase[n], c.knows, id, err)
			}
		}
		lib.Close()
	}
	return nil
}

// Every server's disk is all that is left then; peers find each other again by the addresses that they stored.
//
// allServers kills every server at once and starts them again, with no control plane to ask.
func (t *static) allServers(ctx context.Context) error {
	t.cfg.Say("killing all servers at once, and starting them without a control plane")
	for _, v := range t.Servers {
		if err := v.Kill(); err != nil {
			return err
		}
	}
	for _, v := range t.Servers {
		if err := v.Start(); err != nil {
			return err
		}
	}
	lib, err := client.New(ctx, client.Config{Colony: colony.Name, Servers: t.clientAddrs(), CallTimeout: callTimeout})
	if err != nil {
		return err
	}
	defer lib.Close()
	began := time.Now()
	for _, id := range slices.Concat(t.always, t.fresh[0], t.fresh[1]) {
		if err := t.until(ctx, startMax, "cells serve after all servers restarted", func(ctx context.Context) (bool, error) {
			_, err := lib.Cell(id).Put(ctx, "found", cell.Int(2))
			return err == nil, err
		}); err != nil {
			return err
		}
	}
	t.figure("all servers restarted without a control plane: every cell writable after", time.Since(began).Seconds(), "s")
	return nil
}

// Errors are counted by when they ended, so one that began before the control plane died may count against the time after: that is
// the stricter reading.
//
// conclude compares the phases. The third, in which every server was dead, is not counted.
func (t *static) conclude(logs []*judge.Log, from [3]time.Duration) {
	var failed [2]int
	for i, name := range staticPhase {
		n, kinds := errorsWithin(logs, from[i], from[i+1])
		failed[i] = n + t.found[i].failed
		t.count("writes acknowledged "+name, judge.AckedWithin(logs, from[i], from[i+1]))
		t.count("errors "+name, failed[i])
		t.count("cells found by clients that knew one thing, "+name, t.found[i].tried-t.found[i].failed)
		t.figure("longest time a cell was not writable "+name, float64(judge.LongestGap(logs, from[i], from[i+1]).Milliseconds()), "ms")
		if n > 0 {
			t.cfg.Say("errors %s: %v", name, kinds)
		}
	}
	t.wrong(failed[1] > failed[0], "%d errors without the control plane, %d with it", failed[1], failed[0])
}
