package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// patience is how long a test waits for what must happen; it is never how long something takes.
const patience = time.Minute

// eventually waits until a condition holds; when it waited in vain, it tells what explain has to say about that.
func eventually(t testing.TB, what string, holds func() bool, explain ...func() string) {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			for _, f := range explain {
				t.Log(f())
			}
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// goodConfig is a configuration that Validate accepts, on loopback.
func goodConfig(dir string) Config {
	return Config{DataDir: dir, Colony: "test", Name: "s1", Brick: "b1", Rack: "r1", Power: "p1", Color: "red", ListenPeer: "127.0.0.1:0",
		ListenClient: "127.0.0.1:0", ListenGossip: "127.0.0.1:0", MemTableBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)}
}

// startAlone starts one server.
func startAlone(t testing.TB, change ...func(*Config)) *Server {
	t.Helper()
	cfg := goodConfig(t.TempDir())
	for _, f := range change {
		f(&cfg)
	}
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// controlPlane is a control process that does as it is told.
type controlPlane struct {
	t      *testing.T
	server *rpc.Server

	mu            sync.Mutex
	registrations []wire.Registration
	conn          *rpc.Conn // the newest session
	pushed        map[cell.ID]wire.Route
	largest       int // routes in one push
	attempts      int // pushes that arrived
	onPush        func(c *rpc.Conn, q rpc.Request, push *wire.RoutePush)
	mute          bool // answers no registration
	answer        func(wants wire.Duties) *wire.Registered
	onSession     func(c *rpc.Conn)
}

func newControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	c := &controlPlane{t: t, pushed: make(map[cell.ID]wire.Route)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.server = rpc.NewServer(ln, rpc.Config{FrameMax: wire.ControlFrameMax, Handler: rpc.HandlerFunc(c.handle)})
	t.Cleanup(func() { c.server.Close() }) // some tests have closed it
	return c
}

func (c *controlPlane) addr() string { return c.server.Addr().String() }

func (c *controlPlane) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *controlPlane) handle(conn *rpc.Conn, q rpc.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch q.Method {
	case wire.MethodRegister:
		var r wire.Registration
		if err := wire.Unmarshal(q.Params, &r); err != nil {
			c.t.Errorf("registration: %v", err)
		}
		c.registrations = append(c.registrations, r)
		if c.mute {
			return
		}
		c.conn = conn
		answer := &wire.Registered{Control: "test", Takes: wire.AllDuties}
		if c.answer != nil {
			answer = c.answer(r.Wants)
		}
		conn.Reply(q.ID, answer, nil)
		if c.onSession != nil {
			c.onSession(conn)
		}
	case wire.MethodPush:
		var push wire.RoutePush
		if err := wire.Unmarshal(q.Params, &push); err != nil {
			c.t.Errorf("push: %v", err)
		}
		c.attempts++
		c.largest = max(c.largest, len(push.Routes))
		if c.onPush != nil {
			c.onPush(conn, q, &push)
			return
		}
		c.accept(conn, q, &push)
	default:
		c.t.Errorf("a server asks the control plane for %s", q.Method)
	}
}

// accept takes a push; the lock is held.
func (c *controlPlane) accept(conn *rpc.Conn, q rpc.Request, push *wire.RoutePush) {
	for _, r := range push.Routes {
		c.pushed[r.Cell] = r
	}
	conn.Reply(q.ID, nil, nil)
}

// pull asks the server for all routes, as a discovery copy that knows none does, and counts the pages.
func (c *controlPlane) pull() (pages int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn := c.session()
	var digests wire.Digests
	if err := conn.Call(ctx, wire.MethodDigest, &wire.DigestRequest{}, &digests); err != nil || len(digests.Sums) != wire.ShareBuckets {
		return 0, fmt.Errorf("%d sums, %w", len(digests.Sums), err)
	}
	q := &wire.PullRequest{Limit: routePage}
	for b, sum := range digests.Sums {
		if sum != 0 {
			q.Buckets = append(q.Buckets, uint32(b))
		}
	}
	for len(q.Buckets) > 0 {
		var p wire.Pulled
		if err := conn.Call(ctx, wire.MethodPull, q, &p); err != nil {
			return pages, err
		}
		pages++
		c.locked(func() {
			for _, r := range p.Routes {
				c.pushed[r.Cell] = r
			}
			c.largest = max(c.largest, len(p.Routes))
		})
		done := len(p.Sums)
		if q.Cursor = p.Cursor; q.Cursor != nil {
			done--
		}
		q.Buckets = q.Buckets[done:]
	}
	var again wire.Digests
	err = conn.Call(ctx, wire.MethodDigest, &wire.DigestRequest{Known: wire.TotalOf(digests.Sums)}, &again)
	if err == nil && (!again.Same || again.Sums != nil) {
		err = fmt.Errorf("nothing has changed, and it says %+v", again)
	}
	return pages, err
}

// holds asks the server and reports whether so many routes are known then.
func (c *controlPlane) holds(n int) bool {
	_, err := c.pull()
	return err == nil && c.routes() == n
}

// sessions counts registrations.
func (c *controlPlane) sessions() (n int) {
	c.locked(func() { n = len(c.registrations) })
	return n
}

func (c *controlPlane) routes() (n int) {
	c.locked(func() { n = len(c.pushed) })
	return n
}

// session waits for the first session, and returns the newest.
func (c *controlPlane) session() (conn *rpc.Conn) {
	c.t.Helper()
	eventually(c.t, "the server registers", func() bool {
		c.locked(func() { conn = c.conn })
		return conn != nil
	})
	return conn
}

// founding puts a server into a jury with six others that do not exist.
func founding(s *Server, id cell.ID) wire.Founding {
	f := wire.Founding{Cell: id, Incarnation: 1, Owner: 1, Alpha: 8}
	f.Members = append(f.Members, wire.Founder{Node: 1, Server: s.Identity().Server, PeerAddr: s.PeerAddr(), ClientAddr: s.ClientAddr()})
	for n := uint64(2); n <= 7; n++ {
		f.Members = append(f.Members, wire.Founder{Node: n, Server: cell.ServerID(fmt.Sprintf("absent-%d", n)), PeerAddr: "127.0.0.1:1", ClientAddr: "127.0.0.1:2"})
	}
	return f
}

// create has the control plane create nodes on a server.
func (c *controlPlane) create(s *Server, ids ...cell.ID) {
	c.t.Helper()
	m := &wire.CreateNodes{}
	for _, id := range ids {
		m.Foundings = append(m.Foundings, founding(s, id))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	eventually(c.t, "the nodes are created", func() bool {
		var out wire.Outcomes
		err := c.session().Call(ctx, wire.MethodCreateNodes, m, &out)
		if err == nil && len(out.Outcomes) != len(ids) {
			c.t.Fatalf("%d outcomes for %d foundings", len(out.Outcomes), len(ids))
		}
		if err == nil && out.Outcomes[0].Err != nil {
			err = out.Outcomes[0].Err
		}
		// The restart scan, or a session that the server has just given up.
		if kind := cell.KindOf(err); err != nil && kind != cell.Unavailable && kind != cell.UnknownResult {
			c.t.Fatal(err)
		}
		return err == nil
	})
}

func cellIDs(n int) []cell.ID {
	ids := make([]cell.ID, n)
	for i := range ids {
		ids[i] = cell.ID(fmt.Sprintf("vol-%d", i))
	}
	return ids
}
