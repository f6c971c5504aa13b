package paxos

// This file serves lossy recovery (rule 17): the one case in which somebody reads what members hold without a majority behind it.

// Accepted lists the records above the applied slot, in order of slots, with gaps where this member accepted nothing. Each
// may have been chosen: whoever has to go on without a majority keeps, per slot, the one with the highest ballot that any
// survivor holds. If a value was chosen and a survivor accepted it, that is it (P2); what no survivor accepted is lost.
// No promise is asked for beforehand: a majority of the jury is lost for good, so nothing can be chosen any more that would have
// to be kept out. The entries are shared with the replica and must not be changed.
func (r *Replica) Accepted() []Record {
	var list []Record
	for s := r.applied + 1; s <= r.applied+Slot(len(r.ring)); s++ {
		if record, ok := r.record(s); ok {
			list = append(list, *record)
		}
	}
	return list
}
