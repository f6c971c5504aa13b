package control

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/operator"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// secured starts a control process with a certificate, and returns how to get more of them.
func secured(t *testing.T, change ...func(*Config)) (p *Control, issue func(colony string, id pki.Identity) string) {
	t.Helper()
	dir, homes := t.TempDir(), map[string]*pki.Home{}
	issue = func(colony string, id pki.Identity) string {
		t.Helper()
		if homes[colony] == nil {
			h, err := pki.InitHome(filepath.Join(dir, colony), colony, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			homes[colony] = h
		}
		id.Colony = colony
		at := filepath.Join(dir, colony+"-certs", fmt.Sprintf("%s-%s-%s", id.Role, id.Brick, id.Name))
		if err := homes[colony].Issue(at, id, time.Now(), pki.LeafLife, true); err != nil {
			t.Fatal(err)
		}
		return at
	}
	c := config(t)
	c.Certs.Dir = issue("test", pki.Identity{Role: pki.Control, Name: "control"})
	for _, f := range change {
		f(&c)
	}
	return start(t, c), issue
}

// What connects to the control plane says what it is; the certificate must say the same.
func TestRolesAtTheControlPort(t *testing.T) {
	p, issue := secured(t)
	server := pki.Identity{Role: pki.Server, Brick: "b1", Color: "red", Name: "s1"}
	asServer := wire.Hello{Purpose: wire.ForControl, Colony: "test", Brick: "b1", Color: "red", Server: "s1-aaaaaaaa", Boot: 1}
	asUser := wire.Hello{Purpose: wire.ForClient, Colony: "test"}
	for name, c := range map[string]struct {
		certs  string
		hello  wire.Hello
		reason pki.Reason
	}{
		"operator":                      {issue("test", pki.Identity{Role: pki.Operator, Name: "o"}), asUser, pki.Welcome},
		"client":                        {issue("test", pki.Identity{Role: pki.Client, Name: "c"}), asUser, pki.Welcome},
		"another control process":       {issue("test", pki.Identity{Role: pki.Control, Name: "c2"}), asUser, pki.Welcome},
		"server":                        {issue("test", server), asServer, pki.Welcome},
		"server as an operator":         {issue("test", server), asUser, pki.WrongRole},
		"operator as a server":          {issue("test", pki.Identity{Role: pki.Operator, Name: "o"}), asServer, pki.WrongRole},
		"client as a server":            {issue("test", pki.Identity{Role: pki.Client, Name: "c"}), asServer, pki.WrongRole},
		"server under another identity": {issue("test", pki.Identity{Role: pki.Server, Brick: "b1", Color: "red", Name: "s2"}), asServer, pki.OtherName},
		"server of another brick":       {issue("test", pki.Identity{Role: pki.Server, Brick: "b2", Color: "red", Name: "s1"}), asServer, pki.OtherBrick},
		"operator of another colony":    {issue("other", pki.Identity{Role: pki.Operator, Name: "o"}), asUser, pki.UnknownAuthority},
	} {
		t.Run(name, func(t *testing.T) {
			before := p.guard.Refused(pki.ControlPort, pki.Accepting, c.reason)
			pair, err := tls.LoadX509KeyPair(filepath.Join(c.certs, "tls.crt"), filepath.Join(c.certs, "tls.key"))
			if err != nil {
				t.Fatal(err)
			}
			nc, err := tls.Dial("tcp", p.Addr(), &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := rpc.Client(t.Context(), nc, rpc.Config{Hello: c.hello, FrameMax: wire.ControlFrameMax})
			if err == nil {
				conn.Close(nil)
				<-conn.Done()
			}
			if welcome := c.reason == pki.Welcome; (err == nil) != welcome {
				t.Errorf("%v", err)
			}
			eventually(t, fmt.Sprintf("%q is counted once", c.reason), func() bool { // this side may know before the other has counted
				return p.guard.Refused(pki.ControlPort, pki.Accepting, c.reason) == before+1
			})
		})
	}
	// People's commands go the same way.
	op := operator.Operator{Colony: "test", Addresses: []string{p.Addr()}, Certs: pki.Settings{Dir: issue("test", pki.Identity{Role: pki.Operator, Name: "p"})}}
	if _, err := op.Servers(t.Context(), "test"); err != nil {
		t.Error(err)
	}
	op.Certs = pki.Settings{}
	if _, err := op.Servers(t.Context(), "test"); cell.KindOf(err) == 0 {
		t.Error("plain text is served")
	}
	if n := p.guard.Refused(pki.ControlPort, pki.Accepting, pki.PlainText); n == 0 {
		t.Error("plain text was not counted")
	}
}

// Beyond loopback nothing listens without a certificate, unless it was said in so many words.
func TestBeyondLoopback(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"listen":     func(c *Config) { c.Listen = "0.0.0.0:0" },
		"listen-ops": func(c *Config) { c.ListenOps = "0.0.0.0:0" },
	} {
		c := config(t)
		change(&c)
		p, err := Start(c)
		if cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), "--certs") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			t.Error(p.Close())
		}
		c.DataDir, c.Certs.PlainText = t.TempDir(), true
		start(t, c)
	}
	// With certificates the ops port is secure there, too.
	p, issue := secured(t, func(c *Config) { c.ListenOps = "0.0.0.0:0" })
	_, port, err := net.SplitHostPort(p.OpsAddr())
	if err != nil {
		t.Fatal(err)
	}
	addr := net.JoinHostPort("127.0.0.1", port)
	g, err := pki.Open(pki.Settings{Dir: issue("test", pki.Identity{Role: pki.Client, Name: "scraper"})}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	scraper := &http.Client{Transport: &http.Transport{DialContext: g.Dialer(pki.OpsPort, nil), DisableKeepAlives: true}}
	r, err := scraper.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(text), "physalia_certificate_expiry_timestamp_seconds") {
		t.Errorf("%v: %s", err, text)
	}
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if r, err := plain.Get("http://" + addr + "/livez"); err == nil {
		t.Errorf("plain text is served: %s", r.Status)
		r.Body.Close()
	}
	if n := p.guard.Refused(pki.OpsPort, pki.Accepting, pki.PlainText); n == 0 {
		t.Error("plain text was not counted")
	}
}

// A control process takes certificates of control processes of its colony, and no others.
func TestForeignCertificates(t *testing.T) {
	_, issue := secured(t)
	for _, dir := range []string{issue("other", pki.Identity{Role: pki.Control, Name: "control"}), issue("test", pki.Identity{Role: pki.Operator, Name: "o"})} {
		c := config(t)
		c.Certs.Dir = dir
		if p, err := Start(c); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s: %v", dir, err)
			if err == nil {
				t.Error(p.Close())
			}
		}
	}
}
