package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/pki"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// from dials from an address of loopback, of which there are many.
func from(host string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: patience}
}

// crowd opens connections and holds each until the server closes it.
type crowd struct {
	wait sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// come opens n connections, some at a time, and sends first on each.
func (c *crowd) come(t *testing.T, n int, addr, host string, first []byte) {
	t.Helper()
	if c.open == nil {
		c.open = map[net.Conn]struct{}{}
	}
	tokens := make(chan struct{}, 64)
	var dialling sync.WaitGroup
	for range n {
		tokens <- struct{}{}
		dialling.Go(func() {
			defer func() { <-tokens }()
			nc, err := from(host).Dial("tcp", addr)
			if err != nil {
				t.Errorf("cannot even connect: %v", err)
				return
			}
			c.mu.Lock()
			c.open[nc] = struct{}{}
			c.mu.Unlock()
			c.wait.Go(func() {
				nc.Write(first)         // it may be closed already
				io.Copy(io.Discard, nc) // until it is
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.open, nc)
				nc.Close()
			})
		})
	}
	dialling.Wait()
}

// size is how many are left.
func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// leave closes what is left.
func (c *crowd) leave() {
	c.mu.Lock()
	for nc := range c.open {
		nc.Close()
	}
	c.mu.Unlock()
	c.wait.Wait()
}

// Limits of the crowd's victim, and how many come.
const (
	crowdLimit   = 300
	crowdPerHost = 200
	crowdComes   = 10_000
	refusedWords = 64 // see rpc: those beyond the limits that may still say Hello
)

// TestTenThousandConnections: of ten thousand connections from one address the server keeps as many as it may, at each port. The
// others are closed and counted; who comes from elsewhere is served, and the cells notice nothing.
func TestTenThousandConnections(t *testing.T) {
	limits := rpc.Limits{Connections: crowdLimit, PerAddress: crowdPerHost}
	v := newVictim(t, func(i int, cfg *Config) {
		if i == 0 {
			cfg.Connections, cfg.peerLimits = limits, limits
		}
	})
	done := v.load(v.user(), "vol-1")
	s, before, threads := v.servers[0], heap(), runtime.NumGoroutine()
	for port, most := range map[pki.Port]int{pki.ClientPort: crowdPerHost, pki.PeerPort: crowdPerHost} {
		refused := s.guard.Refused(port, pki.Accepting, refusal.TooManyFrom)
		var c crowd
		// TLS begins with this, and then nothing comes: each of those that may stay costs a handshake that does not end.
		c.come(t, crowdComes, addrOf(s, port), "127.0.0.66", []byte{0x16})
		if n := c.size(); n > most+refusedWords+64 { // and those whose end has not been seen yet
			eventually(t, "the rest is closed", func() bool { return c.size() <= most+refusedWords })
		}
		if n := runtime.NumGoroutine() - threads; n > 10*(most+refusedWords) {
			t.Errorf("%d goroutines more", n)
		}
		if grew := int64(heap()) - int64(before); grew > heapSlack {
			t.Errorf("%d MiB more", grew>>20)
		}
		t.Logf("%s port: %d stay", port, c.size())
		i := intrude(t, addrOf(s, port), v.certs[port]) // from 127.0.0.1
		i.greet(t, v.hello[port])
		i.Close()
		eventually(t, "the slow ones are sent away", func() bool { return c.size() == 0 })
		counted(t, s, port, refusal.TooManyFrom, refused, crowdComes/10) // slow machines let more of them in, one after the other
		if s.guard.Refused(port, pki.Accepting, refusal.SlowStart) == 0 {
			t.Error("nobody was too slow")
		}
		c.leave()
	}
	bounded(t, before, heapSlack)
	done()
}

// TestTooManyIsSaid: whoever comes beyond the limits, and knows how to ask, is told why, and when to come again.
func TestTooManyIsSaid(t *testing.T) {
	home := newAuthority(t, "test")
	s := startAlone(t, func(c *Config) {
		c.Certs.Dir = home.issue(serverIdentity("s1", "b1", "red"), 0)
		c.Connections = rpc.Limits{Connections: 4, PerAddress: 3, PerIdentity: 2}
	})
	guards := map[string]*pki.Guard{}
	for _, name := range []string{"a", "b", "c", "d"} {
		guards[name] = home.guard(pki.Identity{Role: pki.Client, Name: name})
	}
	come := func(host, name string) (*rpc.Conn, error) {
		dial := guards[name].Dialer(pki.ClientPort, func(ctx context.Context, network, addr string) (net.Conn, error) {
			return from(host).DialContext(ctx, network, addr)
		})
		conn, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient}, DialContext: dial, HandshakeTimeout: patience})
		if err == nil {
			t.Cleanup(func() { conn.Close(nil) })
		}
		return conn, err
	}
	var first *rpc.Conn
	for _, c := range []struct {
		host, name string
		why        refusal.Reason
	}{{"127.0.0.2", "a", 0}, {"127.0.0.2", "a", 0}, {"127.0.0.2", "a", refusal.TooManyOf}, {"127.0.0.2", "b", 0}, {"127.0.0.2", "c", refusal.TooManyFrom},
		{"127.0.0.3", "c", 0}, {"127.0.0.4", "d", refusal.TooMany}} {
		conn, err := come(c.host, c.name)
		if c.why == refusal.Welcome {
			if err != nil {
				t.Fatalf("%v: %v", c, err)
			}
			if first == nil {
				first = conn
			}
			continue
		}
		if cell.KindOf(err) != cell.Overloaded || cell.AsError("", cell.Internal, err).RetryAfter == 0 {
			t.Errorf("%s of %s: %v", c.name, c.host, err)
		}
		counted(t, s, pki.ClientPort, c.why, 0, 1)
	}
	first.Close(nil)
	eventually(t, "a place is free again", func() bool { _, err := come("127.0.0.2", "a"); return err == nil })
}

// TestSlowLoris: who takes his time with the handshake, with a frame, or with what he is sent, loses the connection, and is counted.
func TestSlowLoris(t *testing.T) {
	c := newTestColony(t, 7, func(_ int, cfg *Config) { cfg.stall = 2 * time.Second })
	c.create("vol-1")
	s := c.servers[0]
	c.follow("vol-1", request(1), putTxn("k", cell.Bytes(make([]byte, cell.ValueBytesMax-1024))), 0)
	const lorises = 50
	for _, port := range []pki.Port{pki.ClientPort, pki.PeerPort} {
		hello := wire.Hello{Purpose: wire.ForClient, Colony: "test"}
		if port == pki.PeerPort {
			hello = wire.Hello{Purpose: wire.ForBulk, Colony: "test", Brick: "b1", Color: "red", Boot: 1}
		}
		var slow []*intruder
		for n := range lorises {
			silent, halfway, late := intrude(t, addrOf(s, port), ""), intrude(t, addrOf(s, port), ""), intrude(t, addrOf(s, port), "")
			halfway.say(t, []byte{0, 0, 1})
			if port == pki.PeerPort {
				hello.Server = cell.ServerID(fmt.Sprintf("loris-%d", n))
			}
			late.greet(t, hello)
			late.say(t, append([]byte{0, 0, 1, 0, 1, 2, 3, 4}, make([]byte, n)...))
			slow = append(slow, silent, halfway, late)
		}
		for _, i := range slow {
			i.ended(t)
		}
		counted(t, s, port, refusal.SlowStart, 0, 2*lorises)
		counted(t, s, port, refusal.SlowFrame, 0, lorises)
	}
	// Who asks and never reads: the answers fill the system's buffers, and then the connection's queue, which is bounded.
	before := heap()
	i := intrude(t, s.ClientAddr(), "")
	i.greet(t, wire.Hello{Purpose: wire.ForClient, Colony: "test"})
	for n := uint32(0); n < 2000; n++ {
		m := &wire.ReadRequest{Header: wire.Header{Cell: "vol-1", Timeout: 5000}, Txn: getTxn("k")}
		if _, err := i.Write(wire.EndFrame(m.Append(wire.BeginRequest(wire.BeginFrame(nil), n, wire.MethodRead)), 0)); err != nil {
			break // the server has had enough
		}
	}
	counted(t, s, pki.ClientPort, refusal.SlowReader, 0, 1)
	bounded(t, before, heapSlack)
	c.follow("vol-1", request(2), putTxn("k", cell.Int(1)), 0)
}

// TestHalfOpenConnections: who closes his half, or vanishes in the middle, leaves nothing behind.
func TestHalfOpenConnections(t *testing.T) {
	s := startAlone(t)
	before := runtime.NumGoroutine()
	for _, port := range []pki.Port{pki.ClientPort, pki.PeerPort, pki.GossipPort} {
		for _, said := range [][]byte{nil, {0}, helloFrame(wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Purpose: wire.ForClient, Colony: "test"})} {
			i := intrude(t, addrOf(s, port), "")
			i.say(t, said)
			if err := i.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Logf("closed already: %v", err)
			}
			i.ended(t)
			vanishes := intrude(t, addrOf(s, port), "")
			vanishes.say(t, said)
			if err := vanishes.Conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset instead of an end
				t.Fatal(err)
			}
			vanishes.Close()
		}
	}
	eventually(t, "nothing is left", func() bool { return runtime.NumGoroutine() <= before+8 }, func() string { return fmt.Sprintf("%d goroutines, before %d", runtime.NumGoroutine(), before) })
}

// TestFloods: whoever sends nonsense as fast as he can is answered or dropped, within bounds, and the others are served.
func TestFloods(t *testing.T) {
	v := newVictim(t)
	done := v.load(v.user(), "vol-1")
	s, before := v.servers[0], heap()
	var wait sync.WaitGroup
	for n := range 4 {
		i := intrude(t, s.ClientAddr(), v.certs[pki.ClientPort])
		i.greet(t, v.hello[pki.ClientPort])
		wait.Go(func() { io.Copy(io.Discard, i) })
		wait.Go(func() {
			defer i.Close()
			for id := range uint32(2000) {
				method, params := []string{wire.MethodTxn, "no such method", wire.MethodRead, strings.Repeat("m", wire.MethodBytesMax)}[n], []byte{0x93, 1, 2, 3}
				if _, err := i.Write(wire.EndFrame(wire.AppendRequest(wire.BeginFrame(nil), id, method, params), 0)); err != nil {
					return // the server has had enough
				}
			}
		})
	}
	wait.Wait()
	bounded(t, before, heapSlack)
	r, err := http.Get("http://" + s.OpsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || !strings.Contains(string(text), `result="invalid request"`) {
		t.Errorf("nothing was answered as invalid: %v", err)
	}
	done()
}

// TestOpsPortIsBounded: connections to the port of metrics and probes are bounded, too.
func TestOpsPortIsBounded(t *testing.T) {
	s := startAlone(t, func(c *Config) { c.ListenOps = "127.0.0.1:0" })
	var c crowd
	c.come(t, 3*opsConnections, s.OpsAddr(), "127.0.0.1", []byte("G"))
	counted(t, s, pki.OpsPort, refusal.TooMany, 0, opsConnections)
	c.leave()
	eventually(t, "it answers again", func() bool {
		r, err := http.Get("http://" + s.OpsAddr() + "/livez")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == http.StatusOK
	})
}
