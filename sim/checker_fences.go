package sim

import (
	"cmp"
	"slices"
	"time"

	"physalia/cell"
)

// grant is a fence that left a cell: somebody may act on it, and whoever it is shown to refuses lower ones.
type grant struct {
	volume           *volume
	series           string // fences of one series are compared: "revision", a volume's partition, a lease
	fence            cell.Fence
	called, returned time.Duration
}

// granted notes that a fence was issued by an operation.
func (w *World) granted(v *volume, series string, fence cell.Fence, called, returned time.Duration) {
	w.grants = append(w.grants, grant{v, series, fence, called, returned})
}

// fences: the fences of a series never repeat, and one that was asked for after another was issued is higher (rule 17).
func fences(w *World) *checker {
	return &checker{name: "fences", finish: func() {
		for _, o := range w.ops {
			if o.writes() && o.fate == answered {
				w.granted(o.volume(), "revision", cell.Fence{Incarnation: o.incarnation, Number: uint64(o.result.Revision)}, o.called, o.returned)
			}
		}
		series := map[string][]grant{}
		var names []string
		for _, g := range w.grants {
			name := string(g.volume.id) + " " + g.series
			if series[name] == nil {
				names = append(names, name)
			}
			series[name] = append(series[name], g)
		}
		for _, name := range names {
			checkFences(w, series[name])
		}
	}}
}

// checkFences compares the grants of one series, in order of their fences: none may have been issued before a lower one was
// asked for.
func checkFences(w *World, all []grant) {
	slices.SortStableFunc(all, func(a, b grant) int {
		return cmp.Or(cmp.Compare(a.fence.Incarnation, b.fence.Incarnation), cmp.Compare(a.fence.Number, b.fence.Number))
	})
	latest := time.Duration(0) // beginning of the newest request among those with lower fences
	for i, g := range all {
		if i > 0 && all[i-1].fence == g.fence {
			w.fail("fences", place{v: g.volume}, "%s: %v was issued at %v and at %v", g.series, g.fence, all[i-1].returned, g.returned)
		}
		if g.returned < latest {
			w.fail("fences", place{v: g.volume}, "%s: %v was issued at %v, and a lower one was asked for at %v", g.series, g.fence, g.returned, latest)
		}
		latest = max(latest, g.called)
	}
}
