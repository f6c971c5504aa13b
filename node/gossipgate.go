package node

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
)

// Anybody can send to the port of gossip, and memberlist serves every stream with a goroutine, and reads up to 20 MiB from it before
// it looks at the key. So a gate stands before it.
//
// Bounds of the streams of gossip. A push and pull of a whole pool takes milliseconds, with each server about twice a minute.
const (
	gossipStreams        = 64 // at a time
	gossipStreamsPerHost = 16 // from one address
	gossipStreamBytes    = 4 << 20
)

// gossipTransport is memberlist's own transport behind a gate.
type gossipTransport struct {
	*memberlist.NetTransport
	gate    *rpc.Gate
	refused func(refusal.Reason)
	streams chan net.Conn
	done    chan struct{} // closed when nobody listens any more
	once    sync.Once
	wait    sync.WaitGroup
}

// gossipBindTries is how often a port is looked for that is free for TCP and UDP, where the system is to choose.
const gossipBindTries = 10

// newGossipTransport listens; port 0 picks one.
func newGossipTransport(host string, port int, logger *log.Logger, refused func(refusal.Reason)) (t *gossipTransport, err error) {
	t = &gossipTransport{refused: refused, streams: make(chan net.Conn), done: make(chan struct{}),
		gate: rpc.NewGate(rpc.Limits{Connections: gossipStreams, PerAddress: gossipStreamsPerHost})}
	for range gossipBindTries {
		t.NetTransport, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: logger})
		if err == nil {
			t.wait.Go(t.run)
			return t, nil
		}
		if port != 0 {
			break
		}
	}
	return nil, err
}

// run passes streams on until Shutdown. It never waits for one of them: the transport below must get rid of what it accepted.
func (t *gossipTransport) run() {
	for {
		select {
		case <-t.done:
			return
		case nc := <-t.NetTransport.StreamCh():
			pass, why := t.gate.Enter(nc.RemoteAddr())
			if why != nil {
				nc.Close() // memberlist has no word for it
				pass.Leave()
				t.refused(refusal.Of(why))
				continue
			}
			t.wait.Go(func() { t.admit(&gossipStream{Conn: nc, pass: pass, refused: t.refused}) })
		}
	}
}

// admit waits for the first byte of a stream. Whoever only looks whether the port is open sends none, and is nobody to be refused.
func (t *gossipTransport) admit(s *gossipStream) {
	s.SetReadDeadline(time.Now().Add(joinTimeout)) // where it fails, so does reading
	var first [1]byte
	if _, err := io.ReadFull(s.Conn, first[:]); err != nil {
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			t.refused(refusal.SlowStart)
		}
		s.Close()
		return
	}
	s.first, s.taken = first[:], 1
	select {
	case t.streams <- s:
	case <-t.done:
		s.Close()
	}
}

// StreamCh implements memberlist.Transport.
func (t *gossipTransport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. It waits for the streams that have said nothing yet.
func (t *gossipTransport) Shutdown() error {
	err := t.NetTransport.Shutdown()
	t.once.Do(func() { close(t.done) })
	t.wait.Wait()
	return err
}

// gossipStream is one stream. memberlist reads, writes and closes it.
type gossipStream struct {
	net.Conn
	pass    *rpc.Pass
	refused func(refusal.Reason)
	first   []byte // read already
	taken   int
	once    sync.Once
}

// Read implements net.Conn, for as many bytes as the state of the largest pool has.
func (s *gossipStream) Read(b []byte) (n int, err error) {
	if len(s.first) > 0 && len(b) > 0 {
		n = copy(b, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	if s.taken >= gossipStreamBytes {
		return 0, &cell.Error{Op: "gossip.read", Kind: cell.TooLarge, Err: refusal.LargeFrame, Detail: fmt.Sprintf("more than %d bytes", gossipStreamBytes)}
	}
	n, err = s.Conn.Read(b[:min(len(b), gossipStreamBytes-s.taken)])
	s.taken += n
	return n, err
}

// Close implements net.Conn.
func (s *gossipStream) Close() error {
	err := s.Conn.Close()
	s.once.Do(s.pass.Leave)
	return err
}

// gossipLog passes on what memberlist says, at the level debug, and counts whom it refuses: it tells nobody but the log. A test
// sends one of each, so that a version with other words is found.
type gossipLog struct {
	*log.Logger
	refused func(refusal.Reason)
}

func newGossipLog(to *slog.Logger, refused func(refusal.Reason)) *log.Logger {
	return log.New(&gossipLog{slog.NewLogLogger(to.Handler(), slog.LevelDebug), refused}, "", 0)
}

// Write implements io.Writer; each call is one line.
func (l *gossipLog) Write(line []byte) (int, error) {
	text := string(line)
	if why := gossipRefusal(text); why != refusal.Welcome {
		l.refused(why)
	}
	l.Print(strings.TrimSpace(text))
	return len(line), nil
}

// gossipWords are how lines begin that tell of a refusal. What outsiders choose comes later in a line.
var gossipWords = []struct {
	begin string
	why   refusal.Reason
}{
	{"[ERR] memberlist: discarding packet with unacceptable label", refusal.OtherLabel},
	{"[ERR] memberlist: discarding stream with unacceptable label", refusal.OtherLabel},
	{"[ERR] memberlist: cannot decode label", refusal.OtherLabel},
	{"[ERR] memberlist: label header cannot be empty", refusal.OtherLabel},
	{"[ERR] memberlist: failed to receive and remove the stream label header", refusal.OtherLabel},
	{"[ERR] memberlist: Decrypt packet failed", refusal.OtherKey},
	{"[ERR] memberlist: failed to receive: no installed keys", refusal.OtherKey},
	{"[ERR] memberlist: failed to receive: encryption is configured", refusal.OtherKey},
	{"[ERR] memberlist: failed to receive: remote state is encrypted", refusal.OtherKey},
	{"[ERR] memberlist: failed to receive: remote node state is larger", refusal.LargeFrame},
	{"[ERR] memberlist: failed to receive: ", refusal.BadMessage},
	{"[WARN] memberlist: Got invalid checksum", refusal.BadFrame},
	{"[ERR] memberlist: missing message type", refusal.BadMessage},
	{"[ERR] memberlist: msg type", refusal.BadMessage},
	{"[ERR] memberlist: Received invalid msgType", refusal.BadMessage},
	{"[ERR] memberlist: Too many pending push/pull", refusal.TooMany},
	{"[ERR] memberlist: Failed to decode", refusal.BadMessage},
	{"[ERR] memberlist: Failed to decompress", refusal.BadMessage},
	{"[ERR] memberlist: Failed to read remote state", refusal.BadMessage},
	{"[ERR] memberlist: Failed to receive user message", refusal.BadMessage},
}

// gossipRefusal is whether a line tells of a refusal, and why.
func gossipRefusal(line string) refusal.Reason {
	for _, w := range gossipWords {
		if !strings.HasPrefix(line, w.begin) {
			continue
		}
		switch {
		case strings.Contains(w.begin, "discarding"): // with a label that outsiders choose
		case strings.Contains(line, "i/o timeout"):
			return refusal.SlowFrame
		case strings.Contains(line, refusal.LargeFrame.String()):
			return refusal.LargeFrame
		}
		return w.why
	}
	return refusal.Welcome
}
