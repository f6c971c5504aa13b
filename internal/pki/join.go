package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"physalia/cell"
)

// Joining is how a process that has nothing but an invitation gets its directory of certificates. It makes its own key, which never
// leaves it. TLS at the join port proves one side only: the control process, by the fingerprint of the authority in the invitation.

// joinLife bounds a connection at the join port: it is for one short question, from somebody who has proven nothing.
const joinLife = 10 * time.Second

// JoinListener puts the TLS of the join port on a listener: no certificate is asked for, and the authority's is shown with this side's
// own. A connection ends after a few seconds, whatever it does.
func (g *Guard) JoinListener(ln net.Listener) (net.Listener, error) {
	if !g.Secure() {
		return nil, invalid("nobody can join at a process without certificates")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		m := g.material.Load()
		root := m.root(g.now())
		if root == nil {
			return nil, invalid("this side's own certificate does not hold any more")
		}
		pair := m.pair
		pair.Certificate = append(append([][]byte(nil), pair.Certificate...), root.Raw)
		return &pair, nil
	}}
	return joinListener{ln, config}, nil
}

type joinListener struct {
	net.Listener
	config *tls.Config
}

// Accept implements net.Listener.
func (l joinListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &shortConn{tls.Server(nc, l.config), time.Now().Add(joinLife)}, nil
}

// shortConn is a connection whose deadline can be moved forward only.
type shortConn struct {
	net.Conn
	end time.Time
}

// SetDeadline implements net.Conn.
func (c *shortConn) SetDeadline(t time.Time) error {
	if t.IsZero() || t.After(c.end) {
		t = c.end
	}
	return c.Conn.SetDeadline(t)
}

// root is the authority that this side's certificate leads to, nil when it leads to none.
func (m *Material) root(now time.Time) *x509.Certificate {
	between := []*x509.Certificate{m.Leaf}
	for _, der := range m.pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between = append(between, c)
		}
	}
	chain, why := verify(between, m.roots, Accepting, now)
	if why != nil {
		return nil
	}
	return chain[len(chain)-1]
}

// AuthorityFingerprint is that of the authority that this side's certificate leads to, for invitations.
func (g *Guard) AuthorityFingerprint() (sum [32]byte, err error) {
	m := g.Material()
	if m == nil {
		return sum, invalid("this process has no certificates")
	}
	root := m.root(g.now())
	if root == nil {
		return sum, invalid("this process's own certificate does not hold any more")
	}
	return Fingerprint(root), nil
}

// JoinDialer opens connections to a join port, and believes only a control process whose authority has this fingerprint.
func JoinDialer(authority [32]byte, now func() time.Time) Dial {
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		if why := judgeJoin(s.PeerCertificates, authority, now()); why != nil {
			return why // as in Guard.config
		}
		return nil
	}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := tls.Client(nc, config)
		if err := c.HandshakeContext(ctx); err != nil {
			nc.Close() // the reason is known
			if why := classify(err); why.Reason != Broken {
				return nil, why.asError()
			}
			return nil, err
		}
		return c, nil
	}
}

// judgeJoin decides about the other side of a join port by what it shows: its certificate, and the authority that was promised.
func judgeJoin(shown []*x509.Certificate, authority [32]byte, now time.Time) *Refusal {
	roots := x509.NewCertPool()
	found := false
	for _, c := range shown {
		if Fingerprint(c) == authority && c.IsCA {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return because(UnknownAuthority, "the join token is for another authority than the one at this address")
	}
	chain, why := verify(shown, roots, Dialling, now)
	if why != nil {
		return why
	}
	id, err := identityOf(chain[0])
	switch {
	case err != nil:
		return because(NoIdentity, "%v", err)
	case id.Role != Control:
		return because(WrongRole, "%s is no control process", id)
	}
	return nil
}

// NewRequest makes a key, and a request for its certificate. The key is PEM, the request DER.
func NewRequest() (key, request []byte, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if request, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, private); err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return key, request, err
}

// RequestedKey is the key of a certificate request, whose holder has signed it. Nothing else in it counts. The error is a *cell.Error
// of kind Invalid.
func RequestedKey(request []byte) (crypto.PublicKey, error) {
	r, err := x509.ParseCertificateRequest(request)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, invalid("the certificate request: " + clip(err.Error()))
	}
	switch key := r.PublicKey.(type) {
	case ed25519.PublicKey:
		return key, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, invalid(fmt.Sprintf("the certificate request: a key of type %T; use Ed25519 or ECDSA on P-256", r.PublicKey))
}

// Welcome signs a certificate for a key that somebody else has made, and returns the files for its holder, but for the key.
func (h *Home) Welcome(id Identity, key crypto.PublicKey, now time.Time, life time.Duration) (f Files, err error) {
	if f.Certificate, err = h.Signer.sign(id, key, now, life); err != nil {
		return Files{}, err
	}
	f.Authorities = encodeBundle(h.bundle)
	if id.Role == Server {
		if f.Gossip, err = h.gossip(id.Brick, id.Color); err != nil {
			return Files{}, err
		}
	}
	if id.Role == Server || id.Role == Control {
		f.Tokens, err = h.tokensPublic()
	}
	return f, err
}

// WriteFiles writes a directory of certificates, which must have none, if the files are good. Interrupted, it is not good, and is found
// to be so.
func WriteFiles(dir string, f Files, now time.Time) (Identity, error) {
	m, err := Parse(f, now)
	if err != nil {
		return Identity{}, err
	}
	if err := exists(dir, certificateFile, keyFile); err != nil {
		return m.Identity, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m.Identity, &cell.Error{Op: "pki.write", Kind: cell.Invalid, Detail: "the directory cannot be made", Err: err}
	}
	for _, part := range []struct {
		name string
		text []byte
		mode os.FileMode
	}{{keyFile, f.Key, 0o600}, {authoritiesFile, f.Authorities, 0o644}, {gossipFile, f.Gossip, 0o600}, {tokensFile, f.Tokens, 0o644}, {certificateFile, f.Certificate, 0o644}} {
		if len(part.text) == 0 {
			continue
		}
		if err := writeFile(filepath.Join(dir, part.name), part.text, part.mode); err != nil {
			return m.Identity, err
		}
	}
	return m.Identity, nil
}
