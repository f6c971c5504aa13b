package pki

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"physalia/cell"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// colony is an authority and what it has issued.
type colony struct {
	*Home
	t     *testing.T
	clock *clock
}

func newColony(t *testing.T) *colony { return namedColony(t, "eu1") }

func namedColony(t *testing.T, name string) *colony {
	t.Helper()
	at := &clock{at: time.Now()}
	h, err := InitHome(filepath.Join(t.TempDir(), "ca"), name, at.now())
	if err != nil {
		t.Fatal(err)
	}
	return &colony{h, t, at}
}

func (c *colony) issue(id Identity) (dir string) {
	c.t.Helper()
	dir = filepath.Join(c.t.TempDir(), "certs")
	if err := c.Issue(dir, id, c.clock.now(), LeafLife, false); err != nil {
		c.t.Fatal(err)
	}
	return dir
}

func (c *colony) renew(dir string, force bool) {
	c.t.Helper()
	if _, err := c.Renew(dir, c.clock.now(), LeafLife, force); err != nil {
		c.t.Fatal(err)
	}
}

func (c *colony) guard(dir string, log *slog.Logger) *Guard {
	c.t.Helper()
	g, err := open(Settings{Dir: dir}, nil, log, c.clock.now)
	if err != nil {
		c.t.Fatal(err)
	}
	return g
}

// pair is a connection between two guards, over a real socket: what one writes, the other has read.
func pair(t *testing.T, from, to *Guard) (dialled, accepted net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	secure, err := to.Listener(ln, PeerPort)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if accepted, err = secure.Accept(); err == nil {
			_, err = io.ReadFull(accepted, make([]byte, 1))
		}
	}()
	dialled, dialErr := from.Dialer(PeerPort, nil)(t.Context(), "tcp", ln.Addr().String())
	if dialErr != nil {
		t.Fatal(dialErr)
	}
	if _, err := dialled.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	<-done
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBadFilesKeepTheOldOnes: whatever is wrong with new files, the process goes on with what it has, and says so without a key.
func TestBadFilesKeepTheOldOnes(t *testing.T) {
	c, foreign := newColony(t), namedColony(t, "eu2")
	theirs := server("s1", "b1", "red")
	theirs.Colony = "eu2"
	other, err := ReadFiles(foreign.issue(theirs))
	if err != nil {
		t.Fatal(err)
	}
	renamed, err := ReadFiles(c.issue(server("s2", "b1", "red")))
	if err != nil {
		t.Fatal(err)
	}
	for name, breakIt := range map[string]func(dir string){
		"no key":                 func(dir string) { os.Remove(filepath.Join(dir, keyFile)) },
		"no directory":           func(dir string) { os.RemoveAll(dir) },
		"half a certificate":     func(dir string) { write(t, dir, certificateFile, other.Certificate[:100]) },
		"another key":            func(dir string) { write(t, dir, keyFile, other.Key) },
		"another authority":      func(dir string) { write(t, dir, authoritiesFile, other.Authorities) },
		"no authority":           func(dir string) { write(t, dir, authoritiesFile, renamed.Certificate) },
		"a key for an authority": func(dir string) { write(t, dir, authoritiesFile, other.Key) },
		"too large": func(dir string) {
			write(t, dir, authoritiesFile, bytes.Repeat(other.Authorities, 1+fileBytesMax/len(other.Authorities)))
		},
		"too many authorities": func(dir string) { write(t, dir, authoritiesFile, bytes.Repeat(other.Authorities, authoritiesMax+1)) },
		"gossip keys":          func(dir string) { write(t, dir, gossipFile, []byte("c2hvcnQ=\n")) },
		"another identity": func(dir string) {
			write(t, dir, certificateFile, renamed.Certificate)
			write(t, dir, keyFile, renamed.Key)
		},
		"another colony's": func(dir string) {
			write(t, dir, certificateFile, other.Certificate)
			write(t, dir, keyFile, other.Key)
			write(t, dir, authoritiesFile, other.Authorities)
		},
		"expired": func(string) { c.clock.pass(2 * LeafLife) },
	} {
		t.Run(name, func(t *testing.T) {
			began := c.clock.now()
			dir := c.issue(server("s1", "b1", "red"))
			g := c.guard(dir, nil)
			before := g.Material()
			breakIt(dir)
			if name == "expired" { // a file that was good when it was written, and is brought too late
				old, err := ReadFiles(dir)
				if err != nil {
					t.Fatal(err)
				}
				write(t, dir, authoritiesFile, append(old.Authorities, '\n'))
			}
			for range 2 {
				err := g.Reload()
				if cell.KindOf(err) != cell.Invalid || strings.Contains(err.Error(), "BEGIN") || strings.Contains(err.Error(), "c2hvcnQ") {
					t.Errorf("reload: %v", err)
				}
			}
			if s := g.Stats(); g.Material() != before || s.Failures != 1 || s.Reloads != 0 {
				t.Errorf("other material is in use, or counted: %d failures, %d reloads", s.Failures, s.Reloads)
			}
			c.clock.pass(began.Sub(c.clock.now()))
		})
	}
}

// TestAlarm: what stays bad is logged once and shown until it is mended; what was half written for a moment is not.
func TestAlarm(t *testing.T) {
	c := newColony(t)
	dir := c.issue(server("s1", "b1", "red"))
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := c.guard(dir, slog.New(slog.NewTextHandler(&log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); g.Run(ctx) }()
		good, err := ReadFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, keyFile, []byte("half"))
		time.Sleep(reloadEvery + settleTime/2)
		synctest.Wait()
		if g.Stats().Failing {
			t.Error("it is alarmed at once")
		}
		write(t, dir, keyFile, good.Key)
		time.Sleep(reloadEvery)
		synctest.Wait()
		if g.Stats().Failing || strings.Contains(log.String(), "ERROR") {
			t.Error("it is alarmed about what was mended")
		}
		write(t, dir, keyFile, []byte("bad"))
		time.Sleep(10 * reloadEvery)
		synctest.Wait()
		if !g.Stats().Failing || strings.Count(log.String(), "ERROR") != 1 {
			t.Errorf("failing is %v:\n%s", g.Stats().Failing, log.String())
		}
		write(t, dir, keyFile, good.Key)
		c.renew(dir, true)
		time.Sleep(2 * reloadEvery)
		synctest.Wait()
		if s := g.Stats(); s.Failing || s.Reloads != 1 {
			t.Errorf("mended, and failing is %v after %d reloads", s.Failing, s.Reloads)
		}
		c.clock.pass(LeafLife - time.Hour)
		time.Sleep(reloadEvery)
		synctest.Wait()
		cancel()
		<-done
		if !strings.Contains(log.String(), "expires soon") || strings.Contains(log.String(), "PRIVATE") {
			t.Errorf("the log is:\n%s", log.String())
		}
	})
	c.clock.pass(time.Hour - LeafLife)
}

// TestRotationKeepsConnections: through the three steps of a rotation new connections succeed between any two processes, of which
// one has done the step and the other has not; what the old authority vouched for ends with it.
func TestRotationKeepsConnections(t *testing.T) {
	c := newColony(t)
	a, b := c.issue(server("s1", "b1", "red")), c.issue(server("s2", "b1", "red"))
	ga, gb := c.guard(a, nil), c.guard(b, nil)
	early, other := pair(t, ga, gb)
	reload := func(dir string, g *Guard) {
		t.Helper()
		c.renew(dir, false)
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []func() error{func() error { return c.Begin(c.clock.now()) }, c.Switch, c.Finish} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		reload(a, ga)
		pair(t, ga, gb)
		pair(t, gb, ga)
		if i == 2 && ga.Stats().Dropped == 0 {
			t.Error("the first connection has outlived its authority")
		}
		reload(b, gb)
		pair(t, ga, gb)
		if i < 2 && ga.Stats().Dropped+gb.Stats().Dropped != 0 {
			t.Error("a connection was closed that the rotation does not concern")
		}
	}
	if _, err := early.Read(make([]byte, 1)); err == nil {
		t.Error("the first connection still reads")
	}
	other.Close()
	if n := len(ga.Material().GossipKeys); n != 1 {
		t.Errorf("%d gossip keys are left", n)
	}
	again, err := OpenHome(c.Dir)
	if err != nil || len(again.Authorities()) != 1 || !again.Signer.Certificate.Equal(c.Signer.Certificate) {
		t.Errorf("the authority on disk is another: %v", err)
	}
}

// TestExpiredConnectionsEnd: a connection lives no longer than the certificate that opened it, and a renewed one opens the next.
func TestExpiredConnectionsEnd(t *testing.T) {
	c := newColony(t)
	a, b := c.issue(server("s1", "b1", "red")), c.issue(server("s2", "b1", "red"))
	ga, gb := c.guard(a, nil), c.guard(b, nil)
	dialled, _ := pair(t, ga, gb)
	c.clock.pass(LeafLife * 2 / 3)
	c.renew(a, false)
	c.renew(b, false)
	if err := errors.Join(ga.Reload(), gb.Reload()); err != nil {
		t.Fatal(err)
	}
	ga.sweep(false)
	if n := ga.Stats().Dropped; n != 0 {
		t.Errorf("%d connections were closed before they expired", n)
	}
	c.clock.pass(LeafLife * 2 / 3)
	ga.sweep(false)
	if n := ga.Stats().Dropped; n != 1 {
		t.Errorf("%d connections were closed, want 1", n)
	}
	if _, err := dialled.Read(make([]byte, 1)); err == nil {
		t.Error("it still reads")
	}
	pair(t, ga, gb)
	if until := ga.Stats().LeafUntil; until.Before(c.clock.now()) {
		t.Errorf("the metric says %v", until)
	}
}

// TestHandshakeIsBounded: a side that says nothing, and one that says nonsense, end in time and are counted.
func TestHandshakeIsBounded(t *testing.T) {
	c := newColony(t)
	g := c.guard(c.issue(server("s1", "b1", "red")), nil)
	for name, test := range map[string]struct {
		says   string
		reason Reason
	}{"silence": {"", SlowStart}, "http": {"GET / HTTP/1.1\r\n\r\n", PlainText}, "a broken record": {"\x16\x03\x01\x00\x05hello", Broken}} {
		before := g.Refused(PeerPort, Accepting, test.reason)
		near, far := net.Pipe()
		ln := &listener{guard: g, port: PeerPort, config: g.config(PeerPort, Accepting), Listener: one{near}}
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			far.Write([]byte(test.says)) // it may be refused before it is read
			if test.says == "" {
				nc.SetDeadline(time.Unix(1, 0))
			}
			io.Copy(io.Discard, far)
		}()
		if _, err := nc.Read(make([]byte, 1)); err == nil || g.Refused(PeerPort, Accepting, test.reason) != before+1 {
			t.Errorf("%s: %v", name, err)
		}
		if _, again := nc.Read(make([]byte, 1)); again == nil || g.Refused(PeerPort, Accepting, test.reason) != before+1 {
			t.Errorf("%s, read again: %v", name, again)
		}
		nc.Close()
		far.Close()
		<-drained
	}
	if len(g.open) != 0 {
		t.Errorf("%d connections are kept", len(g.open))
	}
}

// one is a listener with one connection.
type one struct{ net.Conn }

func (o one) Accept() (net.Conn, error) { return o.Conn, nil }
func (o one) Addr() net.Addr            { return o.LocalAddr() }

// elsewhere is a connection to another machine.
type elsewhere struct {
	net.Conn
	closed *bool
}

func (e elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (e elsewhere) Close() error         { *e.closed = true; return nil }

// TestPlainText: without certificates nothing leaves this machine, unless it was said in so many words.
func TestPlainText(t *testing.T) {
	closed := false
	raw := func(context.Context, string, string) (net.Conn, error) { return elsewhere{closed: &closed}, nil }
	if _, err := loopbackOnly(raw)(t.Context(), "tcp", "x"); cell.KindOf(err) != cell.Refused || !closed {
		t.Errorf("dialling: %v, closed is %v", err, closed)
	}
	var none *Guard
	for ip, want := range map[string]cell.Kind{"127.0.0.1": 0, "::1": 0, "0.0.0.0": cell.Refused, "10.0.0.1": cell.Refused} {
		if err := none.CheckGossip(net.ParseIP(ip), false); cell.KindOf(err) != want {
			t.Errorf("gossip at %s: %v", ip, err)
		}
		if err := none.CheckGossip(net.ParseIP(ip), true); err != nil {
			t.Errorf("gossip with a key at %s: %v", ip, err)
		}
	}
	if _, err := Open(Settings{Dir: "x", PlainText: true}, nil, nil); cell.KindOf(err) != cell.Invalid {
		t.Errorf("certificates and plain text: %v", err)
	}
	if _, err := Open(Settings{Dir: filepath.Join(t.TempDir(), "none")}, nil, nil); cell.KindOf(err) != cell.Invalid {
		t.Errorf("no directory: %v", err)
	}
}

// TestKeyring reads what it wrote, and names the line of what it cannot read.
func TestKeyring(t *testing.T) {
	keys := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)}
	got, err := ParseKeyring(FormatKeyring(keys))
	if err != nil || !slices.EqualFunc(got, keys, bytes.Equal) {
		t.Errorf("%v: %v", got, err)
	}
	many := bytes.Repeat(FormatKeyring(keys[:1]), gossipKeysMax+1)
	for text, says := range map[string]string{"": "0 keys", "# none\n": "0 keys", "\n%%%\n": "line 2", "AAAA": "line 1", string(many): "9 keys"} {
		if _, err := ParseKeyring([]byte(text)); cell.KindOf(err) != cell.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}
