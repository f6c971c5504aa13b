package core

import (
	"bytes"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// FuzzRequest parses mutated requests of clients and of the control plane: what is accepted names a cell, and an error is the
// client's own.
func FuzzRequest(f *testing.F) {
	methods := []string{wire.MethodTxn, wire.MethodRead, wire.MethodExplain, wire.MethodGrant, wire.MethodKeepAlive, wire.MethodRevoke, wire.MethodLeases, "no such method"}
	header := wire.Header{Cell: "vol-1", Timeout: 1000}
	txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "k"}}}
	for i := range methods {
		f.Add(uint8(i), (&wire.TxnRequest{Header: header, Txn: txn}).Append(nil))
		f.Add(uint8(i), (&wire.TxnRequest{Header: header, Txn: cell.Txn{Then: []cell.Op{{Kind: cell.OpDelete, Key: "k"}}}}).Append(nil))
		f.Add(uint8(i), (&wire.ReadRequest{Header: header, Txn: txn}).Append(nil))
		f.Add(uint8(i), (&wire.LeaseRequest{Header: header}).Append(nil))
		f.Add(uint8(i), (&wire.ExplainRequest{Header: header}).Append(nil))
		f.Add(uint8(i), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, params []byte) {
		r, err := ParseRequest(methods[int(which)%len(methods)], params)
		switch {
		case err == nil && r == nil:
			t.Fatal("neither a request nor an error")
		case err != nil && err.Kind != cell.Invalid && err.Kind != cell.TooLarge && err.Kind != cell.WrongType:
			t.Fatal(err)
		case err == nil && r.Header.Cell.Check() != nil:
			t.Fatalf("cell %q", r.Header.Cell)
		case err == nil && r.Kind == RequestTxn:
			want := wire.Command{Kind: r.Log, Request: r.Request, Txn: r.Txn, Lease: r.Lease}
			if !bytes.Equal(r.Command, want.Append(nil)) {
				t.Fatalf("%v is logged as %x", want, r.Command)
			}
		}
	})
}
