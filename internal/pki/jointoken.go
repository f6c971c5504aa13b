package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"strings"
)

// JoinToken is the text of an invitation: whom to believe, and what to be believed by. It is a secret.
type JoinToken struct {
	Authority [sha256.Size]byte // of the authority's certificate (DER): what proves the control plane to who joins
	Secret    [32]byte          // what proves who joins to the control plane, once
}

const (
	joinMagic   = "phyj1." // of every text, so that scanners for secrets find it
	joinContext = "physalia join\n"
)

// String hides the token from logs; Text has it.
func (t JoinToken) String() string { return "(join token)" }

// Text is the token as ParseJoinToken reads it.
func (t JoinToken) Text() string {
	return joinMagic + base64.RawURLEncoding.EncodeToString(append(t.Authority[:], t.Secret[:]...))
}

// ParseJoinToken reads a token's text. The error is a *cell.Error of kind Invalid, and carries nothing of it.
func ParseJoinToken(text string) (t JoinToken, err error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), joinMagic)
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(b) != len(t.Authority)+len(t.Secret) {
		return t, invalid("this is no join token, as `physalia cert join-token` prints one")
	}
	copy(t.Authority[:], b)
	copy(t.Secret[:], b[len(t.Authority):])
	return t, nil
}

// HashSecret is what the control plane remembers of a secret. It leads to nothing: secrets are drawn, not chosen.
func HashSecret(secret []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(joinContext), secret...))
}

// Fingerprint names a certificate.
func Fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }
