package knock

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"physalia/cell"
	"physalia/internal/wire"
)

// Knock is what a datagram says.
type Knock struct {
	Server cell.ServerID
	Boot   uint64
	At     int64 // milliseconds since 1970, by the server's clock
	Nonce  [wire.KnockNonceBytes]byte
}

// The format: magic, version, length of the identity, the identity, boot, time, nonce, mac; numbers in big endian.
const (
	magic   = "PHYK"
	version = 1
	fixed   = len(magic) + 1 + 1 + 8 + 8 + wire.KnockNonceBytes + wire.KnockMacBytes

	// BytesMax bounds a datagram; whatever is longer is none.
	BytesMax = fixed + cell.ServerIDBytesMax
)

// Key authenticates the knocks of one colony. It prints as nothing.
type Key struct{ secret []byte }

// KeyBytesMin is the least length of a key.
const KeyBytesMin = 32

// NewKey makes a key from the content of a key file; white space around it does not count.
func NewKey(content []byte) (Key, error) {
	secret := bytes.TrimSpace(content)
	if len(secret) < KeyBytesMin {
		return Key{}, &cell.Error{Op: "knock.key", Kind: cell.Invalid, Detail: fmt.Sprintf("the key has %d bytes, at least %d are needed", len(secret), KeyBytesMin),
			Hint: "write one with `head -c 32 /dev/urandom | base64`, the same for all servers and control processes of the colony"}
	}
	return Key{bytes.Clone(secret)}, nil
}

// Set reports whether there is a key.
func (k Key) Set() bool { return len(k.secret) > 0 }

// String hides the key from logs.
func (k Key) String() string { return "(key)" }

// mac is the keyed hash over parts, each with its length, so that no two lists of parts hash alike.
func (k Key) mac(parts ...[]byte) (sum [wire.KnockMacBytes]byte) {
	h := hmac.New(sha256.New, k.secret)
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// Seal makes the datagram of a knock.
func (k Key) Seal(colony string, n Knock) []byte {
	b := append([]byte(magic), version, byte(len(n.Server)))
	b = append(b, n.Server...)
	b = binary.BigEndian.AppendUint64(b, n.Boot)
	b = binary.BigEndian.AppendUint64(b, uint64(n.At))
	b = append(b, n.Nonce[:]...)
	sum := k.mac([]byte("knock"), []byte(colony), b)
	return append(b, sum[:]...)
}

// Open checks a datagram and reads it; what it returns is why it is none, or empty.
func (k Key) Open(colony string, b []byte) (n Knock, why Refusal) {
	if len(b) < fixed || len(b) > BytesMax || string(b[:len(magic)]) != magic || b[len(magic)] != version {
		return n, Malformed
	}
	length := int(b[len(magic)+1])
	if len(b) != fixed+length {
		return n, Malformed
	}
	body, sum := b[:len(b)-wire.KnockMacBytes], b[len(b)-wire.KnockMacBytes:]
	want := k.mac([]byte("knock"), []byte(colony), body)
	if !hmac.Equal(sum, want[:]) {
		return n, Forged
	}
	rest := body[len(magic)+2:]
	n.Server, rest = cell.ServerID(rest[:length]), rest[length:]
	n.Boot = binary.BigEndian.Uint64(rest)
	n.At = int64(binary.BigEndian.Uint64(rest[8:]))
	copy(n.Nonce[:], rest[16:])
	if n.Server.Check() != nil || n.Boot == 0 {
		return n, Malformed
	}
	return n, ""
}

// Prove fills in the proof of a connection that answers a knock.
func (k Key) Prove(colony string, server cell.ServerID, boot uint64, m *wire.DialBack) {
	m.Mac = k.proof(colony, server, boot, m)
}

// Proven reports whether a connection to this server answers a knock.
func (k Key) Proven(colony string, server cell.ServerID, boot uint64, m *wire.DialBack) bool {
	want := k.proof(colony, server, boot, m)
	return hmac.Equal(m.Mac[:], want[:])
}

func (k Key) proof(colony string, server cell.ServerID, boot uint64, m *wire.DialBack) [wire.KnockMacBytes]byte {
	return k.mac([]byte("dialback"), []byte(colony), []byte(server), binary.BigEndian.AppendUint64(nil, boot),
		[]byte(m.Control), []byte(m.Addr), m.Nonce[:])
}
