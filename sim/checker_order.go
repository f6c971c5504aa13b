package sim

import (
	"cmp"
	"slices"

	"physalia/cell"
)

// order: linearizability in linear time, with the help of revisions. An operation's revision is at least that of every
// operation of its cell that ended before it began, and above it for a write; what a read saw is the state of the log at
// its revision. Stale reads are as old as they like; how old they may be for their client is the business of session.
func order(w *World) *checker {
	return &checker{name: "order", finish: func() {
		for _, v := range w.cells {
			checkOrder(w, v)
		}
	}}
}

// checkOrder walks over the operations in order of their beginnings, with the highest revision that had been seen by then.
func checkOrder(w *World, v *volume) {
	var ended []*op // answered and fresh, in order of their ends
	for _, o := range w.ops {
		if o.volume() != v || o.fate != answered {
			continue
		}
		if !o.writes() {
			checkRead(w, v, o)
		}
		if o.kind != opStale {
			ended = append(ended, o)
		}
	}
	began := slices.Clone(ended)
	slices.SortStableFunc(ended, func(a, b *op) int { return cmp.Compare(a.returned, b.returned) })
	slices.SortStableFunc(began, func(a, b *op) int { return cmp.Compare(a.called, b.called) })
	floor, next := cell.Revision(0), 0
	for _, o := range began {
		for ; next < len(ended) && ended[next].returned < o.called; next++ {
			floor = max(floor, ended[next].result.Revision)
		}
		if r := o.result.Revision; r < floor || o.writes() && r == floor {
			w.fail("order", place{v: v}, "%s %v began at %v, after revision %d was seen, and has revision %d", o.kind, o.request, o.called, floor, r)
		}
	}
}

// checkRead compares what a read saw with the log's state at its revision. The log is the agreed one, replayed by the naive
// twin, so a member that answers from anything else is found, be the answer old or wrong.
func checkRead(w *World, v *volume, o *op) {
	r := o.result.Revision
	if int(r) >= len(v.history.past) {
		w.fail("order", place{v: v}, "%s %v saw revision %d, the log ends at %d", o.kind, o.request, r, v.history.revision)
		return
	}
	for i, result := range o.result.Results {
		key := o.key
		if o.kind == opAudit {
			key = i
		}
		got, _ := result.Entry.Value.AsInt64()
		if want := v.history.past[r][key]; got != want {
			w.fail("order", place{v: v}, "%s %v saw %q = %d at revision %d, the log says %d", o.kind, o.request, keys[key], got, r, want)
		}
	}
}
