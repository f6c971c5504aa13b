package grant

import "physalia/cell"

// refuse makes a refusal of what covers and its like have found.
func (r *Rights) refuse(why Reason, need Verbs, id cell.ID, key string) *Refusal {
	return &Refusal{Reason: why, Who: r.Who, Need: need, Cell: id, Key: key}
}

// Txn decides about a transaction, or a read: both branches, whichever would run, and every condition. now is in Unix seconds.
func (r *Rights) Txn(now int64, id cell.ID, t *cell.Txn) *Refusal {
	if r.All {
		return nil
	}
	if why := r.general(now); why != Allowed {
		return r.refuse(why, 0, id, "")
	}
	for i := range t.If {
		if refusal := r.condition(id, &t.If[i]); refusal != nil {
			return refusal
		}
	}
	for _, ops := range [2][]cell.Op{t.Then, t.Else} {
		for i := range ops {
			if refusal := r.op(id, &ops[i]); refusal != nil {
				return refusal
			}
		}
	}
	// To ask for the fate of an earlier transaction is logged, and keeps it from being applied: so it is a write.
	need := data
	if t.IsResolve() {
		need = Write
	}
	if why := r.touches(need, id); why != Allowed {
		return r.refuse(why, need, id, "")
	}
	return nil
}

// condition decides about one condition, which tells something about its key.
func (r *Rights) condition(id cell.ID, c *cell.Condition) *Refusal {
	if c.Target == cell.OnHeld {
		if why := r.touches(Read|Lease, id); why != Allowed {
			return r.refuse(why, Read|Lease, id, "")
		}
		return nil
	}
	if AlwaysHolds(c) {
		return nil
	}
	if why := r.covers(Read, id, c.Key); why != Allowed {
		return r.refuse(why, Read, id, c.Key)
	}
	return nil
}

// AlwaysHolds reports whether a condition is true in every state, and so tells nothing. Every client asks it once of every cell that it
// uses, to learn the cell's revision (rule 14), whatever it may do there.
func AlwaysHolds(c *cell.Condition) bool {
	return c.Target == cell.OnVersion && c.Compare == cell.GreaterEqual && c.Number == 0
}

// op decides about one operation. Of a scan the key is the beginning of keys, so what covers that covers all of them.
func (r *Rights) op(id cell.ID, o *cell.Op) *Refusal {
	need := Write // what is not known to be a read is not taken for one
	if o.Kind == cell.OpGet || o.Kind == cell.OpScan {
		need = Read
	}
	if why := r.covers(need, id, o.Key); why != Allowed {
		return r.refuse(why, need, id, o.Key)
	}
	if o.Lease != 0 {
		if why := r.covers(Lease, id, o.Key); why != Allowed {
			return r.refuse(why, Lease, id, o.Key)
		}
	}
	return nil
}

// LeaseAct is what is asked of a lease.
type LeaseAct uint8

// What may be asked of leases.
const (
	HoldLease   LeaseAct = iota // to grant one, or to keep it alive
	RevokeLease                 // which deletes the keys that are attached to it, whoever attached them
	ListLeases
)

// Leases decides about something that is asked of a cell's leases.
func (r *Rights) Leases(now int64, id cell.ID, act LeaseAct) *Refusal {
	if r.All {
		return nil
	}
	if why := r.general(now); why != Allowed {
		return r.refuse(why, 0, id, "")
	}
	need, why := Lease, Allowed
	switch act {
	case RevokeLease:
		why = r.covers(need, id, "")
	case ListLeases:
		need = Read | Lease
		why = r.touches(need, id)
	default:
		why = r.touches(need, id)
	}
	if why != Allowed {
		return r.refuse(why, need, id, "")
	}
	return nil
}

// Explain decides whether somebody may see where a cell's members are and how they do: whoever may do anything in it.
func (r *Rights) Explain(now int64, id cell.ID) *Refusal {
	if r.All {
		return nil
	}
	if why := r.general(now); why != Allowed {
		return r.refuse(why, 0, id, "")
	}
	if why := r.touches(anyVerb, id); why != Allowed {
		return r.refuse(why, data, id, "")
	}
	return nil
}
