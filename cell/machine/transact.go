package machine

import (
	"fmt"

	"physalia/cell"
	"physalia/internal/must"
)

// transact runs a transaction at the given revision, whole or not at all (M2). After an abort the result holds only the
// revision.
func (s *store) transact(t *cell.Txn, revision cell.Revision) (cell.TxnResult, *cell.Error) {
	s.scratch.undo = s.scratch.undo[:0] // a machine that shares the scratch may have panicked in the middle
	result, err := s.read(t, revision)
	if err == nil && s.bytes > cell.CellBytesMax {
		err = tooLarge("txn", s.bytes)
	}
	if err != nil {
		s.rollback()
		must.That(s.bytes <= cell.CellBytesMax, "M2: %d bytes after a rollback", s.bytes)
		return cell.TxnResult{Revision: revision}, err
	}
	s.commit()
	return result, nil
}

// read evaluates the conditions and runs the branch that they choose, without committing. A transaction that only reads
// leaves the store as it is.
func (s *store) read(t *cell.Txn, revision cell.Revision) (cell.TxnResult, *cell.Error) {
	failed := s.firstFailed(t.If)
	result := cell.TxnResult{Succeeded: failed < 0, Failed: failed, Revision: revision}
	ops := t.Branch(result.Succeeded)
	if len(ops) == 0 {
		return result, nil
	}
	b := branch{store: s, revision: revision, scanBudget: cell.ScanBytesMax, sizeBudget: cell.ResultBytesMax}
	result.Results = s.results(len(ops))
	for i := range ops {
		if err := b.run(&ops[i], &result.Results[i]); err != nil {
			err.Detail = fmt.Sprintf("%s %d: %s", branchName(result.Succeeded), i, err.Detail)
			return cell.TxnResult{Revision: revision}, err
		}
	}
	return result, nil
}

// results returns so many empty results in the memory of the ones before, whose time is over.
func (s *store) results(n int) []cell.OpResult {
	list := s.scratch.results
	if n > cap(list) || cap(list) > resultsKept {
		list = make([]cell.OpResult, n)
	}
	s.scratch.results = list[:n]
	clear(list[:n])
	return list[:n]
}

// resultsKept is how many results' worth of memory a scratch keeps between transactions.
const resultsKept = 8

// tooLarge is the answer to what would make the cell have so many bytes.
func tooLarge(op string, bytes int) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.TooLarge, Hint: "delete keys first, or use another cell",
		Detail: fmt.Sprintf("the cell would have %d bytes of keys, values and leases, allowed are %d", bytes, cell.CellBytesMax)}
}

func branchName(succeeded bool) string {
	if succeeded {
		return "then"
	}
	return "else"
}

// firstFailed returns the index of the first condition that does not hold, -1 when all hold.
func (s *store) firstFailed(conditions []cell.Condition) int {
	for i := range conditions {
		if !s.holds(&conditions[i]) {
			return i
		}
	}
	return -1
}

// holds evaluates one condition. An absent key has no value, and zero revisions and version.
func (s *store) holds(c *cell.Condition) bool {
	if c.Target == cell.OnHeld {
		return s.held(cell.LeaseID(c.Number)) == (c.Compare == cell.Equal)
	}
	e, found := s.get(c.Key)
	switch c.Target {
	case cell.OnExistence:
		return found == (c.Compare == cell.Equal)
	case cell.OnValue:
		order, comparable := e.Value.Compare(c.Value)
		if !comparable {
			return c.Compare == cell.NotEqual
		}
		return satisfies(order, c.Compare)
	case cell.OnCreateRevision:
		return satisfies(orderOf(uint64(e.CreateRevision), c.Number), c.Compare)
	case cell.OnModRevision:
		return satisfies(orderOf(uint64(e.ModRevision), c.Number), c.Compare)
	case cell.OnVersion:
		return satisfies(orderOf(e.Version, c.Number), c.Compare)
	case cell.OnLease:
		return satisfies(orderOf(uint64(e.Lease), c.Number), c.Compare)
	}
	must.That(false, "M1: condition target %d passed the gate", c.Target)
	return false
}

// orderOf compares two numbers: negative, zero or positive for less, equal or greater.
func orderOf(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// satisfies tells whether an order is one that a comparison asks for.
func satisfies(order int, c cell.Comparison) bool {
	switch c {
	case cell.Equal:
		return order == 0
	case cell.NotEqual:
		return order != 0
	case cell.Less:
		return order < 0
	case cell.LessEqual:
		return order <= 0
	case cell.Greater:
		return order > 0
	case cell.GreaterEqual:
		return order >= 0
	}
	must.That(false, "M1: comparison %d passed the gate", c)
	return false
}

// branch is one run of the operations of a branch. They see each other's effects.
type branch struct {
	store      *store
	revision   cell.Revision // writes are stamped with it
	scanBudget int           // keys and values that scans may still return
	sizeBudget int           // cell.OpResult.Size that all results may still have
}

// run executes one operation; an error aborts the transaction.
func (b *branch) run(o *cell.Op, r *cell.OpResult) *cell.Error {
	switch o.Kind {
	case cell.OpGet:
		r.Entry, r.Found = b.store.get(o.Key)
	case cell.OpPut:
		if o.Lease != 0 && !b.store.held(o.Lease) {
			return noLease("txn", o.Lease)
		}
		i, found := b.store.find(o.Key)
		b.write(i, found, cell.Entry{Key: o.Key, Value: o.Value, Lease: o.Lease}, r)
	case cell.OpDelete:
		if i, found := b.store.find(o.Key); found {
			r.Found, r.Entry = true, b.store.entries[i]
			b.store.remove(i)
		}
	case cell.OpIncrement:
		if err := b.increment(o, r); err != nil {
			return err
		}
	case cell.OpScan:
		used := 0
		r.Entries, r.More, used = b.store.scan(o, b.scanBudget)
		b.scanBudget -= used
	default:
		must.That(false, "M1: operation %d passed the gate", o.Kind)
	}
	if b.sizeBudget -= r.Size(); b.sizeBudget < 0 {
		return &cell.Error{Op: "txn", Kind: cell.TooLarge, Hint: "read fewer keys in one transaction, or scan with a limit",
			Detail: fmt.Sprintf("results so far have %d bytes, allowed are %d", cell.ResultBytesMax-b.sizeBudget, cell.ResultBytesMax)}
	}
	return nil
}

// write sets a key at the position that find returned for it; e has its key, value and lease.
func (b *branch) write(i int, found bool, e cell.Entry, r *cell.OpResult) {
	e.CreateRevision, e.ModRevision, e.Version = b.revision, b.revision, 1
	if found {
		e.CreateRevision, e.Version = b.store.entries[i].CreateRevision, b.store.entries[i].Version+1
	}
	b.store.set(i, found, e)
	r.Found, r.Entry = found, e
}

// increment adds o.Value to an integer; an absent key counts as zero. The key stays attached to its lease.
func (b *branch) increment(o *cell.Op, r *cell.OpResult) *cell.Error {
	i, found := b.store.find(o.Key)
	e := cell.Entry{Key: o.Key, Value: cell.Int(0)}
	if found {
		e = b.store.entries[i]
	}
	old := e.Value
	if old.Type() != cell.IntType {
		return &cell.Error{Op: "txn", Kind: cell.WrongType, Hint: "put an integer first",
			Detail: fmt.Sprintf("increment of key %q, which holds a value of type %s", o.Key, old.Type())}
	}
	sum, bits := add(old, o.Value)
	if bits > cell.IntBitsMax {
		return &cell.Error{Op: "txn", Kind: cell.TooLarge, Hint: "put a smaller integer",
			Detail: fmt.Sprintf("increment of key %q would make an integer of %d bits, allowed are %d", o.Key, bits, cell.IntBitsMax)}
	}
	e.Value = sum
	b.write(i, found, e, r)
	return nil
}

// add returns the sum of two integers and how many bits its magnitude has, 64 at most when it fits an int64.
func add(x, y cell.Value) (sum cell.Value, bits int) {
	a, smallA := x.AsInt64()
	b, smallB := y.AsInt64()
	if c := a + b; smallA && smallB && (c > a) == (b > 0) { // no overflow
		return cell.Int(c), 64
	}
	n, _ := x.AsBigInt()
	d, _ := y.AsBigInt()
	n.Add(n, d)
	return cell.BigInt(n), n.BitLen()
}
