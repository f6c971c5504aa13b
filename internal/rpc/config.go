package rpc

import (
	"context"
	"fmt"
	"net"
	"time"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

// Config says how connections behave. The zero value of every field but Hello is useful. A Config is copied when it is
// handed over and not changed afterwards; its functions may be called from many goroutines.
type Config struct {
	// Hello introduces this side. Without protocol versions, it gets those of this build.
	Hello wire.Hello

	// FrameMax bounds the body of a frame in both directions, in bytes; default wire.ClientFrameMax. A larger request
	// is not sent (TooLarge); a larger answer becomes UnknownResult; a larger frame that arrives closes the connection.
	FrameMax int

	// Handler takes the other side's requests and notifications. Without one, requests are refused and notifications
	// dropped.
	Handler Handler

	// InFlightMax bounds the requests that were handed to the Handler and not answered yet, per connection; those
	// beyond are answered Overloaded without asking the Handler. Default 4096.
	InFlightMax int

	// Meter returns what counts the requests of the other side, named by what it has proven, or by its host where nothing is
	// proven. It is asked once per connection. Nil: nobody counts.
	Meter func(who string) Meter

	// WriteBytesMax bounds what is queued for one connection, in bytes, including what the writer is sending; beyond,
	// the connection is closed, because the other side does not read. Default 16 MiB, at least twice FrameMax.
	WriteBytesMax int

	// HandshakeTimeout bounds the time from the connection's start to the end of the Hello exchange. Default 5 s.
	HandshakeTimeout time.Duration

	// Check may refuse the other side, on both sides; the accepting one tells the reason to the other, kind included.
	// Protocol versions have been compared before.
	Check func(peer wire.Hello) *cell.Error

	// Switch may give an accepted connection another FrameMax, Handler or OnClose, by what the other side said of itself
	// and Check has let pass. It runs on the connection's reader goroutine, before the first frame.
	Switch func(peer wire.Hello, cfg *Config)

	// OnClose is called once per connection that got through its handshake, as the last thing that its goroutines do:
	// every call has ended then.
	OnClose func(c *Conn, err error)

	// OnReject is called by a Server for each connection that did not get through its handshake.
	OnReject func(remote net.Addr, err *cell.Error)

	// Limits bound the connections of a Server; those beyond are refused as Overloaded.
	Limits Limits

	// FrameTimeout bounds the time from a frame's first byte to its last, and WriteTimeout how long the other side may take
	// nothing of what is sent to it; the connection is closed then. Default 30 s each.
	FrameTimeout, WriteTimeout time.Duration

	// DialContext opens the connection for Dial; the default is plain TCP. It is the place for TLS:
	// see internal/pki, whose connections also hold the other side to its Hello.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// The defaults of Config, and bounds that are not worth a field.
const (
	inFlightDefault      = 4096
	writeBytesDefault    = 16 << 20
	handshakeDefault     = 5 * time.Second
	stallDefault         = 30 * time.Second      // for a frame to arrive, or to be taken
	writeGrain           = time.Second           // how exactly WriteTimeout is kept; setting a deadline costs as much as a small frame
	helloBytesMax        = 8 << 10               // a Hello with the longest refusal
	readBufferBytes      = 16 << 10              // what one read system call takes at most; an idle connection keeps it
	keepBytes            = 64 << 10              // buffers beyond are given back after use
	lingerBytesMax       = 64 << 10              // what a refused side may still send before the connection is reset
	overloadedRetryAfter = 10 * time.Millisecond // told to a side with too many requests in flight
)

// A Handler takes what the other side asks. Handle runs on the connection's reader goroutine and must not block: while
// it runs, nothing else is read from this connection. It may be called before Dial returns.
type Handler interface {
	// Handle takes one request, to be answered exactly once by c.Reply or c.ReplyRaw, at any time, from any goroutine;
	// or one notification, which gets no answer.
	Handle(c *Conn, req Request)
}

// HandlerFunc lets a function be a Handler.
type HandlerFunc func(c *Conn, req Request)

// Handle calls f.
func (f HandlerFunc) Handle(c *Conn, req Request) { f(c, req) }

// Request is what the other side asks.
type Request struct {
	ID     uint32 // names the request in Reply; zero for a notification
	Method string // without an allocation for the methods that package wire knows; at most wire.MethodBytesMax bytes
	Params []byte // one well-formed MessagePack array; aliases the frame buffer, valid until Handle returns
	Notify bool   // a notification: no answer is expected
}

// withDefaults returns a complete configuration.
func (cfg Config) withDefaults() Config {
	if cfg.Hello.Min == 0 && cfg.Hello.Max == 0 {
		cfg.Hello.Min, cfg.Hello.Max = wire.ProtocolMin, wire.ProtocolMax
	}
	cfg.FrameMax = orDefault(cfg.FrameMax, wire.ClientFrameMax)
	cfg.InFlightMax = orDefault(cfg.InFlightMax, inFlightDefault)
	cfg.WriteBytesMax = max(orDefault(cfg.WriteBytesMax, writeBytesDefault), 2*cfg.FrameMax)
	cfg.Limits = cfg.Limits.withDefaults()
	cfg.FrameTimeout, cfg.WriteTimeout = orDefault(cfg.FrameTimeout, stallDefault), orDefault(cfg.WriteTimeout, stallDefault)
	cfg.HandshakeTimeout = orDefault(cfg.HandshakeTimeout, handshakeDefault)
	if cfg.DialContext == nil {
		cfg.DialContext = new(net.Dialer).DialContext
	}
	must.That(cfg.Hello.Refusal == nil, "rpc: Config.Hello carries a refusal")
	return cfg
}

func orDefault[T int | time.Duration](v, def T) T {
	must.That(v >= 0, "rpc: negative bound in Config")
	if v == 0 {
		return def
	}
	return v
}

// compatible reports why two sides cannot talk, or nil.
func compatible(here, there *wire.Hello) *cell.Error {
	if max(here.Min, there.Min) <= min(here.Max, there.Max) {
		return nil
	}
	return &cell.Error{Op: "rpc.hello", Kind: cell.Refused, Hint: "upgrade the older side", Err: refusal.OtherVersion,
		Detail: fmt.Sprintf("peer speaks protocol %d to %d, this side %d to %d", there.Min, there.Max, here.Min, here.Max)}
}
