package machine

import (
	"bytes"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// Machines that share a scratch come to what machines of their own memory come to, also when one of them stopped in the middle of a
// transaction and left there what it would have taken back.
func TestSharedScratch(t *testing.T) {
	var shared Scratch
	together, alone := [2]*Machine{New(), New()}, [2]*Machine{New(), New()}
	for _, m := range together {
		m.Use(&shared)
	}
	for i := range uint64(3 * cell.WindowMax) {
		txn := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: "a", Value: cell.Int(int64(i))}, {Kind: cell.OpIncrement, Key: "b", Value: cell.Int(1)}}}
		if i%5 == 0 {
			txn.Then[1] = cell.Op{Kind: cell.OpPut, Key: "b", Value: cell.String("no number")}
		}
		at := i % 2
		c := wire.Command{Request: request(1, i, alone[at].Revision()), Txn: txn}
		got, err := together[at].Apply(c.Append(nil))
		want, errAlone := alone[at].Apply(c.Append(nil))
		if err != nil || errAlone != nil || cell.KindOf(got.Err) != cell.KindOf(want.Err) || got.Result.Revision != want.Result.Revision {
			t.Fatalf("%+v, %v; want %+v, %v", got, err, want, errAlone)
		}
		shared.undo = append(shared.undo, change{before: cell.Entry{Key: "of a machine that stopped"}, existed: true})
	}
	for i := range together {
		if !bytes.Equal(together[i].Snapshot(nil), alone[i].Snapshot(nil)) {
			t.Errorf("machine %d has another state", i)
		}
	}
}
