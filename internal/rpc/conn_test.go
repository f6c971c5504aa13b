package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// TestManyCallersBothWays: 32 callers on each side of one connection, each answer must be the caller's own.
func TestManyCallersBothWays(t *testing.T) {
	accepted := make(chan *Conn, 1)
	s := serve(t, Config{Handler: HandlerFunc(func(c *Conn, req Request) {
		if req.Notify {
			accepted <- c
			return
		}
		echo(c, req)
	})})
	client := dial(t, s, Config{Handler: HandlerFunc(echo)})
	if err := client.Notify("here I am", nil); err != nil {
		t.Fatal(err)
	}
	server := receive(t, accepted)
	if server.Peer() != hello("client") || client.Peer() != hello("server") {
		t.Errorf("peers are %+v and %+v", server.Peer(), client.Peer())
	}
	var wg sync.WaitGroup
	for caller := range 64 {
		c := [2]*Conn{client, server}[caller%2]
		wg.Go(func() {
			for i := range 100 {
				want := text{fmt.Sprint(caller, " ", i, strings.Repeat("x", (caller*i)%3000))}
				var got text
				if err := c.Call(t.Context(), "echo", &want, &got); err != nil || got != want {
					t.Errorf("caller %d, call %d: got %.20q, %v", caller, i, got.s, err)
				}
			}
		})
	}
	wg.Wait()
	if client.Err() != nil || server.Err() != nil {
		t.Errorf("errors %v and %v on open connections", client.Err(), server.Err())
	}
}

func TestAnswersInAnyOrder(t *testing.T) {
	held := make(chan Request, 3)
	s := serve(t, Config{Handler: HandlerFunc(func(c *Conn, req Request) {
		held <- Request{ID: req.ID, Method: req.Method}
		if len(held) == cap(held) {
			var all []Request
			for range cap(held) {
				all = append(all, <-held)
			}
			for i := range all {
				r := all[len(all)-1-i]
				c.Reply(r.ID, &text{r.Method}, nil)
			}
		}
	})})
	c := dial(t, s, Config{})
	order := make(chan string, 3)
	for _, name := range []string{"a", "b", "c"} {
		c.Go(name, nil, func(result []byte, err error) {
			var m text
			if err == nil {
				err = wire.Unmarshal(result, &m)
			}
			if err != nil || m.s != name {
				t.Errorf("%s got %q, %v", name, m.s, err)
			}
			order <- name
		})
	}
	if got := receive(t, order) + receive(t, order) + receive(t, order); got != "cba" {
		t.Errorf("answers came in order %s", got)
	}
}

// TestResults covers what an answer can be: nothing, an error with all its fields, and what does not fit.
func TestResults(t *testing.T) {
	refusal := &cell.Error{Op: "kv.put", Kind: cell.NotProposer, Cell: "vol-17", Detail: "d", Hint: "h", RetryAfter: 7, Leader: "s2", LeaderAddr: "a:1"}
	s := serve(t, Config{FrameMax: 4096, Handler: HandlerFunc(func(c *Conn, req Request) {
		switch req.Method {
		case "nothing":
			c.Reply(req.ID, nil, nil)
		case "raw nothing":
			c.ReplyRaw(req.ID, nil, nil)
		case "error":
			c.Reply(req.ID, nil, refusal)
		case "raw error":
			c.ReplyRaw(req.ID, nil, refusal)
		case "large":
			c.Reply(req.ID, &text{strings.Repeat("x", 4096)}, nil)
		case "number":
			c.ReplyRaw(req.ID, []byte{0x91, 7}, nil)
		}
	})})
	c := dial(t, s, Config{FrameMax: 4096})
	call := func(method string, result wire.Message) error { return c.Call(t.Context(), method, nil, result) }
	for _, method := range []string{"nothing", "raw nothing"} {
		if err := call(method, nil); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	for _, method := range []string{"error", "raw error"} {
		var got *cell.Error
		if err := call(method, &text{}); !errors.As(err, &got) || *got != *refusal {
			t.Errorf("%s: got %+v", method, err)
		}
	}
	wantKind(t, call("large", &text{}), cell.UnknownResult)
	wantKind(t, call("number", &text{}), cell.UnknownResult)
	wantKind(t, call("nothing", &text{}), cell.UnknownResult) // a result was expected
	wantKind(t, c.Call(t.Context(), "nothing", &text{strings.Repeat("x", 4096)}, nil), cell.TooLarge)
	wantKind(t, c.Notify("nothing", &text{strings.Repeat("x", 4096)}), cell.TooLarge)
	if err := call("nothing", nil); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestContextEnds(t *testing.T) {
	c, far := pipe(t, Config{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Call(ended, "m", nil, nil); cell.KindOf(err) != cell.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("context had ended: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- c.Call(ctx, "m", nil, nil) }()
	m := readRPC(t, far)
	cancel()
	if err := receive(t, got); cell.KindOf(err) != cell.UnknownResult || !errors.Is(err, context.Canceled) {
		t.Errorf("context ended while waiting: %v", err)
	}
	// The answer comes too late, which is nobody's fault: the next call goes its way.
	write(t, far, wire.EndFrame(wire.AppendResult(wire.BeginFrame(nil), m.ID, nil), 0))
	go func() { got <- c.Call(t.Context(), "m", nil, nil) }()
	next := readRPC(t, far)
	write(t, far, wire.EndFrame(wire.AppendResult(wire.BeginFrame(nil), next.ID, nil), 0))
	if err := receive(t, got); err != nil || next.ID == m.ID {
		t.Errorf("next call, id %d after %d: %v", next.ID, m.ID, err)
	}
}

// TestCloseEndsEveryCallOnce closes from either side while calls wait for an answer that never comes.
func TestCloseEndsEveryCallOnce(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		t.Run(who, func(t *testing.T) {
			arrived := make(chan *Conn, 100)
			var closed closings
			s := serve(t, Config{Handler: HandlerFunc(func(c *Conn, _ Request) { arrived <- c })})
			c := dial(t, s, Config{OnClose: closed.onClose})
			ends := make([]atomic.Int32, 50)
			var wg sync.WaitGroup
			for i := range ends {
				if i%2 == 0 {
					wg.Go(func() { wantUnknown(t, c.Call(t.Context(), "m", nil, nil)); ends[i].Add(1) })
					continue
				}
				c.Go("m", nil, func(_ []byte, err error) { wantUnknown(t, err); ends[i].Add(1) })
			}
			var server *Conn
			for range ends {
				server = receive(t, arrived)
			}
			reason := &cell.Error{Op: "test", Kind: cell.Stale, Detail: "enough"}
			map[string]*Conn{"client": c, "server": server}[who].Close(reason)
			err := closed.wait(t) // the last thing: all calls have ended
			wg.Wait()
			for i := range ends {
				if n := ends[i].Load(); n != 1 {
					t.Errorf("call %d ended %d times", i, n)
				}
			}
			if who == "client" {
				wantKind(t, err, cell.Stale)
			} else {
				wantKind(t, err, cell.Unavailable)
			}
			<-c.Done()
			if err := c.Call(t.Context(), "m", nil, nil); cell.KindOf(err) != cell.Unavailable || !errors.Is(err, c.Err()) {
				t.Errorf("call on a closed connection: %v", err)
			}
			inline := 0
			c.Go("m", nil, func(_ []byte, err error) { wantKind(t, err, cell.Unavailable); inline++ })
			wantKind(t, c.Notify("m", nil), cell.Unavailable)
			if c.Reply(1, nil, nil); inline != 1 {
				t.Errorf("done was called %d times on a closed connection", inline)
			}
		})
	}
}

func wantUnknown(t *testing.T, err error) {
	if cell.KindOf(err) != cell.UnknownResult {
		t.Errorf("got %v, want an unknown result", err)
	}
}

// TestNeverSentIsUnavailable: what is still queued behind a write that hangs was certainly not applied.
func TestNeverSentIsUnavailable(t *testing.T) {
	var closed closings
	c, far := pipe(t, Config{OnClose: closed.onClose})
	errs := make(map[string]error)
	end := func(name string) func([]byte, error) { return func(_ []byte, err error) { errs[name] = err } }
	c.Go("m", nil, end("first"))
	if _, err := far.Read(make([]byte, 1)); err != nil { // now the writer is inside its write and stays there
		t.Fatal(err)
	}
	c.Go("m", nil, end("second"))
	c.Close(nil)
	closed.wait(t)
	wantKind(t, errs["first"], cell.UnknownResult)
	wantKind(t, errs["second"], cell.Unavailable)
}

func TestTooManyRequestsInFlight(t *testing.T) {
	held := make(chan uint32, 10)
	var server atomic.Pointer[Conn]
	s := serve(t, Config{InFlightMax: 3, Handler: HandlerFunc(func(c *Conn, req Request) {
		server.Store(c)
		held <- req.ID
	})})
	c := dial(t, s, Config{})
	ends := make(chan error, 10)
	for range 4 {
		c.Go("m", nil, func(_ []byte, err error) { ends <- err })
	}
	var e *cell.Error
	if err := receive(t, ends); !errors.As(err, &e) || e.Kind != cell.Overloaded || e.RetryAfter <= 0 {
		t.Fatalf("fourth request: %v", err)
	}
	server.Load().Reply(receive(t, held), nil, nil)
	if err := receive(t, ends); err != nil {
		t.Fatal(err)
	}
	c.Go("m", nil, func(_ []byte, err error) { ends <- err }) // there is room again
	for range 3 {
		server.Load().Reply(receive(t, held), nil, nil)
		if err := receive(t, ends); err != nil {
			t.Error(err)
		}
	}
}

// TestPeerThatDoesNotRead loses the connection instead of filling the memory.
func TestPeerThatDoesNotRead(t *testing.T) {
	var closed closings
	c, far := pipe(t, Config{FrameMax: 1000, WriteBytesMax: 5000, OnClose: closed.onClose})
	large := &text{strings.Repeat("x", 950)}
	if err := c.Notify("m", large); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); err != nil { // what is being written counts, too
		t.Fatal(err)
	}
	sent := 1
	for ; sent < 100; sent++ {
		if err := c.Notify("m", large); err != nil {
			wantKind(t, err, cell.Overloaded)
			break
		}
	}
	wantKind(t, closed.wait(t), cell.Overloaded)
	if sent != 5 {
		t.Errorf("%d messages of 950 bytes were queued, the bound is 5000 bytes", sent)
	}
}

// TestAnsweringTwicePanics: the second answer would go to a request of somebody else.
func TestAnsweringTwicePanics(t *testing.T) {
	caught := make(chan any, 1)
	s := serve(t, Config{Handler: HandlerFunc(func(c *Conn, req Request) {
		defer func() { caught <- recover() }()
		c.Reply(req.ID, nil, nil)
		c.Reply(req.ID, nil, nil)
	})})
	c := dial(t, s, Config{})
	if err := c.Call(t.Context(), "m", nil, nil); err != nil {
		t.Fatal(err)
	}
	if v, ok := receive(t, caught).(*must.Violation); !ok || !strings.Contains(v.Text, "twice") {
		t.Errorf("recovered %v", v)
	}
}

// broken is a message whose encoder fails an assertion halfway.
type broken struct{ text }

func (broken) Append(b []byte) []byte { panic("broken") }

func TestEncoderThatPanicsHarmsNobodyElse(t *testing.T) {
	s := serve(t, Config{Handler: HandlerFunc(func(c *Conn, req Request) {
		if req.Method == "broken" {
			func() {
				defer func() { recover() }()
				c.Reply(req.ID, &broken{}, nil)
			}()
			c.Reply(req.ID, nil, &cell.Error{Op: "test", Kind: cell.Internal})
			return
		}
		echo(c, req)
	})})
	c := dial(t, s, Config{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		c.Call(t.Context(), "echo", &broken{}, nil)
	}()
	wantKind(t, c.Call(t.Context(), "broken", nil, nil), cell.Internal)
	if err := c.Call(t.Context(), "echo", &text{"x"}, &text{}); err != nil || len(c.calls) != 0 {
		t.Errorf("%v, %d calls left", err, len(c.calls))
	}
}

func TestIdentifiersWrapAround(t *testing.T) {
	held := make(chan uint32, 1)
	s := serve(t, Config{Handler: HandlerFunc(func(c *Conn, req Request) {
		if req.Method == "hold" {
			held <- req.ID
			return
		}
		echo(c, req)
	})})
	c := dial(t, s, Config{})
	c.Go("hold", nil, func([]byte, error) {})
	first := receive(t, held)
	c.mu.Lock()
	c.next = math.MaxUint32
	c.mu.Unlock()
	for range 3 {
		if err := c.Call(t.Context(), "echo", &text{"x"}, &text{}); err != nil {
			t.Fatal(err)
		}
	}
	if first != 0 || c.next != 3 {
		t.Errorf("after ids %d, 0 (taken), 1, 2 the next is %d", uint32(math.MaxUint32), c.next)
	}
}

// TestCloseFromInside closes from the reader goroutine, in a Handler and in done.
func TestCloseFromInside(t *testing.T) {
	var server, client closings
	s := serve(t, Config{OnClose: server.onClose, Handler: HandlerFunc(func(c *Conn, req Request) {
		if req.Notify {
			c.Close(nil)
			return
		}
		echo(c, req)
	})})
	c := dial(t, s, Config{OnClose: client.onClose})
	c.Go("echo", nil, func([]byte, error) { c.Close(nil) })
	wantKind(t, client.wait(t), cell.Unavailable)
	wantKind(t, server.wait(t), cell.Unavailable)
	c = dial(t, s, Config{OnClose: client.onClose})
	if err := c.Notify("bye", nil); err != nil {
		t.Fatal(err)
	}
	wantKind(t, client.wait(t), cell.Unavailable)
	wantKind(t, server.wait(t), cell.Unavailable)
}

// TestCloseInTheMiddle closes connections at random moments of heavy traffic; the race detector and the counts watch.
func TestCloseInTheMiddle(t *testing.T) {
	s := serve(t, Config{Handler: HandlerFunc(echo)})
	for round := range 20 {
		var closed closings
		c := dial(t, s, Config{OnClose: closed.onClose})
		var begun, ended, after atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for c.Err() == nil {
					begun.Add(1)
					c.Go("echo", &text{"x"}, func(_ []byte, err error) { ended.Add(1) })
					if err := c.Call(t.Context(), "echo", &text{"y"}, &text{}); err == nil {
						after.Add(1)
					}
				}
			})
		}
		for after.Load() < int64(round*20) {
			if err := c.Call(t.Context(), "echo", &text{"z"}, &text{}); err != nil {
				t.Fatal(err)
			}
		}
		c.Close(nil)
		wg.Wait()
		closed.wait(t)
		if begun.Load() != ended.Load() {
			t.Fatalf("round %d: %d calls begun, %d ended", round, begun.Load(), ended.Load())
		}
	}
}

// TestCallDoesNotAllocate holds for known methods and results that need no memory.
func TestCallDoesNotAllocate(t *testing.T) {
	s := serve(t, Config{Handler: HandlerFunc(echo)})
	c := dial(t, s, Config{})
	params := &text{"x"}
	n := testing.AllocsPerRun(200, func() {
		if err := c.Call(context.Background(), wire.MethodTxn, params, nil); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 && !raceEnabled {
		t.Errorf("%v allocations per call and answer, both sides together", n)
	}
}
