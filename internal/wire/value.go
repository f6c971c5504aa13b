package wire

import (
	"math/big"

	"physalia/cell"
)

// The codecs of values and entries. A value is [type, payload]; an integer outside int64 is [type, negative, magnitude]
// with the magnitude in as few big-endian bytes as it needs; no value is nil.

// sharedBytesMax bounds how many encoded bytes of a key and its string or bytes value may share one allocation. Sharing saves
// an allocation on the hot path; the bound is what a short key may pin in memory after its value was replaced.
const sharedBytesMax = 128

// AppendValue adds a value.
func AppendValue(b []byte, v *cell.Value) []byte {
	typ := v.Type()
	if typ == cell.NoType {
		return AppendNil(b)
	}
	if typ == cell.IntType {
		return appendInteger(b, v)
	}
	b = append(AppendArray(b, 2), byte(typ))
	switch typ {
	case cell.StringType:
		return AppendString(b, v.RawText())
	case cell.BytesType:
		return AppendBytes(b, v.RawText())
	}
	is, _ := v.AsBool()
	return AppendBool(b, is)
}

// appendInteger adds an integer in its short form if it fits int64, else in its long form.
func appendInteger(b []byte, v *cell.Value) []byte {
	if n, ok := v.AsInt64(); ok {
		return AppendInt(append(AppendArray(b, 2), byte(cell.IntType)), n)
	}
	n, _ := v.AsBigInt()
	b = append(AppendArray(b, 3), byte(cell.IntType))
	return AppendBytes(AppendBool(b, n.Sign() < 0), n.Bytes())
}

// DecodeValue reads a value.
func DecodeValue(r *Reader, v *cell.Value) {
	typ, fields := decodeType(r)
	decodePayload(r, typ, fields, v)
}

// decodeType reads the head of a value: its type and the number of its fields, NoType and zero for no value.
func decodeType(r *Reader) (typ cell.Type, fields int) {
	if r.Nil() {
		return cell.NoType, 0
	}
	fields = r.Array(3, "value")
	typ = cell.Type(r.Enum(uint8(cell.BytesType), "type of value"))
	if fields != 2 && (fields != 3 || typ != cell.IntType) {
		r.Fail("value of type %s has %d fields", typ, fields)
	}
	return typ, fields
}

// decodePayload reads what follows the type.
func decodePayload(r *Reader, typ cell.Type, fields int, v *cell.Value) {
	*v = cell.Value{}
	if r.err != nil {
		return
	}
	switch typ {
	case cell.IntType:
		if fields == 3 {
			decodeBig(r, v)
		} else {
			*v = cell.Int(r.Int())
		}
	case cell.StringType:
		*v = cell.String(r.String(cell.ValueBytesMax, "string value"))
	case cell.BoolType:
		*v = cell.Bool(r.Bool())
	case cell.BytesType:
		*v = cell.Bytes(r.Bytes(cell.ValueBytesMax, "bytes value"))
	}
}

// decodeBig reads sign and magnitude of an integer outside int64; every such integer has one encoding.
func decodeBig(r *Reader, v *cell.Value) {
	negative := r.Bool()
	magnitude := r.Bytes(cell.IntBitsMax/8, "magnitude of an integer")
	if r.err != nil {
		return
	}
	if len(magnitude) == 0 || magnitude[0] == 0 {
		r.Fail("magnitude of an integer is empty or starts with a zero byte")
		return
	}
	n := new(big.Int).SetBytes(magnitude)
	if negative {
		n.Neg(n)
	}
	if n.IsInt64() {
		r.Fail("integer %d is in the long form but fits 64 signed bits", n)
		return
	}
	*v = cell.BigInt(n)
}

// decodePair reads a key and the value that follows it. A short key and a short string or bytes value share one allocation.
func decodePair(r *Reader, key *string, v *cell.Value) {
	k := r.Text(cell.KeyBytesMax, "key")
	begin := r.off - len(k)
	typ, fields := decodeType(r)
	if typ != cell.StringType && typ != cell.BytesType {
		*key = string(k)
		decodePayload(r, typ, fields, v)
		return
	}
	var text []byte
	if typ == cell.StringType {
		text = r.Text(cell.ValueBytesMax, "string value")
	} else {
		text = r.Bytes(cell.ValueBytesMax, "bytes value")
	}
	if r.err != nil {
		return
	}
	name, value := "", ""
	if both := r.buf[begin:r.off]; len(both) <= sharedBytesMax {
		s := string(both)
		name, value = s[:len(k)], s[len(s)-len(text):]
	} else {
		name, value = string(k), string(text)
	}
	*key, *v = name, cell.String(value)
	if typ == cell.BytesType {
		*v = cell.BytesOf(value)
	}
}

// AppendEntry adds an entry: [key, value, create revision, mod revision, version, lease], or nil for the zero
// Entry.
func AppendEntry(b []byte, e *cell.Entry) []byte {
	if *e == (cell.Entry{}) {
		return AppendNil(b)
	}
	b = AppendString(AppendArray(b, 6), e.Key)
	b = AppendValue(b, &e.Value)
	b = AppendUint(b, uint64(e.CreateRevision))
	b = AppendUint(b, uint64(e.ModRevision))
	return AppendUint(AppendUint(b, e.Version), uint64(e.Lease))
}

// DecodeEntry reads an entry.
func DecodeEntry(r *Reader, e *cell.Entry) {
	*e = cell.Entry{}
	if r.Nil() {
		return
	}
	r.Struct(6, "entry")
	decodePair(r, &e.Key, &e.Value)
	e.CreateRevision = cell.Revision(r.Uint())
	e.ModRevision = cell.Revision(r.Uint())
	e.Version = r.Uint()
	e.Lease = cell.LeaseID(r.Uint())
	if *e == (cell.Entry{}) {
		r.Fail("empty entry is not in its short form")
	}
}

// appendEntries adds a list of entries.
func appendEntries(b []byte, list []cell.Entry) []byte {
	b = AppendArray(b, len(list))
	for i := range list {
		b = AppendEntry(b, &list[i])
	}
	return b
}

// decodeEntries reads a list of at most max entries that exist; nil when it is empty.
func decodeEntries(r *Reader, max int) []cell.Entry {
	const least = 8 // array, key, value, four numbers, and a key is not empty
	n := r.list(max, least, "entries")
	if n == 0 {
		return nil
	}
	list := make([]cell.Entry, n)
	for i := range list {
		DecodeEntry(r, &list[i])
		if list[i].Key == "" {
			r.Fail("entry %d of a list has no key", i)
		}
		if r.err != nil {
			return nil
		}
	}
	return list
}
