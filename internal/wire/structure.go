package wire

import (
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"physalia/cell"
)

// The bounds of ValidateStructure. The deepest message of this format nests 9 arrays; the largest one has about 120,000
// values, a page of cells with all their members or a scan of tiny entries.
const (
	DepthMax = 16
	NodesMax = 256 << 10
)

// ValidateStructure walks over one MessagePack value at the start of buf without looking at its meaning and returns its
// length in bytes. It refuses whatever this format does not have (maps, floats, extensions), arrays nested deeper than
// depthMax (at most DepthMax), more elements than bytes are left, and more than NodesMax values in all. It allocates
// nothing, does not recurse, and takes time proportional to the bytes it walks over.
func ValidateStructure(buf []byte, depthMax int) (int, error) {
	var (
		left  [DepthMax]uint64 // elements still to come, per open array
		depth int
		r     = NewReader(buf)
	)
	depthMax = min(depthMax, DepthMax)
	for nodes := 1; ; nodes++ {
		elements, isArray := r.step()
		switch {
		case nodes > NodesMax:
			r.Fail("more than %d values", NodesMax)
		case isArray && depth >= depthMax:
			r.Fail("arrays are nested more than %d deep", depthMax)
		case elements > uint64(r.Left()):
			r.Fail("array of %d elements with %d bytes left", elements, r.Left())
		}
		if r.err != nil {
			return 0, &cell.Error{Op: "wire.structure", Kind: cell.Invalid, Detail: r.err.Error(),
				Hint: "send positional arrays of integers, strings, booleans, bytes and nil only"}
		}
		if elements > 0 {
			left[depth] = elements
			depth++
			continue
		}
		for depth > 0 {
			if left[depth-1]--; left[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			return r.off, nil
		}
	}
}

// step consumes one value, or the head of one array and then returns its length.
func (r *Reader) step() (elements uint64, isArray bool) {
	c := r.code()
	switch {
	case r.err != nil:
	case msgpcode.IsFixedNum(c), c == msgpcode.Nil, c == msgpcode.False, c == msgpcode.True:
	case c >= msgpcode.Uint8 && c <= msgpcode.Uint64:
		r.skip(1 << (c - msgpcode.Uint8))
	case c >= msgpcode.Int8 && c <= msgpcode.Int64:
		r.skip(1 << (c - msgpcode.Int8))
	case msgpcode.IsFixedString(c):
		r.skip(uint64(c & msgpcode.FixedStrMask))
	case c >= msgpcode.Str8 && c <= msgpcode.Str32:
		r.skip(r.big(1 << (c - msgpcode.Str8)))
	case c >= msgpcode.Bin8 && c <= msgpcode.Bin32:
		r.skip(r.big(1 << (c - msgpcode.Bin8)))
	case msgpcode.IsFixedArray(c):
		return uint64(c & msgpcode.FixedArrayMask), true
	case c == msgpcode.Array16:
		return r.big(2), true
	case c == msgpcode.Array32:
		return r.big(4), true
	default:
		r.off--
		r.Fail("code 0x%02x: %s", c, foreign(c))
	}
	return 0, false
}

// skip consumes n bytes.
func (r *Reader) skip(n uint64) {
	if r.err == nil && n > uint64(r.Left()) {
		r.Fail("value of %d bytes with %d left", n, r.Left())
	}
	if r.err == nil {
		r.off += int(n)
	}
}

// foreign names what this format does not have.
func foreign(c byte) string {
	switch {
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return "maps are not part of this format"
	case c == msgpcode.Float, c == msgpcode.Double:
		return "floats are not part of this format"
	case c == 0xc1:
		return "never used in MessagePack"
	}
	return "extensions are not part of this format"
}
