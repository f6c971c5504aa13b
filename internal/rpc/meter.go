package rpc

import (
	"net"

	"physalia/cell"
)

// A Meter counts the requests that one other side has in flight, over all its connections if it likes. Its methods are called
// from the goroutines of these connections and must not block.
type Meter interface {
	// Enter counts a request in whose parameters have so many bytes, or says why it must not come in.
	Enter(method string, bytes int) *cell.Error
	// Leave counts one out, when it is answered, or when its connection ends.
	Leave(bytes int)
	// Close says that a connection has ended, after its last Leave.
	Close()
}

// refusedByMeter stands in Conn.open for a request that did not enter.
const refusedByMeter = -1

// who names the other side of a connection: by what it has proven where the connection can tell (internal/pki), else by the
// host that it calls from.
func who(nc net.Conn) string {
	if p, ok := nc.(interface{ Identity() string }); ok {
		return p.Identity()
	}
	addr := nc.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// enter asks the meter, if there is one; without an error, as many bytes must leave.
func (c *Conn) enter(method string, bytes int) *cell.Error {
	if c.meter == nil {
		return nil
	}
	return c.meter.Enter(method, bytes)
}

// leave counts a request out that had entered.
func (c *Conn) leave(bytes int) {
	if c.meter != nil && bytes != refusedByMeter {
		c.meter.Leave(bytes)
	}
}

// leaveAll counts out what will never be answered, and closes the meter; the connection is closed.
func (c *Conn) leaveAll() {
	if c.meter == nil {
		return
	}
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for _, bytes := range open {
		c.leave(bytes)
	}
	c.meter.Close()
}
