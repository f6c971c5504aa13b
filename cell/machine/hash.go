package machine

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// The hash of a state is kept while commands are applied (M6): a sum, modulo 2^64, over one well-mixed number for each
// key, each lease and each remembered outcome. A sum does not depend on order and can be taken back term by term, so that
// a command costs what it changes. Each term depends on everything its item holds, and on what sort of item it is.

// The sorts of terms.
const (
	sumEntry   = 0x9ae16a3b2f90404f
	sumLease   = 0xc949c7defebd7c55
	sumOutcome = 0xb492b66fbe98f273
	sumState   = 0xe7037ed1a0b428db
)

// spread is odd and has no pattern.
const spread = 0xa0761d6478bd642f

// mix folds v into h; both halves of the product depend on every bit of either.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^spread, v^sumState)
	return hi ^ lo ^ h
}

// Hash returns the hash of the state, for comparison between members (rule 19). It costs nothing to speak of: equal
// states have equal hashes, however they came about; diverged nodes show, malice does not. Recompute finds what a flipped
// bit in memory did to the state since an item was last written.
func (m *Machine) Hash() uint64 {
	h := mix(mix(sumState, uint64(m.revision)), uint64(m.window.floor))
	return mix(mix(h, m.store.sum), m.window.sum)
}

// Recompute returns what Hash must be, from the whole state, decoded where it is kept encoded: for the first 256 outcomes and hundred keys
// about 50 us. It is the judge of tests; what keeps damage from being written is verify.
func (m *Machine) Recompute() uint64 {
	whole := Machine{revision: m.revision, store: store{sum: m.store.total()}, window: window{floor: m.window.floor}}
	for i := m.window.first; i < len(m.window.places); i++ {
		var item wire.Remembered
		if wire.Unmarshal(m.window.at(i), &item) != nil {
			return ^m.Hash() // no machine wrote this
		}
		whole.window.sum += outcomeSum(&item)
	}
	return whole.Hash()
}

// HashOf returns Hash of the machine that wrote these Snapshot bytes, zero when no machine did. It costs a Restore; where
// that is done anyway, ask the machine.
func HashOf(snapshot []byte) uint64 {
	m, err := Restore(snapshot)
	if err != nil {
		return 0
	}
	return m.Hash()
}

// verify asserts that the state in memory is still what was written (M6).
func (m *Machine) verify() {
	if is := m.store.total(); is != m.store.sum {
		must.That(false, "M6: the keys and leases hash to %x, what was applied to %x", is, m.store.sum)
	}
	if !m.window.verify() {
		must.That(false, "M6: the remembered outcomes are not those that were recorded")
	}
}

// total returns the sum over all keys and leases.
func (s *store) total() (sum uint64) {
	for i := range s.entries {
		sum += entrySum(&s.entries[i])
	}
	for i := range s.leases {
		sum += leaseSum(&s.leases[i])
	}
	return sum
}

// entrySum is the term of one key. It is on the path of every write: what does not depend on each other is mixed side by
// side, each pair under a number of its own, and folded in the end.
func entrySum(e *cell.Entry) uint64 {
	h := mix(xxhash.Sum64String(e.Key), valueSum(&e.Value))
	revisions := mix(uint64(e.CreateRevision)^sumOutcome, uint64(e.ModRevision))
	numbers := mix(e.Version^sumLease, uint64(e.Lease))
	return mix(h^bits.RotateLeft64(revisions, 21)^bits.RotateLeft64(numbers, 42), sumEntry)
}

// valueSum hashes a value with its type.
func valueSum(v *cell.Value) uint64 {
	typ := uint64(v.Type())
	switch v.Type() {
	case cell.StringType, cell.BytesType:
		return mix(typ, xxhash.Sum64String(v.RawText()))
	case cell.BoolType:
		if is, _ := v.AsBool(); is {
			return mix(typ, 1)
		}
	case cell.NoType:
		return 0
	case cell.IntType:
		n, small := v.AsInt64()
		if !small {
			large, _ := v.AsBigInt()
			return mix(mix(typ, uint64(large.Sign())), xxhash.Sum64(large.Bytes()))
		}
		return mix(typ, uint64(n))
	}
	return mix(typ, 0)
}

// leaseSum is the term of one lease.
func leaseSum(l *cell.Lease) uint64 {
	h := mix(mix(sumLease, uint64(l.ID)), uint64(l.TTL))
	return mix(mix(h, xxhash.Sum64String(l.Label)), l.Renewals)
}

// outcomeSum is the term of one remembered outcome.
func outcomeSum(item *wire.Remembered) uint64 {
	r := &item.Result
	h := mix(binary.LittleEndian.Uint64(item.Client[:8]), binary.LittleEndian.Uint64(item.Client[8:]))
	h = mix(h^sumOutcome, item.Sequence)
	word := uint64(r.Failed+1)<<16 | uint64(len(r.Results))<<8 // one byte for each number: see bounds.go
	if r.Succeeded {
		word |= 1 << 63
	}
	if item.Err != nil {
		word |= uint64(item.Err.Kind)
	}
	h = mix(mix(h, uint64(r.Revision)), word)
	for i := range r.Results {
		h = resultSum(h, &r.Results[i])
	}
	return h
}

// resultSum folds one remembered result into h.
func resultSum(h uint64, r *cell.OpResult) uint64 {
	flags := uint64(len(r.Entries)) << 2
	if r.Found {
		flags |= 1
	}
	if r.More {
		flags |= 2
	}
	h = mix(mix(h, flags), entrySum(&r.Entry))
	for i := range r.Entries {
		h = mix(h, entrySum(&r.Entries[i]))
	}
	return h
}
