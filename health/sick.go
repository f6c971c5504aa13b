package health

import (
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// A server that is well may host nodes that are not: it takes them out of service itself, and says so when it is asked. Each counts as a
// dead member of its cell, under the same patience, budgets and limits; its server stays up. No such node is under a hold, which is about
// servers that die together: a command that every member of a cell falls over leaves a cell without a majority, which is never touched.

// Sick takes all nodes of a server that are out of service, in place of those it told before. How long one has been counts from when it was
// first told of.
func (r *Repairer) Sick(now time.Duration, id cell.ServerID, nodes []wire.CensusNode) {
	r.advance(now)
	at := r.byName[id]
	if at == 0 {
		return // nobody knows a cell with a member there
	}
	h := &r.hosts[at]
	before := h.sick
	h.sick = nil
	for i := range nodes {
		ref := r.find(nodes[i].Cell)
		if ref == 0 || r.row(ref).incarnation != nodes[i].Incarnation || !r.isSeated(ref, at) {
			continue // it was replaced, and is kept for inspection; or its cell is not known yet
		}
		since, known := before[ref]
		if !known {
			since = r.now
		}
		if h.sick == nil {
			h.sick = make(map[cellRef]time.Duration, len(nodes))
		}
		h.sick[ref] = since
	}
	for ref := range before { // assessing one has no say in how another is
		if _, still := h.sick[ref]; !still {
			r.assess(ref)
		}
	}
	for i := range nodes { // in the order of the list, which is that of the queues; those of before, too: their patience may be over
		if ref := r.find(nodes[i].Cell); ref != 0 && r.isSick(ref, at) {
			r.assess(ref)
		}
	}
}

// isSeated reports whether a cell has a member on a host.
func (r *Repairer) isSeated(ref cellRef, at hostRef) bool {
	for i := range int(r.row(ref).size) {
		if r.seat(ref, i).host == at {
			return true
		}
	}
	return false
}

// isSick reports whether a host has a cell's node out of service.
func (r *Repairer) isSick(ref cellRef, at hostRef) bool {
	_, sick := r.hosts[at].sick[ref]
	return sick
}

// gone reports since when a member is lost: because its server is dead, or because its node alone is out of service. Held says that the
// server's death is under a hold.
func (r *Repairer) gone(ref cellRef, at hostRef) (since time.Duration, held, is bool) {
	h := &r.hosts[at]
	if h.state == hostDead {
		return h.died, h.held, true
	}
	since, is = h.sick[ref]
	return since, false, is
}

// forgetSick forgets what was told of the nodes of a cell's members; all of them in another incarnation, and those who left.
func (r *Repairer) forgetSick(ref cellRef, but []hostRef) {
	for i := range int(r.row(ref).size) {
		if h := &r.hosts[r.seat(ref, i).host]; h.sick != nil && !slices.Contains(but, r.seat(ref, i).host) {
			delete(h.sick, ref)
		}
	}
}
