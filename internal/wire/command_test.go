package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"physalia/cell"
)

// TestRule9: what this version does not understand is told apart from damage, in commands and in states, and neither is
// an error after which a node could go on.
func TestRule9(t *testing.T) {
	command := func(t cell.Txn) []byte { return (&Command{Txn: t}).Append(nil) }
	put := func(v cell.Value) cell.Txn { return cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "k", Value: v}}} }
	good := command(put(cell.Bool(true)))
	state := (&CellState{Remembered: sampleRemembered}).Append(nil)
	kindAt := bytes.Index(state, []byte("kv.put")) + len("kv.put")
	for _, c := range []struct {
		name  string
		buf   []byte
		newer bool
	}{
		{"format", replaced(good, 0, 'D'), true},
		{"version", replaced(good, 1, 2), true},
		{"version 0", replaced(good, 1, 0), true},
		{"operation", command(cell.Txn{Then: []cell.Op{{Kind: cell.OpScan + 1}}}), true},
		{"operation in else", command(cell.Txn{Else: []cell.Op{{Kind: 0}}}), true},
		{"target", command(cell.Txn{If: []cell.Condition{{Target: cell.OnHeld + 1, Compare: cell.Equal}}}), true},
		{"comparison", command(cell.Txn{If: []cell.Condition{{Target: cell.OnVersion, Compare: cell.GreaterEqual + 1}}}), true},
		{"type of value", replaced(good, bytes.Index(good, []byte{3, 0xc3}), 5), true},
		{"kind of command", replaced(good, 3, byte(CommandExpire)+1), true},
		{"version of a state", replaced(state, 1, 2), true},
		{"format of a state", replaced(state, 0, 'C'), true},
		{"kind of error", replaced(state, kindAt, 127), true},
		{"nothing", nil, false},
		{"format alone", []byte{'C'}, false},
		{"cut", good[:len(good)-1], false},
		{"left over", append(bytes.Clone(good), 0), false},
		{"field too many", replaced(good, 2, 0x95), false},
		{"client of 15 bytes", bytes.Replace(good, append([]byte{0xc4, 16}, make([]byte, 16)...), append([]byte{0xc4, 15}, make([]byte, 15)...), 1), false},
		{"failed condition of a state", replaced(state, bytes.Index(state, []byte{0xc2, 2, 0xcc, 130})+1, 0xfe), false},
		{"boolean that is nil", replaced(good, bytes.IndexByte(good, 0xc3), 0xc0), false},
	} {
		var err error
		if bytes.HasPrefix(c.buf, []byte("S")) || strings.Contains(c.name, "state") || c.name == "kind of error" {
			_, err = DecodeCellState(c.buf)
		} else {
			_, err = DecodeCommand(c.buf)
		}
		if cell.KindOf(err) != cell.Quarantined || errors.Is(err, ErrNotUnderstood) != c.newer {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// replaced returns a copy of buf with one other byte.
func replaced(buf []byte, at int, b byte) []byte {
	buf = bytes.Clone(buf)
	buf[at] = b
	return buf
}

// TestOneEncodingPerValue lists encodings that mean the same as another one, or break the order of a state.
func TestOneEncodingPerValue(t *testing.T) {
	entry := func(key string) cell.Entry { return cell.Entry{Key: key, Version: 1} }
	value := func(magnitude ...byte) []byte {
		b := (&Command{Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "k", Value: cell.Int(7)}}}}).Append(nil)
		short := []byte{0x92, byte(cell.IntType), 7}
		return bytes.Replace(b, short, AppendBytes([]byte{0x93, byte(cell.IntType), 0xc2}, magnitude), 1)
	}
	for name, buf := range map[string][]byte{
		"integer in long form":            value(7),
		"integer without magnitude":       value(),
		"integer behind a zero byte":      value(0, 0x80, 0, 0, 0, 0, 0, 0, 0),
		"largest int64 in long form":      value(0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"entries out of order":            (&CellState{Entries: []cell.Entry{entry("b"), entry("a")}}).Append(nil),
		"entry twice":                     (&CellState{Entries: []cell.Entry{entry("a"), entry("a")}}).Append(nil),
		"entry without a key":             (&CellState{Entries: []cell.Entry{entry("")}}).Append(nil),
		"entry that is nil":               (&CellState{Entries: []cell.Entry{{}}}).Append(nil),
		"remembered results out of order": (&CellState{Remembered: []Remembered{{Result: cell.TxnResult{Revision: 2}}, {Result: cell.TxnResult{Revision: 1}}}}).Append(nil),
		"empty entry spelled out": bytes.Replace((&CellState{Remembered: []Remembered{{Result: cell.TxnResult{Results: make([]cell.OpResult, 1)}}}}).Append(nil),
			[]byte{0x94, 0xc2, 0xc0}, []byte{0x94, 0xc2, 0x96, 0xa0, 0xc0, 0, 0, 0, 0}, 1),
		"leases out of order":                (&CellState{Leases: []cell.Lease{{ID: 2}, {ID: 1}}}).Append(nil),
		"lease twice":                        (&CellState{Leases: []cell.Lease{{ID: 2}, {ID: 2}}}).Append(nil),
		"empty lease operation, spelled out": append(bytes.TrimSuffix((&Command{}).Append(nil), []byte{0xc0}), 0x94, 0, 0, 0xa0, 0),
	} {
		var err error
		if buf[0] == 'S' {
			_, err = DecodeCellState(buf)
		} else {
			_, err = DecodeCommand(buf)
		}
		if cell.KindOf(err) != cell.Quarantined || errors.Is(err, ErrNotUnderstood) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, magnitude := range map[string][]byte{"2^63": {0x80, 0, 0, 0, 0, 0, 0, 0}, "2^64": {1, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := DecodeCommand(value(magnitude...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestErrorsAlwaysCross: whatever an error holds, the peer can read it.
func TestErrorsAlwaysCross(t *testing.T) {
	long := strings.Repeat("ä", 5000)
	e := cell.Error{Op: long, Kind: 0, Cell: cell.ID(long), Detail: "x" + long, Hint: long, RetryAfter: -1,
		Leader: cell.ServerID(long), LeaderAddr: long, Err: errors.New("cause")}
	var got Outcome
	if err := Unmarshal((&Outcome{&e}).Append(nil), &got); err != nil {
		t.Fatal(err)
	}
	want := cell.Error{Op: long[:NameBytesMax], Kind: cell.Internal, Cell: cell.ID(long[:cell.IDBytesMax]),
		Detail: "x" + long[:DetailBytesMax-2], Hint: long[:DetailBytesMax], Leader: cell.ServerID(long[:cell.ServerIDBytesMax]),
		LeaderAddr: long[:AddrBytesMax]}
	if !reflect.DeepEqual(*got.Err, want) {
		t.Errorf("got %v", got.Err)
	}
	if !utf8.ValidString(got.Err.Detail) {
		t.Error("a character was split")
	}
	if s := strings.Repeat("\x80", DetailBytesMax+9); len(cut(s, DetailBytesMax)) < DetailBytesMax-utf8.UTFMax {
		t.Error("a text that is not UTF-8 was cut away")
	}
}

// TestHotPathAllocations holds the number of allocations of what every write does.
func TestHotPathAllocations(t *testing.T) {
	request, command, reply := hotMessages()
	buf := make([]byte, 0, 4096)
	for _, c := range []struct {
		name           string
		m              Message
		decode         func(r *Reader)
		allocs, encode float64
	}{
		{"TxnRequest", &request, func(r *Reader) { var m TxnRequest; m.Decode(r) }, 3, 0},
		{"Command", &command, func(r *Reader) { var m Command; m.Decode(r) }, 2, 0},
		{"TxnReply", &reply, func(r *Reader) { var m TxnReply; m.Decode(r) }, 2, 0},
	} {
		encoded := c.m.Append(nil)
		if n := testing.AllocsPerRun(100, func() {
			r := NewReader(encoded)
			if c.decode(&r); r.Done() != nil {
				t.Fatal(r.Done())
			}
		}) - 1; n > c.allocs { // one is the Reader, which escapes through the table of this test
			t.Errorf("%s: %v allocations to decode, want %v", c.name, n, c.allocs)
		}
		if n := testing.AllocsPerRun(100, func() { buf = c.m.Append(buf[:0]) }); n != c.encode {
			t.Errorf("%s: %v allocations to encode, want %v", c.name, n, c.encode)
		}
	}
}

// hotMessages are the messages of the commonest write, one put of 64 bytes.
func hotMessages() (TxnRequest, Command, TxnReply) {
	value := cell.String(strings.Repeat("v", 64))
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "primary", Value: value}}}
	entry := cell.Entry{Key: "primary", Value: value, CreateRevision: 1, ModRevision: 5000, Version: 4000}
	return TxnRequest{Header: sampleHeader, Request: sampleRequest, Txn: txn}, Command{Request: sampleRequest, Txn: txn},
		TxnReply{Incarnation: 1, Result: cell.TxnResult{Succeeded: true, Failed: -1, Revision: 5000, Results: []cell.OpResult{{Found: true, Entry: entry}}}}
}

// TestTxnIsLoggedAsItCame compares the shortcut from a request to its command with the long way, also for requests in forms that the
// log does not have.
func TestTxnIsLoggedAsItCame(t *testing.T) {
	request, command, _ := hotMessages()
	for name, txn := range map[string]cell.Txn{"put": request.Txn, "empty": {}, "conditions": {If: []cell.Condition{{Key: "k", Target: cell.OnVersion,
		Compare: cell.Less, Number: 300}}, Else: request.Txn.Then}} {
		command.Txn, request.Txn = txn, txn
		var got TxnRequest
		logged, err := UnmarshalTxn(request.Append(nil), &got)
		want := command.Append(nil)
		if err != nil || !reflect.DeepEqual(got, request) {
			t.Fatalf("%s: %v, %v, want %v", name, got, err, request)
		}
		short := AppendTxnCommand(nil, logged)
		if !bytes.Equal(short, want) || len(short) != len(logged)+TxnCommandBytes {
			t.Errorf("%s: command is %x, want %x", name, short, want)
		}
		long := AppendBytes(AppendArray(request.Header.Append(AppendArray(nil, 3)), 3), request.Request.Client[:])
		long = binary.BigEndian.AppendUint64(append(long, msgpcode.Uint64), request.Request.Sequence) // it would fit fewer bytes
		long = AppendTxn(AppendUint(long, uint64(request.Request.Since)), &txn)
		got = TxnRequest{}
		if logged, err := UnmarshalTxn(long, &got); err != nil || logged != nil || !reflect.DeepEqual(got, request) {
			t.Errorf("%s: long form: %v, %x, %v", name, got, logged, err)
		}
		for n := range long {
			if _, err := UnmarshalTxn(long[:n], &got); cell.KindOf(err) != cell.Invalid {
				t.Fatalf("%s: %d of %d bytes: %v", name, n, len(long), err)
			}
		}
	}
}

// TestFateIsTheReplyWithoutResults: the results are left out, and what is no reply is still none.
func TestFateIsTheReplyWithoutResults(t *testing.T) {
	reply := TxnReply{Incarnation: 3, Result: sampleResult}
	encoded := reply.Append(nil)
	reply.Result.Results = nil
	var got TxnReply
	if err := UnmarshalFate(encoded, &got); err != nil || !reflect.DeepEqual(got, reply) {
		t.Errorf("got %+v, %v, want %+v", got, err, reply)
	}
	for n := range encoded {
		if err := UnmarshalFate(encoded[:n], &got); cell.KindOf(err) != cell.Invalid {
			t.Fatalf("%d of %d bytes: %v", n, len(encoded), err)
		}
	}
	if err := UnmarshalFate(append(encoded, 0), &got); cell.KindOf(err) != cell.Invalid {
		t.Errorf("a byte too much: %v", err)
	}
}
