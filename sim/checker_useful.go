package sim

import "time"

// usefulTime is how long a cell may take to be writable again when its proposer has become useless (DESIGN.md, section 13).
const usefulTime = 3 * time.Second

// watchUseful plans a look at a cell whose proposer hears nobody, when that is all that is wrong for so long. Clients reach
// every server, and six of seven members hear each other: some write must get through (rule 13).
func (w *World) watchUseful(f *Fault) {
	if f.Kind != Deafen || f.For < usefulTime || !f.Proposer || f.Others != 0 || !w.alone(f) {
		return
	}
	// Writes that began before may still wait for the old proposer. Whatever a client begins from now on is sent to one member
	// after the other, and each of them knows somebody who can lead.
	began, v := w.now, w.cells[f.Cell]
	w.after(usefulTime, func() {
		tried := 0
		for _, o := range w.ops {
			if o.volume() != v || !o.writes() || o.called < began || v.sealing || w.healed {
				continue
			}
			if o.fate == answered {
				return
			}
			tried++
		}
		if tried > 0 {
			w.fail("useful", place{v: v}, "its proposer hears nobody since %v, and none of %d writes got through", began, tried)
		}
	})
}

// alone reports whether nothing else is wrong around a fault.
func (w *World) alone(f *Fault) bool {
	for i := range w.plan.Faults {
		if g := &w.plan.Faults[i]; g != f && g.At < f.At+usefulTime && f.At < g.At+g.For+200*time.Millisecond {
			return false
		}
	}
	for _, s := range w.servers {
		if s.damaged != "" || s.core == nil {
			return false
		}
	}
	return true
}
