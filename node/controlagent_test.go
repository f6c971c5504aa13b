package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

func TestAgentRegistersAndPushesPages(t *testing.T) {
	c := newControlPlane(t)
	s := startAlone(t, func(cfg *Config) { cfg.Control = []string{c.addr()} })
	ids := cellIDs(routePage*2 + 10)
	c.create(s, ids...)
	eventually(t, "all routes arrive as they change", func() bool { return c.routes() == len(ids) })

	c.locked(func() { clear(c.pushed); c.conn.Close(nil); c.conn = nil })
	c.session()
	if pages, err := c.pull(); err != nil || pages < 3 || c.routes() != len(ids) {
		t.Errorf("asked in a new session, it told %d routes in %d pages, want %d in several: %v", c.routes(), pages, len(ids), err)
	}
	c.locked(func() {
		if c.largest > routePage {
			t.Errorf("a push had %d routes, allowed are %d", c.largest, routePage)
		}
		r := c.pushed[ids[7]]
		if r.Incarnation != 1 || r.Deleted || len(r.Members) != 7 {
			t.Fatalf("route is %+v", r)
		}
		own, other := r.Members[0], r.Members[6]
		if own.Server != s.Identity().Server || own.PeerAddr != s.PeerAddr() || own.ClientAddr != s.ClientAddr() {
			t.Errorf("the server says of itself %+v", own)
		}
		if other.PeerAddr != "127.0.0.1:1" || other.ClientAddr != "127.0.0.1:2" {
			t.Errorf("the server says of another %+v", other)
		}
		first, second := c.registrations[0], c.registrations[1]
		if first.Boot != 1 || first.Rack != "r1" || first.GossipAddr != s.GossipAddr() || second.Server != s.Identity().Server {
			t.Errorf("registrations are %+v and %+v", first, second)
		}
		if second.Nodes != uint64(len(ids)) {
			t.Errorf("it registers again with %d nodes, want %d", second.Nodes, len(ids))
		}
	})
}

// TestRefusedPushKeepsTheSession: discovery and lifecycle share a connection, and discovery may be the one that is unwell.
func TestRefusedPushKeepsTheSession(t *testing.T) {
	c := newControlPlane(t)
	c.onPush = func(conn *rpc.Conn, q rpc.Request, _ *wire.RoutePush) {
		conn.Reply(q.ID, nil, &cell.Error{Op: q.Method, Kind: cell.Refused, Detail: "no discovery here"})
	}
	s := startAlone(t, func(cfg *Config) { cfg.Control = []string{c.addr()} })
	c.create(s, cellIDs(3)...)
	eventually(t, "pushes are tried again", func() bool {
		n := 0
		c.locked(func() { n = c.attempts })
		return n >= 3
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var pong wire.Pong
	if err := c.session().Call(ctx, wire.MethodPing, nil, &pong); err != nil || pong.Boot != 1 || pong.Nodes != 3 {
		t.Errorf("ping: %+v, %v", pong, err)
	}
	if c.sessions() != 1 || c.routes() != 0 {
		t.Errorf("%d sessions and %d routes, want 1 and 0", c.sessions(), c.routes())
	}
	c.locked(func() { c.onPush = nil })
	eventually(t, "nothing was lost", func() bool { return c.routes() == 3 })
	if c.sessions() != 1 {
		t.Errorf("it took %d sessions", c.sessions())
	}
}

// TestPushLostWithItsConnection: what was on its way comes again.
func TestPushLostWithItsConnection(t *testing.T) {
	c := newControlPlane(t)
	s := startAlone(t, func(cfg *Config) { cfg.Control = []string{c.addr()} })
	c.create(s, "vol-1")
	eventually(t, "the first route arrives", func() bool { return c.routes() == 1 })
	lost := make(chan struct{}, 1)
	c.locked(func() {
		c.onPush = func(conn *rpc.Conn, _ rpc.Request, _ *wire.RoutePush) {
			c.onPush, c.conn = nil, nil
			conn.Close(nil)
			lost <- struct{}{}
		}
	})
	create := &wire.CreateNodes{Foundings: []wire.Founding{founding(s, "vol-2")}}
	c.session().Go(wire.MethodCreateNodes, create, func([]byte, error) {}) // its answer may be lost, too
	<-lost
	eventually(t, "the second route is told in the next session", func() bool { return c.holds(2) && c.sessions() == 2 })
}

// TestControlPlaneThatDoesNotAnswer: the agent leaves it for another, whatever it is that gets no answer.
func TestControlPlaneThatDoesNotAnswer(t *testing.T) {
	for name, change := range map[string]func(c *controlPlane, s *Server){
		"registration": func(c *controlPlane, _ *Server) { c.mute = true },
		"pushes": func(c *controlPlane, s *Server) {
			c.onPush = func(*rpc.Conn, rpc.Request, *wire.RoutePush) {}
			c.onSession = func(conn *rpc.Conn) { // something changes in each
				create := &wire.CreateNodes{Foundings: []wire.Founding{founding(s, cell.ID(fmt.Sprintf("vol-x%d", len(c.registrations))))}}
				conn.Go(wire.MethodCreateNodes, create, func([]byte, error) {})
			}
		},
		"silent after a ping": func(c *controlPlane, _ *Server) {
			c.onSession = func(conn *rpc.Conn) { conn.Go(wire.MethodPing, nil, func([]byte, error) {}) }
			c.conn.Go(wire.MethodPing, nil, func([]byte, error) {})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newControlPlane(t)
			registers := name != "registration"
			if !registers {
				change(c, nil)
			}
			s := startAlone(t, func(cfg *Config) {
				cfg.Control = []string{c.addr()}
				cfg.controlTimeout = 50 * time.Millisecond
			})
			if registers {
				c.create(s, "vol-1")
				c.locked(func() { change(c, s) })
				c.create(s, "vol-2")
			}
			eventually(t, "the agent gives it up and tries again", func() bool { return c.sessions() >= 3 })
			c.locked(func() { c.onPush, c.onSession, c.mute = nil, nil, false })
			eventually(t, "and stays when it is well again", func() bool { return !registers || c.holds(max(2, c.routes())) })
			c.session()
		})
	}
}

// TestNotificationsAreNotAnswered: an answer to something that has no number would be a bug in this process, and the
// rpc package would say so by panicking.
func TestNotificationsAreNotAnswered(t *testing.T) {
	c := newControlPlane(t)
	s := startAlone(t, func(cfg *Config) { cfg.Control = []string{c.addr()} })
	client, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(nil)
	header := wire.Header{Cell: "vol-1", Timeout: 1000}
	for _, conn := range []*rpc.Conn{client, c.session()} {
		for method, params := range map[string]wire.Message{
			wire.MethodTxn: &wire.TxnRequest{Header: header, Txn: putTxn("k", cell.Int(1))}, wire.MethodServer: nil, wire.MethodPing: nil,
			wire.MethodSeal: &wire.SealCell{Cell: "vol-1", Incarnation: 1, Timeout: 1000}, "nonsense": nil,
		} {
			if err := conn.Notify(method, params); err != nil {
				t.Fatal(err)
			}
		}
	}
	var info wire.ServerInfo
	if err := client.Call(t.Context(), wire.MethodServer, nil, &info); err != nil || info.Server != s.Identity().Server {
		t.Errorf("the server does not serve any more: %v", err)
	}
	if err := c.session().Call(t.Context(), wire.MethodPing, nil, &wire.Pong{}); err != nil {
		t.Errorf("the server does not answer the control plane any more: %v", err)
	}
}

func TestWrongMethodsAreRefused(t *testing.T) {
	c := newControlPlane(t)
	s := startAlone(t, func(cfg *Config) { cfg.Control = []string{c.addr()} })
	client, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(nil)
	for _, method := range []string{wire.MethodCreateNodes, wire.MethodDropNodes, wire.MethodPing, wire.MethodSeal, wire.MethodListNodes} {
		if err := client.Call(t.Context(), method, nil, nil); cell.KindOf(err) != cell.Invalid {
			t.Errorf("a client calls %s: %v", method, err)
		}
	}
	var report wire.ServerReport
	if err := c.session().Call(t.Context(), wire.MethodServerReport, &wire.ReportRequest{Peers: []cell.ServerID{s.Identity().Server, "s-stranger"}}, &report); err != nil ||
		len(report.Peers) != 2 || !report.Peers[0].Gossip || report.Peers[1].Gossip || report.Peers[0].Lane {
		t.Errorf("a report: %+v, %v", report, err)
	}
	for _, method := range []string{wire.MethodTxn, wire.MethodRead, wire.MethodLookup} {
		if err := c.session().Call(t.Context(), method, nil, nil); cell.KindOf(err) != cell.Invalid {
			t.Errorf("the control plane calls %s: %v", method, err)
		}
	}
	for _, method := range []string{wire.MethodCreateNodes, wire.MethodDropNodes, wire.MethodListNodes, wire.MethodSeal} {
		if err := c.session().Call(t.Context(), method, nil, nil); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s without parameters: %v", method, err)
		}
	}
	for _, purpose := range []wire.Purpose{wire.ForPaxos, wire.ForControl} {
		if _, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: purpose, Colony: "test"}}); cell.KindOf(err) != cell.Refused {
			t.Errorf("purpose %d connects to the client address: %v", purpose, err)
		}
	}
	if _, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: "other"}}); cell.KindOf(err) != cell.Refused {
		t.Errorf("a client of another colony connects: %v", err)
	}
}

// TestSessionsAreIndependent: each is told what changed since it began, none of them what was there before.
func TestSessionsAreIndependent(t *testing.T) {
	o := newOutbox()
	node := func(handle uint64, configuration uint64) *wire.NodeInfo {
		return &wire.NodeInfo{Handle: handle, Cell: cell.ID(fmt.Sprintf("vol-%d", handle)), Incarnation: 1, Configuration: configuration}
	}
	o.note(node(1, 1), false)
	first := o.open(o.ledger.Position())
	o.note(node(2, 1), false)
	second := o.open(o.ledger.Position())
	o.note(node(2, 1), false) // no news
	o.note(node(1, 2), false)
	o.note(node(2, 0), true)
	read := func(handle uint64) (wire.Route, bool) { return wire.Route{Configuration: handle}, handle != 2 }
	for name, c := range map[string]struct {
		of      *teller
		buckets int
	}{"first": {first, 2}, "second": {second, 2}} {
		push := o.ledger.Changes(c.of.told, routePage, read)
		if push.From != c.of.told || push.To != 4 || push.Lost || len(push.Routes) != 1 || len(push.Buckets) != c.buckets || len(push.Sums) != c.buckets {
			t.Errorf("%s session is told %+v", name, push)
		}
		select {
		case <-c.of.wake:
		default:
			t.Errorf("%s session is not woken", name)
		}
		c.of.close()
	}
	o.note(node(3, 1), false)
	select {
	case <-first.wake:
		t.Error("a session that has ended is woken")
	default:
	}
	if len(o.tellers) != 0 {
		t.Errorf("%d sessions are left", len(o.tellers))
	}
}
