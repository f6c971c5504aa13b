package peer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/paxos"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files instead of comparing with them")

// TestGoldenBytes fixes the formats: a difference here is a format change, which needs a new version and a reader for
// the old one. The bytes are also decoded, so that what is committed stays readable.
func TestGoldenBytes(t *testing.T) {
	const path = "testdata/golden.txt"
	var b strings.Builder
	for _, s := range samples() {
		fmt.Fprintf(&b, "%s\n", s.name)
		for rest := s.bytes; len(rest) > 0; rest = rest[min(32, len(rest)):] {
			fmt.Fprintf(&b, "\t%x\n", rest[:min(32, len(rest))])
		}
		if again, err := s.again(s.bytes); err != nil || !bytes.Equal(again, s.bytes) {
			t.Errorf("%s decodes to something else: %x, %v", s.name, again, err)
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("bytes differ from %s; got\n%s", path, b.String())
	}
}

func TestStoredRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := genBytes(3).Draw(t, "prefix") // the checksum covers only what was appended
		ring := RingRecord{Record: genRecord(t), Promised: genBallot(t), Applied: paxos.Slot(rapid.Uint64().Draw(t, "applied"))}
		if got, err := DecodeRingRecord(scratch(AppendRingRecord(prefix, &ring), prefix)); err != nil || !reflect.DeepEqual(got, ring) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, ring)
		}
		row := Row{Cell: genCell().Draw(t, "cell"), Incarnation: 1, Node: 7, Promised: genBallot(t), Sealed: rapid.Bool().Draw(t, "sealed"),
			Quarantined: rapid.StringN(0, 300, QuarantineBytesMax).Draw(t, "why"), Configuration: genConfiguration(t)}
		if got, err := DecodeRow(scratch(AppendRow(prefix, &row), prefix)); err != nil || !reflect.DeepEqual(got, row) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, row)
		}
		tomb := Tombstone{Cell: row.Cell, Incarnation: cell.Incarnation(rapid.Uint64().Draw(t, "incarnation"))}
		if got, err := DecodeTombstone(scratch(AppendTombstone(prefix, &tomb), prefix)); err != nil || got != tomb {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, tomb)
		}
		snap := genSnapshot(t)
		crossed, err := DecodeSnapshot(scratch(AppendSnapshot(prefix, &snap), prefix))
		sameSnapshot(t, &crossed, &snap, err)
		stored, err := DecodeStoredSnapshot(scratch(AppendStoredSnapshot(prefix, &snap), prefix))
		sameSnapshot(t, &stored, &snap, err)
		older, err := DecodeStoredSnapshot(AppendSnapshot(nil, &snap))
		sameSnapshot(t, &older, &snap, err)
	})
}

// sameSnapshot fails unless a snapshot came through as it was; no state and an empty one are the same.
func sameSnapshot(t *rapid.T, got, want *paxos.Snapshot, err error) {
	g, w := *got, *want
	g.State, w.State = nil, nil
	if err != nil || !bytes.Equal(got.State, want.State) || !reflect.DeepEqual(g, w) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// TestPackedStates: a state of outcomes becomes much smaller, none becomes much larger, and what unpacks to more than a state may have is
// refused for what it says, before there is memory for it. A peer may not send any of them.
func TestPackedStates(t *testing.T) {
	s := testSnapshot()
	s.State = bytes.Repeat([]byte("\x94\xc4\x10a client's name\x01\x94\xc3\xff\x01\x91"), 256)
	if b := AppendStoredSnapshot(nil, &s); len(b) > len(s.State)/4 {
		t.Errorf("%d bytes of a state that repeats itself take %d", len(s.State), len(b))
	}
	noise := rand.NewChaCha8([32]byte{})
	s.State = make([]byte, StateBytesMax)
	noise.Read(s.State)
	b := AppendStoredSnapshot(nil, &s)
	if back, err := DecodeStoredSnapshot(b); err != nil || !bytes.Equal(back.State, s.State) {
		t.Errorf("a state without any pattern: %v", err)
	}
	if _, err := DecodeSnapshot(b); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("packed, from a peer: %v", err)
	}
	if n := s2.MaxEncodedLen(StateBytesMax); n > packedStateBytesMax {
		t.Errorf("a state takes up to %d bytes packed, packedStateBytesMax is %d", n, packedStateBytesMax)
	}
	s.State = nil
	empty := AppendStoredSnapshot(nil, &s)
	for name, block := range map[string][]byte{
		"too large":       s2.Encode(nil, make([]byte, StateBytesMax+1)),
		"larger than all": binary.AppendUvarint(nil, 1<<40),
		"cut":             {200, 1, 0xf0},
		"nothing":         {},
	} {
		bad := append(bytes.Clone(empty[:len(empty)-4-5-1]), msgpcode.Bin32, 0, 0, 0, 0) // without checksum and packed state
		binary.BigEndian.PutUint32(bad[len(bad)-4:], uint32(len(block)))
		if _, err := DecodeStoredSnapshot(appendSum(append(bad, block...), 0)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "packed state") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPackedStatesStayReadable: a block as it was once written, with copies in it. Another version of the library may pack otherwise, but must unpack this.
func TestPackedStatesStayReadable(t *testing.T) {
	var want []byte
	for i := range byte(4) {
		want = append(append(want, "\x94\xc4\x10a client's name."...), i, 0x94, 0xc3, 0xff, i+1, 0x91)
	}
	block, err := hex.DecodeString("646094c4106120636c69656e742773206e616d652e0094c3ff01914a1900100194c3ff0215000c100294c3ff0315000c140394c3ff0491")
	if err != nil {
		t.Fatal(err)
	}
	r := wire.NewReader(wire.AppendBytes(nil, block))
	if got := unpacked(&r); r.Done() != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, r.Done())
	}
}

// scratch returns what follows the prefix, in memory that nobody else holds.
func scratch(b, prefix []byte) []byte { return append([]byte(nil), b[len(prefix):]...) }

// TestEveryBitFlipIsDetected flips each bit of everything stored, and cuts it at each length.
func TestEveryBitFlipIsDetected(t *testing.T) {
	for _, s := range samples() {
		if !s.stored {
			continue
		}
		b := append([]byte(nil), s.bytes...)
		for bit := range len(b) * 8 {
			b[bit/8] ^= 1 << (bit % 8)
			if _, err := s.again(b); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("%s with bit %d flipped: %v", s.name, bit, err)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
		for n := range len(b) {
			if _, err := s.again(b[:n]); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s cut to %d bytes: %v", s.name, n, err)
			}
		}
		if _, err := s.again(append(b, 0)); !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s with a byte behind it: %v", s.name, err)
		}
	}
}

// resum replaces the checksum by the right one, as a writer of another version, or a bug, would.
func resum(b []byte) []byte {
	b = append([]byte(nil), b...)
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
	return b
}

func TestUnknownVersionIsNotDamage(t *testing.T) {
	for _, s := range samples() {
		if !s.stored {
			continue
		}
		b := resum(s.bytes)
		b[1] = packedVersion + 1
		_, err := s.again(resum(b))
		if !errors.Is(err, ErrUnknownVersion) || errors.Is(err, ErrDamaged) || cell.KindOf(err) != cell.Quarantined {
			t.Errorf("%s of a newer version: %v", s.name, err)
		}
		b[0], b[1] = '?', 1
		if _, err := s.again(resum(b)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "format byte") {
			t.Errorf("%s of another format: %v", s.name, err)
		}
	}
}

// TestUnknownEntryKindIsNotDamage: the checksum holds, so the disk is innocent.
func TestUnknownEntryKindIsNotDamage(t *testing.T) {
	b := AppendRingRecord(nil, &RingRecord{Record: paxos.Record{Entry: paxos.Entry{Kind: paxos.NoOp}}})
	at := bytes.Index(b, []byte{0x91, byte(paxos.NoOp)}) // the entry: an array of its kind only
	b[at+1] = byte(paxos.Reform) + 1
	if _, err := DecodeRingRecord(resum(b)); !errors.Is(err, ErrUnknownVersion) || !errors.Is(err, wire.ErrNotUnderstood) {
		t.Errorf("entry of a newer kind: %v", err)
	}
}

// TestWellSummedNonsense: a right checksum does not make a wrong body acceptable.
func TestWellSummedNonsense(t *testing.T) {
	s := testSnapshot()
	s.Configuration.Members[3].Node = s.Configuration.Members[2].Node
	if _, err := DecodeSnapshot(AppendSnapshot(nil, &s)); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "ordered") {
		t.Errorf("snapshot with a node listed twice: %v", err)
	}
	for _, s := range samples() {
		if !s.stored {
			continue
		}
		b := append(append([]byte(nil), s.bytes[:len(s.bytes)-4]...), 0xc0, 0, 0, 0, 0) // a nil behind the struct
		if _, err := s.again(resum(b)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s with something behind its body: %v", s.name, err)
		}
	}
}

func TestLongReasonIsCutBetweenCharacters(t *testing.T) {
	row := Row{Cell: "c", Quarantined: "x" + strings.Repeat("ä", QuarantineBytesMax), Configuration: testConfiguration()}
	got, err := DecodeRow(AppendRow(nil, &row))
	if n := len(got.Quarantined); err != nil || n != QuarantineBytesMax-1 || !utf8.ValidString(got.Quarantined) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
