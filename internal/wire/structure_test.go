package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
)

// naiveLength is the twin of ValidateStructure: recursive, obvious, only for small inputs. It returns the length of the
// value at the start of p, or -1.
func naiveLength(p []byte, depth int) int {
	if len(p) == 0 {
		return -1
	}
	fixed := func(n int) int {
		if n > len(p) {
			return -1
		}
		return n
	}
	prefixed := func(width int) int { // a length of that many bytes, then so many bytes
		if len(p) < 1+width {
			return -1
		}
		var wide [8]byte
		copy(wide[8-width:], p[1:1+width])
		return fixed(1 + width + int(binary.BigEndian.Uint64(wide[:])))
	}
	switch c := p[0]; {
	case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return 1
	case c >= 0x90 && c < 0xa0:
		return naiveArray(p, 1, int(c&15), depth)
	case c >= 0xa0 && c < 0xc0:
		return fixed(1 + int(c&31))
	}
	switch c := p[0]; c {
	case 0xcc, 0xd0:
		return fixed(2)
	case 0xcd, 0xd1:
		return fixed(3)
	case 0xce, 0xd2:
		return fixed(5)
	case 0xcf, 0xd3:
		return fixed(9)
	case 0xc4, 0xd9:
		return prefixed(1)
	case 0xc5, 0xda:
		return prefixed(2)
	case 0xc6, 0xdb:
		return prefixed(4)
	case 0xdc:
		if len(p) >= 3 {
			return naiveArray(p, 3, int(binary.BigEndian.Uint16(p[1:])), depth)
		}
	case 0xdd:
		if len(p) >= 5 {
			return naiveArray(p, 5, int(binary.BigEndian.Uint32(p[1:])), depth)
		}
	}
	return -1
}

func naiveArray(p []byte, at, elements, depth int) int {
	if depth == 0 {
		return -1
	}
	for ; elements > 0; elements-- {
		n := naiveLength(p[at:], depth-1)
		if n < 0 {
			return -1
		}
		at += n
	}
	return at
}

// TestPropertyStructureAgreesWithNaiveTwin compares the two on bytes that are often MessagePack.
func TestPropertyStructureAgreesWithNaiveTwin(t *testing.T) {
	head := rapid.SampledFrom([]byte{0x00, 0x7f, 0x80, 0x90, 0x91, 0x92, 0x93, 0x9f, 0xa0, 0xa1, 0xa5, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5,
		0xc6, 0xc7, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0})
	rapid.Check(t, func(t *rapid.T) {
		buf := rapid.SliceOfN(rapid.OneOf(head, rapid.ByteMax(3)), 0, 60).Draw(t, "bytes")
		depth := rapid.IntRange(0, 6).Draw(t, "depth")
		want := naiveLength(buf, depth)
		got, err := ValidateStructure(buf, depth)
		if (err == nil) != (want >= 0) || err == nil && got != want {
			t.Fatalf("%x: %d, %v; the twin says %d", buf, got, err, want)
		}
	})
}

func TestStructureOfOurMessages(t *testing.T) {
	for _, s := range samples() {
		if s.name == "Command" || s.name == "CellState" {
			continue // behind format and version
		}
		buf := s.full.Append(nil)
		if n, err := ValidateStructure(append(buf, 0xc1), 8); err != nil || n != len(buf) {
			t.Errorf("%s has %d bytes, got %d, %v", s.name, len(buf), n, err)
		}
	}
}

func TestStructureBounds(t *testing.T) {
	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n-1), 0x90) }
	many := func(n int) []byte { return append(AppendArray(nil, n-1), make([]byte, n-1)...) }
	for _, c := range []struct {
		name  string
		buf   []byte
		depth int
		ok    bool
	}{
		{"16 deep", nested(16), DepthMax, true},
		{"17 deep", nested(17), DepthMax, false},
		{"17 deep, caller allows more", nested(17), 100, false},
		{"2 deep", nested(2), 2, true},
		{"3 deep", nested(3), 2, false},
		{"array where none is allowed", nested(1), 0, false},
		{"array where less than none is allowed", nested(1), -1, false},
		{"all nodes", many(NodesMax), DepthMax, true},
		{"one node too many", many(NodesMax + 1), DepthMax, false},
	} {
		if n, err := ValidateStructure(c.buf, c.depth); (err == nil) != c.ok || c.ok && n != len(c.buf) {
			t.Errorf("%s: %d of %d bytes, %v", c.name, n, len(c.buf), err)
		}
	}
}

func TestStructureOfKillers(t *testing.T) {
	for name, input := range killers() {
		if name == "2 MB of nil" { // well formed: one nil and something behind it
			continue
		}
		var err error
		if n := allocated(func() { _, err = ValidateStructure(input, DepthMax) }); cell.KindOf(err) != cell.Invalid || n > 8<<10 {
			t.Errorf("%s: %d bytes allocated, %v", name, n, err)
		}
		if strings.HasPrefix(name, "array of") && !strings.Contains(err.Error(), "elements with 0 bytes left") {
			t.Errorf("%s is not refused at its head: %v", name, err)
		}
	}
	good := (&TxnReply{Result: sampleResult}).Append(nil)
	if n := testing.AllocsPerRun(100, func() { _, _ = ValidateStructure(good, DepthMax) }); n != 0 {
		t.Errorf("%v allocations for a good message", n)
	}
}
