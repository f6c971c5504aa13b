package wire

import (
	"bytes"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"physalia/cell"
)

// TestPropertyRoundTrip: every message decodes to what was encoded; the input may be scribbled over afterwards; and the
// struct that is decoded into may have held anything before.
func TestPropertyRoundTrip(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, rapid.MakeCheck(func(t *rapid.T) {
			want := drawMessage(t, &s)
			buf := want.Append([]byte("before"))[len("before"):]
			got := drawMessage(t, &s)
			if err := Unmarshal(buf, got); err != nil {
				t.Fatal(err)
			}
			for i := range buf {
				buf[i] ^= 0xa5
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("decoded\n%+v\nwant\n%+v", got, want)
			}
		}))
	}
}

// TestPropertyOthersReadUs: what we encode means the same to another MessagePack library. The hostile inputs that kill
// it never reach it here: it reads only what we encoded.
func TestPropertyOthersReadUs(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, rapid.MakeCheck(func(t *rapid.T) {
			buf := drawMessage(t, &s).Append(nil)
			r := NewReader(buf)
			other := msgpack.NewDecoder(bytes.NewReader(buf))
			for r.Left() > 0 {
				at := r.off
				want := generic(&r)
				if r.Err() != nil {
					t.Fatal(r.Err())
				}
				got, err := other.DecodeInterface()
				if err != nil || !reflect.DeepEqual(normal(got), want) {
					t.Fatalf("value at byte %d: the other library reads %#v (%v), we read %#v", at, got, err, want)
				}
			}
			if got, err := other.DecodeInterface(); err == nil {
				t.Fatalf("the other library reads another value, %#v", got)
			}
		}))
	}
}

// TestPropertyWeReadOthers: integers, strings, bytes and booleans of another MessagePack library mean the same to us,
// whichever width it chooses.
func TestPropertyWeReadOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		signed, unsigned := rapid.Int64().Draw(t, "signed"), rapid.Uint64().Draw(t, "unsigned")
		small, flag := rapid.Int16Min(0).Draw(t, "small"), rapid.Bool().Draw(t, "flag")
		text, blob := drawText(t, cell.ValueBytesMax), []byte(drawText(t, cell.ValueBytesMax))
		var buf bytes.Buffer
		enc := msgpack.NewEncoder(&buf)
		enc.UseCompactInts(rapid.Bool().Draw(t, "compact"))
		if err := enc.EncodeMulti(signed, unsigned, small, text, blob, flag, nil); err != nil {
			t.Fatal(err)
		}
		r := NewReader(buf.Bytes())
		ok := r.Int() == signed && r.Uint() == unsigned && r.Uint() == uint64(small) &&
			r.String(cell.ValueBytesMax, "text") == text && bytes.Equal(r.Bytes(cell.ValueBytesMax, "blob"), blob) &&
			r.Bool() == flag && r.Nil()
		if err := r.Done(); err != nil || !ok {
			t.Fatalf("encoding %x: %v", buf.Bytes(), err)
		}
	})
}

// TestPropertyCanonical: whatever bytes decode as a command or state, encoding the result gives the same bytes.
func TestPropertyCanonical(t *testing.T) {
	for _, s := range samples() {
		if s.name != "Command" && s.name != "CellState" {
			continue
		}
		t.Run(s.name, rapid.MakeCheck(func(t *rapid.T) {
			buf := drawMessage(t, &s).Append(nil)
			for range rapid.IntRange(1, 3).Draw(t, "damages") {
				buf = drawDamage(t, buf)
			}
			if again, err := s.again(buf); err == nil && !bytes.Equal(again, buf) {
				t.Fatalf("two encodings of one value:\n%x\n%x", buf, again)
			}
		}))
	}
}

// TestPropertyDamage: damaged input never panics, and what decodes nevertheless is a value like any other.
func TestPropertyDamage(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, rapid.MakeCheck(func(t *rapid.T) {
			buf := s.full.Append(nil)
			for range rapid.IntRange(1, 3).Draw(t, "damages") {
				buf = drawDamage(t, buf)
			}
			first, second := s.empty(), s.empty()
			if Unmarshal(buf, first) != nil {
				return
			}
			if err := Unmarshal(first.Append(nil), second); err != nil || !reflect.DeepEqual(first, second) {
				t.Fatalf("decoded %+v, then %+v (%v)", first, second, err)
			}
		}))
	}
}

// TestPropertyWiderFormsAreRefused: a command or state in which one number or length is written in a longer form is
// refused, but a request is not.
func TestPropertyWiderFormsAreRefused(t *testing.T) {
	commands, states := of(Command{}), of(CellState{})
	rapid.Check(t, func(t *rapid.T) {
		const prefix = 2 // format and version are bytes, not numbers
		command, which := drawMessage(t, &commands).(*Command), rapid.IntRange(0, 200).Draw(t, "which")
		wide := widen(command.Append(nil), prefix, which)
		if _, err := DecodeCommand(wide); err == nil {
			t.Fatalf("Command accepts %x", wide)
		}
		wide = widen(drawMessage(t, &states).Append(nil), prefix, which)
		if _, err := DecodeCellState(wide); err == nil {
			t.Fatalf("CellState accepts %x", wide)
		}
		request, got := TxnRequest{Header: sampleHeader, Request: command.Request, Txn: command.Txn}, TxnRequest{}
		wide = widen(request.Append(nil), 0, which)
		if err := Unmarshal(wide, &got); err != nil || !reflect.DeepEqual(got, request) {
			t.Fatalf("decoded %x to %+v (%v), want %+v", wide, got, err, request)
		}
	})
}

// widen rewrites one number or length at or behind from in a longer form: the nth that has one, counted around.
func widen(buf []byte, from, nth int) []byte {
	var wider [][]byte
	for r := NewReader(buf); r.Left() > 0 && r.Err() == nil; {
		at := r.off
		elements, isArray := r.step()
		short := 1
		var long []byte
		switch c := buf[at]; {
		case at < from:
		case isArray && c < 0xdc:
			long = []byte{0xdc, 0, byte(elements)}
		case c < 0x80:
			long = []byte{0xd1, 0, c}
		case c >= 0xe0:
			long = []byte{0xd2, 0xff, 0xff, 0xff, c}
		case c >= 0xa0 && c < 0xc0:
			long = []byte{0xda, 0, c & 0x1f}
		case c == 0xc4:
			short, long = 2, []byte{0xc6, 0, 0, 0, buf[at+1]}
		}
		if long != nil {
			wider = append(wider, slices.Concat(buf[:at], long, buf[at+short:]))
		}
	}
	return wider[nth%len(wider)]
}

// generic reads one value, as deep as it goes. Only our own encodings are read like this.
func generic(r *Reader) any {
	at := r.off
	elements, isArray := r.step()
	if !isArray {
		one := NewReader(r.buf[at:r.off])
		switch c := r.buf[at]; {
		case c == 0xc0:
			return nil
		case c == 0xc2, c == 0xc3:
			return one.Bool()
		case c >= 0xc4 && c <= 0xc6:
			return string(one.Bytes(math.MaxInt, "bytes")) + " (bytes)"
		case c >= 0xa0 && c <= 0xbf, c >= 0xd9 && c <= 0xdb:
			return one.String(math.MaxInt, "string")
		}
		v, negative := one.integer()
		return integer{v, negative}
	}
	list := make([]any, elements)
	for i := range list {
		list[i] = generic(r)
	}
	return list
}

// integer is the common form of the integers of both libraries.
type integer struct {
	bits     uint64
	negative bool
}

// normal brings what the other library decodes into the form of generic.
func normal(v any) any {
	switch n := reflect.ValueOf(v); {
	case n.CanInt():
		return integer{uint64(n.Int()), n.Int() < 0}
	case n.CanUint():
		return integer{n.Uint(), false}
	}
	switch v := v.(type) {
	case []byte:
		return string(v) + " (bytes)"
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	}
	return v
}

// drawMessage draws any valid value of the sample's type, by its fields.
func drawMessage(t *rapid.T, s *sample) Message {
	m := s.empty()
	fill(t, reflect.ValueOf(m).Elem(), s.name)
	if state, ok := m.(*CellState); ok {
		order(state)
	}
	return m
}

// order makes a drawn state one that a cell can have.
func order(m *CellState) {
	for i := range m.Entries {
		m.Entries[i].Key += "k"
	}
	slices.SortFunc(m.Entries, func(a, b cell.Entry) int { return strings.Compare(a.Key, b.Key) })
	m.Entries = slices.CompactFunc(m.Entries, func(a, b cell.Entry) bool { return a.Key == b.Key })
	for i := range m.Remembered {
		m.Remembered[i].Result.Revision = cell.Revision(i * 50)
	}
	for i := range m.Leases {
		m.Leases[i].ID = cell.LeaseID(i * 50)
	}
}

// fill draws a value. It knows the types that need more than their kind; a new message needs nothing here.
func fill(t *rapid.T, v reflect.Value, path string) {
	switch p := v.Addr().Interface().(type) {
	case *cell.Value:
		*p = drawValue(t)
	case *cell.Kind:
		*p = cell.Kind(rapid.Uint8().Filter(func(k uint8) bool { return cell.Kind(k).Valid() }).Draw(t, path))
	case *cell.Target:
		*p = cell.Target(rapid.Uint8Range(1, uint8(cell.OnHeld)).Draw(t, path))
	case *CommandKind:
		*p = CommandKind(rapid.Uint8Range(0, uint8(CommandExpire)).Draw(t, path))
	case *cell.Comparison:
		*p = cell.Comparison(rapid.Uint8Range(1, 6).Draw(t, path))
	case *cell.OpKind:
		*p = cell.OpKind(rapid.Uint8Range(1, 5).Draw(t, path))
	case *ChangeKind:
		*p = ChangeKind(rapid.Uint8Range(0, uint8(HandOver)).Draw(t, path))
	case *RebuildAction:
		*p = RebuildAction(rapid.Uint8Range(0, uint8(RebuildEnd)).Draw(t, path))
	case **cell.Pointer:
		if *p = nil; rapid.Bool().Draw(t, path) {
			*p = new(cell.Pointer)
			fill(t, reflect.ValueOf(*p).Elem(), path)
		}
	case *time.Duration:
		*p = time.Duration(rapid.Int64Min(0).Draw(t, path))
	case **cell.Error:
		if *p = nil; rapid.Bool().Draw(t, path) {
			*p = new(cell.Error)
			fill(t, reflect.ValueOf(*p).Elem(), path)
		}
	case *[]cell.Entry:
		fillKind(t, v, path)
		for i := range *p { // the entries of a list exist
			(*p)[i].Key += "k"
		}
	default:
		fillKind(t, v, path)
	}
}

func fillKind(t *rapid.T, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		n := rapid.SampledFrom([]int{0, 1, 2, 3, 17}).Draw(t, path)
		if strings.Count(path, ".") > 2 {
			n = min(n, 2)
		}
		if strings.HasSuffix(path, ".Members") || strings.HasSuffix(path, ".Learners") || strings.HasSuffix(path, ".Servers") && v.Type().Elem() != reflect.TypeFor[ServerState]() {
			n = min(n, MembersMax)
		}
		v.SetZero()
		if n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			fill(t, v.Index(i), path)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(rapid.Byte().Draw(t, path)))
		}
	case reflect.String:
		v.SetString(drawText(t, cell.IDBytesMax-1))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, path))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		limit := uint64(1)<<v.Type().Bits() - 1
		if strings.HasPrefix(path, "List") {
			limit = min(limit, ListLimitMax)
		}
		v.SetUint(rapid.Uint64Range(0, limit).Draw(t, path))
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t, path)))
	case reflect.Int: // the index of a failed condition
		v.SetInt(int64(rapid.IntRange(-1, cell.TxnOpsMax-1).Draw(t, path)))
	case reflect.Interface: // the cause of an error does not cross the wire
	default:
		t.Fatalf("%s has kind %s, which no draw knows", path, v.Kind())
	}
}

// drawText draws a string of any bytes with a length near the borders of the formats.
func drawText(t *rapid.T, longest int) string {
	n := rapid.SampledFrom([]int{0, 1, 5, 31, 32, 63, 64, 127, 128, 255, 256, 16000}).Draw(t, "length")
	n = min(n, longest)
	seed := rapid.SliceOfN(rapid.Byte(), min(n, 4), min(n, 4)).Draw(t, "text")
	return strings.Repeat(string(seed), n)[:n]
}

// drawValue draws a value of any type, or none.
func drawValue(t *rapid.T) cell.Value {
	switch cell.Type(rapid.Uint8Range(0, 5).Draw(t, "type")) {
	case cell.IntType:
		return cell.Int(rapid.Int64().Draw(t, "int"))
	case cell.StringType:
		return cell.String(drawText(t, cell.ValueBytesMax))
	case cell.BoolType:
		return cell.Bool(rapid.Bool().Draw(t, "bool"))
	case cell.BytesType:
		return cell.Bytes([]byte(drawText(t, cell.ValueBytesMax)))
	case cell.NoType:
		return cell.Value{}
	}
	n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 7, cell.IntBitsMax/8).Draw(t, "magnitude"))
	if rapid.Bool().Draw(t, "negative") {
		n.Neg(n)
	}
	return cell.BigInt(n)
}

// drawDamage flips, inserts, removes or cuts something.
func drawDamage(t *rapid.T, buf []byte) []byte {
	if len(buf) == 0 {
		return []byte{rapid.Byte().Draw(t, "byte")}
	}
	at := rapid.IntRange(0, len(buf)-1).Draw(t, "at")
	switch rapid.IntRange(0, 3).Draw(t, "damage") {
	case 0:
		return slices.Concat(buf[:at], []byte{rapid.Byte().Draw(t, "byte")}, buf[at+1:])
	case 1:
		return slices.Concat(buf[:at], []byte{rapid.Byte().Draw(t, "byte")}, buf[at:])
	case 2:
		return slices.Concat(buf[:at], buf[at+1:])
	}
	return buf[:at]
}
