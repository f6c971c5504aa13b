package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// listener accepts connections that will shake hands when they are first read.
type listener struct {
	net.Listener
	guard  *Guard
	port   Port
	config *tls.Config
}

// Accept implements net.Listener. It does not wait for the handshake, since an accept loop must not.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: tls.Server(nc, l.config), raw: nc, guard: l.guard, port: l.port, side: Accepting}, nil
}

// conn is one TLS connection.
type conn struct {
	*tls.Conn
	raw   net.Conn
	guard *Guard
	port  Port
	side  Side

	done   atomic.Bool // shook hands, with whatever outcome
	shake  sync.Once
	failed error               // of the handshake; set before done
	other  Identity            // set before done, unless failed
	shown  []*x509.Certificate // what the other side showed; likewise
	turned sync.Once           // counts the other side's refusal, or what it sent in place of records
	closed bool                // guarded by guard.mu
}

// HandshakeContext shakes hands, once; other callers wait and get the same error. It is a *cell.Error: Refused with a *Refusal
// inside, or Unavailable when the connection ended or ran out of time. Every outcome is counted.
func (c *conn) HandshakeContext(ctx context.Context) error {
	c.shake.Do(func() {
		c.failed = c.handshake(ctx)
		c.done.Store(true)
	})
	return c.failed
}

func (c *conn) handshake(ctx context.Context) error {
	count := &c.guard.stats.refused[c.port][c.side]
	if err := c.Conn.HandshakeContext(ctx); err != nil {
		why := classify(err)
		count[why.Reason].Add(1)
		gone := why.Reason == Broken || why.Reason == SlowStart // there is nobody to be told
		if c.side == Accepting && !gone {
			c.linger()
		}
		if gone {
			return &cell.Error{Op: "pki.handshake", Kind: cell.Unavailable, Detail: "the TLS handshake broke off", Err: err}
		}
		return why.asError()
	}
	count[Welcome].Add(1)
	c.shown = c.ConnectionState().PeerCertificates
	c.other, _ = identityOf(c.shown[0]) // it was read once already, in Judge
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	if !c.closed {
		c.guard.open[c] = struct{}{}
	}
	return nil
}

// PeerOf tells who is at the other end of a connection that a Guard has secured, and whose handshake is over.
func PeerOf(nc net.Conn) (Identity, bool) {
	c, ok := nc.(*conn)
	if !ok || !c.done.Load() || c.failed != nil {
		return Identity{}, false
	}
	return c.other, true
}

// linger lets the other side read why it was refused: closing while its bytes are unread would reset the connection, and the
// alert with it. It costs a goroutine that is there anyway a moment.
func (c *conn) linger() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.raw.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return // it is gone
	}
	io.CopyN(io.Discard, c.raw, lingerBytesMax) // until the other side closes, too; how it does makes no difference
}

// Read implements net.Conn, after the handshake.
func (c *conn) Read(b []byte) (int, error) {
	if !c.done.Load() {
		if err := c.HandshakeContext(context.Background()); err != nil { // the deadline is the connection's
			return 0, err
		}
	}
	n, err := c.Conn.Read(b)
	if err != nil {
		err = c.readError(err)
	}
	return n, err
}

// In TLS 1.3 whoever dials learns after his own handshake what the other side thinks of his certificate.
//
// readError finds out that the other side has refused this one, or that a record was changed on its way, and counts it.
func (c *conn) readError(err error) error {
	var ended *net.OpError
	var header tls.RecordHeaderError
	if errors.As(err, &header) || errors.As(err, &ended) && ended.Op == "local error" {
		c.turned.Do(func() { c.guard.Count(c.port, c.side, BadRecord) })
		return err
	}
	if ended == nil || ended.Op != "remote error" {
		return err
	}
	c.turned.Do(func() { c.guard.Count(c.port, c.side, RefusedThere) })
	return because(RefusedThere, "%v", err).asError()
}

// Close implements net.Conn. It never blocks: TLS would first say goodbye, for up to seconds. Frames and HTTP have lengths of their
// own, so that an end without a goodbye cuts nothing off unnoticed.
func (c *conn) Close() error {
	err := c.raw.Close()
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	c.closed = true
	delete(c.guard.open, c)
	return err
}

// Identity is who is proven to be on the other side, for whoever counts connections; it is empty before the handshake.
func (c *conn) Identity() string {
	if !c.done.Load() || c.failed != nil {
		return ""
	}
	return c.other.String()
}

// CheckHello compares what the other side says of itself with what its certificate proves, and counts a lie.
func (c *conn) CheckHello(h wire.Hello) *cell.Error {
	if why := JudgeHello(c.side, c.other, &h); why != nil {
		c.guard.Count(c.port, c.side, why.Reason)
		return why.asError()
	}
	return nil
}
