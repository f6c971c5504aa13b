package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestIntegersInEveryWidth reads each number in each form that can hold it, and finds that exactly one is canonical.
func TestIntegersInEveryWidth(t *testing.T) {
	numbers := []int64{0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32,
		math.MaxUint32 + 1, math.MaxInt64, -1, -32, -33, -128, -129, -32768, -32769, math.MinInt32, math.MinInt32 - 1, math.MinInt64}
	for _, n := range numbers {
		canonical := 0
		for _, form := range forms(n) {
			r := NewReader(form)
			if got := r.Int(); got != n || r.Done() != nil {
				t.Errorf("%x: got %d (%v), want %d", form, got, r.Done(), n)
			}
			r = NewReader(form)
			if got := r.Uint(); n >= 0 && (got != uint64(n) || r.Done() != nil) {
				t.Errorf("%x: got %d (%v), want %d", form, got, r.Done(), n)
			} else if n < 0 && r.Err() == nil {
				t.Errorf("%x is read as unsigned %d", form, got)
			}
			r = NewReader(form)
			r.canonical = true
			if r.Int(); r.Done() == nil {
				canonical++
				if want := AppendInt(nil, n); !bytes.Equal(form, want) {
					t.Errorf("%d is written as %x, but %x is canonical", n, want, form)
				}
			}
		}
		if canonical != 1 {
			t.Errorf("%d has %d canonical forms", n, canonical)
		}
	}
}

// forms lists every MessagePack encoding of a number.
func forms(n int64) [][]byte {
	var all [][]byte
	bigEndian := func(code byte, width int) {
		b := []byte{code}
		for i := width - 1; i >= 0; i-- {
			b = append(b, byte(n>>(8*i)))
		}
		all = append(all, b)
	}
	if n >= -32 && n < 128 {
		all = append(all, []byte{byte(n)})
	}
	for i, width := range []int{1, 2, 4, 8} {
		bits := 8 * width
		if n >= 0 && (width == 8 || n < 1<<bits) {
			bigEndian(0xcc+byte(i), width)
		}
		if width == 8 || n >= -1<<(bits-1) && n < 1<<(bits-1) {
			bigEndian(0xd0+byte(i), width)
		}
	}
	return all
}

func TestUnsignedBeyondInt64(t *testing.T) {
	buf := AppendUint(nil, math.MaxUint64)
	r := NewReader(buf)
	if got := r.Uint(); got != math.MaxUint64 || r.Done() != nil {
		t.Errorf("got %d, %v", got, r.Err())
	}
	r = NewReader(buf)
	if got := r.Int(); got != 0 || r.Err() == nil {
		t.Errorf("read as signed %d", got)
	}
}

// TestLengthsAtTheBorders writes strings, bytes and arrays of the lengths where the head changes.
func TestLengthsAtTheBorders(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 70000} {
		text := strings.Repeat("x", n)
		b := AppendArray(AppendBytes(AppendString(nil, text), text), n)
		r := NewReader(append(b, make([]byte, n)...))
		r.canonical = true
		if got := r.String(n, "text"); got != text {
			t.Errorf("string of %d bytes: got %d (%v)", n, len(got), r.Err())
		}
		if got := r.Bytes(n, "bytes"); string(got) != text {
			t.Errorf("bytes of %d bytes: got %d (%v)", n, len(got), r.Err())
		}
		if got := r.Array(n, "array"); got != n || r.Err() != nil {
			t.Errorf("array of %d: got %d (%v)", n, got, r.Err())
		}
	}
}

func TestReaderErrorsStick(t *testing.T) {
	r := NewReader([]byte{0xc3, 5, 6})
	if r.Uint(); r.Err() == nil {
		t.Fatal("a boolean is read as a number")
	}
	first := r.Err()
	if r.Bool() || r.Int() != 0 || r.Uint() != 0 || r.Array(9, "a") != 0 || r.Bytes(9, "b") != nil || r.Text(9, "t") != nil || r.Nil() || r.Enum(9, "e") != 0 {
		t.Error("a failed reader returns values")
	}
	r.Struct(1, "s")
	r.FailUnknown("kind", 1)
	if r.Done() != first || fmt.Sprint(first) != "byte 1: want an integer, got code 0xc3" {
		t.Errorf("got %v", r.Done())
	}
}

func TestReaderKnowsWhatItDoesNotUnderstand(t *testing.T) {
	for v, understood := range map[uint64]bool{0: false, 1: true, 9: true, 10: false, 256 + 1: false, math.MaxUint64: false} {
		r := NewReader(AppendUint(nil, v))
		got := r.Enum(9, "kind")
		if understood && uint64(got) != v || understood != (r.Err() == nil) || !understood && !errors.Is(r.Err(), ErrNotUnderstood) {
			t.Errorf("%d: got %d, %v", v, got, r.Err())
		}
	}
	r := NewReader([]byte{0xc0})
	if r.Enum(9, "kind"); r.Err() == nil || errors.Is(r.Err(), ErrNotUnderstood) {
		t.Errorf("damage is taken for a newer version: %v", r.Err())
	}
}
