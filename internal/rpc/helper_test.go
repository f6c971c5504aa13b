package rpc

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"physalia/cell"
	"physalia/internal/wire"
)

// patience is how long a test waits for what must happen; it decides when a hung test fails, never whether one passes.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is the smallest message: an array of one byte string.
type text struct{ s string }

func (m *text) Append(b []byte) []byte { return wire.AppendBytes(wire.AppendArray(b, 1), m.s) }

func (m *text) Decode(r *wire.Reader) {
	r.Struct(1, "text")
	m.s = string(r.Bytes(1<<20, "text"))
}

// echo answers every request with its params.
func echo(c *Conn, req Request) {
	if !req.Notify {
		c.ReplyRaw(req.ID, req.Params, nil)
	}
}

func hello(name string) wire.Hello {
	return wire.Hello{Min: 1, Max: 1, Purpose: wire.ForControl, Colony: "test", Server: cell.ServerID(name)}
}

// closings collects what OnClose reports.
type closings struct {
	once sync.Once
	ch   chan error
}

func (k *closings) onClose(_ *Conn, err error) { k.init(); k.ch <- err }

func (k *closings) init() { k.once.Do(func() { k.ch = make(chan error, 100) }) }

// wait returns the next reported error.
func (k *closings) wait(t testing.TB) error {
	t.Helper()
	k.init()
	return receive(t, k.ch)
}

// receive waits for a value, for as long as the test has patience.
func receive[T any](t testing.TB, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatal("nothing arrived")
	}
	return v
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func serve(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Hello == (wire.Hello{}) {
		cfg.Hello = hello("server")
	}
	s := NewServer(listen(t), cfg)
	t.Cleanup(func() { s.Close() })
	return s
}

func dial(t testing.TB, s *Server, cfg Config) *Conn {
	t.Helper()
	if cfg.Hello == (wire.Hello{}) {
		cfg.Hello = hello("client")
	}
	c, err := Dial(t.Context(), s.Addr().String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(nil); <-c.sent })
	return c
}

// pipe establishes a connection whose other side is the test itself, byte by byte.
func pipe(t testing.TB, cfg Config) (*Conn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	cfg.Hello = hello("near")
	type result struct {
		c   *Conn
		err error
	}
	ch := make(chan result, 1)
	go func() {
		c, err := Client(context.Background(), near, cfg)
		ch <- result{c, err}
	}()
	if _, err := wire.ReadFrame(far, nil, helloBytesMax); err != nil {
		t.Fatal(err)
	}
	h := hello("far")
	write(t, far, frame(&h))
	got := receive(t, ch)
	if got.err != nil {
		t.Fatal(got.err)
	}
	t.Cleanup(func() { got.c.Close(nil); far.Close(); <-got.c.sent })
	return got.c, far
}

func frame(m wire.Message) []byte { return wire.EndFrame(m.Append(wire.BeginFrame(nil)), 0) }

func rawFrame(body ...byte) []byte { return wire.EndFrame(append(wire.BeginFrame(nil), body...), 0) }

func write(t testing.TB, nc net.Conn, b []byte) {
	t.Helper()
	nc.SetDeadline(time.Now().Add(patience))
	if _, err := nc.Write(b); err != nil {
		t.Fatal(err)
	}
}

// readRPC reads one message from the test's side of a pipe.
func readRPC(t testing.TB, nc net.Conn) wire.RPC {
	t.Helper()
	nc.SetDeadline(time.Now().Add(patience))
	body, err := wire.ReadFrame(nc, nil, wire.PeerFrameMax)
	if err != nil {
		t.Fatal(err)
	}
	m, err := wire.ParseRPC(body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantKind checks the kind of an error.
func wantKind(t testing.TB, err error, k cell.Kind) {
	t.Helper()
	if cell.KindOf(err) != k {
		t.Fatalf("got %v, want kind %q", err, k)
	}
}
