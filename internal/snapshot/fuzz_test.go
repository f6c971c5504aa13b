package snapshot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// FuzzPart reads mutated parts of discovery's snapshots, with a checksum that holds: an error is Invalid, and what is accepted is a
// fixed point.
func FuzzPart(f *testing.F) {
	parts := []struct {
		kind kind
		make func() wire.Message
	}{
		{kindHead, func() wire.Message { return new(wire.SnapshotHead) }}, {kindServers, func() wire.Message { return new(wire.SnapshotServers) }},
		{kindShares, func() wire.Message { return new(wire.SnapshotShares) }}, {kindRoutes, func() wire.Message { return new(wire.SnapshotCells) }},
	}
	for i, p := range parts {
		f.Add(uint8(i), p.make().Append(nil))
		f.Add(uint8(i), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		p := parts[int(which)%len(parts)]
		b := append([]byte(magic), version, byte(p.kind))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
		m, again := p.make(), p.make()
		if err := unseal("fuzz", append(b, body...), p.kind, m); err != nil {
			if cell.KindOf(err) != cell.Invalid {
				t.Fatal(err)
			}
			return
		}
		once := seal(p.kind, m)
		if err := unseal("fuzz", once, p.kind, again); err != nil || !bytes.Equal(seal(p.kind, again), once) {
			t.Fatalf("% x is read again as another one: %v", body, err)
		}
	})
}

// FuzzRef reads names of objects, which anybody may put into a bucket.
func FuzzRef(f *testing.F) {
	f.Add(Ref{Written: 12345, Copy: "control"}.base())
	f.Fuzz(func(t *testing.T, name string) {
		if r, ok := parseRef(name); ok {
			if again, ok := parseRef(r.base()); !ok || again != r {
				t.Fatalf("%q is %+v, then %+v", name, r, again)
			}
		}
	})
}
