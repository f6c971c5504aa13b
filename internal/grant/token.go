package grant

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// Token is what somebody who signs for a colony grants to one of its clients. Whoever has a client's certificate of the colony, the
// holder's if one is named, and the token's text, may do what it says, until it expires. There is no way to take one back but to
// replace the key that signed it, so tokens live shortly.
type Token struct {
	Number  uint64 // drawn at random: names the token in records and errors
	Colony  string
	Name    string // for people
	Holder  string // name of the client's certificate that it counts with; empty: any
	Issued  int64  // Unix seconds
	Expires int64  // Unix seconds
	Grants  []Grant
}

// Bounds of tokens.
const (
	GrantsMax = 64
	LifeMax   = 30 * 24 * 3600 // seconds, as long as a certificate's
	skew      = 600            // seconds that the issuer's clock may be ahead

	textMax      = wire.TokenBytesMax // what base64 makes of a token, with its beginning
	magic        = "phy1."            // of every token's text, so that scanners for secrets find it
	version      = 1
	context      = "physalia token\n" // signed before the token, so that the signature is of nothing else
	keyNumberLen = 4
)

// Check reports what is wrong with a token, as a *cell.Error of kind Invalid, or nil.
func (t *Token) Check() error {
	for _, f := range []struct {
		name, value string
		empty       bool
	}{{"colony", t.Colony, false}, {"name", t.Name, false}, {"holder", t.Holder, true}} {
		if f.value == "" && f.empty {
			continue
		}
		if len(f.value) > wire.NameBytesMax || cell.ServerID(f.value).Check() != nil {
			return invalid(fmt.Sprintf("the token's %s is %q", f.name, clip(f.value)), fmt.Sprintf("use 1 to %d letters, digits, '.', '_' and '-'", wire.NameBytesMax))
		}
	}
	if n := len(t.Grants); n == 0 || n > GrantsMax {
		return invalid(fmt.Sprintf("the token has %d grants, allowed are 1 to %d", n, GrantsMax), "name prefixes of cells, or use several tokens")
	}
	for _, g := range t.Grants {
		if err := g.Check(); err != nil {
			return err
		}
	}
	if life := t.Expires - t.Issued; t.Issued < 0 || life <= 0 || life > LifeMax {
		return invalid(fmt.Sprintf("the token lives %d seconds, allowed are 1 to %d", life, LifeMax), "use a shorter life, and issue it again in time")
	}
	return nil
}

// keyNumber names a key, so that one that is not known is told from a signature that is wrong.
func keyNumber(public ed25519.PublicKey) (n [keyNumberLen]byte) {
	sum := sha256.Sum256(public)
	copy(n[:], sum[:])
	return n
}

// appendBody adds what is signed: version, the key's number, [number, colony, name, holder, issued, expires, grants].
func (t *Token) appendBody(b []byte, public ed25519.PublicKey) []byte {
	n := keyNumber(public)
	b = append(append(b, version), n[:]...)
	b = wire.AppendUint(wire.AppendArray(b, 7), t.Number)
	b = wire.AppendString(wire.AppendString(wire.AppendString(b, t.Colony), t.Name), t.Holder)
	b = wire.AppendUint(wire.AppendUint(b, uint64(t.Issued)), uint64(t.Expires))
	b = wire.AppendArray(b, len(t.Grants))
	for _, g := range t.Grants {
		b = wire.AppendUint(wire.AppendArray(b, 4), uint64(g.Verbs))
		b = wire.AppendString(wire.AppendBool(wire.AppendString(b, g.Cell), g.Prefix), g.Key)
	}
	return b
}

// Sign makes the text of a token. The error is a *cell.Error of kind Invalid.
func Sign(t *Token, key ed25519.PrivateKey) (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	body := t.appendBody(nil, key.Public().(ed25519.PublicKey))
	text := magic + base64.RawURLEncoding.EncodeToString(append(body, ed25519.Sign(key, append([]byte(context), body...))...))
	if len(text) > textMax {
		return "", invalid(fmt.Sprintf("the token has %d bytes, allowed are %d", len(text), textMax), "grant less, or use several tokens")
	}
	return text, nil
}

// Open reads a token's text, from anybody, if one of the keys has signed it. Whether it counts, for whom and when, is Admit's to say.
// The reason is BadToken, UnknownKey, BadSignature or Allowed; but for the last, there is no token.
func Open(text string, keys []ed25519.PublicKey) (*Token, Reason) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), magic)
	if !ok || len(text) > textMax {
		return nil, BadToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < 1+keyNumberLen+ed25519.SignatureSize || b[0] != version {
		return nil, BadToken
	}
	body, signature := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	// Nothing of it is looked at before it is known who says so.
	for _, key := range keys {
		if keyNumber(key) != [keyNumberLen]byte(body[1:]) {
			continue
		}
		if !ed25519.Verify(key, append([]byte(context), body...), signature) {
			return nil, BadSignature
		}
		t := new(Token)
		if !t.decode(body[1+keyNumberLen:]) || t.Check() != nil {
			return nil, BadToken
		}
		return t, Allowed
	}
	return nil, UnknownKey
}

// decode reads what appendBody wrote behind the key's number.
func (t *Token) decode(b []byte) bool {
	const seconds = 1<<62 - 1 // so that sums do not overflow
	r := wire.NewReader(b)
	r.Struct(7, "token")
	*t = Token{Number: r.Uint(), Colony: r.String(wire.NameBytesMax, "colony"), Name: r.String(wire.NameBytesMax, "name"), Holder: r.String(wire.NameBytesMax, "holder"),
		Issued: int64(r.UintMax(seconds, "time of issue")), Expires: int64(r.UintMax(seconds, "time of expiry"))}
	n := r.Array(GrantsMax, "grants")
	if r.Err() != nil {
		return false
	}
	t.Grants = make([]Grant, n)
	for i := range t.Grants {
		r.Struct(4, "grant")
		t.Grants[i] = Grant{Verbs: Verbs(r.UintMax(anyVerb, "verbs")), Cell: r.String(cell.IDBytesMax, "cell"), Prefix: r.Bool(), Key: r.String(cell.KeyBytesMax, "key")}
	}
	return r.Done() == nil
}

// Admit makes the rights of a client of a colony, by the name in its certificate, who has shown a token that Open has read.
func (t *Token) Admit(colonyName, client string, now int64) *Rights {
	who := fmt.Sprintf("client %s with token %s", client, t)
	switch {
	case t.Colony != colonyName:
		return Nothing(who, OtherColony)
	case t.Holder != "" && t.Holder != client:
		return Nothing(who, OtherHolder)
	case now >= t.Expires:
		return Nothing(who, TokenExpired)
	case now < t.Issued-skew:
		return Nothing(who, TokenNotYet)
	}
	return &Rights{Who: who, Grants: t.Grants, From: t.Issued - skew, Until: t.Expires}
}

// String names a token in errors and records: its name and its number, which are no secret.
func (t *Token) String() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], t.Number)
	return fmt.Sprintf("%s/%x", t.Name, b)
}
