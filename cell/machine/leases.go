package machine

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// The life of a lease (rule 18): a grant begins it, every keep-alive raises its count of renewals, a revoke or an expiry
// ends it and deletes the keys that are still attached to it. Whoever wants it to expire names the count that it has
// seen, so a keep-alive that the log holds before the expiry wins, and one behind it fails: the log alone decides, no
// clock does.

// lease returns the position of a lease, or where it would be inserted.
func (s *store) lease(id cell.LeaseID) (int, bool) {
	return slices.BinarySearchFunc(s.leases, id, func(l cell.Lease, id cell.LeaseID) int { return orderOf(uint64(l.ID), uint64(id)) })
}

// held reports whether a lease is held.
func (s *store) held(id cell.LeaseID) bool {
	_, ok := s.lease(id)
	return ok
}

// leaseCost is what a lease counts against cell.CellBytesMax.
func leaseCost(l *cell.Lease) int { return len(l.Label) + cell.LeaseOverheadBytes }

// grant begins a lease; its name is the revision.
func (s *store) grant(o *cell.LeaseOp, revision cell.Revision) *cell.Error {
	l := cell.Lease{ID: cell.LeaseID(revision), TTL: o.TTL, Label: o.Label}
	size := s.bytes + leaseCost(&l)
	switch {
	case len(s.leases) == cell.LeasesMax:
		return &cell.Error{Op: "lease.grant", Kind: cell.TooLarge, Detail: fmt.Sprintf("%d leases are held, more are not allowed", cell.LeasesMax),
			Hint: "revoke one, or let several users share a lease"}
	case size > cell.CellBytesMax:
		return tooLarge("lease.grant", size)
	}
	s.leases = append(s.leases, l)
	s.bytes = size
	s.sum += leaseSum(&l)
	return nil
}

// end ends a lease and deletes its keys, in their order. It reports false when the lease is not held.
func (s *store) end(id cell.LeaseID) bool {
	at, ok := s.lease(id)
	if !ok {
		return false
	}
	s.bytes -= leaseCost(&s.leases[at])
	s.sum -= leaseSum(&s.leases[at])
	s.leases = slices.Delete(s.leases, at, at+1)
	kept := s.entries[:0]
	for i := range s.entries {
		if e := &s.entries[i]; e.Lease == id {
			s.bytes -= cost(e)
			s.sum -= entrySum(e)
		} else {
			kept = append(kept, *e)
		}
	}
	clear(s.entries[len(kept):])
	s.entries = kept
	return true
}

// keepAlive renews a lease. It has no revision and no place in the window: applied once more, it renews once more, which
// can only make the lease last longer, and the window stays with what must not be repeated.
func (m *Machine) keepAlive(c *wire.Command) Outcome {
	out := Outcome{Request: c.Request, Kind: c.Kind, Lease: c.Lease.ID, Result: cell.TxnResult{Revision: m.revision}}
	at, ok := m.store.lease(c.Lease.ID)
	if !ok {
		out.Err = noLease("lease.keepalive", c.Lease.ID)
		return out
	}
	l := &m.store.leases[at]
	m.store.sum -= leaseSum(l)
	l.Renewals++
	m.store.sum += leaseSum(l)
	out.Renewals = l.Renewals
	return out
}

// expire ends a lease that was not renewed since its proposer counted. Without effect it changes nothing, not even the
// revision; with effect it is recorded like a transaction, under cell.LogClient and the lease's name, so that the window
// has no gap (M4). A lease ends once, so that request occurs once.
func (m *Machine) expire(c *wire.Command) Outcome {
	out := Outcome{Request: c.Request, Kind: c.Kind, Lease: c.Lease.ID, Result: cell.TxnResult{Revision: m.revision}}
	at, ok := m.store.lease(c.Lease.ID)
	if !ok {
		out.Err = noLease("lease.expire", c.Lease.ID)
		return out
	}
	if seen := m.store.leases[at].Renewals; seen != c.Lease.Renewals && !plantedBlindExpiry {
		out.Renewals = seen
		out.Err = &cell.Error{Op: "lease.expire", Kind: cell.Stale,
			Detail: fmt.Sprintf("lease %d was renewed %d times, the expiry has seen %d", uint64(c.Lease.ID), seen, c.Lease.Renewals)}
		return out
	}
	m.revision++
	m.store.end(c.Lease.ID)
	out.Result = cell.TxnResult{Succeeded: true, Failed: -1, Revision: m.revision}
	m.window.remember(m.room(), &out, nil)
	return out
}

// Lease returns a lease that is held.
func (m *Machine) Lease(id cell.LeaseID) (cell.Lease, bool) {
	if at, ok := m.store.lease(id); ok {
		return m.store.leases[at], true
	}
	return cell.Lease{}, false
}

// Held returns the leases of the cell by name. It is valid until the next Apply and must not be changed.
func (m *Machine) Held() []cell.Lease { return m.store.leases }

// Leases lists the leases of the cell by name, each with the number of its keys.
func (m *Machine) Leases() []cell.LeaseStatus {
	list := make([]cell.LeaseStatus, len(m.store.leases))
	for i := range list {
		list[i].Lease = m.store.leases[i]
	}
	for i := range m.store.entries {
		if at, ok := m.store.lease(m.store.entries[i].Lease); ok {
			list[at].Keys++
		}
	}
	return list
}

// noLease is the answer to whoever names a lease that is not held.
func noLease(op string, id cell.LeaseID) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.NoLease, Detail: fmt.Sprintf("lease %d is not held: it was revoked, has expired, or never was", uint64(id)),
		Hint: "what it guarded may belong to another holder by now; ask for a new lease"}
}
