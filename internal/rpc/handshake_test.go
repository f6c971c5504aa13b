package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// rejects collects what OnReject reports.
func rejects() (chan *cell.Error, func(net.Addr, *cell.Error)) {
	ch := make(chan *cell.Error, 100)
	return ch, func(_ net.Addr, err *cell.Error) { ch <- err }
}

func TestVersionsWithoutOverlap(t *testing.T) {
	rejected, onReject := rejects()
	old := hello("server")
	old.Min, old.Max = 1, 2
	s := serve(t, Config{Hello: old, OnReject: onReject})
	young := hello("client")
	young.Min, young.Max = 3, 5
	_, err := Dial(t.Context(), s.Addr().String(), Config{Hello: young})
	for side, err := range map[string]error{"client": err, "server": receive(t, rejected)} {
		if cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "protocol 3 to 5, this side 1 to 2") {
			t.Errorf("%s: %v", side, err)
		}
	}
}

func TestVersionsThatOverlap(t *testing.T) {
	wide := hello("server")
	wide.Min, wide.Max = 1, 4
	s := serve(t, Config{Hello: wide, Handler: HandlerFunc(echo)})
	next := hello("client")
	next.Min, next.Max = 4, 9
	c := dial(t, s, Config{Hello: next})
	if err := c.Call(t.Context(), "echo", &text{"x"}, &text{}); err != nil {
		t.Fatal(err)
	}
}

// TestCheckRefuses: the accepting side's reason arrives whole, so that "ask that instance instead" is possible.
func TestCheckRefuses(t *testing.T) {
	rejected, onReject := rejects()
	reason := cell.Error{Op: "control.register", Kind: cell.NotProposer, Detail: "not on duty", Leader: "m2", LeaderAddr: "h:2"}
	s := serve(t, Config{OnReject: onReject, Check: func(peer wire.Hello) *cell.Error {
		if peer.Colony != "test" {
			return &reason
		}
		return nil
	}})
	h := hello("client")
	h.Colony = "another"
	_, err := Dial(t.Context(), s.Addr().String(), Config{Hello: h})
	var got *cell.Error
	if !errors.As(err, &got) || *got != reason || *receive(t, rejected) != reason {
		t.Errorf("got %+v", err)
	}
	_, err = Dial(t.Context(), s.Addr().String(), Config{Hello: hello("client"), Check: func(peer wire.Hello) *cell.Error {
		return &cell.Error{Op: "test", Kind: cell.Refused, Detail: "not " + string(peer.Server)}
	}})
	if cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "not server") {
		t.Errorf("the dialing side may refuse, too: %v", err)
	}
}

func TestGarbageInsteadOfHello(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"HTTP":         []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeroes":       make([]byte, 64),
		"checksum":     {0, 0, 0, 1, 0, 0, 0, 0, 0x90},
		"not a Hello":  rawFrame(0x94, 0, 5, 0xa1, 'm', 0x90),
		"killer":       rawFrame(0xdd, 0xff, 0xff, 0xff, 0xff),
		"a huge Hello": wire.EndFrame(append(wire.BeginFrame(nil), make([]byte, helloBytesMax+1)...), 0),
	} {
		t.Run(name, func(t *testing.T) {
			rejected, onReject := rejects()
			s := serve(t, Config{OnReject: onReject})
			nc, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			write(t, nc, garbage)
			body, err := wire.ReadFrame(nc, nil, helloBytesMax)
			var answer wire.Hello
			if err == nil {
				err = wire.Unmarshal(body, &answer)
			}
			if err != nil || answer.Refusal == nil || answer.Refusal.Kind != cell.Refused {
				t.Errorf("answer is %+v, %v", answer, err)
			}
			nc.Close()
			wantKind(t, receive(t, rejected), cell.Refused)
		})
	}
}

// TestDialToSomethingElse meets a listener that speaks another protocol, one that hangs up, and none.
func TestDialToSomethingElse(t *testing.T) {
	ln := listen(t)
	addr := ln.Addr().String()
	answers := make(chan []byte, 2)
	answers <- []byte("HTTP/1.1 400 Bad Request\r\n\r\n")
	answers <- nil
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 2 {
			nc, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			wire.ReadFrame(nc, nil, helloBytesMax)
			nc.Write(<-answers)
			nc.Close()
		}
	}()
	for _, want := range []cell.Kind{cell.Refused, cell.Unavailable} {
		_, err := Dial(t.Context(), addr, Config{Hello: hello("client")})
		wantKind(t, err, want)
	}
	<-ended
	ln.Close()
	_, err := Dial(t.Context(), addr, Config{Hello: hello("client")})
	wantKind(t, err, cell.Unavailable)
}

// TestSilence: neither side waits for ever for a Hello that does not come.
func TestSilence(t *testing.T) {
	rejected, onReject := rejects()
	s := serve(t, Config{OnReject: onReject, HandshakeTimeout: 20 * time.Millisecond})
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	write(t, nc, []byte{0}) // a slow start does not help
	if err := receive(t, rejected); err.Kind != cell.Unavailable || !strings.Contains(err.Detail, "in time") {
		t.Errorf("server: %v", err)
	}
	if _, err := io.ReadAll(nc); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection is still open: %v", err)
	}
	ln := listen(t) // accepts in the kernel and says nothing
	defer ln.Close()
	_, err = Dial(t.Context(), ln.Addr().String(), Config{Hello: hello("client"), HandshakeTimeout: 20 * time.Millisecond})
	if cell.KindOf(err) != cell.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("client: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	dialed := func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer cancel() // as soon as the handshake may begin
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	_, err = Dial(ctx, ln.Addr().String(), Config{Hello: hello("client"), DialContext: dialed})
	if cell.KindOf(err) != cell.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("client with a context that ends: %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	s := serve(t, Config{Limits: Limits{Connections: 2}, Handler: HandlerFunc(echo)})
	first := dial(t, s, Config{})
	dial(t, s, Config{})
	_, err := Dial(t.Context(), s.Addr().String(), Config{Hello: hello("client")})
	var e *cell.Error
	if !errors.As(err, &e) || e.Kind != cell.Overloaded || e.RetryAfter <= 0 {
		t.Fatalf("third connection: %v", err)
	}
	first.Close(nil)
	for { // the server learns of it when it gets to it
		c, err := Dial(t.Context(), s.Addr().String(), Config{Hello: hello("client")})
		if err == nil {
			c.Close(nil)
			return
		}
		wantKind(t, err, cell.Overloaded)
	}
}

// TestServerCloseWaits closes a server with connections in every state: silent, open, with calls in flight.
func TestServerCloseWaits(t *testing.T) {
	var closed closings
	arrived := make(chan struct{}, 1)
	s := serve(t, Config{OnClose: closed.onClose, Handler: HandlerFunc(func(*Conn, Request) { arrived <- struct{}{} })})
	silent, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := dial(t, s, Config{})
	ends := make(chan error, 1)
	c.Go("m", nil, func(_ []byte, err error) { ends <- err })
	receive(t, arrived)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-closed.ch: // before Close returned
		wantKind(t, err, cell.Unavailable)
	default:
		t.Error("Close returned before the connection had ended")
	}
	wantKind(t, receive(t, ends), cell.UnknownResult)
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	_, err = Dial(t.Context(), s.Addr().String(), Config{Hello: hello("client")})
	wantKind(t, err, cell.Unavailable)
}

// flaky is a listener whose first Accepts fail, as they do when a process is out of file descriptors.
type flaky struct {
	net.Listener
	failures int
}

func (l *flaky) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsAreReportedAndSurvived(t *testing.T) {
	rejected, onReject := rejects()
	s := NewServer(&flaky{listen(t), 2}, Config{Hello: hello("server"), OnReject: onReject, Handler: HandlerFunc(echo)})
	defer s.Close()
	c := dial(t, s, Config{})
	if err := c.Call(t.Context(), "echo", &text{"x"}, &text{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantKind(t, receive(t, rejected), cell.Unavailable)
	}
}

// TestStreams: the lanes between servers shake hands alike, and then carry whatever frames they like.
func TestStreams(t *testing.T) {
	ln := listen(t)
	defer ln.Close()
	accepted := make(chan *Stream, 1)
	refused := make(chan *cell.Error, 1)
	go func() {
		for range 2 {
			nc, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			nc.SetDeadline(time.Now().Add(patience))
			s, refusal := AcceptStream(nc, Config{Hello: hello("server"), Check: func(peer wire.Hello) *cell.Error {
				if peer.Server == "stranger" {
					return &cell.Error{Op: "test", Kind: cell.Refused, Detail: "unknown"}
				}
				return nil
			}})
			if refusal != nil {
				refused <- refusal
				continue
			}
			accepted <- s
		}
	}()
	_, err := DialStream(t.Context(), ln.Addr().String(), Config{Hello: hello("stranger")})
	wantKind(t, err, cell.Refused)
	wantKind(t, receive(t, refused), cell.Refused)
	near, err := DialStream(t.Context(), ln.Addr().String(), Config{Hello: hello("client")})
	if err != nil {
		t.Fatal(err)
	}
	defer near.Conn.Close()
	write(t, near.Conn, rawFrame(1, 2, 3))
	far := receive(t, accepted)
	defer far.Conn.Close()
	body, err := wire.ReadFrame(far.In, nil, 16)
	if err != nil || string(body) != "\x01\x02\x03" || far.Peer != hello("client") || near.Peer != hello("server") {
		t.Errorf("got % x, %v, between %+v and %+v", body, err, far.Peer, near.Peer)
	}
}
