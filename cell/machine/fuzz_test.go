package machine

import (
	"bytes"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// fuzzed returns a small machine whose window holds an outcome of every sort.
func fuzzed(tb testing.TB) *Machine {
	h := newHost(tb)
	h.must(put("k", cell.Int(1)))
	h.must(put("s", cell.String("text")))
	h.do(increment("s", 1))
	h.send(request(7, 1, 0), cell.Txn{})
	h.must(attach("l", h.grant()))
	h.keepAlive(h.Held()[0].ID)
	return h.Machine
}

// fuzzSeeds are commands with every sort of condition and operation.
func fuzzSeeds() []wire.Command {
	all := cell.Txn{
		If: []cell.Condition{
			{Key: "k", Target: cell.OnExistence, Compare: cell.NotEqual}, {Key: "k", Target: cell.OnValue, Compare: cell.Less, Value: bigOf(70, 1)},
			{Key: "s", Target: cell.OnVersion, Compare: cell.GreaterEqual, Number: 1 << 40},
		},
		Then: []cell.Op{
			{Kind: cell.OpPut, Key: "b", Value: cell.Bytes([]byte{1, 2})}, {Kind: cell.OpIncrement, Key: "k", Value: cell.Int(-200)},
			{Kind: cell.OpDelete, Key: "s"}, {Kind: cell.OpGet, Key: "b"}, {Kind: cell.OpScan, After: "b", Limit: 3},
		},
		Else: []cell.Op{{Kind: cell.OpPut, Key: "t", Value: cell.Bool(true)}},
	}
	return []wire.Command{
		{Request: request(1, 1, 2), Txn: all}, {Request: request(99, 2, 1), Txn: increment("s", 1)},
		{Request: request(7, 1, 0), Txn: put("k", cell.Int(2))}, {Request: request(1, 2, 3)},
		{Kind: wire.CommandGrant, Request: request(2, 1, 1), Lease: cell.LeaseOp{TTL: time.Second, Label: "f"}},
		{Kind: wire.CommandKeepAlive, Request: request(2, 2, 1), Lease: cell.LeaseOp{ID: 5}},
		{Kind: wire.CommandRevoke, Request: request(2, 3, 1), Lease: cell.LeaseOp{ID: 5}},
		{Kind: wire.CommandExpire, Request: cell.Request{Client: cell.LogClient, Sequence: 5}, Lease: cell.LeaseOp{ID: 5, Renewals: 1}},
	}
}

// FuzzApply applies mutated commands: each is either refused without a trace, or applied so that the state stays sound.
func FuzzApply(f *testing.F) {
	for _, c := range fuzzSeeds() {
		f.Add(c.Append(nil))
	}
	f.Fuzz(func(t *testing.T, command []byte) {
		m := fuzzed(t)
		before, revision := m.Snapshot(nil), m.Revision()
		first, err := m.Apply(command)
		out := *first
		after := m.Snapshot(nil)
		switch {
		case err != nil:
			if cell.KindOf(err) != cell.Quarantined || !bytes.Equal(before, after) {
				t.Fatalf("refused with %v, state unchanged: %t", err, bytes.Equal(before, after))
			}
			return
		case m.Revision() == revision:
			if !bytes.Equal(before, after) && out.Kind != wire.CommandKeepAlive {
				t.Fatalf("M3: %+v changed the state without a revision", out)
			}
		case m.Revision() != revision+1 || out.Result.Revision != revision+1:
			t.Fatalf("M3: revision %d -> %d, outcome %+v", revision, m.Revision(), out)
		}
		restored, err := Restore(after)
		if err != nil {
			t.Fatalf("the state after %+v cannot be restored: %v", out, err)
		}
		if !bytes.Equal(restored.Snapshot(nil), after) {
			t.Fatal("M5: a restored machine has other bytes")
		}
		again, err := m.Apply(command)
		once := out.Kind != wire.CommandExpire || out.Err != nil // an expiry that took effect finds no lease the second time
		if err != nil || m.Revision() != restored.Revision() || once && cell.KindOf(again.Err) != cell.KindOf(out.Err) {
			t.Fatalf("applied again: %+v, %v; first %+v", again, err, out)
		}
	})
}

// FuzzRestore restores mutated snapshots: what is accepted has exactly these bytes and can go on.
func FuzzRestore(f *testing.F) {
	f.Add(New().Snapshot(nil))
	f.Add(fuzzed(f).Snapshot(nil))
	seeds := fuzzSeeds()
	f.Fuzz(func(t *testing.T, state []byte) {
		m, err := Restore(state)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Snapshot(nil), state) {
			t.Fatal("M5: a restored machine has other bytes")
		}
		for i := range seeds {
			if _, err := m.Apply(seeds[i].Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Restore(m.Snapshot(nil)); err != nil {
			t.Fatal(err)
		}
	})
}
