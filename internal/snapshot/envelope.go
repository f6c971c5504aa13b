package snapshot

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"physalia/cell"
	"physalia/internal/wire"
)

// kind is what an object is, in its envelope and in its name.
type kind byte

const (
	kindHead    kind = 'h'
	kindServers kind = 's'
	kindShares  kind = 'd'
	kindRoutes  kind = 'r'
)

// The envelope. The checksum covers what follows it, so it is the last thing that is filled in.
const (
	magic         = "PhyD"
	version       = 1
	envelopeBytes = len(magic) + 2 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a message into its envelope.
func seal(k kind, m wire.Message) []byte {
	b := append(make([]byte, 0, 64<<10), magic...)
	b = append(b, version, byte(k), 0, 0, 0, 0)
	b = m.Append(b)
	binary.BigEndian.PutUint32(b[envelopeBytes-4:], crc32.Checksum(b[envelopeBytes:], castagnoli))
	return b
}

// unseal reads a message out of its envelope. The error names the object and what is wrong with it.
func unseal(name string, data []byte, k kind, m wire.Message) error {
	switch {
	case len(data) < envelopeBytes || string(data[:len(magic)]) != magic:
		return damaged(name, "it does not begin like a part of a snapshot", nil)
	case data[len(magic)] != version:
		return damaged(name, fmt.Sprintf("it has format version %d, this program knows %d", data[len(magic)], version), nil)
	case kind(data[len(magic)+1]) != k:
		return damaged(name, fmt.Sprintf("it is a part of kind %q, expected was %q", data[len(magic)+1], byte(k)), nil)
	case binary.BigEndian.Uint32(data[envelopeBytes-4:]) != crc32.Checksum(data[envelopeBytes:], castagnoli):
		return damaged(name, "its checksum is wrong", nil)
	}
	if err := wire.Unmarshal(data[envelopeBytes:], m); err != nil {
		return damaged(name, "it cannot be decoded", err)
	}
	return nil
}

// damaged says that an object is not what it should be. That is no reason to stop: there are older ones, and the servers.
func damaged(name, detail string, err error) error {
	return &cell.Error{Op: "snapshot.read", Kind: cell.Invalid, Detail: name + ": " + detail, Err: err,
		Hint: "an older snapshot is taken instead; look after the object store"}
}
