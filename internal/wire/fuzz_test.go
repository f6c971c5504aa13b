package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"physalia/cell"
)

// seed adds the killers, and a message with every truncation of it.
func seed(f *testing.F, messages ...[]byte) {
	for _, input := range killers() {
		f.Add(input)
	}
	for _, m := range messages {
		for n := range len(m) + 1 {
			f.Add(m[:n])
		}
	}
}

// FuzzReader: the validator and the Reader agree on where a value ends, and reading never goes beyond it.
func FuzzReader(f *testing.F) {
	seed(f, (&TxnReply{Result: sampleResult}).Append(nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		n, err := ValidateStructure(input, DepthMax)
		if err != nil {
			if cell.KindOf(err) != cell.Invalid {
				t.Fatal(err)
			}
			return
		}
		r := NewReader(input)
		generic(&r)
		if r.Err() != nil || r.off != n {
			t.Fatalf("validated %d bytes, read %d: %v", n, r.off, r.Err())
		}
	})
}

// FuzzTxnRequest: what decodes has one meaning, which encoding keeps.
func FuzzTxnRequest(f *testing.F) {
	seed(f, (&TxnRequest{Header: sampleHeader, Request: sampleRequest, Txn: sampleTxn}).Append(nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		var first, second TxnRequest
		if err := Unmarshal(input, &first); err != nil {
			if cell.KindOf(err) != cell.Invalid {
				t.Fatal(err)
			}
			return
		}
		if err := Unmarshal(first.Append(nil), &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v became %+v, %v", first, second, err)
		}
	})
}

// FuzzLeaseRequest: what decodes has one meaning, which encoding keeps.
func FuzzLeaseRequest(f *testing.F) {
	seed(f, (&LeaseRequest{Header: sampleHeader, Request: sampleRequest, Lease: sampleLeaseOp}).Append(nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		var first, second LeaseRequest
		if err := Unmarshal(input, &first); err != nil {
			if cell.KindOf(err) != cell.Invalid {
				t.Fatal(err)
			}
			return
		}
		if err := Unmarshal(first.Append(nil), &second); err != nil || first != second {
			t.Fatalf("%+v became %+v, %v", first, second, err)
		}
	})
}

// FuzzCommand: bytes that decode are the one encoding of their command.
func FuzzCommand(f *testing.F) {
	seed(f, (&Command{Request: sampleRequest, Txn: sampleTxn}).Append(nil),
		(&Command{Kind: CommandGrant, Request: sampleRequest, Lease: sampleLeaseOp}).Append(nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		m, err := DecodeCommand(input)
		requireCanonical(t, input, &m, err)
	})
}

// FuzzCellState: bytes that decode are the one encoding of their state.
func FuzzCellState(f *testing.F) {
	seed(f, (&CellState{Revision: 131, Entries: []cell.Entry{sampleEntry}, Floor: 129, Remembered: sampleRemembered,
		Leases: []cell.Lease{sampleLease}}).Append(nil))
	f.Fuzz(func(t *testing.T, input []byte) {
		m, err := DecodeCellState(input)
		requireCanonical(t, input, &m, err)
	})
}

func requireCanonical(t *testing.T, input []byte, m Message, err error) {
	t.Helper()
	if err != nil {
		if cell.KindOf(err) != cell.Quarantined {
			t.Fatal(err)
		}
		return
	}
	if again := m.Append(nil); !bytes.Equal(again, input) {
		t.Fatalf("two encodings of one value:\n%x\n%x", input, again)
	}
}

// FuzzFrame: a frame that is accepted is the one frame of its body, and nothing is read behind it.
func FuzzFrame(f *testing.F) {
	seed(f, frame((&Pong{Boot: 4, Nodes: 1000}).Append(nil)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		r := bytes.NewReader(input)
		body, err := ReadFrame(r, nil, ClientFrameMax)
		if err != nil {
			var fault *FrameError
			if !errors.As(err, &fault) && len(input) > 0 {
				t.Fatal(err)
			}
			return
		}
		if again := frame(body); !bytes.HasPrefix(input, again) || r.Len() != len(input)-len(again) {
			t.Fatalf("frame %x of input %x", again, input)
		}
	})
}

// FuzzRPC: what parses means the same after it was built again.
func FuzzRPC(f *testing.F) {
	params := (&Pong{Boot: 4, Nodes: 1000}).Append(nil)
	seed(f, AppendRequest(nil, 7, MethodTxn, params), AppendResult(nil, 7, params), AppendResult(nil, 7, nil),
		AppendFailure(nil, 7, &sampleError), AppendNotification(nil, MethodPush, params))
	f.Fuzz(func(t *testing.T, input []byte) {
		first, err := ParseRPC(input)
		if err != nil {
			if cell.KindOf(err) != cell.Invalid {
				t.Fatal(err)
			}
			return
		}
		var buf []byte
		switch {
		case first.Kind == RPCRequest:
			buf = AppendRequest(nil, first.ID, first.Method, first.Params)
		case first.Kind == RPCNotification:
			buf = AppendNotification(nil, first.Method, first.Params)
		case first.Err != nil:
			buf = AppendFailure(nil, first.ID, first.Err)
		default:
			buf = AppendResult(nil, first.ID, first.Result)
		}
		if second, err := ParseRPC(buf); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v became %+v, %v", first, second, err)
		}
	})
}
