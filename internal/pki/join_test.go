package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"physalia/cell"
)

// TestJoinTokenText fixes the form of an invitation, which shows nothing when it is printed by mistake.
func TestJoinTokenText(t *testing.T) {
	token := JoinToken{Authority: [32]byte{1, 2, 3}, Secret: [32]byte{0xff, 0xfe}}
	const want = "phyj1.AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAD__gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if got := token.Text(); got != want {
		t.Errorf("the text is %s, want %s", got, want)
	}
	if got, err := ParseJoinToken(" " + want + "\n"); err != nil || got != token {
		t.Errorf("%v, %v", got, err)
	}
	if text := fmt.Sprintf("%v %s", token, token); strings.Contains(text, "255") || strings.Contains(text, "AQID") {
		t.Errorf("it prints as %s", text)
	}
	for _, bad := range []string{"", "phyj1.", want[6:], want[:40], want + "AA", "phy1." + want[6:], strings.Replace(want, "_", "/", 1)} {
		if _, err := ParseJoinToken(bad); cell.KindOf(err) != cell.Invalid || bad != "" && strings.Contains(err.Error(), want[20:40]) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzJoinToken: what is read as an invitation is written as it was read.
func FuzzJoinToken(f *testing.F) {
	f.Add(JoinToken{Authority: [32]byte{1}, Secret: [32]byte{2}}.Text())
	f.Add("phyj1.AA")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseJoinToken(text); err == nil && token.Text() != strings.TrimSpace(text) {
			t.Fatalf("%q is read as %q", text, token.Text())
		}
	})
}

// TestRequestedKey: a request counts when its holder has signed it, with a key of a kind that is used here.
func TestRequestedKey(t *testing.T) {
	_, request, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	if key, err := RequestedKey(request); err != nil || len(key.(ed25519.PublicKey)) != ed25519.PublicKeySize {
		t.Errorf("%v, %v", key, err)
	}
	other := func(key any) []byte {
		t.Helper()
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RequestedKey(other(p256)); err != nil {
		t.Error(err)
	}
	stolen := append([]byte(nil), request...)
	stolen[len(stolen)-1] ^= 1 // of the signature
	for name, bad := range map[string][]byte{"nothing": nil, "half": request[:40], "signature": stolen, "P-384": other(p384), "RSA": other(weak)} {
		if _, err := RequestedKey(bad); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWelcome: what comes back is a directory that works with the others', for exactly the identity that was invited.
func TestWelcome(t *testing.T) {
	c := newColony(t)
	key, request, err := NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	public, err := RequestedKey(request)
	if err != nil {
		t.Fatal(err)
	}
	files, err := c.Welcome(server("s1", "b1", "red"), public, c.clock.now(), LeafLife)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "joined")
	if _, err := WriteFiles(dir, files, c.clock.now()); cell.KindOf(err) != cell.Invalid {
		t.Errorf("without the key: %v", err)
	}
	files.Key = key
	if id, err := WriteFiles(dir, files, c.clock.now()); err != nil || id != server("s1", "b1", "red") {
		t.Fatal(id, err)
	}
	if _, err := WriteFiles(dir, files, c.clock.now()); cell.KindOf(err) != cell.Exists {
		t.Errorf("written over: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"tls.key": 0o600, "gossip.keys": 0o600, "tls.crt": 0o644, "ca.crt": 0o644, "tokens.pub": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	pair(t, c.guard(dir, nil), c.guard(c.issue(server("s2", "b1", "red")), nil))
	user, err := c.Welcome(Identity{Colony: "eu1", Role: Client, Name: "u"}, public, c.clock.now(), LeafLife)
	if err != nil || len(user.Gossip)+len(user.Tokens) != 0 {
		t.Errorf("a client gets the keys of servers: %v", err)
	}
	if _, err := c.Welcome(Identity{Colony: "eu2", Role: Client, Name: "u"}, public, c.clock.now(), LeafLife); cell.KindOf(err) != cell.Invalid {
		t.Errorf("another colony: %v", err)
	}
}

// TestWhomAJoinerBelieves: a control process of the authority in the token, and nobody else; and not a byte is said to anybody else.
func TestWhomAJoinerBelieves(t *testing.T) {
	c, foreign := newColony(t), newColony(t)
	control := Identity{Colony: "eu1", Role: Control, Name: "c"}
	ours := Fingerprint(c.Signer.Certificate)
	// An imposter shows our authority beside a certificate that it has not signed.
	mixed := foreign.issue(control)
	text, err := os.ReadFile(filepath.Join(mixed, certificateFile))
	if err != nil {
		t.Fatal(err)
	}
	write(t, mixed, certificateFile, append(text, encodeCertificate(c.Signer.Certificate.Raw)...))
	for name, test := range map[string]struct {
		dir  string
		want Reason
	}{
		"control process": {c.issue(control), Welcome},
		"a server":        {c.issue(server("s1", "b1", "red")), WrongRole},
		"a stranger":      {foreign.issue(control), UnknownAuthority},
		"an imposter":     {mixed, UnknownAuthority},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln, err := c.guard(test.dir, nil).JoinListener(raw)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			heard := make(chan int64, 1)
			go func() {
				nc, err := ln.Accept()
				if err != nil {
					heard <- -1
					return
				}
				defer nc.Close()
				n, _ := io.Copy(io.Discard, nc) // until it ends, one way or another
				heard <- n
			}()
			nc, err := JoinDialer(ours, c.clock.now)(t.Context(), "tcp", ln.Addr().String())
			if test.want == Welcome {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := nc.Write([]byte("hello")); err != nil {
					t.Error(err)
				}
				nc.Close()
				if n := <-heard; n != 5 {
					t.Errorf("%d bytes were heard", n)
				}
				return
			}
			if cell.KindOf(err) != cell.Refused || !strings.Contains(err.Error(), test.want.String()) {
				t.Errorf("%v, want %v", err, test.want)
			}
			if n := <-heard; n > 0 {
				t.Errorf("%d bytes were said to %s", n, name)
			}
		})
	}
}

// TestTokenKeys: the keys of tokens go through a rotation like the authority; servers and control processes know them, users do not.
func TestTokenKeys(t *testing.T) {
	c := newColony(t)
	dir := c.issue(server("s1", "b1", "red"))
	g := c.guard(dir, nil)
	knows := func(key ed25519.PrivateKey) bool {
		c.renew(dir, false)
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
		for _, k := range g.Material().TokenKeys {
			if k.Equal(key.Public()) {
				return true
			}
		}
		return false
	}
	first := func() ed25519.PrivateKey {
		keys, err := c.TokenKeys()
		if err != nil {
			t.Fatal(err)
		}
		return keys[0]
	}
	old := first()
	if !knows(old) {
		t.Error("the key is not known")
	}
	for i, step := range []func() error{func() error { return c.Begin(c.clock.now()) }, c.Switch, c.Finish} {
		signs := first()
		if err := step(); err != nil {
			t.Fatal(err)
		}
		if !knows(signs) || !knows(first()) {
			t.Errorf("after step %d a key that signs is not known", i)
		}
	}
	if knows(old) || first().Equal(old) {
		t.Error("the old key is still known")
	}
	if files, err := ReadFiles(c.issue(Identity{Colony: "eu1", Role: Client, Name: "u"})); err != nil || len(files.Tokens) != 0 {
		t.Errorf("a client has the keys: %v", err)
	}
	write(t, dir, tokensFile, []byte("c2hvcnQ=\n"))
	if err := g.Reload(); cell.KindOf(err) != cell.Invalid || !strings.Contains(err.Error(), "tokens.pub") {
		t.Errorf("a bad key: %v", err)
	}
}

// TestJoinConnectionsEnd: whoever says nothing at the join port is cut off by the port's own deadline, which nobody can move back.
func TestJoinConnectionsEnd(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	end := time.Now().Add(-time.Second)
	c := &shortConn{near, end}
	for _, at := range []time.Time{{}, time.Now().Add(time.Hour)} {
		if err := c.SetDeadline(at); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !os.IsTimeout(err) {
			t.Errorf("with a deadline at %v: %v", at, err)
		}
	}
}
