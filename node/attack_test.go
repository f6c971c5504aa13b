package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/internal/pki"
	"physalia/internal/refusal"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
)

// The attackers of these tests come over real sockets. Those of TestStrangersAreRefused have no certificate that fits; those here
// have one, and do what is worse with it. What every attack must leave: the server, its memory, its cells, and a count by reason.

// intruder is an attacker's end of a connection.
type intruder struct {
	net.Conn
	under *meddler // what carries the bytes of TLS
}

// meddler changes what it sends, once it is told how.
type meddler struct {
	net.Conn
	meddle func(record []byte) []byte
}

func (m *meddler) Write(b []byte) (int, error) {
	if m.meddle == nil {
		return m.Conn.Write(b)
	}
	_, err := m.Conn.Write(m.meddle(slices.Clone(b)))
	return len(b), err
}

// intrude connects, by TLS if there is a directory of certificates.
func intrude(t *testing.T, addr, certs string) *intruder {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	under := &meddler{Conn: nc}
	if certs == "" {
		return &intruder{nc, under}
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "tls.crt"), filepath.Join(certs, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &intruder{tls.Client(under, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}), under}
}

// greet says a Hello and waits for the server's, which must be a welcome.
func (i *intruder) greet(t *testing.T, h wire.Hello) {
	t.Helper()
	h.Min, h.Max = wire.ProtocolMin, wire.ProtocolMax
	i.say(t, wire.EndFrame(h.Append(wire.BeginFrame(nil)), 0))
	body, err := wire.ReadFrame(i, nil, 1<<16)
	var answer wire.Hello
	if err == nil {
		err = wire.Unmarshal(body, &answer)
	}
	if err != nil || answer.Refusal != nil {
		t.Fatalf("not welcome: %v, %v", err, answer.Refusal)
	}
}

// say sends; a connection that the server has closed meanwhile is as good.
func (i *intruder) say(t *testing.T, b []byte) {
	t.Helper()
	if _, err := i.Write(b); err != nil {
		t.Logf("closed while it was being attacked: %v", err)
	}
}

// ended waits until the server has closed the connection.
func (i *intruder) ended(t *testing.T) {
	t.Helper()
	var late net.Error
	if _, err := io.Copy(io.Discard, i); err != nil {
		if late, _ = err.(net.Error); late != nil && late.Timeout() {
			t.Error("the connection is still open")
		}
	}
}

func framed(body ...byte) []byte { return wire.EndFrame(append(wire.BeginFrame(nil), body...), 0) }

// killerFrames are what is said after a good Hello, and why it must be refused.
var killerFrames = []struct {
	name  string
	bytes []byte
	why   refusal.Reason
}{
	{"4 GiB frame", []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3}, refusal.LargeFrame},
	{"frame of nothing", make([]byte, 8), refusal.BadFrame},
	{"modified frame", func() []byte { b := framed(0x94, 0, 5, 0xa1, 'm', 0x90); b[9] ^= 1; return b }(), refusal.BadFrame},
	{"http", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), refusal.LargeFrame},
	{"nested arrays", framed(bytes.Repeat([]byte{0x91}, 100_000)...), refusal.BadMessage},
	{"2 MB of nested arrays", framed(bytes.Repeat([]byte{0x91}, 2<<20)...), refusal.BadMessage}, // the client port does not even read it
	{"5-byte array bomb", framed(0xdd, 0xff, 0xff, 0xff, 0xff), refusal.BadMessage},
	{"4 GiB string", framed(0x94, 0, 0, 0xdb, 0xff, 0xff, 0xff, 0xff), refusal.BadMessage},
	{"map bomb", framed(0xdf, 0xff, 0xff, 0xff, 0xff), refusal.BadMessage},
	{"array heads", framed(bytes.Repeat([]byte{0xdd, 0, 0xff, 0xff, 0xff}, 10_000)...), refusal.BadMessage},
	{"never used code", framed(0xc1), refusal.BadMessage},
}

// victim is a colony with a client that never stops writing.
type victim struct {
	*secureColony
	certs map[pki.Port]string // of an attacker with a good certificate for a port
	hello map[pki.Port]wire.Hello
}

func newVictim(t *testing.T, change ...func(i int, cfg *Config)) *victim {
	t.Helper()
	v := &victim{secureColony: newSecureColony(t, 7, change...)}
	v.certs = map[pki.Port]string{pki.ClientPort: v.home.issue(pki.Identity{Role: pki.Client, Name: "mallory"}, 0), pki.PeerPort: v.home.issue(serverIdentity("mallory", "b1", "red"), 0)}
	v.hello = map[pki.Port]wire.Hello{pki.ClientPort: {Purpose: wire.ForClient, Colony: "test"},
		pki.PeerPort: {Purpose: wire.ForPaxos, Colony: "test", Brick: "b1", Color: "red", Server: "mallory-aaaaaaaa", Boot: 1}}
	v.create("vol-1")
	return v
}

func addrOf(s *Server, port pki.Port) string {
	return map[pki.Port]string{pki.PeerPort: s.PeerAddr(), pki.ClientPort: s.ClientAddr(), pki.OpsPort: s.OpsAddr(), pki.GossipPort: s.GossipAddr()}[port]
}

// load writes until it is told to stop, and then says whether everything that was acknowledged is there, once.
func (c *secureColony) load(user *client.Client, id cell.ID) (stop func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wrote atomic.Int64
	var wait sync.WaitGroup
	wait.Go(func() {
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			if _, err := user.Cell(id).Increment(context.WithoutCancel(ctx), counterKey, 1); err != nil {
				c.t.Errorf("%s: %v", id, err)
				return
			}
			wrote.Add(1)
		}
	})
	eventually(c.t, "the load runs", func() bool { return wrote.Load() > 10 })
	return func() {
		c.t.Helper()
		from := wrote.Load()
		eventually(c.t, "writes go on", func() bool { return wrote.Load() >= from+20 || c.t.Failed() })
		cancel()
		wait.Wait()
		entry, err := user.Cell(id).Get(context.Background(), counterKey)
		if n, _ := entry.Value.AsInt64(); err != nil || n != wrote.Load() {
			c.t.Errorf("%s counted %d, acknowledged were %d: %v", id, n, wrote.Load(), err)
		}
	}
}

// counted waits until a reason was counted so many times more than before.
func counted(t *testing.T, s *Server, port pki.Port, why refusal.Reason, before, more uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d more %q at the %s port", more, why, port), func() bool { return s.guard.Refused(port, pki.Accepting, why) >= before+more },
		func() string { return fmt.Sprintf("%d, before %d", s.guard.Refused(port, pki.Accepting, why), before) })
}

// heap is what is in use after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// bounded waits until the memory of an attack is given back, but for so many bytes.
func bounded(t *testing.T, before, most uint64) {
	t.Helper()
	eventually(t, "the memory is given back", func() bool { return heap() < before+most },
		func() string { return fmt.Sprintf("%d MiB in use, %d MiB before", heap()>>20, before>>20) })
}

// heapSlack is what a colony of seven servers under load may have more at one moment than at another.
const heapSlack = 64 << 20

// TestAttacksFromWithin: whoever has a good certificate and sends killers is cut off at once and counted; a client that works
// meanwhile notices nothing.
func TestAttacksFromWithin(t *testing.T) {
	v := newVictim(t)
	done := v.load(v.user(), "vol-1")
	s, before := v.servers[0], heap()
	for _, port := range []pki.Port{pki.ClientPort, pki.PeerPort} {
		for _, k := range killerFrames {
			t.Run(fmt.Sprintf("%s at the %s port", k.name, port), func(t *testing.T) {
				if port == pki.ClientPort && len(k.bytes) > wire.ClientFrameMax {
					k.why = refusal.LargeFrame
				}
				n := s.guard.Refused(port, pki.Accepting, k.why)
				i := intrude(t, addrOf(s, port), v.certs[port])
				i.greet(t, v.hello[port])
				i.say(t, k.bytes)
				i.ended(t)
				counted(t, s, port, k.why, n, 1)
			})
		}
		t.Run(fmt.Sprintf("meddling with TLS at the %s port", port), func(t *testing.T) { v.meddle(t, s, port) })
	}
	bounded(t, before, heapSlack)
	done()
}

// meddle changes, repeats and forges records of an established connection.
func (v *victim) meddle(t *testing.T, s *Server, port pki.Port) {
	for name, meddle := range map[string]func([]byte) []byte{
		"changed":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"repeated": func(b []byte) []byte { return append(b, b...) },
		"forged":   func(b []byte) []byte { return append([]byte{0x17, 3, 3, 0, 32}, make([]byte, 32)...) },
		"plain":    func([]byte) []byte { return framed(0x94, 0, 5, 0xa1, 'm', 0x90) },
	} {
		before := s.guard.Refused(port, pki.Accepting, refusal.BadRecord)
		i := intrude(t, addrOf(s, port), v.certs[port])
		i.greet(t, v.hello[port])
		i.under.meddle = meddle
		harmless := framed(0x93, 2, 0xa1, 'm', 0x90) // a notification, which is dropped where it is taken
		if port == pki.PeerPort {
			harmless = framed(peer.FrameHead{Durable: 1}.Append(nil)...) // no message
		}
		i.say(t, harmless)
		i.ended(t)
		counted(t, s, port, refusal.BadRecord, before, 1)
		t.Log(name)
	}
}

// TestAttacksBeforeTheHello: who is not even one of us is told so, or is cut off, and counted.
func TestAttacksBeforeTheHello(t *testing.T) {
	s := startAlone(t)
	for _, port := range []pki.Port{pki.ClientPort, pki.PeerPort} {
		for name, a := range map[string]struct {
			bytes []byte
			why   refusal.Reason
		}{
			"http":              {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), refusal.OtherSpeech},
			"4 GiB":             {[]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, refusal.OtherSpeech},
			"a Hello of 64 KiB": {framed(make([]byte, 64<<10)...), refusal.OtherSpeech},
			"nested":            {framed(bytes.Repeat([]byte{0x91}, 8000)...), refusal.OtherSpeech},
			"TLS":               {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"), refusal.NotPlainText},
			"of a later time":   {helloFrame(wire.Hello{Min: 200, Max: 201, Purpose: wire.ForClient}), refusal.OtherVersion},
			"of another colony": {helloFrame(wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Purpose: map[pki.Port]wire.Purpose{pki.ClientPort: wire.ForClient, pki.PeerPort: wire.ForPaxos}[port],
				Colony: "other", Server: map[pki.Port]cell.ServerID{pki.PeerPort: "s9-aaaaaaaa"}[port], Boot: 1}), refusal.OtherColony},
			"for something else": {helloFrame(wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Purpose: wire.ForControl, Colony: "test", Server: "s9-aaaaaaaa", Boot: 1}), refusal.WrongRole},
		} {
			t.Run(fmt.Sprintf("%s at the %s port", name, port), func(t *testing.T) {
				before := s.guard.Refused(port, pki.Accepting, a.why)
				i := intrude(t, addrOf(s, port), "")
				i.say(t, a.bytes)
				if err := i.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Logf("closed already: %v", err)
				}
				i.ended(t)
				counted(t, s, port, a.why, before, 1)
			})
		}
	}
	if s.guard.Refused(pki.ClientPort, pki.Accepting, refusal.Welcome) != 0 {
		t.Error("somebody was welcome")
	}
}

func helloFrame(h wire.Hello) []byte { return wire.EndFrame(h.Append(wire.BeginFrame(nil)), 0) }

// TestReplayedFrames: in plain text anybody may repeat the frames of others. What they ask is done once all the same.
func TestReplayedFrames(t *testing.T) {
	c := newTestColony(t, 7)
	c.create("vol-1")
	m := &wire.TxnRequest{Header: wire.Header{Cell: "vol-1", Timeout: 5000}, Request: request(1),
		Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: counterKey, Value: cell.Int(1)}}}}
	frame := wire.EndFrame(m.Append(wire.BeginRequest(wire.BeginFrame(nil), 1, wire.MethodTxn)), 0)
	for range 5 { // a number that is in flight on the same connection ends that: see rpc's TestHostileStreams
		i := intrude(t, c.servers[0].ClientAddr(), "")
		i.greet(t, wire.Hello{Purpose: wire.ForClient, Colony: "test"})
		i.say(t, frame)
		body, err := wire.ReadFrame(i, nil, wire.ClientFrameMax)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := wire.ParseRPC(body)
		var reply wire.TxnReply
		if err == nil && answer.Err == nil {
			err = wire.Unmarshal(answer.Result, &reply)
		}
		if err != nil || answer.Err != nil {
			t.Fatal(err, answer.Err)
		}
		if n, _ := reply.Result.Results[0].Entry.Value.AsInt64(); n != 1 {
			t.Fatalf("counted %d", n)
		}
		i.Close()
	}
}
