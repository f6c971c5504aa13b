package sim

import "physalia/paxos"

// hashEvery trades time for sharpness: a difference stays in a state until its keys are written again and its outcomes are
// forgotten, so comparing now and then finds it. It is how many slots lie between two comparisons.
const hashEvery = 4

// state: members that applied the same slots have the same state, byte for byte (rule 19), however they came there: slot
// by slot, from their own disk, or taught.
func state(w *World) *checker {
	type known struct {
		hash uint64
		by   *server
	}
	var all [cellsMax][]known // per cell, by slot/hashEvery
	return &checker{name: "state", applied: func(s *server, v *volume, d *paxos.Delivery) {
		before := int(d.Slot) - 1
		if before%hashEvery != 0 {
			return
		}
		_, m := s.core.Inspect(v.id)
		hash, list := m.Hash(), &all[v.at]
		for len(*list) <= before/hashEvery {
			*list = append(*list, known{})
		}
		first := &(*list)[before/hashEvery]
		switch {
		case first.by == nil:
			*first = known{hash, s}
		case first.hash != hash:
			w.fail("state", place{s, v, before}, "its state after the slot is %x, that of %s was %x", hash, first.by.id, first.hash)
		}
	}}
}
