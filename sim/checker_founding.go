package sim

import (
	"slices"

	"physalia/internal/wire"
)

// watchTold hunts for juries that are planned twice (rule 4, hazard H13): every server that is told of an incarnation is told of
// the same founding, whoever tells it, and none is told while an earlier incarnation may still choose. A cell that nobody deletes has one
// incarnation.
func (w *World) watchTold(s *server, f *wire.Founding) {
	c := w.control
	v := w.volumeOf(f.Cell, f.Incarnation)
	first := &v.found
	if first.Members == nil {
		*first = *f
		first.Members = slices.Clone(f.Members)
		w.checkNew(s, v, f)
		c.checks.newest[f.Cell] = max(c.checks.newest[f.Cell], f.Incarnation)
		return
	}
	same := first.Owner == f.Owner && first.Alpha == f.Alpha && slices.EqualFunc(first.Members, f.Members, func(a, b wire.Founder) bool {
		return a.Node == b.Node && a.Server == b.Server
	})
	if !same || first.Incarnation != f.Incarnation {
		w.fail("founding", place{s: s, v: v}, "incarnation %d was founded as %v, and it is told of incarnation %d as %v", first.Incarnation, first.Members,
			f.Incarnation, f.Members)
	}
}

// checkNew looks at the incarnations before one that is told for the first time: each of them must be sealed by its own log, or never
// have had a majority of founders. The second is what tombstones prove to the manager (lifecycle L2); a founding that is late, and
// brings such an incarnation to life after all, is found by rises.
func (w *World) checkNew(s *server, v *volume, f *wire.Founding) {
	if !isScratch(f.Cell) {
		if f.Incarnation != 1 {
			w.fail("founding", place{s: s, v: v}, "it is told of incarnation %d of a cell that nobody has deleted", f.Incarnation)
		}
		return
	}
	for inc := f.Incarnation - 1; inc > 0; inc-- {
		if before := w.volumeOf(f.Cell, inc); before.wasFounded() && !before.isOver() {
			w.fail("founding", place{s: s, v: v}, "it is told of incarnation %d, and incarnation %d may still choose", f.Incarnation, inc)
		}
	}
}
