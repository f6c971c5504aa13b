package sim

import (
	"cmp"
	"slices"
	"time"
)

// hold is a time in which a client believed that it holds a lease: from the answer that granted it until the client stopped
// relying on it, by the world's clock.
type hold struct {
	volume      *volume
	lease       string
	holder      *session
	from, until time.Duration
}

// held notes that a client relied on a lease.
func (w *World) held(v *volume, lease string, holder *session, from, until time.Duration) {
	w.holds = append(w.holds, hold{v, lease, holder, from, until})
}

// leases: no two clients rely on one lease at the same time, by the clock on the wall, however theirs run (rule 18). Who
// pauses relies on nothing: a hold ends where its holder's code would see that it has ended.
//
// Whoever was told that the cell does not hold his lease was told the truth: the log has one end of it, a revoke or an expiry.
func leases(w *World) *checker {
	return &checker{name: "lease", finish: func() {
		for _, l := range w.lockers {
			l.note()
		}
		for _, g := range w.gone {
			if l := g.session.volume.history.leases[g.lease]; l == nil || l.ended == 0 {
				w.fail("lease", place{v: g.session.volume}, "client %d was told that lease %d is not held, and the log has no end of it", g.session.at, g.lease)
			}
		}
		all := slices.Clone(w.holds)
		slices.SortStableFunc(all, func(a, b hold) int {
			return cmp.Or(cmp.Compare(a.volume.at, b.volume.at), cmp.Compare(a.lease, b.lease), cmp.Compare(a.from, b.from))
		})
		var last hold // of those so far, the one that lasts longest
		for _, h := range all {
			if h.volume != last.volume || h.lease != last.lease {
				last = h
				continue
			}
			if h.holder != last.holder && h.from < last.until {
				w.fail("lease", place{v: h.volume}, "%s is held by client %d until %v, and by client %d from %v", h.lease, last.holder.at, last.until, h.holder.at, h.from)
			}
			if h.until > last.until {
				last = h
			}
		}
	}}
}
