package rpc

import (
	"fmt"
	"runtime"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// queue holds the frames that the writer has not taken yet; Conn.mu guards it. The writer takes all of them at once, as
// one batch, and leaves an empty buffer behind: the two buffers of a connection change places.
type queue struct {
	frames []byte
	batch  uint64 // number of the batch that frames will be; a lower number has been handed to the connection
	flying int    // bytes that the writer is sending now
	idle   bool   // the writer waits to be woken
}

// rouse wakes the writer if it is idle.
func (q *queue) rouse(wake chan<- struct{}) {
	if q.idle {
		q.idle = false
		wake <- struct{}{} // never blocks: idle is set only when the channel has been emptied
	}
}

// add queues one frame, whose body build appends; c.mu is held. If build panics, nothing is queued. A body that is too
// large is not queued (TooLarge); when the queue is full, the caller must close the connection (Overloaded).
func (c *Conn) add(build func(b []byte) []byte) *cell.Error {
	q := &c.queue
	start := len(q.frames)
	b := build(wire.BeginFrame(q.frames))
	if err := wire.FrameFits(b, start, c.cfg.FrameMax); err != nil {
		return &cell.Error{Op: "rpc.send", Kind: cell.TooLarge, Err: err, Hint: "ask for less at once",
			Detail: fmt.Sprintf("message has %d bytes, allowed are %d", len(b)-start-wire.FrameHeaderBytes, c.cfg.FrameMax)}
	}
	if n := len(b) + q.flying; n > c.cfg.WriteBytesMax {
		return &cell.Error{Op: "rpc.send", Kind: cell.Overloaded, Hint: "the peer does not read; connect again", Err: refusal.SlowReader,
			Detail: fmt.Sprintf("%d bytes are queued for the peer, allowed are %d", n, c.cfg.WriteBytesMax)}
	}
	q.frames = wire.EndFrame(b, start)
	q.rouse(c.wake)
	return nil
}

// write is the writer goroutine: everything queued, in one system call, again and again.
func (c *Conn) write() {
	defer close(c.sent)
	var spare []byte
	var set time.Time // when the deadline was set
	for {
		runtime.Gosched() // who is ready to send joins this batch: half the system calls, half the time per call
		out, ok := c.takeBatch(spare)
		if !ok {
			return
		}
		if now := time.Now(); now.Sub(set) > writeGrain {
			set = now
			c.nc.SetWriteDeadline(now.Add(c.cfg.WriteTimeout + writeGrain)) // where it fails, so does writing
		}
		if _, err := c.nc.Write(out); err != nil {
			c.Close(c.writeError(err))
			return
		}
		if spare = out[:0]; cap(spare) > keepBytes {
			spare = nil
		}
	}
}

// writeError says what ended the connection under the writer.
func (c *Conn) writeError(err error) *cell.Error {
	e := &cell.Error{Op: "rpc.write", Kind: cell.Unavailable, Detail: "connection lost while sending", Err: err}
	if isTimeout(err) {
		e.Err = because(refusal.SlowReader, err)
		e.Detail = fmt.Sprintf("the peer took nothing for %v", c.cfg.WriteTimeout)
	}
	return e
}

// takeBatch waits for frames and takes all of them; spare becomes the buffer for the next ones. It reports false when
// the connection is closed.
func (c *Conn) takeBatch(spare []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.queue
	q.flying = 0
	for len(q.frames) == 0 && c.err == nil {
		q.idle = true
		c.mu.Unlock()
		<-c.wake
		runtime.Gosched() // as in write: it was woken by the first who had something, others are about to
		c.mu.Lock()
	}
	if c.err != nil {
		return nil, false
	}
	out := q.frames
	q.frames = spare
	q.flying = len(out)
	q.batch++
	return out, true
}
