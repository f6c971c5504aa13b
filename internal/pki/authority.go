package pki

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Authority signs the certificates of one colony.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// The lives of certificates.
const (
	LeafLife      = 30 * 24 * time.Hour      // renewed from half-life: two weeks without a control plane expire nothing
	AuthorityLife = 5 * 365 * 24 * time.Hour // replaced by hand, with `physalia cert rotate`
	backdate      = 10 * time.Minute         // for clocks that are behind
	LeafLifeMin   = time.Hour                // less could not be renewed in time
	LeafLifeMax   = 2 * 365 * 24 * time.Hour // more is no rotation at all
)

// NewAuthority makes an authority for a colony; the second result is its certificate, the third its key, both PEM.
func NewAuthority(colony string, now time.Time) (a *Authority, certificate, key []byte, err error) {
	// The colony's name goes into every identity, so it must be one that an identity can hold.
	if err := (Identity{Colony: colony, Role: Control, Name: "ca"}).Check(); err != nil {
		return nil, nil, nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, nil, err
	}
	// Two authorities of one colony must have different names, or chains between them would be ambiguous.
	name := pkix.Name{Organization: []string{colony}, CommonName: fmt.Sprintf("physalia %s authority %s", colony, hex.EncodeToString(serial.Bytes()[:4]))}
	template := &x509.Certificate{SerialNumber: serial, Subject: name, NotBefore: now.Add(-backdate), NotAfter: now.Add(AuthorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return nil, nil, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, nil, err
	}
	if key, err = encodeKey(private); err != nil {
		return nil, nil, nil, err
	}
	return &Authority{parsed, private}, encodeCertificate(der), key, nil
}

// ParseAuthority finds the authority in a bundle that a key belongs to. The error carries no key.
func ParseAuthority(bundle, key []byte) (*Authority, error) {
	all, err := parseCertificates(bundle)
	if err != nil {
		return nil, invalid("ca.crt: " + err.Error())
	}
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, invalid("the authority's key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return nil, invalid("the authority's key is no PKCS #8 key that signs")
	}
	// A bundle holds two authorities while one replaces the other; only one of them belongs to the key.
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	for _, c := range all {
		if ok && public.Equal(c.PublicKey) {
			return &Authority{c, signer}, nil
		}
	}
	return nil, invalid("no certificate in ca.crt belongs to the authority's key")
}

// Colony is whose authority it is.
func (a *Authority) Colony() string {
	if len(a.Certificate.Subject.Organization) == 0 {
		return ""
	}
	return a.Certificate.Subject.Organization[0]
}

// Issue makes a key and signs a certificate for it, valid from about now for life. Both are PEM.
func (a *Authority) Issue(id Identity, now time.Time, life time.Duration) (certificate, key []byte, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if certificate, err = a.sign(id, public, now, life); err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return certificate, key, err
}

// sign signs a certificate for a key, as Issue does.
func (a *Authority) sign(id Identity, public crypto.PublicKey, now time.Time, life time.Duration) (certificate []byte, err error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	switch end := now.Add(life); {
	case id.Colony != a.Colony():
		return nil, invalid(fmt.Sprintf("this is the authority of colony %q, not %q", a.Colony(), id.Colony))
	case life < LeafLifeMin || life > LeafLifeMax:
		return nil, invalid(fmt.Sprintf("a life of %v; use %v to %v", life, LeafLifeMin, LeafLifeMax))
	case end.After(a.Certificate.NotAfter):
		return nil, invalid(fmt.Sprintf("the authority itself ends %s; begin a rotation", a.Certificate.NotAfter.Format(time.RFC3339)))
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{Organization: []string{id.Colony}, CommonName: string(id.Role) + " " + id.Name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life), URIs: []*url.URL{uri}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if id.Role == Server || id.Role == Control {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth) // they listen, too
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, public, a.key)
	if err != nil {
		return nil, err
	}
	return encodeCertificate(der), nil
}

// newSerial draws 128 bits, the first of which are not zero.
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(b[:]), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newGossipKey draws a key for gossip.
func newGossipKey() ([]byte, error) {
	key := make([]byte, gossipKeyBytes)
	_, err := rand.Read(key)
	return key, err
}

// encodeBundle writes certificates one after the other.
func encodeBundle(all []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range all {
		b.Write(encodeCertificate(c.Raw))
	}
	return b.Bytes()
}
