package control

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"physalia/cmd/physalia/operator"
	"physalia/internal/pki"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// strike connects to the control port, sends what it is given, and reads until the end.
func strike(t *testing.T, addr string, parts ...[]byte) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
	}
	for _, b := range parts {
		if _, err := nc.Write(b); err != nil {
			break // it is closed already
		}
	}
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// counted waits for a count at the control port.
func counted(t *testing.T, p *Control, why refusal.Reason, least uint64) {
	t.Helper()
	look, deadline := time.NewTicker(time.Millisecond), time.After(patience)
	defer look.Stop()
	for p.guard.Refused(pki.ControlPort, pki.Accepting, why) < least {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d %q, expected are %d", p.guard.Refused(pki.ControlPort, pki.Accepting, why), why, least)
		}
	}
}

// TestControlPortUnderAttack: killers, crowds and slow ones are cut off and counted, and operators are served.
func TestControlPortUnderAttack(t *testing.T) {
	c := config(t)
	c.Connections = rpc.Limits{Connections: 100, PerAddress: 50}
	p := start(t, c)
	frame := func(body ...byte) []byte { return wire.EndFrame(append(wire.BeginFrame(nil), body...), 0) }
	h := wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Purpose: wire.ForClient, Colony: "test"}
	hello := wire.EndFrame(h.Append(wire.BeginFrame(nil)), 0)
	changed := frame(0x94, 0, 5, 0xa1, 'm', 0x90)
	changed[len(changed)-1] ^= 1
	for i, a := range []struct {
		parts [][]byte
		why   refusal.Reason
	}{
		{[][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, refusal.OtherSpeech},
		{[][]byte{{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc}}, refusal.NotPlainText},
		{[][]byte{hello, {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}}, refusal.LargeFrame},
		{[][]byte{hello, make([]byte, 8)}, refusal.BadFrame},
		{[][]byte{hello, changed}, refusal.BadFrame},
		{[][]byte{hello, frame(0xdd, 0xff, 0xff, 0xff, 0xff)}, refusal.BadMessage},
		{[][]byte{hello, frame(bytes.Repeat([]byte{0x91}, 2<<20)...)}, refusal.BadMessage},
	} {
		t.Run(fmt.Sprint(i, " ", a.why), func(t *testing.T) {
			before := p.guard.Refused(pki.ControlPort, pki.Accepting, a.why)
			strike(t, p.Addr(), a.parts...)
			counted(t, p, a.why, before+1)
		})
	}
	var crowd sync.WaitGroup
	for range 300 {
		crowd.Go(func() { strike(t, p.Addr(), []byte{0}) })
	}
	counted(t, p, refusal.TooManyFrom, 30)
	counted(t, p, refusal.SlowStart, 30)
	crowd.Wait()
	op := operator.Operator{Colony: "test", Addresses: []string{p.Addr()}}
	if _, err := op.Cells(t.Context(), "test", ""); err != nil {
		t.Error(err)
	}
}
