package rpc

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// Dial connects to addr, exchanges Hellos and serves the connection until it is closed. ctx bounds the time until the
// connection is established and nothing after. The error is a *cell.Error: Unavailable when the other side was not
// reached or did not answer in time, Refused when it does not speak this protocol, or whatever it refuses with.
func Dial(ctx context.Context, addr string, cfg Config) (*Conn, error) {
	s, err := DialStream(ctx, addr, cfg)
	if err != nil {
		return nil, err
	}
	c := newConn(cfg.withDefaults(), s)
	go c.serve()
	return c, nil
}

// Client is Dial on a connection that is open already, of any kind; it closes nc when it fails.
func Client(ctx context.Context, nc net.Conn, cfg Config) (*Conn, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	s, err := clientStream(ctx, nc, cfg)
	if err != nil {
		return nil, err
	}
	c := newConn(cfg, s)
	go c.serve()
	return c, nil
}

// past is a deadline that has expired.
var past = time.Unix(1, 0)

type side bool

const (
	dialing   side = true
	accepting side = false
)

// shake exchanges Hellos: the dialing side speaks first. It returns the connection, or why there is none; it never closes
// nc. How long it may take is the business of the caller, by deadlines on nc.
func shake(nc net.Conn, cfg Config, role side) (*Stream, *cell.Error) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if err := tcp.SetNoDelay(true); err != nil {
			return nil, lost(err)
		}
	}
	if secured, ok := nc.(secured); ok {
		if err := secured.HandshakeContext(context.Background()); err != nil { // the caller's deadline is on nc
			return nil, lost(err)
		}
	}
	in := newReader(nc)
	if role == dialing {
		if err := sendHello(nc, cfg.Hello); err != nil {
			return nil, err
		}
	}
	peer, refusal := hear(nc, in, cfg)
	if refusal != nil {
		return nil, refusal
	}
	if role == accepting {
		if err := sendHello(nc, cfg.Hello); err != nil {
			return nil, err
		}
	}
	return &Stream{Conn: nc, In: in, Peer: peer}, nil
}

// secured is a connection that proves who is on the other side before the first byte, and can tell whether a Hello keeps to that.
// Its errors are the *cell.Errors that the handshake ends with.
type secured interface {
	HandshakeContext(ctx context.Context) error
	CheckHello(peer wire.Hello) *cell.Error
}

func newReader(nc net.Conn) *bufio.Reader { return bufio.NewReaderSize(nc, readBufferBytes) }

// hear reads the other side's Hello and judges it.
func hear(nc net.Conn, in *bufio.Reader, cfg Config) (wire.Hello, *cell.Error) {
	var peer wire.Hello
	body, err := wire.ReadFrame(in, nil, helloBytesMax)
	if err == nil {
		err = wire.Unmarshal(body, &peer)
	}
	switch {
	case err == nil:
	case isForeign(err):
		e := &cell.Error{Op: "rpc.hello", Kind: cell.Refused, Err: because(refusal.OtherSpeech, err), Detail: "the peer does not speak this protocol",
			Hint: "check address and port; HTTP does not belong here"}
		if speaksTLS(err) {
			e.Err = because(refusal.NotPlainText, err)
			e.Detail, e.Hint = "the peer speaks TLS, this side plain text", "give certificates to both sides, or to none"
		}
		return peer, e
	default:
		e := lost(err)
		if isTimeout(err) {
			e.Err = because(refusal.SlowStart, err)
		}
		return peer, e
	}
	if peer.Refusal != nil {
		return peer, peer.Refusal
	}
	if refusal := compatible(&cfg.Hello, &peer); refusal != nil {
		return peer, refusal
	}
	if secured, ok := nc.(secured); ok {
		if refusal := secured.CheckHello(peer); refusal != nil {
			return peer, refusal
		}
	}
	if cfg.Check != nil {
		return peer, cfg.Check(peer)
	}
	return peer, nil
}

// isForeign tells bytes that make no Hello from a connection that ended.
func isForeign(err error) bool {
	var frame *wire.FrameError
	if errors.As(err, &frame) {
		return frame.Fault != wire.FrameTruncated
	}
	return cell.KindOf(err) == cell.Invalid
}

// speaksTLS tells whether a connection's first bytes were those of TLS.
func speaksTLS(err error) bool {
	var frame *wire.FrameError
	// A record of type 22, of a version 3.x, read as the length of a frame.
	return errors.As(err, &frame) && frame.Fault == wire.FrameOversize && frame.Length>>16 == 0x1603
}

// lost reports a connection that ended during the handshake, by timeout or otherwise, or was refused by what secures it.
func lost(err error) *cell.Error {
	var refused *cell.Error
	if errors.As(err, &refused) && refused.Kind == cell.Refused {
		return refused
	}
	e := &cell.Error{Op: "rpc.hello", Kind: cell.Unavailable, Detail: "connection lost during the handshake", Err: err}
	switch {
	case isTimeout(err):
		e.Detail = "the handshake did not end in time"
	case errors.Is(err, io.EOF):
		e.Detail = "the peer closed the connection during the handshake"
	}
	return e
}

func sendHello(nc net.Conn, h wire.Hello) *cell.Error {
	if _, err := nc.Write(wire.EndFrame(h.Append(wire.BeginFrame(nil)), 0)); err != nil {
		return lost(err)
	}
	return nil
}

// refuse tells the other side why, as far as it listens, within the deadline that is set on nc.
func refuse(nc net.Conn, h wire.Hello, why *cell.Error) {
	h.Refusal = why
	if sendHello(nc, h) != nil {
		return // it is gone, or does not read
	}
	// Closing while bytes of the peer are unread would reset the connection, and the refusal with it.
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		io.CopyN(io.Discard, nc, lingerBytesMax) // until the peer closes, too; how it does makes no difference
	}
}
