package rpc

import (
	"bufio"
	"encoding/binary"
	"net"
	"time"

	"physalia/internal/wire"
)

// FrameClock bounds how long a frame may take from its first byte to its last. Between frames a connection may be silent for as
// long as it likes. It belongs to whoever reads the connection.
//
// Almost every frame is in the reader's buffer as a whole when its turn comes, and costs two comparisons here; only for one that is
// not, a deadline is set and taken back.
type FrameClock struct {
	nc    net.Conn
	in    *bufio.Reader
	limit time.Duration
	armed bool
}

// NewFrameClock makes the clock of a connection; in reads from nc.
func NewFrameClock(nc net.Conn, in *bufio.Reader, limit time.Duration) FrameClock {
	return FrameClock{nc: nc, in: in, limit: limit}
}

// Next waits for a frame to begin. The frame is then read from in as ever, and a read that is too late ends with a timeout. The
// error is that of the connection. One on which no deadline can be set is closed already, and the next read finds that out.
func (c *FrameClock) Next() error {
	if c.armed {
		c.armed = false
		c.nc.SetReadDeadline(time.Time{})
	}
	if c.in.Buffered() == 0 {
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
	}
	if c.whole() {
		return nil
	}
	c.armed = true
	c.nc.SetReadDeadline(time.Now().Add(c.limit))
	return nil
}

// whole tells whether the next frame has arrived completely. A length that is too large is never there, and is refused soon.
func (c *FrameClock) whole() bool {
	if c.in.Buffered() < wire.FrameHeaderBytes {
		return false
	}
	head, err := c.in.Peek(wire.FrameHeaderBytes)
	return err == nil && uint64(c.in.Buffered()) >= wire.FrameHeaderBytes+uint64(binary.BigEndian.Uint32(head))
}
