package core

import (
	"reflect"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// TestForwardedRequestsArriveWhole: what a member passes on is read on the other side as the request that came, for every
// method that is forwarded.
func TestForwardedRequestsArriveWhole(t *testing.T) {
	get := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "k"}}}
	put := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "k", Value: cell.Int(1)}}}
	for method, m := range map[string]wire.Message{
		wire.MethodTxn:       &wire.TxnRequest{Header: header("vol-1"), Request: requestOf(1), Txn: put},
		wire.MethodRead:      &wire.ReadRequest{Header: header("vol-1"), Txn: get},
		wire.MethodGrant:     &wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(2), Lease: cell.LeaseOp{TTL: time.Second, Label: "l"}},
		wire.MethodKeepAlive: &wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(3), Lease: cell.LeaseOp{ID: 7}},
		wire.MethodRevoke:    &wire.LeaseRequest{Header: header("vol-1"), Request: requestOf(4), Lease: cell.LeaseOp{ID: 7}},
		wire.MethodLeases:    &wire.LeasesRequest{Header: header("vol-1")},
	} {
		r, err := ParseRequest(method, m.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRequest(r.op(), r.params())
		if err != nil {
			t.Errorf("%s: the other side says %v", method, err)
		} else if !reflect.DeepEqual(r, again) {
			t.Errorf("%s: %+v arrives as %+v", method, r, again)
		}
	}
}
