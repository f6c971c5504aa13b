package cell

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Type is the dynamic type of a Value. There are no floats: nodes of different builds and hardware must compute
// identical results (NSDI 2020, section 2.3).
type Type uint8

// The types of a Value. The numbers are part of the wire format and never change.
const (
	NoType     Type = 0 // the zero Value: no value at all
	IntType    Type = 1 // integer of arbitrary precision, at most IntBitsMax bits
	StringType Type = 2
	BoolType   Type = 3
	BytesType  Type = 4
)

var typeNames = [...]string{"none", "int", "string", "bool", "bytes"}

// String names the type as users write it.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// Value is one typed, immutable value. The zero Value is "no value".
type Value struct {
	typ   Type
	small int64    // IntType when large is nil; BoolType as 0 or 1
	large *big.Int // IntType outside int64; never mutated, never a number that fits int64
	text  string   // StringType and BytesType
}

// Int makes an integer value.
func Int(n int64) Value { return Value{typ: IntType, small: n} }

// BigInt makes an integer value of any size; it copies n. Check refuses more than IntBitsMax bits.
func BigInt(n *big.Int) Value {
	if n.IsInt64() {
		return Int(n.Int64())
	}
	return Value{typ: IntType, large: new(big.Int).Set(n)}
}

// String makes a string value. (The method Value.String describes a value of any type.)
func String(s string) Value { return Value{typ: StringType, text: s} }

// Bool makes a boolean value.
func Bool(b bool) Value {
	if b {
		return Value{typ: BoolType, small: 1}
	}
	return Value{typ: BoolType}
}

// Bytes makes a bytes value; it copies b.
func Bytes(b []byte) Value { return Value{typ: BytesType, text: string(b)} }

// BytesOf makes a bytes value of what s holds, without copying it; codecs use it.
func BytesOf(s string) Value { return Value{typ: BytesType, text: s} }

// Type tells the dynamic type; zero for the zero Value.
func (v Value) Type() Type { return v.typ }

// IsZero reports whether v is no value at all.
func (v Value) IsZero() bool { return v.typ == NoType }

// AsInt64 returns an integer that fits 64 bits.
func (v Value) AsInt64() (int64, bool) { return v.small, v.typ == IntType && v.large == nil }

// AsBigInt returns a copy of an integer of any size.
func (v Value) AsBigInt() (*big.Int, bool) {
	switch {
	case v.typ != IntType:
		return nil, false
	case v.large != nil:
		return new(big.Int).Set(v.large), true
	}
	return big.NewInt(v.small), true
}

// AsString returns a string value.
func (v Value) AsString() (string, bool) { return v.text, v.typ == StringType }

// AsBool returns a boolean value.
func (v Value) AsBool() (b, ok bool) { return v.small == 1, v.typ == BoolType }

// AsBytes returns a copy of a bytes value.
func (v Value) AsBytes() ([]byte, bool) {
	if v.typ != BytesType {
		return nil, false
	}
	return []byte(v.text), true
}

// RawText returns the bytes of a string or bytes value without copying them; codecs use it.
func (v Value) RawText() string { return v.text }

// Size is what the value costs against the cell's size bound, in bytes.
func (v Value) Size() int {
	if v.large != nil {
		return (v.large.BitLen()+7)/8 + 1
	}
	return len(v.text) + 8
}

// Equal reports whether both values have the same type and the same content.
func (v Value) Equal(w Value) bool {
	c, ok := v.Compare(w)
	return ok && c == 0
}

// Compare orders two values of the same type: integers by number, strings and bytes by their bytes, false before true.
// It reports false when the types differ or either is no value; such values have no order.
func (v Value) Compare(w Value) (int, bool) {
	if v.typ != w.typ || v.typ == NoType {
		return 0, false
	}
	switch v.typ {
	case StringType, BytesType:
		return strings.Compare(v.text, w.text), true
	case IntType:
		if v.large != nil || w.large != nil {
			a, _ := v.AsBigInt()
			b, _ := w.AsBigInt()
			return a.Cmp(b), true
		}
	}
	switch {
	case v.small < w.small:
		return -1, true
	case v.small > w.small:
		return 1, true
	}
	return 0, true
}

// String describes the value for people: 42, "text", true, 0x0a0b.
func (v Value) String() string {
	switch v.typ {
	case IntType:
		if v.large != nil {
			return v.large.String()
		}
		return strconv.FormatInt(v.small, 10)
	case StringType:
		return strconv.Quote(v.text)
	case BoolType:
		return strconv.FormatBool(v.small == 1)
	case BytesType:
		return fmt.Sprintf("0x%x", v.text)
	}
	return "none"
}
