package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// testColony is some servers in this process and a control plane that only registers them and hands requests through.
type testColony struct {
	t       testing.TB
	control *rpc.Server
	dirs    []string
	servers []*Server
	change  []func(i int, cfg *Config)

	mu       sync.Mutex
	sessions map[cell.ServerID]*rpc.Conn
	seeds    []string      // gossip addresses, newest last
	joined   chan struct{} // signalled at every registration
}

func newTestColony(t testing.TB, servers int, change ...func(i int, cfg *Config)) *testColony {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return colonyOn(t, ln, servers, change...)
}

// colonyOn is a colony whose control plane listens where the caller says.
func colonyOn(t testing.TB, ln net.Listener, servers int, change ...func(i int, cfg *Config)) *testColony {
	t.Helper()
	c := &testColony{t: t, change: change, sessions: make(map[cell.ServerID]*rpc.Conn), joined: make(chan struct{}, 1024)}
	c.control = rpc.NewServer(ln, rpc.Config{FrameMax: wire.ControlFrameMax, Handler: rpc.HandlerFunc(c.handle)})
	for range servers {
		c.dirs = append(c.dirs, t.TempDir()) // before the clean-up below, so that it is removed after it
	}
	t.Cleanup(func() {
		for _, s := range c.servers {
			if s == nil {
				continue
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		if err := c.control.Close(); err != nil {
			t.Errorf("close control: %v", err)
		}
	})
	for i := range c.dirs {
		c.servers = append(c.servers, nil)
		c.start(i)
	}
	return c
}

// start starts server i, again if it ran before, and waits until it has registered.
func (c *testColony) start(i int) {
	c.t.Helper()
	cfg := Config{DataDir: c.dirs[i], Colony: "test", Name: fmt.Sprintf("s%d", i+1), Brick: "b1", Rack: fmt.Sprintf("r%d", i+1),
		Power: fmt.Sprintf("p%d", i+1), Color: "red", ListenPeer: "127.0.0.1:0", ListenClient: "127.0.0.1:0", ListenGossip: "127.0.0.1:0",
		ListenOps: "127.0.0.1:0", Control: []string{c.control.Addr().String()}, MemTableBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range c.change {
		f(i, &cfg)
	}
	s, err := Start(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.servers[i] = s
	for c.session(s) == nil {
		select {
		case <-c.joined:
		case <-time.After(patience):
			c.t.Fatalf("server %d did not register", i)
		}
	}
}

func (c *testColony) session(s *Server) *rpc.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[s.Identity().Server]
}

func (c *testColony) stop(i int) {
	c.t.Helper()
	s := c.servers[i]
	if err := s.Close(); err != nil {
		c.t.Fatalf("close server %d: %v", i, err)
	}
	c.mu.Lock()
	delete(c.sessions, s.Identity().Server)
	c.mu.Unlock()
}

// handle is the control plane's side: registrations and pushes.
func (c *testColony) handle(conn *rpc.Conn, q rpc.Request) {
	if q.Method == wire.MethodRegister {
		var r wire.Registration
		if err := wire.Unmarshal(q.Params, &r); err != nil {
			c.t.Errorf("registration: %v", err)
		}
		c.mu.Lock()
		c.sessions[r.Server] = conn
		c.seeds = append(c.seeds, r.GossipAddr)
		registered := &wire.Registered{Control: "test", Takes: wire.AllDuties, Seeds: slices.Clone(c.seeds[max(0, len(c.seeds)-3):])}
		c.mu.Unlock()
		conn.Reply(q.ID, registered, nil)
		c.joined <- struct{}{}
		return
	}
	conn.Reply(q.ID, nil, nil)
}

// create founds a cell on all servers; node 1 owns its first ballot.
func (c *testColony) create(id cell.ID) { c.createOwned(id, 1) }

func (c *testColony) createOwned(id cell.ID, owner uint64) {
	c.t.Helper()
	f := wire.Founding{Cell: id, Incarnation: 1, Owner: owner, Alpha: 8}
	for i, s := range c.servers {
		f.Members = append(f.Members, wire.Founder{Node: uint64(i + 1), Server: s.Identity().Server, PeerAddr: s.PeerAddr(), ClientAddr: s.ClientAddr()})
	}
	for _, s := range c.servers {
		// A manager repeats it, too: a server that was starved has given its session up meanwhile, and made another one.
		eventually(c.t, "the node is created", func() bool {
			var out wire.Outcomes
			err := c.try(s, wire.MethodCreateNodes, &wire.CreateNodes{Foundings: []wire.Founding{f}}, &out)
			if err == nil && out.Outcomes[0].Err != nil {
				err = out.Outcomes[0].Err
			}
			if kind := cell.KindOf(err); err != nil && kind != cell.Unavailable && kind != cell.UnknownResult {
				c.t.Fatalf("create %s: %v", id, err)
			}
			return err == nil
		})
	}
}

// ask is try for what must not be repeated.
func (c *testColony) ask(s *Server, method string, params, result wire.Message) {
	c.t.Helper()
	if err := c.try(s, method, params, result); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
}

// try asks a server over its newest session.
func (c *testColony) try(s *Server, method string, params, result wire.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.session(s).Call(ctx, method, params, result)
}

// connect opens a client's connection to server i.
func (c *testColony) connect(i int) *rpc.Conn {
	c.t.Helper()
	conn, err := c.dial(i)
	if err != nil {
		c.t.Fatal(err)
	}
	return conn
}

func (c *testColony) dial(i int) (*rpc.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := rpc.Dial(ctx, c.servers[i].ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: "test"}})
	if err == nil {
		c.t.Cleanup(func() { conn.Close(nil) })
	}
	return conn, err
}

func putTxn(key string, value cell.Value) cell.Txn {
	return cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: key, Value: value}}}
}

func getTxn(key string) cell.Txn { return cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: key}}} }

// txn sends one transaction on one connection.
func txn(conn *rpc.Conn, id cell.ID, r cell.Request, t cell.Txn, attempt uint32) (wire.TxnReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var reply wire.TxnReply
	err := conn.Call(ctx, wire.MethodTxn, &wire.TxnRequest{Header: wire.Header{Cell: id, Timeout: 5000, Attempt: attempt}, Request: r, Txn: t}, &reply)
	return reply, err
}
