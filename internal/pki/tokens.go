package pki

import (
	"crypto/ed25519"
	"encoding/base64"
	"path/filepath"
	"strings"
)

// Tokens are signed with a key of their own, not the authority's: who issues tokens every day need not be able to be anybody. It lies
// beside the authority (tokens.keys, seeds of Ed25519), is replaced in the same three steps, and its public half is brought to
// servers and control processes with whom they trust (tokens.pub).

// ParseTokenKeys reads the public keys of those who sign tokens: one of 32 bytes per line, as base64; empty lines and those that begin
// with # are skipped. The error is a *cell.Error of kind Invalid.
func ParseTokenKeys(text []byte) (keys []ed25519.PublicKey, err error) {
	lines, err := parseKeys(text, tokensFile, ed25519.PublicKeySize)
	for _, key := range lines {
		keys = append(keys, ed25519.PublicKey(key))
	}
	return keys, err
}

// TokenKeys are the keys of the colony's tokens: the first one signs, the others' tokens count, too.
func (h *Home) TokenKeys() (keys []ed25519.PrivateKey, err error) {
	text, err := ring(filepath.Join(h.Dir, tokenRing))
	if err != nil {
		return nil, err
	}
	seeds, err := parseKeys(text, tokenRing, ed25519.SeedSize)
	for _, seed := range seeds {
		keys = append(keys, ed25519.NewKeyFromSeed(seed))
	}
	return keys, err
}

// tokensPublic is tokens.pub.
func (h *Home) tokensPublic() ([]byte, error) {
	keys, err := h.TokenKeys()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString("# Tokens count when one of these keys has signed them.\n")
	for _, key := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)) + "\n")
	}
	return []byte(b.String()), nil
}
