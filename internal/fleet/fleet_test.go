package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal records Joined and Left in order, and lets a test wait for a state of it.
type journal struct {
	mu    sync.Mutex
	cond  *sync.Cond
	lines []string
}

func newJournal() *journal {
	j := &journal{}
	j.cond = sync.NewCond(&j.mu)
	return j
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	j.cond.Broadcast()
}

// wait blocks until the journal is exactly this; the test's own deadline ends a wait in vain.
func (j *journal) wait(want ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !slices.Equal(j.lines, want) {
		j.cond.Wait()
	}
}

func serve(t *testing.T, c Config) (*Fleet, *journal) {
	t.Helper()
	j := newJournal()
	c.Colony, c.Control = "col", "control-1"
	c.Joined = func(g wire.Registration) { j.add(fmt.Sprintf("+%s.%d", g.Server, g.Boot)) }
	c.Left = func(id cell.ServerID) { j.add("-" + string(id)) }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := Serve(ln, c)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, j
}

func registration(id string, boot uint64) wire.Registration {
	return wire.Registration{Server: cell.ServerID(id), Name: id, Colony: "col", Brick: "b1", Rack: "r1", Power: "p1", Color: "red",
		PeerAddr: id + ":1", ClientAddr: id + ":2", GossipAddr: id + ":3", Boot: boot, Capacity: 10}
}

func helloOf(g wire.Registration) wire.Hello {
	return wire.Hello{Purpose: wire.ForControl, Colony: g.Colony, Brick: g.Brick, Color: g.Color, Server: g.Server, Boot: g.Boot}
}

func dial(t *testing.T, f *Fleet, h wire.Hello, handle rpc.HandlerFunc) (*rpc.Conn, error) {
	t.Helper()
	gone := make(chan struct{})
	c, err := rpc.Dial(t.Context(), f.Addr().String(), rpc.Config{Hello: h, FrameMax: wire.ControlFrameMax, Handler: handle,
		OnClose: func(*rpc.Conn, error) { close(gone) }})
	if err == nil {
		t.Cleanup(func() { c.Close(nil); <-gone })
	}
	return c, err
}

// join connects and registers a server whose handler answers every request with nothing.
func join(t *testing.T, f *Fleet, g wire.Registration) (*rpc.Conn, wire.Registered, error) {
	t.Helper()
	c, err := dial(t, f, helloOf(g), func(c *rpc.Conn, req rpc.Request) { c.Reply(req.ID, nil, nil) })
	if err != nil {
		t.Fatal(err)
	}
	var r wire.Registered
	err = c.Call(t.Context(), wire.MethodRegister, &g, &r)
	return c, r, err
}

func mustJoin(t *testing.T, f *Fleet, g wire.Registration) (*rpc.Conn, wire.Registered) {
	t.Helper()
	c, r, err := join(t, f, g)
	if err != nil {
		t.Fatal(err)
	}
	return c, r
}

func TestRegisterTellsSeedsOfThePool(t *testing.T) {
	f, j := serve(t, Config{})
	other := registration("s2", 1)
	other.Color = "blue"
	far := registration("s3", 1)
	far.Brick = "b2"
	for _, g := range []wire.Registration{registration("s1", 1), other, far} {
		if _, r := mustJoin(t, f, g); len(r.Seeds) != 0 || r.Control != "control-1" {
			t.Fatalf("%s: %+v", g.Server, r)
		}
	}
	gone, _ := mustJoin(t, f, registration("s4", 1))
	gone.Close(nil)
	j.wait("+s1.1", "+s2.1", "+s3.1", "+s4.1", "-s4")
	if _, r := mustJoin(t, f, registration("s5", 1)); !slices.Equal(r.Seeds, []string{"s1:3"}) {
		t.Fatalf("seeds are %v, want only the live server of the same brick and color", r.Seeds)
	}
	if up, all := f.Sessions(), f.Servers(); len(up) != 4 || len(all) != 5 || all[3].Up || all[3].Registration.Server != "s4" {
		t.Fatalf("%d of %d are up: %+v", len(up), len(all), all)
	}
}

func TestRegisterRefuses(t *testing.T) {
	f, _ := serve(t, Config{})
	mustJoin(t, f, registration("s1", 5))
	for _, c := range []struct {
		name   string
		change func(*wire.Registration, *wire.Hello)
		want   cell.Kind
	}{
		{"older boot", func(g *wire.Registration, h *wire.Hello) { g.Boot, h.Boot = 4, 4 }, cell.Stale},
		{"other rack", func(g *wire.Registration, _ *wire.Hello) { g.Rack = "r2" }, cell.Refused},
		{"other identity than the connection's", func(g *wire.Registration, _ *wire.Hello) { g.Server = "s2" }, cell.Refused},
		{"other boot than the connection's", func(g *wire.Registration, _ *wire.Hello) { g.Boot = 6 }, cell.Refused},
		{"other color than the connection's", func(g *wire.Registration, _ *wire.Hello) { g.Color = "blue" }, cell.Refused},
		{"no rack", func(g *wire.Registration, _ *wire.Hello) { g.Rack = "" }, cell.Invalid},
		{"boot zero", func(g *wire.Registration, h *wire.Hello) { g.Boot, h.Boot = 0, 0 }, cell.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := registration("s1", 5)
			h := helloOf(g)
			c.change(&g, &h)
			conn, err := dial(t, f, h, nil)
			if err == nil {
				err = conn.Call(t.Context(), wire.MethodRegister, &g, nil)
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
	if s := f.Sessions(); len(s) != 1 || s[0].Registration.Boot != 5 {
		t.Fatalf("the session did not survive: %+v", s)
	}
}

func TestHelloRefused(t *testing.T) {
	f, _ := serve(t, Config{})
	good := helloOf(registration("s1", 1))
	for _, c := range []struct {
		name   string
		change func(*wire.Hello)
	}{
		{"purpose", func(h *wire.Hello) { h.Purpose = wire.ForPaxos }},
		{"colony", func(h *wire.Hello) { h.Colony = "other" }},
		{"no colony", func(h *wire.Hello) { h.Colony = "" }},
		{"no identity", func(h *wire.Hello) { h.Server = "" }},
		{"client of another colony", func(h *wire.Hello) { *h = wire.Hello{Purpose: wire.ForClient, Colony: "other"} }},
	} {
		h := good
		c.change(&h)
		if _, err := dial(t, f, h, nil); !errors.Is(err, cell.Refused) {
			t.Errorf("%s: got %v, want refused", c.name, err)
		}
	}
	if _, err := dial(t, f, wire.Hello{Purpose: wire.ForClient}, nil); err != nil {
		t.Errorf("a client that names no colony: %v", err)
	}
}

func TestNewerConnectionReplacesOlder(t *testing.T) {
	f, j := serve(t, Config{})
	first, _ := mustJoin(t, f, registration("s1", 1))
	second, _ := mustJoin(t, f, registration("s1", 1))
	<-first.Done()
	third, _ := mustJoin(t, f, registration("s1", 2))
	<-second.Done()
	if err := f.Call(t.Context(), "s1", wire.MethodPing, nil, nil); err != nil {
		t.Fatalf("the newest connection is not the session: %v", err)
	}
	j.wait("+s1.1", "+s1.1", "+s1.2")
	third.Close(nil)
	j.wait("+s1.1", "+s1.1", "+s1.2", "-s1")
	if err := f.Call(t.Context(), "s1", wire.MethodPing, nil, nil); !errors.Is(err, cell.Unavailable) {
		t.Fatalf("call to a server that left: %v", err)
	}
	mustJoin(t, f, registration("s1", 1)) // an older boot may come back once nobody contradicts it
}

func TestCallsBothWays(t *testing.T) {
	echo := func(r Request) {
		var l wire.LookupRequest
		if r.Decode(&l) {
			r.Reply(&wire.Routes{Routes: []wire.Route{{Cell: cell.ID("from-" + string(r.Server) + "-" + string(l.Cells[0]))}}}, nil)
		}
	}
	f, _ := serve(t, Config{Client: map[string]Handler{wire.MethodLookup: echo}, Server: map[string]Handler{wire.MethodLookup: echo}})
	server, err := dial(t, f, helloOf(registration("s1", 1)), func(c *rpc.Conn, req rpc.Request) {
		switch req.Method {
		case wire.MethodPing:
			c.Reply(req.ID, &wire.Pong{Boot: 1, Nodes: 42}, nil)
		default:
			c.Reply(req.ID, nil, &cell.Error{Kind: cell.Quarantined, Detail: req.Method})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(c *rpc.Conn) (string, error) {
		var r wire.Routes
		if err := c.Call(t.Context(), wire.MethodLookup, &wire.LookupRequest{Cells: []cell.ID{"x"}}, &r); err != nil {
			return "", err
		}
		return string(r.Routes[0].Cell), nil
	}
	if _, err := ask(server); !errors.Is(err, cell.Refused) {
		t.Fatalf("before it is registered: %v", err)
	}
	g := registration("s1", 1)
	if err := server.Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(server); got != "from-s1-x" {
		t.Fatalf("got %q, %v", got, err)
	}
	client, err := dial(t, f, wire.Hello{Purpose: wire.ForClient, Colony: "col"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(client); got != "from--x" {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := client.Call(t.Context(), wire.MethodRegister, &g, nil); !errors.Is(err, cell.Refused) {
		t.Fatalf("a client registers: %v", err)
	}
	if err := client.Call(t.Context(), wire.MethodLookup, nil, nil); !errors.Is(err, cell.Invalid) {
		t.Fatalf("malformed parameters: %v", err)
	}
	var p wire.Pong
	if err := f.Call(t.Context(), "s1", wire.MethodPing, nil, &p); err != nil || p.Nodes != 42 {
		t.Fatalf("ping: %v, %+v", err, p)
	}
	if err := f.Call(t.Context(), "s1", wire.MethodSeal, &wire.SealCell{}, nil); !errors.Is(err, cell.Quarantined) {
		t.Fatalf("the server's error did not arrive: %v", err)
	}
	if all := f.Asked(); len(all) != 1 || all[wire.MethodLookup] != 3 { // the malformed one was taken, the one before registering was not
		t.Fatalf("requests are counted as %v", all)
	}
}

func TestSilentServerLosesItsSession(t *testing.T) {
	f, j := serve(t, Config{PingEvery: time.Millisecond, PingMisses: 2})
	g := registration("s1", 1)
	silent, err := dial(t, f, helloOf(g), func(*rpc.Conn, rpc.Request) {}) // never answers
	if err != nil {
		t.Fatal(err)
	}
	if err := silent.Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
	<-silent.Done()
	j.wait("+s1.1", "-s1")
}

func TestPingKeepsCountOfNodes(t *testing.T) {
	f, _ := serve(t, Config{PingEvery: time.Millisecond})
	g := registration("s1", 1)
	pinged := make(chan struct{}, 1000)
	c, err := dial(t, f, helloOf(g), func(c *rpc.Conn, req rpc.Request) {
		c.Reply(req.ID, &wire.Pong{Boot: 1, Nodes: 7}, nil)
		select {
		case pinged <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
	for f.Sessions()[0].Registration.Nodes != 7 {
		<-pinged
	}
}

func TestCloseEndsSessionsAndCalls(t *testing.T) {
	f, j := serve(t, Config{})
	g := registration("s1", 1)
	asked := make(chan struct{})
	c, err := dial(t, f, helloOf(g), func(*rpc.Conn, rpc.Request) { close(asked) })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- f.Call(context.Background(), "s1", wire.MethodSeal, &wire.SealCell{}, nil) }()
	<-asked
	if err := f.rpc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, cell.UnknownResult) {
		t.Fatalf("a call under way ended with %v", err)
	}
	j.wait("+s1.1", "-s1")
}
