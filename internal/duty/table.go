package duty

import (
	"hash/fnv"

	"physalia/internal/roster"
	"physalia/internal/wire"
)

// Table says who has which duty, as one roster saw it. It is immutable.
type Table struct {
	self string
	live []roster.Instance // sorted by name
}

// NewTable makes the table of the instance called self from what its roster lists.
func NewTable(self string, live []roster.Instance) Table { return Table{self, live} }

// all lists the single duties.
var all = [...]wire.Duties{wire.DutyLifecycle, wire.DutyDiscovery, wire.DutyHealth}

// Holder tells which instance has one duty for the servers of a brick; false when none has.
func (t Table) Holder(d wire.Duties, brick string) (roster.Instance, bool) {
	if d == wire.DutyLifecycle {
		return t.active()
	}
	return t.owner(brick)
}

// active is the instance that holds the lifecycle election, if there is one.
func (t Table) active() (roster.Instance, bool) {
	for _, i := range t.live {
		if i.Active {
			return i, true
		}
	}
	return roster.Instance{}, false
}

// owner is the live instance with the highest weight for a brick; the first by name among equals.
func (t Table) owner(brick string) (best roster.Instance, ok bool) {
	var most uint64
	for _, i := range t.live {
		if w := weight(i.Name, brick); !ok || w > most {
			best, most, ok = i, w, true
		}
	}
	return best, ok
}

// weight is the same on every machine and in every version: instances that differ would send servers to and fro.
func weight(instance, brick string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(instance))
	h.Write([]byte{0})
	h.Write([]byte(brick))
	// The last bytes of FNV reach the high bits weakly, and the highest bits decide. This is the finalizer of SplitMix64.
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Mine is what this instance does for the servers of a brick.
func (t Table) Mine(brick string) (d wire.Duties) {
	for _, one := range all {
		if h, ok := t.Holder(one, brick); ok && h.Name == t.self {
			d |= one
		}
	}
	return d
}

// Elsewhere names who has these duties for the servers of a brick; this instance and duties that nobody has are left out.
func (t Table) Elsewhere(d wire.Duties, brick string) (list []wire.DutyHolder) {
next:
	for _, one := range all {
		h, ok := t.Holder(one, brick)
		if d&one == 0 || !ok || h.Name == t.self {
			continue
		}
		for i := range list {
			if list[i].Name == h.Name {
				list[i].Duties |= one
				continue next
			}
		}
		list = append(list, wire.DutyHolder{Duties: one, Name: h.Name, Addr: h.Addr})
	}
	return list
}

// Addr is where this instance is reached according to the roster; empty when the roster does not list it.
func (t Table) Addr() string {
	for _, i := range t.live {
		if i.Name == t.self {
			return i.Addr
		}
	}
	return ""
}
