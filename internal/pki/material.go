package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Files are the contents of a directory of certificates. Empty fields are missing files.
type Files struct {
	Authorities []byte // ca.crt: whom to trust, any number of certificates
	Certificate []byte // tls.crt: this side's, and what lies between it and its authority
	Key         []byte // tls.key
	Gossip      []byte // gossip.keys: servers only
	Tokens      []byte // tokens.pub: who signs tokens; servers and control processes only
}

// equal tells whether nothing has changed.
func (f *Files) equal(g *Files) bool {
	return bytes.Equal(f.Authorities, g.Authorities) && bytes.Equal(f.Certificate, g.Certificate) && bytes.Equal(f.Key, g.Key) &&
		bytes.Equal(f.Gossip, g.Gossip) && bytes.Equal(f.Tokens, g.Tokens)
}

// Material is what a process proves itself with, and whom it trusts: parsed, checked, never changed.
type Material struct {
	Identity    Identity
	Leaf        *x509.Certificate
	Authorities []*x509.Certificate
	GossipKeys  [][]byte            // the first one encrypts, all decrypt; empty: none
	TokenKeys   []ed25519.PublicKey // of those whose tokens count; empty: none do

	files Files
	pair  tls.Certificate
	roots *x509.CertPool
}

// authoritiesMax bounds a bundle: more than two are hardly ever needed, during a rotation.
const authoritiesMax = 64

// Parse checks files as a whole, at a time: they belong together, the certificate is valid, and its own authorities would accept
// it, since others will be told the same ones. The error is a *cell.Error of kind Invalid, and carries no key.
func Parse(f Files, now time.Time) (*Material, error) {
	m := &Material{files: f, roots: x509.NewCertPool()}
	var err error
	if m.Authorities, err = parseCertificates(f.Authorities); err != nil {
		return nil, invalid("ca.crt: " + err.Error())
	}
	for _, c := range m.Authorities {
		if !c.IsCA {
			return nil, invalid(fmt.Sprintf("ca.crt: %q is no authority", clip(c.Subject.String())))
		}
		m.roots.AddCert(c)
	}
	if m.pair, err = tls.X509KeyPair(f.Certificate, f.Key); err != nil {
		return nil, invalid("tls.crt and tls.key: " + err.Error())
	}
	m.Leaf = m.pair.Leaf
	switch key := m.Leaf.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, invalid("tls.key is on curve " + key.Curve.Params().Name + "; use P-256 or Ed25519")
		}
	default:
		return nil, invalid(fmt.Sprintf("tls.key is of type %T; use Ed25519 or ECDSA on P-256", key))
	}
	if m.Identity, err = identityOf(m.Leaf); err != nil {
		return nil, fmt.Errorf("tls.crt: %w", err)
	}
	shown := []*x509.Certificate{m.Leaf}
	for _, der := range m.pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, invalid("tls.crt: " + err.Error())
		}
		shown = append(shown, c)
	}
	if _, why := verify(shown, m.roots, Accepting, now); why != nil {
		return nil, invalid("tls.crt does not hold before ca.crt: " + why.String())
	}
	if len(f.Gossip) > 0 {
		if m.GossipKeys, err = ParseKeyring(f.Gossip); err != nil {
			return nil, err
		}
	}
	if len(f.Tokens) > 0 {
		m.TokenKeys, err = ParseTokenKeys(f.Tokens)
	}
	return m, err
}

// parseCertificates reads PEM.
func parseCertificates(text []byte) (all []*x509.Certificate, err error) {
	for len(text) > 0 && len(all) <= authoritiesMax {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %q, only certificates belong there", clip(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 || len(all) > authoritiesMax {
		return nil, fmt.Errorf("it holds %d certificates, allowed are 1 to %d", len(all), authoritiesMax)
	}
	return all, nil
}

// RenewFrom is when a certificate's half-life is over: from then on it should be renewed.
func RenewFrom(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2)
}

// FirstExpiry is when the first of the authorities expires.
func (m *Material) FirstExpiry() time.Time {
	first := m.Authorities[0].NotAfter
	for _, c := range m.Authorities {
		if c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

const (
	gossipKeyBytes = 32
	gossipKeysMax  = 8
)

// ParseKeyring reads keys for gossip: one per line, 16, 24 or 32 bytes as base64; empty lines and those that begin with # are
// skipped. The error is a *cell.Error of kind Invalid, names the line, and carries no key.
func ParseKeyring(text []byte) ([][]byte, error) {
	return parseKeys(text, gossipFile, 16, 24, gossipKeyBytes)
}

// parseKeys reads lines of base64, each of one of the sizes; the error names the file.
func parseKeys(text []byte, file string, sizes ...int) (keys [][]byte, err error) {
	for i, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || !slices.Contains(sizes, len(key)) {
			return nil, invalid(fmt.Sprintf("%s: line %d is no base64 of %v bytes", file, i+1, sizes))
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > gossipKeysMax {
		return nil, invalid(fmt.Sprintf("%s: %d keys, allowed are 1 to %d", file, len(keys), gossipKeysMax))
	}
	return keys, nil
}

// FormatKeyring writes what ParseKeyring reads. A new key is first added behind the others everywhere, then put first everywhere, and the
// old one is taken out last: at every moment each member understands whatever another one sends.
func FormatKeyring(keys [][]byte) []byte {
	var b strings.Builder
	b.WriteString("# The first key is used, all of them are understood.\n")
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	return []byte(b.String())
}
