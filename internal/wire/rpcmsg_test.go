package wire

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
)

func TestPropertyRPCRoundTrip(t *testing.T) {
	all := samples()[2:] // those that are one array
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(all).Draw(t, "message")
		body := drawMessage(t, &s).Append(nil)
		id := rapid.Uint32().Draw(t, "id")
		method := rapid.SampledFrom([]string{MethodTxn, MethodPush, "x", strings.Repeat("m", MethodBytesMax)}).Draw(t, "method")
		failure := of(Outcome{Err: &sampleError})
		err := drawMessage(t, &failure).(*Outcome).Err
		cases := []struct {
			buf  []byte
			want RPC
		}{
			{AppendRequest(nil, id, method, body), RPC{Kind: RPCRequest, ID: id, Method: method, Params: body}},
			{append(BeginRequest(nil, id, method), body...), RPC{Kind: RPCRequest, ID: id, Method: method, Params: body}},
			{AppendRequest(nil, id, method, nil), RPC{Kind: RPCRequest, ID: id, Method: method, Params: []byte{0x90}}},
			{AppendNotification(nil, method, body), RPC{Kind: RPCNotification, Method: method, Params: body}},
			{AppendResult(nil, id, body), RPC{Kind: RPCResponse, ID: id, Result: body}},
			{append(BeginResult(nil, id), body...), RPC{Kind: RPCResponse, ID: id, Result: body}},
			{AppendResult(nil, id, nil), RPC{Kind: RPCResponse, ID: id}},
		}
		if err != nil {
			cases = append(cases, struct {
				buf  []byte
				want RPC
			}{AppendFailure(nil, id, err), RPC{Kind: RPCResponse, ID: id, Err: err}})
		}
		for i, c := range cases {
			if got, err := ParseRPC(c.buf); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Fatalf("case %d: got %+v (%v), want %+v", i, got, err, c.want)
			}
			cut := rapid.IntRange(0, len(c.buf)-1).Draw(t, "cut")
			if got, err := ParseRPC(c.buf[:cut]); cell.KindOf(err) != cell.Invalid {
				t.Fatalf("case %d cut to %d: got %+v, %v", i, cut, got, err)
			}
		}
	})
}

func TestRPCRefuses(t *testing.T) {
	request := func(params ...byte) []byte { return append(BeginRequest(nil, 1, MethodTxn), params...) }
	for name, buf := range map[string][]byte{
		"not an array":              {0xc0},
		"too short":                 {0x93, 0, 1, 0x90},
		"too long":                  {0x95, 0, 1, 0xa1, 'm', 0x90, 0xc0},
		"unknown kind":              {0x94, 3, 1, 0xa1, 'm', 0x90},
		"kind that wraps around":    {0x94, 0xcd, 1, 0, 1, 0xa1, 'm', 0x90},
		"request of three":          {0x93, 0, 0xa1, 'm', 0x90},
		"notification of four":      {0x94, 2, 1, 0xa1, 'm', 0x90},
		"id of 33 bits":             {0x94, 0, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0, 0xa1, 'm', 0x90},
		"negative id":               {0x94, 0, 0xff, 0xa1, 'm', 0x90},
		"long method":               AppendRequest(nil, 1, strings.Repeat("m", MethodBytesMax+1), nil),
		"params are no array":       request(0xc0),
		"params are a string":       request(0xa1, 'p'),
		"params are a map":          request(0x80),
		"params hold a float":       request(0x91, 0xca, 0, 0, 0, 0),
		"params missing":            request(),
		"params and more":           request(0x90, 0x90),
		"params too deep":           request(bytes.Repeat([]byte{0x91}, 2<<20)...),
		"params of 4 G elements":    request(0xdd, 0xff, 0xff, 0xff, 0xff),
		"error and result":          slices.Concat([]byte{0x94, 1, 1}, AppendError(nil, &sampleError), []byte{0x90}),
		"error of another protocol": {0x94, 1, 1, 0xa4, 'o', 'o', 'p', 's', 0xc0},
		"error of an unknown kind":  {0x94, 1, 1, 0x98, 0xa0, 0xcc, 200, 0xa0, 0xa0, 0xa0, 0, 0xa0, 0xa0, 0xc0},
		"result is a number":        {0x94, 1, 1, 0xc0, 7},
	} {
		var err error
		n := allocated(func() { _, err = ParseRPC(buf) })
		if cell.KindOf(err) != cell.Invalid || n > 16<<10 {
			t.Errorf("%s: %d bytes allocated, %v", name, n, err)
		}
	}
}

// TestRPCFailureWithoutError: a handler that fails without saying why must not look like a success.
func TestRPCFailureWithoutError(t *testing.T) {
	if m, err := ParseRPC(AppendFailure(nil, 1, nil)); err != nil || cell.KindOf(m.Err) != cell.Internal {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestRPCEmbedsParams(t *testing.T) {
	params := (&TxnRequest{Header: sampleHeader, Request: sampleRequest, Txn: sampleTxn}).Append(nil)
	buf := AppendRequest(nil, 1, MethodTxn, params)
	if !bytes.HasSuffix(buf, params) {
		t.Error("params are not embedded as they are")
	}
	if n := testing.AllocsPerRun(100, func() {
		if m, err := ParseRPC(buf); err != nil || &m.Params[0] != &buf[len(buf)-len(params)] {
			t.Fatalf("params are copied, %v", err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to parse", n)
	}
}

func TestRPCString(t *testing.T) {
	for want, m := range map[string]RPC{
		"request 7 cell.txn (1 bytes)":          {Kind: RPCRequest, ID: 7, Method: MethodTxn, Params: []byte{0x90}},
		"response 7 (1 bytes)":                  {Kind: RPCResponse, ID: 7, Result: []byte{0x90}},
		"response 7: overloaded":                {Kind: RPCResponse, ID: 7, Err: &cell.Error{Kind: cell.Overloaded}},
		"notification discovery.push (0 bytes)": {Kind: RPCNotification, Method: MethodPush},
		"RPC message of kind 9":                 {Kind: 9},
	} {
		if got := m.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
