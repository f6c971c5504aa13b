package sim

import (
	"physalia/cell"
	"physalia/internal/wire"
)

// The twin's leases, and the keys that are not plain clients': whatever it takes to know what each command did.

// other is a key that is none of keys.
type other struct {
	value cell.Value
	lease cell.LeaseID // with which it is deleted; zero: none
}

// tenure is a lease from its grant to its one end.
type tenure struct {
	renewals uint64        // keep-alives that went through the log
	ended    cell.Revision // zero: it is held
	expired  bool          // it ended by an expiry, else by a revoke
}

// held reports whether a lease is held.
func (h *history) held(id cell.LeaseID) bool { return h.leases[id] != nil && h.leases[id].ended == 0 }

// tend does what takes no place in the window: a keep-alive, or an expiry, which takes a revision if it has an effect.
func (h *history) tend(c *wire.Command) {
	switch l := h.leases[c.Lease.ID]; {
	case !h.held(c.Lease.ID):
	case c.Kind == wire.CommandKeepAlive:
		l.renewals++
	case l.renewals == c.Lease.Renewals:
		h.revision++
		h.past = append(h.past, h.values)
		h.end(c.Lease.ID).expired = true
	}
}

// lease does a grant or a revoke.
func (h *history) lease(c *wire.Command, e *effect) {
	switch {
	case c.Kind == wire.CommandGrant:
		open := 0
		for _, l := range h.leases { // in any order: they are counted
			if l.ended == 0 {
				open++
			}
		}
		if e.void = open == cell.LeasesMax; !e.void {
			h.leases[cell.LeaseID(h.revision)] = &tenure{}
		}
	case h.held(c.Lease.ID):
		h.end(c.Lease.ID)
	default:
		e.void = true
	}
	e.succeeded = !e.void
}

// end ends a lease, and its keys go with it.
func (h *history) end(id cell.LeaseID) *tenure {
	h.leases[id].ended = h.revision
	for key, o := range h.others { // in any order: each is deleted by itself
		if o.lease == id {
			delete(h.others, key)
		}
	}
	return h.leases[id]
}

// attachable reports whether every lease that operations attach keys to is held; else the transaction is void.
func (h *history) attachable(ops []cell.Op) bool {
	for i := range ops {
		if ops[i].Lease != 0 && !h.held(ops[i].Lease) {
			return false
		}
	}
	return true
}

// otherHolds is holds for one condition that is not about a plain client's key.
func (h *history) otherHolds(c *cell.Condition) bool {
	o, exists := h.others[c.Key]
	equal := false
	switch c.Target {
	case cell.OnExistence:
		equal = exists
	case cell.OnLease:
		equal = uint64(o.lease) == c.Number
	case cell.OnHeld:
		equal = h.held(cell.LeaseID(c.Number))
	default:
		if c.Compare == cell.Greater { // a name, above the empty one
			_, name := o.value.AsString()
			return exists && name && !o.value.Equal(c.Value)
		}
		equal = exists && o.value.Equal(c.Value)
	}
	return equal == (c.Compare == cell.Equal)
}

// runOther is run for a key that is not a plain client's.
func (h *history) runOther(o *cell.Op) int64 {
	value := h.others[o.Key].value
	switch o.Kind {
	case cell.OpPut:
		h.others[o.Key] = other{o.Value, o.Lease}
	case cell.OpDelete:
		delete(h.others, o.Key)
	case cell.OpIncrement:
		n, _ := value.AsInt64()
		by, _ := o.Value.AsInt64()
		h.others[o.Key] = other{cell.Int(n + by), h.others[o.Key].lease}
	}
	n, _ := h.others[o.Key].value.AsInt64()
	return n
}
