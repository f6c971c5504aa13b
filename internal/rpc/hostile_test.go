package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// hostile is what a broken or malicious peer may send behind a valid Hello, and what the error must say of it.
var hostile = []struct {
	name, says string
	bytes      []byte
}{
	{"frame of 4 GiB", fmt.Sprintf("it claims 4294967295 bytes, allowed are %d", wire.ClientFrameMax), []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
	{"frame of nothing", "without a body", make([]byte, 8)},
	{"wrong checksum", "wrong checksum", []byte{0, 0, 0, 1, 1, 2, 3, 4, 0x90}},
	{"HTTP", "frame too large", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
	{"nil", "byte 1", rawFrame(0xc0)},
	{"array of 4 G", "byte 5", rawFrame(0xdd, 0xff, 0xff, 0xff, 0xff)},
	{"kind 3", "byte 2: kind of RPC message is 3", rawFrame(0x94, 3, 0, 0xc0, 0x90)},
	{"request with three fields", "kind 0", rawFrame(0x93, 0, 0, 0xa1)},
	{"method of 4 GiB", "byte 8", rawFrame(0x94, 0, 0, 0xdb, 0xff, 0xff, 0xff, 0xff)},
	{"nested params", "deep", rawFrame(append([]byte{0x94, 0, 0, 0xa1, 'm'}, bytes.Repeat([]byte{0x91}, 100_000)...)...)},
	{"map as params", "maps", rawFrame(0x94, 0, 0, 0xa1, 'm', 0x80)},
	{"number as params", "params", rawFrame(0x94, 0, 0, 0xa1, 'm', 7)},
	{"bytes behind the message", "left over", rawFrame(0x94, 0, 0, 0xa1, 'm', 0x90, 0)},
	{"error and result", "both", rawFrame(append(wire.AppendError([]byte{0x94, 1, 0}, &cell.Error{Kind: cell.Stale}), 0x90)...)},
	{"request id twice", "id 9 is in flight", bytes.Repeat(rawFrame(0x94, 0, 9, 0xa1, 'm', 0x90), 2)},
}

// TestHostileStreams: the connection ends at once, the error names place and reason, and calls in flight end.
func TestHostileStreams(t *testing.T) {
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			var closed closings
			c, far := pipe(t, Config{OnClose: closed.onClose, Handler: HandlerFunc(func(*Conn, Request) {})})
			ends := make(chan error, 1)
			c.Go("m", nil, func(_ []byte, err error) { ends <- err })
			readRPC(t, far)
			answer := wire.EndFrame(wire.AppendResult(wire.BeginFrame(nil), 77, nil), 0) // to nobody: allowed
			write(t, far, answer)
			far.Write(h.bytes) // fails when the connection is closed before everything was taken
			err := closed.wait(t)
			if cell.KindOf(err) != cell.Invalid || !strings.Contains(err.Error(), h.says) || !strings.Contains(err.Error(), "from the peer, at byte ") {
				t.Errorf("error does not say %q and the place in the stream: %v", h.says, err)
			}
			wantKind(t, receive(t, ends), cell.UnknownResult)
			if _, err := io.Copy(io.Discard, far); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
}

// TestStreamEndsInsideAFrame: that is a lost connection, not a malformed one.
func TestStreamEndsInsideAFrame(t *testing.T) {
	var closed closings
	_, far := pipe(t, Config{OnClose: closed.onClose})
	write(t, far, []byte{0, 0, 0, 9, 0})
	far.Close()
	if err := closed.wait(t); cell.KindOf(err) != cell.Unavailable || !errors.Is(err, wire.FrameTruncated) {
		t.Errorf("got %v", err)
	}
}

func TestWithoutAHandlerRequestsAreRefused(t *testing.T) {
	_, far := pipe(t, Config{})
	write(t, far, rawFrame(0x93, 2, 0xa1, 'm', 0x90)) // a notification, dropped
	write(t, far, rawFrame(0x94, 0, 5, 0xa1, 'm', 0x90))
	if m := readRPC(t, far); m.ID != 5 || m.Err == nil || m.Err.Kind != cell.Refused {
		t.Errorf("got %v, %v", m, m.Err)
	}
}

// FuzzStream feeds a served connection whatever comes behind the Hello. It must neither panic nor hang, whatever arrives.
func FuzzStream(f *testing.F) {
	for _, h := range hostile {
		f.Add(h.bytes)
	}
	f.Add(rawFrame(0x94, 0, 5, 0xa1, 'm', 0x91, 0xc4, 1, 1))
	f.Add(rawFrame(0x93, 2, 0xa1, 'm', 0x90))
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		c := newConn(Config{Handler: HandlerFunc(echo)}.withDefaults(), &Stream{Conn: near, In: newReader(near)})
		served := make(chan struct{})
		go func() { c.serve(); close(served) }()
		go io.Copy(io.Discard, far)
		far.SetDeadline(time.Now().Add(patience))
		far.Write(b) // fails when the connection has seen enough
		far.Close()
		receive(t, served)
		if c.Err() == nil {
			t.Fatal("connection ended without a reason")
		}
	})
}
