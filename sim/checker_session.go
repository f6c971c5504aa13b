package sim

import "physalia/cell"

// sessions: what a client has seen it does not unsee. The revisions of a client's answers never fall, stale reads from
// whatever member included; nor do incarnations.
func sessions(w *World) *checker {
	return &checker{name: "session", finish: func() {
		seen := map[*session]cell.Fence{}
		for _, o := range w.ops { // in order of their beginnings, and a client does one after the other
			if o.fate != answered {
				continue
			}
			s, now := o.client.session, cell.Fence{Incarnation: o.incarnation, Number: uint64(o.result.Revision)}
			if before := seen[s]; now.Less(before) || now.Number < uint64(o.least) && o.incarnation == before.Incarnation {
				w.fail("session", place{v: o.volume()}, "%s %v of client %d is of %v, it had seen %v", o.kind, o.request, s.at, now, before)
			}
			seen[s] = now
		}
	}}
}
