package machine

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/wire"
)

// revisionMax is the highest revision that Restore believes; no cell lives long enough to reach it.
const revisionMax = 1 << 62

// Snapshot appends the whole state to b, a wire.CellState, and returns the extended buffer. Equal states give equal
// bytes on every node (M5). It takes time and space in proportion to the cell: a few hundred bytes for a
// young cell, about 10 KB (6 us) once the window is full of small puts, never more than about 0.7 MB. A state that is no
// longer what was applied to it (M6) is not written: it panics, and the node is out of service.
func (m *Machine) Snapshot(b []byte) []byte {
	m.verify()
	s := wire.CellState{Revision: m.revision, Entries: m.store.entries, Floor: m.window.floor, Leases: m.store.leases}
	return s.AppendBehind(m.window.append(s.AppendBefore(b)))
}

// Restore rebuilds the machine that wrote a snapshot; the snapshot may be reused afterwards. Anything that no machine of
// this version can have written is an error, a *cell.Error of kind Quarantined: the node must stop as failed.
func Restore(state []byte) (*Machine, error) {
	s, err := wire.DecodeCellState(state)
	if err != nil {
		return nil, err
	}
	m := &Machine{revision: s.Revision, store: store{entries: s.Entries, leases: s.Leases}}
	if err := m.store.check(s.Revision); err != nil {
		return nil, refuse("machine.restore", err)
	}
	if err := m.window.restore(&s); err != nil {
		return nil, refuse("machine.restore", err)
	}
	return m, nil
}

// check verifies what a restored store must satisfy beside the order of its keys, and counts its bytes.
func (s *store) check(revision cell.Revision) error {
	if revision > revisionMax {
		return fmt.Errorf("revision %d is beyond %d", revision, uint64(revisionMax))
	}
	for i := range s.entries {
		e := &s.entries[i]
		put := cell.Txn{Then: []cell.Op{{Kind: cell.OpPut, Key: e.Key, Value: e.Value}}}
		if err := put.Check(); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if e.CreateRevision < 1 || e.CreateRevision > e.ModRevision || e.ModRevision > revision || e.Version < 1 {
			return fmt.Errorf("entry %d: created at %d, modified at %d, version %d in a cell at revision %d",
				i, e.CreateRevision, e.ModRevision, e.Version, revision)
		}
		if e.Lease != 0 && (uint64(e.Lease) >= uint64(e.ModRevision) || !s.held(e.Lease)) {
			return fmt.Errorf("entry %d: modified at %d, attached to lease %d, which cannot be", i, e.ModRevision, uint64(e.Lease))
		}
		s.bytes += cost(e)
	}
	if err := s.checkLeases(revision); err != nil {
		return err
	}
	if s.bytes > cell.CellBytesMax {
		return fmt.Errorf("keys, values and leases have %d bytes, allowed are %d", s.bytes, cell.CellBytesMax)
	}
	s.sum = s.total()
	return nil
}

// checkLeases does the same for leases.
func (s *store) checkLeases(revision cell.Revision) error {
	for i := range s.leases {
		l := &s.leases[i]
		grant := cell.LeaseOp{TTL: l.TTL, Label: l.Label}
		if err := grant.CheckGrant(); err != nil {
			return fmt.Errorf("lease %d: %w", uint64(l.ID), err)
		}
		if l.ID < 1 || cell.Revision(l.ID) > revision || l.Renewals > revisionMax {
			return fmt.Errorf("lease %d, renewed %d times, in a cell at revision %d", uint64(l.ID), l.Renewals, revision)
		}
		s.bytes += leaseCost(l)
	}
	return nil
}

// restore fills an empty window and verifies M4 and the bounds.
func (w *window) restore(s *wire.CellState) error {
	n := cell.Revision(len(s.Remembered))
	if n > cell.WindowMax || s.Floor+n != s.Revision {
		return fmt.Errorf("%d outcomes remembered after floor %d at revision %d", n, s.Floor, s.Revision)
	}
	w.floor = s.Floor
	w.log = make([]byte, 0, 64*n) // what most outcomes take, and some room
	w.places, w.marks = make([]place, 0, n), make([]byte, 0, n)
	for i := range s.Remembered {
		item := &s.Remembered[i]
		if item.Result.Revision != w.floor+1+cell.Revision(i) {
			return fmt.Errorf("outcome %d has revision %d, after floor %d", i, item.Result.Revision, w.floor)
		}
		if err := checkOutcome(item); err != nil {
			return fmt.Errorf("outcome of revision %d: %w", item.Result.Revision, err)
		}
		if w.find(&item.Client, item.Sequence) >= 0 {
			return fmt.Errorf("outcome of revision %d: request %v/%d occurs twice", item.Result.Revision, item.Client, item.Sequence)
		}
		w.add(item)
	}
	if w.bytes > cell.WindowBytesMax {
		return fmt.Errorf("remembered results have %d bytes, allowed are %d", w.bytes, cell.WindowBytesMax)
	}
	return nil
}

// checkOutcome verifies one remembered outcome.
func checkOutcome(item *wire.Remembered) error {
	r := &item.Result
	if e := item.Err; e != nil {
		k := e.Kind
		if *e != (cell.Error{Kind: k}) || (k != cell.WrongType && k != cell.TooLarge && k != cell.Void && k != cell.NoLease) ||
			r.Succeeded || r.Failed != 0 || len(r.Results) != 0 {
			return fmt.Errorf("not an abort: %v with %d results", e, len(r.Results))
		}
		return nil
	}
	if r.Succeeded != (r.Failed == -1) {
		return fmt.Errorf("succeeded is %t, first failed condition %d", r.Succeeded, r.Failed)
	}
	if n := resultSize(r.Results); n > cell.ResultKeptMax {
		return fmt.Errorf("results have %d bytes, kept are at most %d", n, cell.ResultKeptMax)
	}
	return nil
}
