package rpc

import (
	"io"
	"net"
	"testing"
	"time"

	"physalia/internal/wire"
)

// FuzzHello gives a listener whatever comes first on a connection: it neither panics nor hangs, and who is refused is refused for a
// reason.
func FuzzHello(f *testing.F) {
	good := hello("x")
	f.Add(wire.EndFrame(good.Append(wire.BeginFrame(nil)), 0))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		defer near.Close()
		far.SetDeadline(time.Now().Add(patience))
		near.SetDeadline(time.Now().Add(patience))
		done := make(chan struct{})
		go func() {
			defer close(done)
			go io.Copy(io.Discard, far)
			far.Write(b) // fails when the listener has seen enough
			far.Close()
		}()
		s, err := AcceptStream(near, Config{Hello: hello("near")})
		if err == nil && s.Peer.Min > wire.ProtocolMax {
			t.Fatalf("%+v is welcome", s.Peer)
		}
		near.Close()
		<-done
	})
}
