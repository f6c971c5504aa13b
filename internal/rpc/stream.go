package rpc

import (
	"bufio"
	"context"
	"fmt"
	"net"

	"physalia/cell"
	"physalia/internal/wire"
)

// Stream is a connection past its Hello exchange that carries frames of its own instead of RPC: the lanes between
// servers. Its owner reads from In, which may hold bytes already, and writes to Conn; no goroutine serves it.
type Stream struct {
	Conn net.Conn
	In   *bufio.Reader
	Peer wire.Hello
}

// DialStream connects to addr and exchanges Hellos; see Dial for the bounds and the errors. Config's handler and
// queue settings do not matter.
func DialStream(ctx context.Context, addr string, cfg Config) (*Stream, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	nc, err := cfg.DialContext(ctx, "tcp", addr)
	if cell.KindOf(err) == cell.Refused {
		e := cell.AsError("rpc.dial", cell.Refused, err)
		e.Detail = fmt.Sprintf("at %s: %s", addr, e.Detail)
		return nil, e
	}
	if err != nil {
		return nil, &cell.Error{Op: "rpc.dial", Kind: cell.Unavailable, Detail: "cannot connect to " + addr, Err: err,
			Hint: "check the address, and that the process is running"}
	}
	return clientStream(ctx, nc, cfg)
}

// clientStream speaks first on a connection that is open already, until ctx ends; it closes nc when it fails.
func clientStream(ctx context.Context, nc net.Conn, cfg Config) (*Stream, error) {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(past) }) // an error means that nc is closed: as good
	s, err := shake(nc, cfg, dialing)
	if !stop() && (err == nil || err.Kind == cell.Unavailable) {
		err = &cell.Error{Op: "rpc.hello", Kind: cell.Unavailable, Detail: "the handshake did not end in time", Err: ctx.Err()}
	}
	if err != nil {
		nc.Close() // the reason is known
		return nil, err
	}
	return s, nil
}

// AcceptStream exchanges Hellos on an accepted connection; the caller sets the deadline. When it refuses the other side
// it says so to it, within that deadline; it closes nc when it fails.
func AcceptStream(nc net.Conn, cfg Config) (*Stream, *cell.Error) {
	cfg = cfg.withDefaults()
	s, refusal := shake(nc, cfg, accepting)
	if refusal != nil {
		refuse(nc, cfg.Hello, refusal)
		nc.Close() // the reason is known
		return nil, refusal
	}
	return s, nil
}
