package rpc

import (
	"context"
	"fmt"
	"sync"

	"physalia/cell"
	"physalia/internal/wire"
)

// call is one request of this side that awaits its answer. Whoever removes it from Conn.calls ends it.
type call struct {
	method string
	batch  uint64 // the batch of the queue that carries it
	done   func(result []byte, err error)

	// For Call, which waits:
	result wire.Message
	err    error
	ready  chan struct{} // capacity 1: the end of the call
}

var idleCalls = sync.Pool{New: func() any { return &call{ready: make(chan struct{}, 1)} }}

// release forgets everything about a call that has ended, or was not sent, and keeps its memory.
func (p *call) release() {
	p.done, p.result, p.err = nil, nil, nil
	idleCalls.Put(p)
}

// end gives a call its answer; it runs on the reader goroutine. Nothing of the call may be used after it.
func (p *call) end(result []byte, failure *cell.Error) {
	var err error
	if failure != nil {
		err = failure
	}
	if done := p.done; done != nil {
		p.release() // nobody waits for it
		done(result, err)
		return
	}
	if err == nil && p.result != nil {
		err = p.decode(result)
	}
	p.err = err
	p.ready <- struct{}{}
}

// decode fills in the caller's result. Whatever is wrong with it, the request may have been applied.
func (p *call) decode(result []byte) error {
	err := wire.Unmarshal(result, p.result)
	if err == nil {
		return nil
	}
	return &cell.Error{Op: p.method, Kind: cell.UnknownResult, Detail: "the answer cannot be decoded", Err: err,
		Hint: "compare the versions of both sides"}
}

// Call sends a request and waits for its answer, which is decoded into result; nil params are none, a nil result is not
// decoded. The error is a *cell.Error: what the other side answered, or
//
//   - UnknownResult: the request may have been sent, and ctx ended (Err is ctx.Err) or the connection was lost;
//   - Unavailable: it was certainly not sent: ctx had ended before, or the connection was closed;
//   - TooLarge: the request does not fit a frame; it was not sent;
//   - Overloaded: it was not sent, because too much is queued already; the connection has been closed over it.
func (c *Conn) Call(ctx context.Context, method string, params wire.Message, result wire.Message) error {
	if err := ctx.Err(); err != nil {
		return &cell.Error{Op: method, Kind: cell.Unavailable, Detail: "not sent: the context had ended", Err: err}
	}
	p := idleCalls.Get().(*call)
	p.method, p.result = method, result
	defer p.release()
	id, failure := c.send(p, params)
	if failure != nil {
		return failure
	}
	select {
	case <-p.ready:
	case <-ctx.Done():
		if c.forget(id) != nil {
			return &cell.Error{Op: method, Kind: cell.UnknownResult, Detail: "sent, and no answer came in time", Err: ctx.Err(),
				Hint: "repeat the same request to learn its result"}
		}
		<-p.ready // the answer is being delivered at this moment
	}
	return p.err
}

// Go sends a request and returns; done is called exactly once: on the reader goroutine, where it must not block, or
// before Go returns when the request could not be sent. The errors are those of Call; there is no deadline but the
// connection's end. result is one encoded array, or empty, valid only until done returns.
func (c *Conn) Go(method string, params wire.Message, done func(result []byte, err error)) {
	p := idleCalls.Get().(*call)
	p.method, p.done = method, done
	if _, err := c.send(p, params); err != nil {
		p.release()
		done(nil, err)
	}
}

// Notify sends a notification: a request without an answer. A nil error means that it was queued, not that it arrived;
// the others are those of Call.
func (c *Conn) Notify(method string, params wire.Message) error {
	err := c.locked(func() *cell.Error {
		if c.err != nil {
			return c.notSent(method)
		}
		return c.add(func(b []byte) []byte { return appendParams(wire.BeginNotification(b, method), params) })
	})
	if err != nil {
		return err
	}
	return nil
}

// send queues the request of a call and registers the call; after an error it is not registered and not sent.
func (c *Conn) send(p *call, params wire.Message) (id uint32, err *cell.Error) {
	err = c.locked(func() *cell.Error {
		if c.err != nil {
			return c.notSent(p.method)
		}
		for id = c.next; c.calls[id] != nil; id++ {
			// Only after four billion calls, beside one that is as old.
		}
		err := c.add(func(b []byte) []byte { return appendParams(wire.BeginRequest(b, id, p.method), params) })
		if err != nil {
			return err
		}
		c.next = id + 1
		p.batch = c.queue.batch
		c.calls[id] = p
		return nil
	})
	return id, err
}

// locked runs f under c.mu, which is released also when an encoder in f panics, and closes the connection when the
// queue is full: the other side does not read.
func (c *Conn) locked(f func() *cell.Error) *cell.Error {
	err := func() *cell.Error {
		c.mu.Lock()
		defer c.mu.Unlock()
		return f()
	}()
	if err != nil && err.Kind == cell.Overloaded {
		c.Close(err)
	}
	return err
}

func appendParams(b []byte, params wire.Message) []byte {
	if params == nil {
		return wire.AppendArray(b, 0)
	}
	return params.Append(b)
}

// notSent is the error of a request that met a closed connection; c.mu is held.
func (c *Conn) notSent(method string) *cell.Error {
	return &cell.Error{Op: method, Kind: cell.Unavailable, Detail: "not sent: the connection is closed", Err: c.err,
		Hint: "connect again"}
}

// forget removes a call and returns it, or nil when it has ended or was never made.
func (c *Conn) forget(id uint32) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.calls[id]
	delete(c.calls, id)
	return p
}

// failCalls ends every call that is left when the connection is closed. Frames of the batch that the writer never took
// were certainly not sent.
func (c *Conn) failCalls() {
	c.mu.Lock()
	left := c.calls
	c.calls = nil // c.err is set: nothing is registered any more
	c.mu.Unlock()
	for _, p := range left {
		if p.batch == c.queue.batch {
			p.end(nil, c.notSent(p.method))
			continue
		}
		p.end(nil, &cell.Error{Op: p.method, Kind: cell.UnknownResult, Err: c.err, Hint: "repeat the same request to learn its result",
			Detail: fmt.Sprintf("connection to %v was lost before the answer", c.nc.RemoteAddr())})
	}
}
