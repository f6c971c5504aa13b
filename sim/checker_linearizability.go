package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// searchTime bounds the search over one key; a history that takes longer is counted in Report.Undecided.
const searchTime = 5 * time.Second

// observed is what a client saw of one operation on one key.
type observed struct {
	known     bool // false: the outcome is open
	succeeded bool
	value     int64
}

// register is one key to porcupine: the state is its value, zero is absent. Clients write distinct values, so a search
// seldom has a choice.
var register = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		value, o, saw := state.(int64), input.(*op), output.(observed)
		switch o.kind {
		case opIncrement:
			return !saw.known || saw.value == value+1, value + 1
		case opPut:
			return true, o.value
		case opSwap:
			if value == o.expected {
				return !saw.known || saw.succeeded, o.value
			}
			return !saw.known || !saw.succeeded && saw.value == value, value
		}
		return saw.value == value, value
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%s: %+v", input.(*op).kind, output) },
}

// linearizability: porcupine finds an order of the operations on each key that explains what the clients saw. It knows no
// revisions and no log. A write of unknown outcome may take effect at any time after it began, or never.
func linearizability(w *World) *checker {
	return &checker{name: "linearizability", finish: func() {
		for _, v := range w.cells {
			for key := range keys {
				switch h := singleKey(w, v, key); porcupine.CheckOperationsTimeout(register, h, searchTime) {
				case porcupine.Illegal:
					w.fail("linearizability", place{v: v}, "%d operations on %q have no order", len(h), keys[key])
				case porcupine.Unknown:
					w.report.Undecided++
				}
			}
		}
	}}
}

// singleKey is what porcupine may know of the operations on one key.
func singleKey(w *World, v *volume, key int) (h []porcupine.Operation) {
	for i, o := range w.ops {
		if o.volume() != v || o.kind == opStale || o.kind != opAudit && o.key != key {
			continue
		}
		p := porcupine.Operation{ClientId: i, Input: o, Call: int64(o.called), Return: int64(o.returned)}
		switch {
		case o.fate == answered:
			p.Output = see(o, key)
		case o.writes() && (o.fate == unknown || o.fate == pending):
			p.Output, p.Return = observed{}, math.MaxInt64
		default:
			continue // it took no effect, and saw nothing
		}
		h = append(h, p)
	}
	return h
}

// see is what an answered operation tells of a key. A resolved request tells its fate for certain, its results if they
// were kept.
func see(o *op, key int) observed {
	saw := observed{known: true, succeeded: o.result.Succeeded}
	switch {
	case o.kind == opAudit:
		saw.value, _ = o.result.Results[key].Entry.Value.AsInt64()
	default:
		saw.value, _ = o.seen()
	}
	return saw
}
