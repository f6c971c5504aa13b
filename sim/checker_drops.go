package sim

import (
	"slices"

	"physalia/internal/wire"
)

// It looks from the side of the log: the newest configuration that any server has told, and the slots that anybody has applied. What
// the manager knows, or believes to have been told, does not count.
//
// checkDrop looks at a node that goes: only its own cell's log may have removed it, or its incarnation is sealed, or it is a
// learner that the cell has not made a member, or its incarnation never came about (rule 16, hazard H16).
func (w *World) checkDrop(s *server, v *volume, n *wire.NodeInfo) {
	isMember := slices.ContainsFunc(v.known.Members, func(m wire.Founder) bool { return m.Node == n.Node && m.Server == s.id })
	if v.isOver() || !isMember || !v.wasFounded() {
		return
	}
	w.fail("drops", place{s: s, v: v}, "node %d of incarnation %d is dropped: it is a member of configuration %d, and nobody has sealed it", n.Node,
		n.Incarnation, v.known.Number)
}
