package sim

import "physalia/paxos"

// rises: nothing is chosen in an incarnation whose deletion was acknowledged, nor in one that has a successor (rule 15, hazard
// H15). That nothing follows a seal in the log, agreement sees to.
func rises(w *World) *checker {
	return &checker{name: "rises", bare: true, applied: func(s *server, v *volume, d *paxos.Delivery) {
		if w.control == nil {
			return
		}
		isNew := int(d.Slot) > v.applied
		v.applied = max(v.applied, int(d.Slot))
		switch {
		case !isNew:
		case v.ended:
			w.fail("rises", place{s, v, int(d.Slot)}, "the slot is chosen although the deletion of incarnation %d was acknowledged", v.found.Incarnation)
		case isScratch(v.id) && v.found.Incarnation < w.control.checks.newest[v.id]:
			w.fail("rises", place{s, v, int(d.Slot)}, "the slot is chosen in incarnation %d, and incarnation %d was founded", v.found.Incarnation,
				w.control.checks.newest[v.id])
		}
	}}
}
