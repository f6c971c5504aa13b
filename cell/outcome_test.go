package cell

import (
	"reflect"
	"testing"
)

// TestBoundsArePinned pins the numbers that are part of what the state machine is (see outcome.go).
func TestBoundsArePinned(t *testing.T) {
	got := []int{KeyBytesMax, ValueBytesMax, IntBitsMax, TxnOpsMax, TxnBytesMax, CellBytesMax, ScanLimitMax, ScanBytesMax,
		KeyOverheadBytes, WindowMax, WindowBytesMax, ResultKeptMax, ResultBytesMax, ResultOverhead}
	want := []int{256, 16384, 4096, 128, 65536, 262144, 1024, 131072, 32, 256, 32768, 8192, 524288, 32}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("bounds %v, want %v: changing one needs a new version of the command format", got, want)
	}
}

func TestComplete(t *testing.T) {
	txn := Txn{
		Then: []Op{{Kind: OpPut, Key: "k", Value: Int(3)}, {Kind: OpIncrement, Key: "k", Value: Int(1)}, {Kind: OpGet, Key: "no"}},
		Else: []Op{{Kind: OpPut, Key: "e", Value: Bool(true)}},
	}
	full := TxnResult{Succeeded: true, Failed: -1, Revision: 9, Results: []OpResult{
		{Entry: Entry{Key: "k", Value: Int(3), CreateRevision: 9, ModRevision: 9, Version: 1}},
		{Found: true, Entry: Entry{Key: "k", Value: Int(4), CreateRevision: 9, ModRevision: 9, Version: 2}}, {},
	}}
	recorded := full
	recorded.Results = append([]OpResult(nil), full.Results...)
	recorded.Results[0].Entry.Key, recorded.Results[0].Entry.Value = "", Value{}
	for name, r := range map[string]TxnResult{"recorded": recorded, "complete already": full} {
		r.Results = append([]OpResult(nil), r.Results...)
		if !r.Complete(&txn) || !reflect.DeepEqual(r, full) {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	for name, r := range map[string]TxnResult{
		"not kept": {Succeeded: true, Failed: -1, Revision: 9}, "not kept, failed": {Revision: 9}, "of another transaction": {Results: full.Results},
	} {
		was := r
		if r.Complete(&txn) || !reflect.DeepEqual(r, was) {
			t.Errorf("%s: got %+v", name, r)
		}
	}
	failed := TxnResult{Failed: 2, Revision: 9, Results: make([]OpResult, 1)}
	if !failed.Complete(&txn) || failed.Results[0].Entry.Key != "e" {
		t.Errorf("got %+v", failed)
	}
	if none := (TxnResult{Failed: 0, Revision: 9}); !none.Complete(&Txn{Then: txn.Then}) {
		t.Error("a branch without operations is complete without results")
	}
}

func TestResolve(t *testing.T) {
	if !(&Txn{}).IsResolve() || (&Txn{If: make([]Condition, 1)}).IsResolve() || (&Txn{Then: make([]Op, 1)}).IsResolve() ||
		(&Txn{Else: make([]Op, 1)}).IsResolve() {
		t.Error("only the empty transaction resolves")
	}
	if err := (&Txn{}).Check(); KindOf(err) != Invalid {
		t.Errorf("the gate for ordinary transactions says %v", err)
	}
}
