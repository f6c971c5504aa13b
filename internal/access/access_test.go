package access

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"physalia/cell"
	"physalia/internal/grant"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// methodAsk is what this test's server answers.
const methodAsk = "test.ask"

// door is a server that says of each request whether its user may write a key of cell vol-1, and how.
type door struct {
	t    testing.TB
	home *pki.Home
	dir  string
	gate *Gate
	addr string
	do   func(c *rpc.Conn) // on the connection's reader, whose the session is; nil: nothing
}

func newDoor(t testing.TB, secure bool) *door {
	t.Helper()
	d := &door{t: t, dir: t.TempDir()}
	home, err := pki.InitHome(filepath.Join(d.dir, "ca"), "eu1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	d.home = home
	settings := pki.Settings{}
	if secure {
		settings.Dir = d.issue(pki.Control, "c")
	}
	guard, err := pki.Open(settings, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.gate = New(guard)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		ln, err = guard.Listener(ln, pki.ControlPort)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(ln, rpc.Config{Handler: rpc.HandlerFunc(d.handle)})
	t.Cleanup(func() { server.Close() })
	d.addr = server.Addr().String()
	return d
}

func (d *door) handle(c *rpc.Conn, q rpc.Request) {
	if q.Method == wire.MethodPresent {
		c.Reply(q.ID, nil, d.gate.Present(c, q.Params))
		return
	}
	s := d.gate.Session(c)
	if d.do != nil {
		d.do(c)
	}
	c.Reply(q.ID, &wire.Present{Reason: s.Name() + "; " + s.Reason}, d.gate.Deny(q.Method, s.Rights.Txn(d.gate.Now(), "vol-1", &put)))
}

var put = cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "k", Value: cell.Int(1)}}}

func (d *door) issue(role pki.Role, name string) string {
	d.t.Helper()
	dir := filepath.Join(d.dir, string(role)+"-"+name)
	if err := d.home.Issue(dir, pki.Identity{Colony: "eu1", Role: role, Name: name}, time.Now(), pki.LeafLife, false); err != nil {
		d.t.Fatal(err)
	}
	return dir
}

// token signs with the key that signs at this moment.
func (d *door) token(text string) string {
	d.t.Helper()
	grants, err := grant.Parse(text)
	if err != nil {
		d.t.Fatal(err)
	}
	keys, err := d.home.TokenKeys()
	if err != nil {
		d.t.Fatal(err)
	}
	now := time.Now().Unix()
	signed, err := grant.Sign(&grant.Token{Number: 1, Colony: "eu1", Name: "t", Issued: now, Expires: now + 3600, Grants: grants}, keys[0])
	if err != nil {
		d.t.Fatal(err)
	}
	return signed
}

// dial opens a connection as somebody; without a directory, in plain text.
func (d *door) dial(dir string) *rpc.Conn {
	d.t.Helper()
	g, err := pki.Open(pki.Settings{Dir: dir}, nil, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	conn, err := rpc.Dial(d.t.Context(), d.addr, rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient}, DialContext: g.Dialer(pki.ControlPort, nil)})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close(nil); <-conn.Done() })
	return conn
}

// ask asks whether the user of a connection may write.
func (d *door) ask(conn *rpc.Conn) (who string, err error) {
	var answer wire.Present
	err = conn.Call(d.t.Context(), methodAsk, nil, &answer)
	return answer.Reason, err
}

func (d *door) present(conn *rpc.Conn, m wire.Present) error {
	return conn.Call(d.t.Context(), wire.MethodPresent, &m, nil)
}

// TestRoles: what a role alone allows, and that a token matters to clients only.
func TestRoles(t *testing.T) {
	d := newDoor(t, true)
	for _, role := range []pki.Role{pki.Operator, pki.Control} {
		conn := d.dial(d.issue(role, "x"))
		if err := d.present(conn, wire.Present{Token: "nonsense", Reason: "ticket 4711"}); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		if who, err := d.ask(conn); err != nil || who != "physalia://eu1/"+string(role)+"/x; ticket 4711" {
			t.Errorf("%s: %q, %v", role, who, err)
		}
	}
	user := d.dial(d.issue(pki.Client, "u"))
	if _, err := d.ask(user); !errors.Is(err, cell.Denied) || d.gate.Denied(grant.NoToken) != 1 {
		t.Errorf("a client without a token: %v", err)
	}
	if err := d.present(user, wire.Present{Token: d.token("write vol-*")}); err != nil || d.gate.Shown() != 1 {
		t.Error(err)
	}
	if who, err := d.ask(user); err != nil || who != "physalia://eu1/client/u with token t/0000000000000001; " {
		t.Errorf("%q, %v", who, err)
	}
	// A second token replaces the first one, and no token that counts leaves nothing.
	if err := d.present(user, wire.Present{Token: d.token("read vol-*")}); err != nil {
		t.Error(err)
	}
	if _, err := d.ask(user); !errors.Is(err, cell.Denied) || d.gate.Denied(grant.NoVerb) != 1 {
		t.Errorf("with less: %v", err)
	}
	if err := d.present(user, wire.Present{Token: "nonsense"}); !errors.Is(err, cell.Denied) {
		t.Error(err)
	}
	if _, err := d.ask(user); !errors.Is(err, cell.Denied) || d.gate.Denied(grant.BadToken) != 2 {
		t.Errorf("with nonsense: %v, counted %d", err, d.gate.Denied(grant.BadToken))
	}
	if err := user.Call(t.Context(), wire.MethodPresent, &wire.Pong{}, nil); !errors.Is(err, cell.Invalid) {
		t.Errorf("what is no Present: %v", err)
	}
	plain := newDoor(t, false)
	if who, err := plain.ask(plain.dial("")); err != nil || !strings.HasPrefix(who, "plain text from 127.0.0.1:") {
		t.Errorf("plain text: %q, %v", who, err)
	}
}

// TestForgottenKey: when this side forgets the key of a token, the token counts no longer, on connections that are open, too.
func TestForgottenKey(t *testing.T) {
	d := newDoor(t, true)
	user := d.dial(d.issue(pki.Client, "u"))
	if err := d.present(user, wire.Present{Token: d.token("write *")}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ask(user); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.dir, "control-c", "tokens.pub")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		text string
		want cell.Kind
	}{{"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n", cell.Denied}, {string(old), 0}} {
		if err := os.WriteFile(file, []byte(step.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := d.gate.guard.Reload(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ask(user); cell.KindOf(err) != step.want {
			t.Errorf("%v, want %v", err, step.want)
		}
	}
	if d.gate.Denied(grant.UnknownKey) != 1 {
		t.Error("it is not counted")
	}
}

// TestExpiry: a token ends on a connection that is open.
func TestExpiry(t *testing.T) {
	d := newDoor(t, true)
	at := time.Now()
	d.gate.now = func() time.Time { return at } // the server reads it while this goroutine waits for an answer
	user := d.dial(d.issue(pki.Client, "u"))
	if err := d.present(user, wire.Present{Token: d.token("write *")}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  cell.Kind
	}{{0, 0}, {time.Hour - time.Minute, 0}, {time.Hour + time.Minute, cell.Denied}} {
		d.gate.now = func() time.Time { return at.Add(step.after) }
		if _, err := d.ask(user); cell.KindOf(err) != step.want {
			t.Errorf("after %v: %v", step.after, err)
		}
	}
}

// TestHotPath: to know the session and to decide about an allowed request costs no allocation.
func TestHotPath(t *testing.T) {
	d := newDoor(t, true)
	user := d.dial(d.issue(pki.Client, "u"))
	if err := d.present(user, wire.Present{Token: d.token("write *")}); err != nil {
		t.Fatal(err)
	}
	n := -1.0
	d.do = func(c *rpc.Conn) {
		n = testing.AllocsPerRun(100, func() {
			if d.gate.Session(c).Rights.Txn(d.gate.Now(), "vol-1", &put) != nil {
				t.Error("refused")
			}
		})
	}
	if _, err := d.ask(user); err != nil || n != 0 {
		t.Errorf("%v allocations, %v", n, err)
	}
}

// BenchmarkSession is what a server does about rights for each request of a client with a token.
func BenchmarkSession(b *testing.B) {
	d := newDoor(b, true)
	user := d.dial(d.issue(pki.Client, "u"))
	if err := d.present(user, wire.Present{Token: d.token("read,write,lease vol-*")}); err != nil {
		b.Fatal(err)
	}
	d.do = func(c *rpc.Conn) {
		b.ReportAllocs()
		for b.Loop() {
			if d.gate.Session(c).Rights.Txn(d.gate.Now(), "vol-1", &put) != nil {
				b.Error("refused")
			}
		}
	}
	if _, err := d.ask(user); err != nil {
		b.Fatal(err)
	}
}

// TestReadToken: what a token's file may be, and that no error has its content.
func TestReadToken(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	for text, ok := range map[string]bool{" phy1.AAAA\n": true, "": false, "\n": false, "phy1.A phy1.B": false, strings.Repeat("s", wire.TokenBytesMax+1): false,
		strings.Repeat("s", 1<<20): false} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadToken(name)
		if ok != (err == nil) || ok && got != strings.TrimSpace(text) || err != nil && (cell.KindOf(err) != cell.Invalid || strings.Contains(err.Error(), "phy1") || strings.Contains(err.Error(), "sss")) {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
	if _, err := ReadToken(name + ".none"); cell.KindOf(err) != cell.Invalid {
		t.Error(err)
	}
}
