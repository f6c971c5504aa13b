package blockstore

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// search looks for an order of the operations on each block that explains what clients read. It knows no versions, so it is
// a second opinion on Overwritten.
func search(history []Operation) error {
	for block := range blocks {
		var ops []porcupine.Operation
		for i := range history {
			o := &history[i]
			if o.Block != block || !o.Write && !o.Done {
				continue
			}
			p := porcupine.Operation{ClientId: i, Input: o.Write, Output: o.Data, Call: int64(o.Called), Return: int64(o.Ended)}
			if !o.Done {
				p.Return = math.MaxInt64
			}
			ops = append(ops, p)
		}
		if porcupine.CheckOperationsTimeout(sequential, ops, 5*time.Second) == porcupine.Illegal {
			return fmt.Errorf("linearizability: the operations on block %d have no order:\n%s", block, Describe(history, block))
		}
	}
	return nil
}

// sequential is a block with one user at a time.
var sequential = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, write, data any) (bool, any) {
		if write.(bool) {
			return true, data
		}
		return state == data, state
	},
}
