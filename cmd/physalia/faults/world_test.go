//go:build privileged && linux

package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/crowd"
	"physalia/cmd/physalia/faults"
	"physalia/cmd/physalia/judge"
	"physalia/cmd/physalia/operator"
	"physalia/internal/wire"
)

const (
	patience = 30 * time.Second // how long a test waits for what must happen
	checkMax = 20 * time.Second // in which one cell's history must be decided

	// promised is how soon a cell can be written again, on a machine that has nothing else to do; asserted is slack times that.
	promised = 3 * time.Second
	slack    = 3

	// support is what a server gives another at a time. Faults last longer, so that it runs out.
	support = time.Second
)

// setup says what a scenario plays on.
type setup struct {
	cells   int      // that the crowd works on
	idle    int      // beside them
	clients int      // per cell
	rate    int      // operations per second
	disks   []string // servers with a disk of their own
	// memTable is the size of every disk's write buffer: logs are made anew as often as it is full.
	memTable int
	args     []string // of every server, beside the usual ones
	within   time.Duration
}

// small is what most scenarios use.
func small() setup { return setup{cells: 28, clients: 2, rate: 400, memTable: 1 << 20} }

// world is a colony of seven servers, each at a host of its own, its clients, and what is noted of them.
type world struct {
	*testing.T
	setup
	net    *faults.Network
	disks  map[string]*faults.Disk
	spec   colony.Spec
	colony *colony.Colony
	op     operator.Operator
	load   crowd.Config
	idlers []cell.ID
	crowd  *crowd.Crowd

	calms     []span        // when the clients must have been served well
	hurt      time.Duration // when the fault began
	slowest   time.Duration // longest time without a write that the scenario itself has seen
	witnesses []*judge.Log
}

// span is a time of the logs' clock.
type span struct{ from, to time.Duration }

// begin makes a world, and lets the crowd work for a while.
func begin(t *testing.T, s setup) *world {
	w := &world{T: t, setup: s, disks: map[string]*faults.Disk{}}
	dir := t.TempDir()
	names := []string{"control"}
	for i := range 7 {
		names = append(names, fmt.Sprintf("s%d", i+1))
	}
	var err error
	w.net, err = faults.NewNetwork(filepath.Join(dir, "net"), names...)
	w.must(err)
	t.Cleanup(func() { w.closing(w.net.Close()) })
	w.spec = colony.Spec{Binary: binary, Dir: filepath.Join(dir, "colony"), Bricks: 1, Colors: 1, Servers: 7, Racks: 4, Powers: 3,
		MemTableBytes: s.memTable, ServerArgs: s.args, Host: w.net.Host}
	for _, name := range s.disks {
		w.disks[name], err = faults.NewDisk(filepath.Join(w.spec.Dir, name), 256<<20)
		w.must(err)
		t.Cleanup(func() { w.closing(w.disks[name].Close()) })
	}
	w.colony, err = colony.Start(w.spec)
	w.must(err)
	t.Cleanup(w.close)
	w.op = operator.Operator{Colony: colony.Name, Addresses: []string{w.colony.ControlAddr}, Certs: w.spec.User()}
	w.awaitServers()
	w.create()
	w.crowd, err = crowd.Start(context.Background(), w.load)
	w.must(err)
	w.eventually("every client has written", func() bool { return len(w.crowd.Waiting(0)) == 0 })
	w.calm()
	return w
}

// close ends the colony. What hurts it is undone before: a stopped process or a stalled disk cannot end.
func (w *world) close() {
	for _, s := range w.colony.Servers {
		if s.Running() {
			w.closing(s.Resume())
		}
	}
	for _, d := range w.disks {
		w.closing(d.Thaw())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w.closing(w.colony.Close(ctx))
	if w.Failed() {
		w.showLogs()
	}
}

// showLogs shows the last lines that every process wrote.
func (w *world) showLogs() {
	logs, err := filepath.Glob(filepath.Join(w.spec.Dir, "*.log"))
	w.closing(err)
	for _, name := range logs {
		text, err := os.ReadFile(name)
		w.closing(err)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		w.Logf("%s:\n%s", filepath.Base(name), strings.Join(lines[max(0, len(lines)-8):], "\n"))
	}
}

// must ends the test after an error; closing only notes one.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) closing(err error) {
	if err != nil {
		w.Error(err)
	}
}

// now is the clock of the logs.
func (w *world) now() time.Duration { return time.Since(w.load.Origin) }

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	if !w.holdsWithin(patience, holds) {
		w.Fatalf("waited %v in vain: %s", patience, what)
	}
}

// holdsWithin waits until a condition holds, and reports whether it did within d.
func (w *world) holdsWithin(d time.Duration, holds func() bool) bool {
	deadline := time.After(d)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// pass lets time pass, in which the clients work.
func (w *world) pass(d time.Duration) { <-time.After(d) }

func (w *world) awaitServers() {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	w.must(w.op.AwaitServers(ctx, len(w.colony.Servers), w.colony.Failed))
}

// create creates the cells, and says what the crowd will do with them.
func (w *world) create() {
	w.load = crowd.Config{Clients: w.clients, Rate: w.rate, Origin: time.Now(),
		Client: client.Config{Colony: colony.Name, Control: w.op.Addresses, CallTimeout: patience, PlainText: w.op.Certs.PlainText}}
	for i := range w.cells {
		w.load.Cells = append(w.load.Cells, cell.ID(fmt.Sprintf("vol-%d", i+1)))
	}
	for i := range w.idle {
		w.idlers = append(w.idlers, cell.ID(fmt.Sprintf("idle-%d", i+1)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for part := range slices.Chunk(slices.Concat(w.load.Cells, w.idlers), wire.BatchMax) {
		outcomes, err := w.op.Create(ctx, "faults.create", wire.CreateCells{Cells: part})
		w.must(err)
		for i := range outcomes {
			if outcomes[i].Err != nil {
				w.Fatalf("create %s: %v", part[i], outcomes[i].Err)
			}
		}
	}
}

// calm lets the clients work undisturbed; in the end they must have got somewhere.
func (w *world) calm() {
	from := w.now()
	w.pass(1500 * time.Millisecond)
	w.calms = append(w.calms, span{from, w.now()})
}

// server is the process of a name.
func (w *world) server(name string) *colony.Server {
	i := slices.IndexFunc(w.colony.Servers, func(s *colony.Server) bool { return s.Name == name })
	return w.colony.Servers[i]
}

// others names all servers but one.
func (w *world) others(name string) (names []string) {
	for _, s := range w.colony.Servers {
		if s.Name != name {
			names = append(names, s.Name)
		}
	}
	return names
}

// proposals lists the cells whose proposer a server says to be.
func (w *world) proposals(s *colony.Server) (cells []cell.ID) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := w.op.Dial(ctx, s.Client)
	w.must(err)
	defer conn.Close(nil)
	for _, id := range w.load.Cells {
		var said wire.Explanation
		w.must(conn.Call(ctx, wire.MethodExplain, &wire.ExplainRequest{Header: wire.Header{Cell: id, Timeout: 5000}}, &said))
		if said.Role == "proposer" {
			cells = append(cells, id)
		}
	}
	return cells
}

// identities are the servers of a name that the control plane knows, with the number of nodes that each says to host.
func (w *world) identities(name string) map[cell.ServerID]uint64 {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	servers, err := w.op.Servers(ctx, "faults.servers")
	w.must(err)
	all := map[cell.ServerID]uint64{}
	for _, s := range servers {
		if s.Registration.Name == name {
			all[s.Registration.Server] = s.Registration.Nodes
		}
	}
	return all
}

// mustMove waits until other servers propose for all of some cells; not for longer than is asserted. What they were hurt for
// would not have happened otherwise.
func (w *world) mustMove(cells []cell.ID, from string) {
	w.Helper()
	var moved []cell.ID
	if !w.holdsWithin(slack*promised, func() bool {
		moved = nil
		for _, name := range w.others(from) {
			moved = append(moved, w.proposals(w.server(name))...)
		}
		return !slices.ContainsFunc(cells, func(id cell.ID) bool { return !slices.Contains(moved, id) })
	}) {
		w.Errorf("server %s proposed for %v; after %v, others propose only for %v", from, cells, slack*promised, moved)
	}
}

// busiest is the server that proposes for most cells, and these cells.
func (w *world) busiest() (name string, cells []cell.ID) {
	w.Helper()
	for _, s := range w.colony.Servers {
		if its := w.proposals(s); len(its) > len(cells) {
			name, cells = s.Name, its
		}
	}
	return name, cells
}

// hurts begins the fault.
func (w *world) hurts(fault func() error) {
	w.Helper()
	w.hurt = w.now()
	w.must(fault())
}

// mustWrite waits, while the fault lasts, until every client of every cell has written; not for longer than is asserted.
func (w *world) mustWrite() {
	w.Helper()
	since := w.now()
	w.pass(2 * support)
	if !w.holdsWithin(slack*promised, func() bool { return len(w.crowd.Waiting(since)) == 0 }) {
		w.Errorf("during the fault, not every client could write within %v: %v", slack*promised, w.crowd.Waiting(since))
	}
}

// heals ends the fault, lets the colony recover, and asks for normal service again.
func (w *world) heals(cure func() error) {
	w.Helper()
	w.must(cure())
	since := w.now()
	w.eventually("after the fault, every client can write", func() bool { return len(w.crowd.Waiting(since)) == 0 })
	w.calm()
}

// verdict stops the crowd, reads everything back, and judges.
func (w *world) verdict() {
	w.Helper()
	logs := w.crowd.Stop()
	end := w.now()
	logs = append(logs, w.witnesses...)
	final, err := crowd.Final(context.Background(), w.load, func(err error) { w.Log(err) })
	w.must(err)
	v := judge.Judge(logs, final, checkMax)
	if !v.OK() {
		w.Errorf("%d acknowledged, %d unknown; lost %d, doubled %d, fences gone back %d, not linearizable %v, undecided %v, unread %v",
			v.Acked, v.Unknown, v.Lost, v.Doubled, v.WentBack, v.Bent, v.Unsolved, v.Unread)
	}
	r := row{name: w.Name(), acked: v.Acked, unwritable: max(w.slowest, judge.LongestGap(logs, w.hurt, end)), within: w.within, calm: float64(w.rate)}
	for _, c := range w.calms {
		r.calm = min(r.calm, float64(judge.AckedWithin(logs, c.from, c.to))/(c.to-c.from).Seconds())
	}
	// Half of the operations are writes. A tenth of what was wanted is enough for the fault to have hit something.
	if least := float64(w.rate) / 20; r.calm < least {
		w.Errorf("%.0f writes/s outside of the fault, at least %.0f make the test worth something", r.calm, least)
	}
	if w.within > 0 && r.unwritable > slack*w.within {
		w.Errorf("a client could not write for %v; promised are %v, asserted %v", r.unwritable, w.within, slack*w.within)
	}
	r.failed = w.Failed()
	note(r)
}
