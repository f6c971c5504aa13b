package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Reader consumes MessagePack values from a buffer. The first error sticks: later calls return zero values, so decoders
// read straight on and ask Err once at the end. A Reader never allocates (errors apart) and never recurses. It is not
// safe for concurrent use.
type Reader struct {
	buf       []byte
	off       int
	err       error
	canonical bool // refuse every form of a number or length but the shortest
}

// NewReader reads from buf, which must not change while results of Bytes are in use.
func NewReader(buf []byte) Reader { return Reader{buf: buf} }

// Err returns the first error, or nil.
func (r *Reader) Err() error { return r.err }

// Rest returns the bytes not yet consumed.
func (r *Reader) Rest() []byte { return r.buf[r.off:] }

// Left is the number of bytes not yet consumed.
func (r *Reader) Left() int { return len(r.buf) - r.off }

// Done returns the first error, or an error when bytes are left over.
func (r *Reader) Done() error {
	if r.err == nil && r.off != len(r.buf) {
		r.Fail("%d bytes left over", len(r.buf)-r.off)
	}
	return r.err
}

// Fail records an error at the current position unless there is one already. Decoders use it for values out of bounds.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = &readError{off: r.off, text: fmt.Sprintf(format, args...)}
	}
}

// FailUnknown records that a number naming a kind, type or version has no meaning in this version. The error is
// ErrNotUnderstood for errors.Is; whoever reads a log or a disk stops at it and never skips (rule 9).
func (r *Reader) FailUnknown(what string, v uint64) {
	if r.err == nil {
		r.err = &readError{off: r.off, text: fmt.Sprintf("%s %d is not known", what, v), unknown: true}
	}
}

// readError says where in the input reading stopped, and why.
type readError struct {
	off     int
	text    string
	unknown bool
}

// Error shows the position and the reason.
func (e *readError) Error() string { return fmt.Sprintf("byte %d: %s", e.off, e.text) }

// Is makes errors.Is(err, ErrNotUnderstood) work.
func (e *readError) Is(target error) bool { return e.unknown && target == ErrNotUnderstood }

// code consumes one code byte; it returns Nil's neighbour 0xc1 (never used) after an error.
func (r *Reader) code() byte {
	if r.err != nil {
		return 0xc1
	}
	if r.off >= len(r.buf) {
		r.Fail("input ends early")
		return 0xc1
	}
	c := r.buf[r.off]
	r.off++
	return c
}

// big consumes a big-endian number of 1, 2, 4 or 8 bytes.
func (r *Reader) big(n int) uint64 {
	if r.err != nil || len(r.buf)-r.off < n {
		r.Fail("input ends early")
		return 0
	}
	p := r.buf[r.off:]
	r.off += n
	switch n {
	case 1:
		return uint64(p[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(p))
	case 4:
		return uint64(binary.BigEndian.Uint32(p))
	}
	return binary.BigEndian.Uint64(p)
}

// shortest fails a canonical reader unless the form just read was the shortest one.
func (r *Reader) shortest(ok bool) {
	if r.canonical && !ok {
		r.Fail("a number or length is not in its shortest form")
	}
}

// integer consumes an integer of any width and returns its 64 bits; negative tells that they are to be read as int64.
func (r *Reader) integer() (v uint64, negative bool) {
	switch c := r.code(); {
	case c < 0x80:
		return uint64(c), false
	case c >= msgpcode.NegFixedNumLow:
		return uint64(int64(int8(c))), true
	case c >= msgpcode.Uint8 && c <= msgpcode.Uint64:
		width := 1 << (c - msgpcode.Uint8)
		v = r.big(width)
		r.shortest(v > [...]uint64{1: 0x7f, 2: 0xff, 4: math.MaxUint16, 8: math.MaxUint32}[width])
		return v, false
	case c >= msgpcode.Int8 && c <= msgpcode.Int64:
		width := 1 << (c - msgpcode.Int8)
		shift := 64 - 8*width
		s := int64(r.big(width)<<shift) >> shift
		r.shortest(s < [...]int64{1: -32, 2: math.MinInt8, 4: math.MinInt16, 8: math.MinInt32}[width])
		return uint64(s), s < 0
	default:
		r.Fail("want an integer, got code 0x%02x", c)
		return 0, false
	}
}

// Uint consumes an integer that is not negative, of any width. Nearly all are small, and come first.
func (r *Reader) Uint() uint64 {
	if r.off < len(r.buf) && r.buf[r.off] < 0x80 && r.err == nil {
		r.off++
		return uint64(r.buf[r.off-1])
	}
	return r.uint()
}

// uint is Uint for every form, and for what is wrong.
func (r *Reader) uint() uint64 {
	v, negative := r.integer()
	if negative {
		r.Fail("want an unsigned integer, got %d", int64(v))
		return 0
	}
	return v
}

// UintMax consumes an unsigned integer and fails when it is above max.
func (r *Reader) UintMax(max uint64, what string) uint64 {
	v := r.Uint()
	if v > max {
		r.Fail("%s is %d, allowed are at most %d", what, v, max)
		return 0
	}
	return v
}

// Uint32 consumes an unsigned integer of at most 32 bits.
func (r *Reader) Uint32(what string) uint32 { return uint32(r.UintMax(math.MaxUint32, what)) }

// Enum consumes a number from 1 to max that names a kind; any other is not understood.
func (r *Reader) Enum(max uint8, what string) uint8 {
	v := r.Uint()
	if v == 0 || v > uint64(max) {
		r.FailUnknown(what, v)
		return 0
	}
	return uint8(v)
}

// Int consumes a signed integer.
func (r *Reader) Int() int64 {
	v, negative := r.integer()
	if !negative && v > math.MaxInt64 {
		r.Fail("integer %d does not fit 64 signed bits", v)
		return 0
	}
	return int64(v)
}

// Bool consumes a boolean.
func (r *Reader) Bool() bool {
	switch c := r.code(); c {
	case msgpcode.True:
		return true
	case msgpcode.False:
	default:
		r.Fail("want a boolean, got code 0x%02x", c)
	}
	return false
}

// Nil consumes a nil if one is next and reports whether it did.
func (r *Reader) Nil() bool {
	if r.err == nil && r.off < len(r.buf) && r.buf[r.off] == msgpcode.Nil {
		r.off++
		return true
	}
	return false
}

// length consumes a length of the given width; a canonical reader refuses one below least.
func (r *Reader) length(width int, least uint64) uint64 {
	n := r.big(width)
	r.shortest(n >= least)
	return n
}

// Array consumes the head of an array of at most max elements; every element takes at least one byte, so a length
// beyond the bytes left fails before anybody allocates for it.
func (r *Reader) Array(max int, what string) int {
	n := uint64(0)
	switch c := r.code(); {
	case msgpcode.IsFixedArray(c):
		n = uint64(c & msgpcode.FixedArrayMask)
	case c == msgpcode.Array16:
		n = r.length(2, 16)
	case c == msgpcode.Array32:
		n = r.length(4, math.MaxUint16+1)
	default:
		r.Fail("want an array (%s), got code 0x%02x", what, c)
		return 0
	}
	if n > uint64(max) || n > uint64(r.Left()) {
		r.Fail("%s has %d elements, allowed are %d in %d bytes", what, n, max, r.Left())
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Struct consumes the head of a positional struct of exactly n fields.
func (r *Reader) Struct(n int, what string) {
	if r.off < len(r.buf) && n < 16 && r.buf[r.off] == msgpcode.FixedArrayLow|byte(n) && r.err == nil && n < r.Left() {
		r.off++
		return
	}
	if got := r.Array(n, what); got != n {
		r.Fail("%s has %d fields, want %d", what, got, n)
	}
}

// Bytes consumes a byte string of at most max bytes. The result aliases the buffer.
func (r *Reader) Bytes(max int, what string) []byte {
	n := uint64(0)
	switch c := r.code(); c {
	case msgpcode.Bin8:
		n = r.length(1, 0)
	case msgpcode.Bin16:
		n = r.length(2, 1<<8)
	case msgpcode.Bin32:
		n = r.length(4, 1<<16)
	default:
		r.Fail("want bytes (%s), got code 0x%02x", what, c)
	}
	return r.take(n, max, what)
}

// Text consumes a string of at most max bytes. The result aliases the buffer.
func (r *Reader) Text(max int, what string) []byte {
	n := uint64(0)
	switch c := r.code(); {
	case msgpcode.IsFixedString(c):
		n = uint64(c & msgpcode.FixedStrMask)
	case c == msgpcode.Str8:
		n = r.length(1, 32)
	case c == msgpcode.Str16:
		n = r.length(2, 1<<8)
	case c == msgpcode.Str32:
		n = r.length(4, 1<<16)
	default:
		r.Fail("want a string (%s), got code 0x%02x", what, c)
	}
	return r.take(n, max, what)
}

// String consumes a string of at most max bytes and copies it.
func (r *Reader) String(max int, what string) string { return string(r.Text(max, what)) }

// take consumes n bytes, at most max.
func (r *Reader) take(n uint64, max int, what string) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(max) || n > uint64(r.Left()) {
		r.Fail("%s has %d bytes, allowed are %d with %d left", what, n, max, r.Left())
		return nil
	}
	end := r.off + int(n)
	p := r.buf[r.off:end:end]
	r.off = end
	return p
}
