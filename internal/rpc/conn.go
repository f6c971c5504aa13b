package rpc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// Conn is one established connection. All methods are safe for concurrent use.
type Conn struct {
	cfg   Config
	nc    net.Conn
	in    *bufio.Reader // used by the reader goroutine only
	meter Meter         // nil: none
	peer  wire.Hello
	kept  any // see Keep; likewise

	done chan struct{} // closed by Close
	wake chan struct{} // tells an idle writer that there is work; capacity 1
	sent chan struct{} // closed when the writer goroutine has ended

	mu    sync.Mutex // guards what follows; held while frames are encoded, never while anything blocks
	err   error      // why the connection is closed; nil while it is open
	queue queue
	calls map[uint32]*call // sent or queued, not answered
	next  uint32           // id of the next call
	open  map[uint32]int   // requests handed to the Handler, not answered: the bytes that entered the meter
}

func newConn(cfg Config, s *Stream) *Conn {
	c := &Conn{
		cfg: cfg, nc: s.Conn, in: s.In, peer: s.Peer,
		done: make(chan struct{}), wake: make(chan struct{}, 1), sent: make(chan struct{}),
		calls: make(map[uint32]*call), open: make(map[uint32]int),
	}
	if cfg.Meter != nil {
		c.meter = cfg.Meter(who(s.Conn))
	}
	return c
}

// serve runs the connection until it is closed; it returns when everything about it has ended.
func (c *Conn) serve() {
	go c.write()
	c.Close(c.read())
	<-c.sent
	c.failCalls()
	c.leaveAll()
	if c.cfg.OnClose != nil {
		c.cfg.OnClose(c, c.Err())
	}
}

// Peer is what the other side said of itself. Nothing of it is proven unless Config.Check has compared it with proofs.
func (c *Conn) Peer() wire.Hello { return c.peer }

// RemoteAddr is the other side's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// Transport is the connection underneath, for those who know what it proves: see internal/pki.
func (c *Conn) Transport() net.Conn { return c.nc }

// Keep makes Kept return v from now on. Both are for the Handler, which knows what it keeps of a connection, and only while Handle runs:
// they are not safe for other goroutines.
func (c *Conn) Keep(v any) { c.kept = v }

// Kept is what the Handler has kept of this connection; nil at first.
func (c *Conn) Kept() any { return c.kept }

// Done is closed when the connection is closed. Calls in flight may still be about to end; see Config.OnClose.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err tells why the connection is closed, as a *cell.Error; nil while it is open.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close closes the connection at once and drops what is queued. Calls in flight end soon after, on the reader
// goroutine. The first reason stays; a nil err means that this side just wants no more. It does not wait.
func (c *Conn) Close(err error) {
	var e *cell.Error
	if !errors.As(err, &e) {
		e = &cell.Error{Op: "rpc.conn", Kind: cell.Unavailable, Detail: "closed by this side", Err: err}
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = e
	c.queue.rouse(c.wake)
	c.mu.Unlock()
	close(c.done)
	c.nc.Close() // the reason is known; what closing has to say changes nothing
}

// read takes frames until the connection ends, and returns why it did.
func (c *Conn) read() error {
	var buf []byte
	var offset uint64 // in the stream of RPC frames, behind the Hello
	clock := NewFrameClock(c.nc, c.in, c.cfg.FrameTimeout)
	for frame := uint64(0); ; frame++ {
		var body []byte
		err := clock.Next()
		if err == nil {
			body, err = wire.ReadFrame(c.in, buf, c.cfg.FrameMax)
		}
		if err == nil {
			err = c.take(body)
		}
		if err != nil {
			return c.readError(err, frame, offset)
		}
		offset += uint64(wire.FrameHeaderBytes + len(body))
		if buf = body; cap(buf) > keepBytes {
			buf = nil
		}
	}
}

// readError says what ended the connection: the other side, orderly or not, or what it sent.
func (c *Conn) readError(err error, frame, offset uint64) error {
	e := &cell.Error{Op: "rpc.read", Kind: cell.Unavailable, Err: err}
	var broken *wire.FrameError
	switch {
	case errors.Is(err, io.EOF):
		e.Detail = "closed by the peer"
	case errors.As(err, &broken) && broken.Fault != wire.FrameTruncated, cell.KindOf(err) == cell.Invalid:
		e.Kind = cell.Invalid
		e.Detail = fmt.Sprintf("frame %d from the peer, at byte %d of its stream, is malformed", frame, offset)
	case isTimeout(err):
		e.Err = because(refusal.SlowFrame, err)
		e.Detail = fmt.Sprintf("frame %d from the peer, at byte %d of its stream, did not end within %v", frame, offset, c.cfg.FrameTimeout)
	default:
		e.Detail = fmt.Sprintf("connection lost at frame %d from the peer, byte %d of its stream", frame, offset)
	}
	return e
}

// take handles one message of the other side.
func (c *Conn) take(body []byte) error {
	m, err := wire.ParseRPC(body)
	if err != nil {
		return err
	}
	switch m.Kind {
	case wire.RPCResponse:
		if p := c.forget(m.ID); p != nil {
			p.end(m.Result, m.Err)
		}
	case wire.RPCNotification:
		if c.cfg.Handler != nil {
			c.cfg.Handler.Handle(c, Request{Method: m.Method, Params: m.Params, Notify: true})
		}
	case wire.RPCRequest:
		return c.request(m.ID, m.Method, m.Params)
	}
	return nil
}

// request admits one request, answers it itself, or returns why the connection must end.
func (c *Conn) request(id uint32, method string, params []byte) error {
	refusal, entered := c.enter(method, len(params)), len(params)
	if refusal != nil {
		entered = refusedByMeter
	}
	c.mu.Lock()
	_, twice := c.open[id]
	full := len(c.open) >= c.cfg.InFlightMax
	if !twice {
		c.open[id] = entered
	}
	c.mu.Unlock()
	if twice {
		c.leave(entered)
	}
	switch {
	case twice:
		return &cell.Error{Op: method, Kind: cell.Invalid, Detail: fmt.Sprintf("request id %d is in flight already", id),
			Hint: "number the requests of one connection without repeating those in flight"}
	case c.cfg.Handler == nil:
		c.Reply(id, nil, &cell.Error{Op: method, Kind: cell.Refused, Detail: "this side takes no requests"})
	case full:
		c.Reply(id, nil, &cell.Error{Op: method, Kind: cell.Overloaded, RetryAfter: overloadedRetryAfter,
			Detail: fmt.Sprintf("%d requests of this connection are in flight", c.cfg.InFlightMax),
			Hint:   "send fewer requests at once, or wait for answers"})
	case refusal != nil:
		c.Reply(id, nil, refusal)
	default:
		c.cfg.Handler.Handle(c, Request{ID: id, Method: method, Params: params})
	}
	return nil
}

// Reply answers a request with a result (nil for none) or an error (nil for success). Each request that was handed to
// the Handler is answered once; a second answer panics with a *must.Violation. On a closed connection it does nothing.
func (c *Conn) Reply(id uint32, result wire.Message, err *cell.Error) {
	c.reply(id, func(b []byte) []byte {
		switch {
		case err != nil:
			return wire.AppendFailure(b, id, err)
		case result == nil:
			return wire.AppendResult(b, id, nil)
		}
		return result.Append(wire.BeginResult(b, id))
	})
}

// ReplyRaw is Reply with a result that is encoded already, as one array; empty for none. It copies result.
func (c *Conn) ReplyRaw(id uint32, result []byte, err *cell.Error) {
	c.reply(id, func(b []byte) []byte {
		if err != nil {
			return wire.AppendFailure(b, id, err)
		}
		return wire.AppendResult(b, id, result)
	})
}

// reply queues the answer to a request that is open.
func (c *Conn) reply(id uint32, build func(b []byte) []byte) {
	c.locked(func() *cell.Error {
		if c.err != nil {
			return nil
		}
		entered, ok := c.open[id]
		if !ok {
			must.That(false, "rpc: request %d is answered twice or was never asked", id)
		}
		err := c.add(build)
		if err != nil && err.Kind == cell.TooLarge {
			large := *err
			large.Kind = cell.UnknownResult // the work was done; only the answer does not fit
			err = c.add(func(b []byte) []byte { return wire.AppendFailure(b, id, &large) })
		}
		delete(c.open, id)
		c.leave(entered)
		return err
	})
}
