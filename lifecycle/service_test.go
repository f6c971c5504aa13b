package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// hosts is a fleet of servers behind the Caller interface, concurrently used; it keeps the promises of fakeServer.
type hosts struct {
	mu sync.Mutex
	w  *world
}

func newHosts(t *testing.T, n int) *hosts {
	return &hosts{w: newWorld(func(format string, args ...any) { t.Errorf(format, args...) }, Config{}, n)}
}

func (h *hosts) Call(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.w.byID[id]
	if s == nil || !s.up {
		return &cell.Error{Op: method, Kind: cell.Unavailable, Detail: "not connected"}
	}
	if q, ok := params.(*wire.Census); ok {
		if page, ok := result.(*wire.CensusPage); ok {
			*page = *h.w.census(s, q)
		} else {
			*result.(*wire.GravePage) = *h.w.graves(s, q)
		}
		return nil
	}
	outcomes, err := h.w.serve(s, Call{Params: params})
	if err != nil {
		return err
	}
	if o, ok := result.(*wire.Outcomes); ok {
		o.Outcomes = outcomes
	}
	return nil
}

func (h *hosts) join(s *Service) {
	for _, host := range h.w.servers {
		s.ServerUp(host.reg)
	}
}

func open(t *testing.T, c ServiceConfig) *Service {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeService(t *testing.T, s *Service) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// createAll asks for cells and waits for the answer.
func createAll(s *Service, names ...cell.ID) (*wire.Outcomes, *cell.Error) {
	type answer struct {
		o   *wire.Outcomes
		err *cell.Error
	}
	got := make(chan answer, 1)
	s.Create(wire.CreateCells{Cells: names, Wait: 60_000}, func(o *wire.Outcomes, err *cell.Error) { got <- answer{o, err} })
	a := <-got
	return a.o, a.err
}

func deleteAll(s *Service, names ...cell.ID) *wire.Outcomes {
	req := wire.DeleteCells{Wait: 60_000}
	for _, n := range names {
		req.Drops = append(req.Drops, wire.Drop{Cell: n})
	}
	got := make(chan *wire.Outcomes, 1)
	s.Delete(req, func(o *wire.Outcomes, err *cell.Error) { got <- o })
	return <-got
}

func cellNames(n int) []cell.ID {
	names := make([]cell.ID, n)
	for i := range names {
		names[i] = cell.ID(fmt.Sprintf("vol-%04d", i))
	}
	return names
}

// TestServiceSurvivesRestarts runs creations and deletions against a real store, in several lives.
func TestServiceSurvivesRestarts(t *testing.T) {
	h := newHosts(t, 14)
	fsys := vfs.NewMem()
	names := cellNames(50)
	for life := range 3 {
		store, err := OpenPebble(PebbleConfig{Dir: "store", FS: fsys})
		if err != nil {
			t.Fatal(err)
		}
		s := open(t, ServiceConfig{Store: store, Caller: h, Manager: Config{Seed: uint64(life)}})
		h.join(s)
		o, failure := createAll(s, names...)
		if failure != nil {
			t.Fatal(failure)
		}
		for i := range o.Outcomes {
			if err := o.Outcomes[i].Err; err != nil {
				t.Fatalf("life %d: %s: %v", life, names[i], err)
			}
		}
		o = deleteAll(s, names[:20]...)
		for i := range o.Outcomes {
			if err := o.Outcomes[i].Err; err != nil {
				t.Fatalf("life %d: delete %s: %v", life, names[i], err)
			}
		}
		closeService(t, s)
	}
	store, err := OpenPebble(PebbleConfig{Dir: "store", FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	m := NewManager(Config{})
	if err := store.Scan(m.Restore); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Cells[Live] != 30 || s.Cells[Creating] != 0 {
		t.Fatalf("%+v", s)
	}
	for i, n := range names {
		if in := m.names[n]; i < 20 && in.Incarnation != 3 || i >= 20 && in.Incarnation != 1 {
			t.Fatalf("%v", &in.Record)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGroupCommit: one turn is one batch of the store, whatever it decides.
func TestGroupCommit(t *testing.T) {
	h := newHosts(t, 14)
	store := NewMemStore()
	s := open(t, ServiceConfig{Store: store, Caller: h})
	h.join(s)
	names := cellNames(wire.BatchMax)
	if o, err := createAll(s, names...); err != nil || o.Outcomes[len(names)-1].Err != nil {
		t.Fatal(o, err)
	}
	if n := store.Puts(); n > 300 {
		t.Fatalf("%d batches for %d cells", n, len(names))
	}
	closeService(t, s)
}

// TestCloseWaitsForCalls: no call outlives Close, and who still waits is told.
func TestCloseWaitsForCalls(t *testing.T) {
	h := newHosts(t, 7)
	var under atomic.Int32
	began := make(chan struct{}, 7)
	s := open(t, ServiceConfig{Store: NewMemStore(), Caller: callerFunc(
		func(ctx context.Context, _ cell.ServerID, _ string, _, _ wire.Message) error {
			under.Add(1)
			defer under.Add(-1)
			began <- struct{}{}
			<-ctx.Done()
			runtime.Gosched()
			return &cell.Error{Kind: cell.UnknownResult}
		})})
	h.join(s)
	answered := make(chan *cell.Error, 1)
	s.Create(wire.CreateCells{Cells: []cell.ID{"a"}, Wait: 60_000}, func(_ *wire.Outcomes, err *cell.Error) { answered <- err })
	for range 7 {
		<-began
	}
	closeService(t, s)
	if n := under.Load(); n != 0 {
		t.Fatalf("%d calls are under way after Close", n)
	}
	if err := <-answered; err == nil || err.Kind != cell.UnknownResult {
		t.Fatalf("the requester is told %v", err)
	}
}

// TestRoutesAreHandedOn: a discovery cache hears of everything at the start, and of every change.
func TestRoutesAreHandedOn(t *testing.T) {
	h := newHosts(t, 7)
	store := NewMemStore()
	s := open(t, ServiceConfig{Store: store, Caller: h})
	h.join(s)
	createAll(s, cellNames(3)...)
	closeService(t, s)
	routes := make(chan wire.Route, 100)
	s = open(t, ServiceConfig{Store: store, Caller: h, Routes: func(list []wire.Route) {
		for _, r := range list {
			routes <- r
		}
	}})
	for i := range 3 {
		if r := <-routes; r.Cell != cellNames(3)[i] || r.Incarnation != 1 || len(r.Members) != 7 || r.Members[0].ClientAddr == "" {
			t.Fatalf("route %d: %+v", i, r)
		}
	}
	h.join(s)
	deleteAll(s, "vol-0001")
	if r := <-routes; r.Cell != "vol-0001" || !r.Deleted {
		t.Fatalf("%+v", r)
	}
	closeService(t, s)
}

// TestFailedStoreStops: what cannot be made durable is not acted upon, and everybody who waits is told.
func TestFailedStoreStops(t *testing.T) {
	h := newHosts(t, 7)
	store := NewMemStore()
	s := open(t, ServiceConfig{Store: store, Caller: h})
	h.join(s)
	if o, err := createAll(s, "a"); err != nil || o.Outcomes[0].Err != nil {
		t.Fatal(o, err)
	}
	broken := errors.New("disk on fire")
	store.FailWith(broken)
	if _, err := createAll(s, "b"); err == nil || err.Kind != cell.UnknownResult {
		t.Fatalf("got %v", err)
	}
	<-s.Done()
	if _, err := createAll(s, "c"); err == nil || err.Kind != cell.Unavailable {
		t.Fatalf("after the end: %v", err)
	}
	if err := s.Err(); !errors.Is(err, broken) {
		t.Fatalf("the reason is %v", err)
	}
	for _, host := range h.w.servers {
		for k := range host.nodes {
			if k.cell == "b" {
				t.Fatalf("%s was told of a jury that is not durable", host.reg.Server)
			}
		}
	}
	if err := s.Close(); !errors.Is(err, broken) {
		t.Fatalf("close says %v", err)
	}
}

func TestOpenRefusesDamage(t *testing.T) {
	store := NewMemStore()
	r := Record{Cell: "a", Incarnation: 1, State: Deleted, Plan: 1}
	b := appendRecord(nil, &r)
	b[4] ^= 1
	for _, w := range []Write{{r.key(), b}, {[]byte("r-other"), appendRecord(nil, &r)}, {serverKey("s1"), b}} {
		if err := store.Put([]Write{w}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(ServiceConfig{Store: store}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("key %q: got %v", w.Key, err)
		}
		if err := store.Put([]Write{{Key: w.Key}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(ServiceConfig{Store: store, Manager: Config{Jury: 14}}); cell.KindOf(err) != cell.Invalid {
		t.Fatalf("a jury of 14: %v", err)
	}
}

// TestPebbleRefusesDamagedLog: a store that lost what it had promised does not open (rule 8, hazard H10).
func TestPebbleRefusesDamagedLog(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenPebble(PebbleConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := s.Put([]Write{{Key: fmt.Appendf(nil, "r%03d", i), Value: make([]byte, 2000)}}); err != nil {
			t.Fatal(err)
		}
	}
	damaged := t.TempDir()
	if err := os.CopyFS(damaged, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(damaged, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := false
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 100_000 {
			b[5000] ^= 1
			flipped = true
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !flipped {
		t.Fatalf("no log with 100 records among %v", logs)
	}
	if s, err := OpenPebble(PebbleConfig{Dir: damaged}); err == nil {
		n := 0
		scanned := s.Scan(func(_, _ []byte) error { n++; return nil })
		t.Fatalf("a damaged log opens with %d of 100 records, %v, close %v", n, scanned, s.Close())
	}
}

// TestOverSockets runs the whole control side over real connections: a fleet, a service behind it, servers and a client.
func TestOverSockets(t *testing.T) {
	h := newHosts(t, 7)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var f *fleet.Fleet
	s := open(t, ServiceConfig{Store: NewMemStore(), Caller: callerFunc(func(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error {
		return f.Call(ctx, id, method, params, result)
	})})
	f = fleet.Serve(ln, fleet.Config{Colony: "test", Client: s.Handlers(), Joined: s.ServerUp, Left: s.ServerDown})
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		closeService(t, s)
	}()
	for _, host := range h.w.servers {
		connect(t, f, h, host)
	}
	gone := make(chan struct{})
	client, err := rpc.Dial(t.Context(), f.Addr().String(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: "test"},
		OnClose: func(*rpc.Conn, error) { close(gone) }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { client.Close(nil); <-gone }()
	var o wire.Outcomes
	if err := client.Call(t.Context(), wire.MethodCreateCells, &wire.CreateCells{Cells: []cell.ID{"a", "b"}, Wait: 60_000}, &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Outcomes) != 2 || o.Outcomes[0].Err != nil || o.Outcomes[1].Err != nil {
		t.Fatalf("%+v", o)
	}
	if err := client.Call(t.Context(), wire.MethodDeleteCells, &wire.DeleteCells{Drops: []wire.Drop{{Cell: "b"}}, Wait: 60_000}, &o); err != nil {
		t.Fatal(err)
	}
	var l wire.CellList
	for len(l.Cells) == 0 || l.Cells[1].State != "deleted" { // the wiping goes on behind the answer
		if err := client.Call(t.Context(), wire.MethodListCells, &wire.ListCells{Limit: 10}, &l); err != nil {
			t.Fatal(err)
		}
	}
	if l.Cells[0].Cell != "a" || l.Cells[0].State != "live" || len(l.Cells) != 2 {
		t.Fatalf("%+v", l.Cells)
	}
}

type callerFunc func(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error

func (f callerFunc) Call(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error {
	return f(ctx, id, method, params, result)
}

// connect makes one host a server over a real connection.
func connect(t *testing.T, f *fleet.Fleet, h *hosts, host *fakeServer) {
	t.Helper()
	g := host.reg
	gone := make(chan struct{})
	c, err := rpc.Dial(t.Context(), f.Addr().String(), rpc.Config{
		Hello: wire.Hello{Purpose: wire.ForControl, Colony: g.Colony, Brick: g.Brick, Color: g.Color, Server: g.Server, Boot: g.Boot},
		Handler: rpc.HandlerFunc(func(c *rpc.Conn, req rpc.Request) {
			var p wire.Message
			switch req.Method {
			case wire.MethodCreateNodes:
				p = new(wire.CreateNodes)
			case wire.MethodDropNodes:
				p = new(wire.DropNodes)
			case wire.MethodSeal:
				p = new(wire.SealCell)
			default:
				c.Reply(req.ID, &wire.Pong{Boot: g.Boot}, nil)
				return
			}
			if err := wire.Unmarshal(req.Params, p); err != nil {
				t.Error(err)
			}
			h.mu.Lock()
			outcomes, failure := h.w.serve(host, Call{Params: p})
			h.mu.Unlock()
			if req.Method == wire.MethodSeal {
				c.Reply(req.ID, nil, failure)
				return
			}
			c.Reply(req.ID, &wire.Outcomes{Outcomes: outcomes}, failure)
		}),
		OnClose: func(*rpc.Conn, error) { close(gone) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { <-gone })
	if err := c.Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
}
