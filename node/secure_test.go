package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// authority is a colony's authority, and a place for directories of certificates.
type authority struct {
	*pki.Home
	t   testing.TB
	dir string
}

func newAuthority(t testing.TB, colony string) *authority {
	t.Helper()
	dir := t.TempDir()
	h, err := pki.InitHome(filepath.Join(dir, "ca"), colony, time.Now().Add(-90*24*time.Hour)) // old enough for certificates that have expired
	if err != nil {
		t.Fatal(err)
	}
	return &authority{h, t, dir}
}

// issue makes a directory for an identity of the authority's colony, as of some time ago.
func (a *authority) issue(id pki.Identity, ago time.Duration) string {
	a.t.Helper()
	id.Colony = a.Signer.Colony()
	dir := filepath.Join(a.dir, strings.Join([]string{string(id.Role), id.Brick, id.Color, id.Name, ago.String()}, "-"))
	if err := a.Issue(dir, id, time.Now().Add(-ago), pki.LeafLife, false); err != nil {
		a.t.Fatal(err)
	}
	return dir
}

func serverIdentity(name, brick, color string) pki.Identity {
	return pki.Identity{Role: pki.Server, Brick: brick, Color: color, Name: name}
}

// guard opens the certificates of a new identity.
func (a *authority) guard(id pki.Identity) *pki.Guard {
	a.t.Helper()
	g, err := pki.Open(pki.Settings{Dir: a.issue(id, 0)}, nil, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return g
}

// secureColony is a colony all of whose connections are TLS.
type secureColony struct {
	*testColony
	home    *authority
	dirs    []string // of everybody
	token   string   // the user's, a file
	control *pki.Guard
}

func newSecureColony(t *testing.T, servers int, change ...func(i int, cfg *Config)) *secureColony {
	t.Helper()
	home := newAuthority(t, "test")
	c := &secureColony{home: home}
	dir := home.issue(pki.Identity{Role: pki.Control, Name: "control"}, 0)
	var err error
	if c.control, err = pki.Open(pki.Settings{Dir: dir}, nil, nil); err != nil {
		t.Fatal(err)
	}
	c.dirs = append(c.dirs, dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		ln, err = c.control.Listener(ln, pki.ControlPort)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.testColony = colonyOn(t, ln, servers, func(i int, cfg *Config) {
		for _, f := range change {
			f(i, cfg)
		}
		dir := home.issue(serverIdentity(cfg.Name, cfg.Brick, cfg.Color), 0)
		c.dirs = append(c.dirs, dir)
		cfg.Certs.Dir = dir
	})
	return c
}

// user is a client of the colony with a certificate, and a token that allows everything in all cells.
func (c *secureColony) user() *client.Client {
	c.t.Helper()
	c.token = filepath.Join(c.home.dir, "user.token")
	c.home.token(c.token, "user", "read,write,lease *")
	dir := c.home.issue(pki.Identity{Role: pki.Client, Name: "user"}, 0)
	c.dirs = append(c.dirs, dir)
	return c.userWith(dir, c.token)
}

// userWith is a client of the colony with certificates and a token, each of which may be none.
func (c *secureColony) userWith(dir, token string) *client.Client {
	c.t.Helper()
	cfg := client.Config{Colony: "test", CallTimeout: patience, CertsDir: dir, TokenFile: token}
	for _, s := range c.servers {
		cfg.Servers = append(cfg.Servers, s.ClientAddr())
	}
	user, err := client.New(context.Background(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(user.Close)
	return user
}

// renew brings every directory up to date, and waits until every process has read its own.
func (c *secureColony) renew(users ...*client.Client) {
	c.t.Helper()
	for _, dir := range c.dirs {
		if _, err := c.home.Renew(dir, time.Now(), pki.LeafLife, false); err != nil {
			c.t.Fatal(err)
		}
	}
	c.home.token(c.token, "user", "read,write,lease *")
	if err := c.control.Reload(); err != nil {
		c.t.Fatal(err)
	}
	for _, s := range c.servers {
		if err := s.guard.Reload(); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, u := range users {
		if err := errors.Join(u.ReloadCertificates(), u.ReloadToken()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestSecureColony: seven servers, a control plane and a client talk only to who has a certificate, gossip has a key, and all works.
func TestSecureColony(t *testing.T) {
	c := newSecureColony(t, 7)
	c.create("vol-1")
	if _, err := c.user().Cell("vol-1").Put(t.Context(), "k", cell.String("v")); err != nil {
		t.Fatal(err)
	}
	s := c.servers[0]
	eventually(t, "the pool of gossip has everybody", func() bool { return s.gossip.members() == 7 })
	if s.gossip.keys == nil {
		t.Error("gossip has no key")
	}
	for _, port := range []pki.Port{pki.PeerPort, pki.ClientPort} {
		if n := s.guard.Refused(port, pki.Accepting, pki.Welcome) + c.servers[1].guard.Refused(port, pki.Accepting, pki.Welcome); n == 0 {
			t.Errorf("no handshake at the %s port", port)
		}
	}
	// Ops stays plain on loopback.
	r, err := http.Get("http://" + s.OpsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"physalia_certificate_expiry_timestamp_seconds{", `physalia_refused_total{brick="b1",color="red",port="peer",reason="other color",side="accepted"} 0`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// attack is a connection that has no business where it comes.
type attack struct {
	port   pki.Port
	reason pki.Reason
	certs  string // directory; empty: TLS without a certificate
	hello  wire.Hello
	plain  bool // no TLS
}

// strike opens the connection, says the Hello and reads until the end. It reports whether the server said a Hello of its own
// without a refusal.
func (a *attack) strike(t *testing.T, addr string) (welcome bool) {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if !a.plain {
		config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} // an attacker believes everybody
		if a.certs != "" {
			pair, err := tls.LoadX509KeyPair(filepath.Join(a.certs, "tls.crt"), filepath.Join(a.certs, "tls.key"))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		nc = tls.Client(nc, config)
	}
	a.hello.Min, a.hello.Max = wire.ProtocolMin, wire.ProtocolMax
	if _, err := nc.Write(wire.EndFrame(a.hello.Append(wire.BeginFrame(nil)), 0)); err != nil {
		return false
	}
	body, err := wire.ReadFrame(nc, nil, 1<<16)
	var answer wire.Hello
	return err == nil && wire.Unmarshal(body, &answer) == nil && answer.Refusal == nil
}

// TestStrangersAreRefused: each kind of stranger is refused at the handshake, counted by reason, and the server goes on.
func TestStrangersAreRefused(t *testing.T) {
	home, foreign, imposter := newAuthority(t, "test"), newAuthority(t, "other"), newAuthority(t, "test")
	// One authority for two colonies would be a mistake of its operator; the colony in the certificate counts all the same.
	s := startAlone(t, func(c *Config) { c.Certs.Dir = home.issue(serverIdentity("s1", "b1", "red"), 0) })
	good := serverIdentity("s2", "b1", "red")
	peer := func(brick, color string) wire.Hello {
		return wire.Hello{Purpose: wire.ForPaxos, Colony: "test", Brick: brick, Color: color, Server: "s2-aaaaaaaa", Boot: 1}
	}
	user := wire.Hello{Purpose: wire.ForClient, Colony: "test"}
	both := twoColonies(t, home, foreign)
	mixed := startAlone(t, func(c *Config) { c.Certs.Dir = both })
	for name, a := range map[string]attack{
		"wrong CA, same colony":         {pki.PeerPort, pki.UnknownAuthority, imposter.issue(good, 0), peer("b1", "red"), false},
		"expired":                       {pki.PeerPort, pki.Expired, home.issue(good, 40*24*time.Hour), peer("b1", "red"), false},
		"not yet valid":                 {pki.PeerPort, pki.NotYetValid, home.issue(good, -24*time.Hour), peer("b1", "red"), false},
		"other brick":                   {pki.PeerPort, pki.OtherBrick, home.issue(serverIdentity("s2", "b2", "red"), 0), peer("b1", "red"), false},
		"other color":                   {pki.PeerPort, pki.OtherColor, home.issue(serverIdentity("s2", "b1", "blue"), 0), peer("b1", "red"), false},
		"client on the peer port":       {pki.PeerPort, pki.WrongRole, home.issue(pki.Identity{Role: pki.Client, Name: "u"}, 0), peer("b1", "red"), false},
		"operator on the peer port":     {pki.PeerPort, pki.WrongRole, home.issue(pki.Identity{Role: pki.Operator, Name: "o"}, 0), peer("b1", "red"), false},
		"nobody on the peer port":       {pki.PeerPort, pki.NoCertificate, "", peer("b1", "red"), false},
		"plain text on the peer port":   {pki.PeerPort, pki.PlainText, "", peer("b1", "red"), true},
		"a server's name is a lie":      {pki.PeerPort, pki.OtherName, home.issue(serverIdentity("s3", "b1", "red"), 0), peer("b1", "red"), false},
		"a server's color is a lie":     {pki.PeerPort, pki.OtherColor, home.issue(good, 0), peer("b1", "blue"), false},
		"server on the client port":     {pki.ClientPort, pki.WrongRole, home.issue(serverIdentity("s4", "b1", "red"), 0), user, false},
		"foreign client":                {pki.ClientPort, pki.UnknownAuthority, foreign.issue(pki.Identity{Role: pki.Client, Name: "f"}, 0), user, false},
		"nobody on the client port":     {pki.ClientPort, pki.NoCertificate, "", user, false},
		"plain text on the client port": {pki.ClientPort, pki.PlainText, "", user, true},
		"client as the control plane":   {pki.ClientPort, pki.WrongRole, home.issue(pki.Identity{Role: pki.Client, Name: "v"}, 0), wire.Hello{Purpose: wire.ForDialBack, Colony: "test"}, false},
	} {
		t.Run(name, func(t *testing.T) { a.refused(t, s) })
	}
	other := attack{pki.PeerPort, pki.OtherColony, foreign.issue(good, 0), peer("b1", "red"), false}
	t.Run("other colony under a trusted authority", func(t *testing.T) { other.refused(t, mixed) })
	// After all that, whoever belongs here is welcome.
	welcome := attack{certs: home.issue(pki.Identity{Role: pki.Client, Name: "w"}, 0), hello: user}
	if !welcome.strike(t, s.ClientAddr()) {
		t.Error("the server does not serve any more")
	}
}

// refused strikes and expects to be counted once for the right reason.
func (a *attack) refused(t *testing.T, s *Server) {
	t.Helper()
	addr := s.PeerAddr()
	if a.port == pki.ClientPort {
		addr = s.ClientAddr()
	}
	before := s.guard.Refused(a.port, pki.Accepting, a.reason)
	if a.strike(t, addr) {
		t.Error("it is welcome")
	}
	eventually(t, fmt.Sprintf("one more %q", a.reason), func() bool { return s.guard.Refused(a.port, pki.Accepting, a.reason) == before+1 })
}

// twoColonies is a directory of a server whose operator trusts the authorities of two colonies.
func twoColonies(t *testing.T, home, foreign *authority) string {
	t.Helper()
	dir := home.issue(serverIdentity("s1", "b1", "red"), time.Hour)
	ours, err := pki.ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := pki.ReadFiles(foreign.Dir)
	if err != nil {
		t.Fatal(err)
	}
	both := append(ours.Authorities, theirs.Authorities...)
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), both, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTLSAtPlainPorts: the reverse of plain text at a secure port is refused and counted, too.
func TestTLSAtPlainPorts(t *testing.T) {
	s := startAlone(t)
	home := newAuthority(t, "test")
	for _, a := range []attack{
		{port: pki.PeerPort, reason: pki.NotPlainText, certs: home.issue(serverIdentity("s2", "b1", "red"), 0)},
		{port: pki.ClientPort, reason: pki.NotPlainText, certs: home.issue(pki.Identity{Role: pki.Client, Name: "u"}, 0)},
	} {
		a.refused(t, s)
	}
	// Whoever dials is told what is the matter.
	g := home.guard(pki.Identity{Role: pki.Client, Name: "w"})
	_, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient}, DialContext: g.Dialer(pki.ClientPort, nil)})
	if cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), pki.PlainText.String()) {
		t.Errorf("dialling: %v", err)
	}
}

// TestDialledStrangers: the side that dials is as strict: what answers must be a server of this colony, brick and color.
func TestDialledStrangers(t *testing.T) {
	home, imposter := newAuthority(t, "test"), newAuthority(t, "test")
	for name, test := range map[string]struct {
		answers *pki.Guard
		reason  pki.Reason
	}{
		"wrong CA":    {imposter.guard(serverIdentity("s2", "b1", "red")), pki.UnknownAuthority},
		"other color": {home.guard(serverIdentity("s2", "b1", "blue")), pki.OtherColor},
		"control":     {home.guard(pki.Identity{Role: pki.Control, Name: "c"}), pki.WrongRole},
		"client":      {home.guard(pki.Identity{Role: pki.Client, Name: "c"}), pki.BadCertificate}, // it is not for listening
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if ln, err = test.answers.Listener(ln, pki.PeerPort); err != nil {
				t.Fatal(err)
			}
			server := rpc.NewServer(ln, rpc.Config{})
			defer server.Close()
			g := home.guard(serverIdentity("s1-"+strings.ReplaceAll(name, " ", ""), "b1", "red"))
			_, err = g.Dialer(pki.PeerPort, nil)(t.Context(), "tcp", server.Addr().String())
			if cell.KindOf(err) != cell.Refused || g.Refused(pki.PeerPort, pki.Dialling, test.reason) != 1 {
				t.Errorf("dialling: %v", err)
			}
		})
	}
}

// TestRotationUnderLoad: authority and gossip keys are replaced under a working colony, and not one request fails.
func TestRotationUnderLoad(t *testing.T) {
	c := newSecureColony(t, 7)
	c.create("vol-1")
	c.create("vol-2")
	users := []*client.Client{c.user()}
	var wrote [2]atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for i, id := range []cell.ID{"vol-1", "vol-2"} {
		wait.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				if _, err := users[0].Cell(id).Increment(context.WithoutCancel(ctx), counterKey, 1); err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
				wrote[i].Add(1)
			}
		})
	}
	goesOn := func() {
		t.Helper()
		for i := range wrote {
			from := wrote[i].Load()
			eventually(t, "writes go on", func() bool { return wrote[i].Load() >= from+20 || t.Failed() })
		}
	}
	old := c.home.Signer
	for _, step := range []func() error{func() error { return c.home.Begin(time.Now()) }, c.home.Switch, c.home.Finish} {
		goesOn()
		if err := step(); err != nil {
			t.Fatal(err)
		}
		c.renew(users[0])
	}
	goesOn()
	cancel()
	wait.Wait()
	for i, id := range []cell.ID{"vol-1", "vol-2"} {
		entry, err := users[0].Cell(id).Get(t.Context(), counterKey)
		if n, _ := entry.Value.AsInt64(); err != nil || n != wrote[i].Load() {
			t.Errorf("%s counted %d, acknowledged were %d: %v", id, n, wrote[i].Load(), err)
		}
	}
	dropped := c.control.Stats().Dropped
	for _, s := range c.servers {
		if m := s.guard.Material(); len(m.Authorities) != 1 || m.Leaf.CheckSignatureFrom(old.Certificate) == nil {
			t.Errorf("%s still trusts the old authority", s.cfg.Name)
		}
		dropped += s.guard.Stats().Dropped
		eventually(t, "one gossip key is left", func() bool { return len(s.gossip.keys.GetKeys()) == 1 })
	}
	if dropped == 0 {
		t.Error("nobody has closed the connections that the old authority vouched for")
	}
}
