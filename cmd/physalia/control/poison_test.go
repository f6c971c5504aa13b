package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/client/snapshots"
	"physalia/cmd/physalia/operator"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node"
)

const colonyServers, colonyCells = 9, 6

// smallColony is a control process and servers in this process, with cells of which one lives under a name that was used
// before, and one has moved. Former are routes that were right once.
type smallColony struct {
	control *Control
	end     func() // ends the control process, once
	op      operator.Operator
	ids     []cell.ID
	former  map[cell.ID]wire.Route
	servers []wire.Founder
	count   map[cell.ID]int64 // what was added to each cell's counter
}

func newSmallColony(t *testing.T) *smallColony {
	control, err := Start(config(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &smallColony{control: control, former: map[cell.ID]wire.Route{}, count: map[cell.ID]int64{}}
	c.end = c.stop(t)
	t.Cleanup(c.end)
	c.op = operator.Operator{Colony: "test", Addresses: []string{c.control.Addr()}}
	for i := range colonyServers {
		s, err := node.Start(node.Config{DataDir: t.TempDir(), Colony: "test", Name: fmt.Sprintf("s%d", i), Brick: "b1", Rack: fmt.Sprintf("r%d", i),
			Power: fmt.Sprintf("p%d", i), Color: "red", ListenPeer: "127.0.0.1:0", ListenClient: "127.0.0.1:0", ListenGossip: "127.0.0.1:0",
			Control: []string{c.control.Addr()}, MemTableBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		c.servers = append(c.servers, wire.Founder{Server: s.Identity().Server, PeerAddr: s.PeerAddr(), ClientAddr: s.ClientAddr()})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.op.AwaitServers(ctx, colonyServers, func() error { return nil }))
	for i := range colonyCells {
		c.ids = append(c.ids, cell.ID(fmt.Sprintf("vol-%d", i)))
	}
	c.create(ctx, t, c.ids...)
	for _, id := range c.ids {
		r, err := c.control.discovery.Lookup(wire.LookupRequest{Cells: []cell.ID{id}})
		must(err)
		c.former[id] = r.Routes[0]
	}
	outcomes, err := c.op.Delete(ctx, "test", wire.DeleteCells{Drops: []wire.Drop{{Cell: c.ids[0]}}})
	must(err)
	must(errorOf(outcomes[0]))
	c.create(ctx, t, c.ids[0])
	must(c.op.Replace(ctx, "test", c.ids[1], c.former[c.ids[1]].Members[0].Server, ""))
	must(c.op.Replace(ctx, "test", c.ids[1], c.former[c.ids[1]].Members[1].Server, ""))
	return c
}

// stop ends the control process, once.
func (c *smallColony) stop(t *testing.T) func() {
	return sync.OnceFunc(func() {
		if err := c.control.Close(); err != nil {
			t.Error(err)
		}
	})
}

func errorOf(o wire.Outcome) error {
	if o.Err == nil {
		return nil
	}
	return o.Err
}

func (c *smallColony) create(ctx context.Context, t *testing.T, ids ...cell.ID) {
	t.Helper()
	for {
		outcomes, err := c.op.Create(ctx, "test", wire.CreateCells{Cells: ids})
		if err != nil {
			t.Fatal(err)
		}
		failed := error(nil)
		for _, o := range outcomes {
			failed = errors.Join(failed, errorOf(o))
		}
		if failed == nil {
			return
		}
		if ctx.Err() != nil || cell.KindOf(failed) != cell.Exists && cell.KindOf(failed) != cell.Deleted && cell.KindOf(failed) != cell.Unavailable {
			t.Fatal(failed) // else the name is being wiped
		}
	}
}

// poisoned starts a discovery copy that answers as it is told.
func poisoned(t *testing.T, answer func(id cell.ID) wire.Route) (addr string, asked *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = &atomic.Int64{}
	s := rpc.NewServer(ln, rpc.Config{Hello: wire.Hello{Colony: "test"}, FrameMax: wire.ClientFrameMax, Handler: rpc.HandlerFunc(func(conn *rpc.Conn, q rpc.Request) {
		var in wire.LookupRequest
		if err := wire.Unmarshal(q.Params, &in); err != nil {
			conn.Reply(q.ID, nil, cell.AsError(q.Method, cell.Invalid, err))
			return
		}
		asked.Add(1)
		out := &wire.Routes{}
		for _, id := range in.Cells {
			out.Routes = append(out.Routes, answer(id))
		}
		conn.Reply(q.ID, out, nil)
	})})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), asked
}

// use adds to every cell's counter and reads it back. Whatever is answered must be right; strict means that everything must
// be answered.
func (c *smallColony) use(t *testing.T, cl *client.Client, strict bool) (answered int) {
	t.Helper()
	for _, id := range c.ids {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if !strict {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		}
		res, err := cl.Cell(id).Then(client.Increment("n", 1)).Commit(ctx)
		switch {
		case err == nil:
			c.count[id]++
		case cell.MaybeApplied(err):
			t.Fatalf("%s: nothing here can lose an answer, and yet: %v", id, err)
		case strict:
			t.Fatalf("%s: write: %v", id, err)
		}
		if err == nil {
			if got, ok := res.Results[0].Entry.Value.AsInt64(); !ok || got != c.count[id] {
				t.Fatalf("%s: a write answers %v, want %d", id, res.Results[0].Entry.Value, c.count[id])
			}
		}
		for _, option := range []client.ReadOption{client.Linearizable, client.Confirmed} {
			value, err := cl.Cell(id).Get(ctx, "n", option)
			if err != nil && strict {
				t.Fatalf("%s: read: %v", id, err)
			}
			if err != nil {
				continue
			}
			answered++
			if got, ok := value.Value.AsInt64(); !ok || got != c.count[id] {
				t.Fatalf("%s: a read answers %+v, want %d", id, value, c.count[id])
			}
		}
		cancel()
	}
	return answered
}

// TestPoisonedDiscovery: copies that answer old members, made-up ones, members of a former life of the name, or nothing, make
// clients slower and never wrong. Beside a good copy they cannot even prevent anything.
func TestPoisonedDiscovery(t *testing.T) {
	c := newSmallColony(t)
	good := c.control.Addr()
	dice := rand.New(rand.NewPCG(1, 2)) // the copy's handler is one goroutine per connection, and there is one at a time
	someone := func(id cell.ID, inc cell.Incarnation, configuration uint64) wire.Route {
		r := wire.Route{Cell: id, Incarnation: inc, Configuration: configuration}
		for i, k := range dice.Perm(colonyServers)[:7] {
			m := c.servers[k]
			m.Node = uint64(i + 1)
			r.Members = append(r.Members, m)
		}
		return r
	}
	for name, answer := range map[string]func(id cell.ID) wire.Route{
		"nothing":     func(id cell.ID) wire.Route { return wire.Route{Cell: id} },
		"former life": func(id cell.ID) wire.Route { return c.former[id] },
		"old members": func(id cell.ID) wire.Route { return someone(id, 1, uint64(dice.IntN(3)+1)) },
		"made up": func(id cell.ID) wire.Route {
			return someone(id, cell.Incarnation(dice.IntN(5)+1), dice.Uint64N(1000)+1)
		},
		"nowhere": func(id cell.ID) wire.Route {
			return wire.Route{Cell: id, Incarnation: 9, Configuration: 9, Members: []wire.Founder{{Node: 1, Server: "x", ClientAddr: "127.0.0.1:1"}}}
		},
		"another cell's": func(id cell.ID) wire.Route { r := c.former[c.ids[2]]; r.Cell, r.Incarnation = id, 7; return r },
	} {
		t.Run(name, func(t *testing.T) {
			addr, asked := poisoned(t, answer)
			for _, control := range [][]string{{addr, good}, {addr}} {
				for range 3 {
					cl, err := client.New(t.Context(), client.Config{Colony: "test", Control: control})
					if err != nil {
						t.Fatal(err)
					}
					answered := c.use(t, cl, len(control) > 1)
					cl.Close()
					t.Logf("with %d copies: %d of %d reads answered", len(control), answered, 2*colonyCells)
				}
			}
			if asked.Load() == 0 {
				t.Error("the poisoned copy was never asked")
			}
		})
	}
}

// TestNoCopyAnswers: with the control plane gone, clients start from a snapshot, and from an old one pointers lead on.
func TestNoCopyAnswers(t *testing.T) {
	c := newSmallColony(t)
	cfg := c.control.cfg
	where := cfg.DataDir + "/objects"
	if err := c.control.discovery.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The cell moves once more, and no snapshot tells.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.op.Replace(ctx, "test", c.ids[2], c.former[c.ids[2]].Members[3].Server, ""); err != nil {
		t.Fatal(err)
	}
	dead := c.control.Addr()
	c.end()
	files, err := snapshots.Open(where)
	if err != nil {
		t.Fatal(err)
	}
	for name, control := range map[string][]string{"dead copies": {dead, "127.0.0.1:1"}, "no copies": nil} {
		cl, err := client.New(t.Context(), client.Config{Colony: "test", Control: control, Snapshots: files})
		if err != nil {
			t.Fatal(err)
		}
		c.use(t, cl, true)
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := cl.Cell("never-made").Get(short, "n"); !errors.Is(err, cell.Unavailable) {
			t.Errorf("%s: an old list proves nothing about a cell that it lacks: %v", name, err)
		}
		cancel()
		cl.Close()
	}
}
