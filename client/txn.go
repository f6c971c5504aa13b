package client

import (
	"context"
	"slices"

	"physalia/cell"
)

// Builder puts a transaction together. It is a value: every method returns a longer one and leaves the old as it is.
type Builder struct {
	cell *Cell
	txn  cell.Txn
}

// If starts a transaction with conditions; all of them must hold for Then to run.
func (h *Cell) If(conditions ...cell.Condition) Builder { return Builder{cell: h}.If(conditions...) }

// Then starts a transaction without conditions.
func (h *Cell) Then(ops ...cell.Op) Builder { return Builder{cell: h}.Then(ops...) }

// If adds conditions.
func (b Builder) If(conditions ...cell.Condition) Builder {
	b.txn.If = append(slices.Clip(b.txn.If), conditions...)
	return b
}

// Then adds operations for when all conditions hold.
func (b Builder) Then(ops ...cell.Op) Builder {
	b.txn.Then = append(slices.Clip(b.txn.Then), ops...)
	return b
}

// Else adds operations for when a condition does not hold.
func (b Builder) Else(ops ...cell.Op) Builder {
	b.txn.Else = append(slices.Clip(b.txn.Else), ops...)
	return b
}

// Txn is the transaction as built so far.
func (b Builder) Txn() cell.Txn { return b.txn }

// Commit runs the transaction; see Cell.Txn for results and errors. Each Commit is a new transaction.
func (b Builder) Commit(ctx context.Context) (cell.TxnResult, error) { return b.cell.Txn(ctx, b.txn) }

// Exists is the condition that a key exists.
func Exists(key string) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnExistence, Compare: cell.Equal}
}

// Absent is the condition that a key does not exist.
func Absent(key string) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnExistence, Compare: cell.NotEqual}
}

// Compare is the condition that the value of a key relates to v as given. But for NotEqual it does not hold when the key
// is absent or of another type.
func Compare(key string, c cell.Comparison, v cell.Value) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnValue, Compare: c, Value: v}
}

// Version is a condition on how often a key was written since it was created; 0 when it is absent.
func Version(key string, c cell.Comparison, n uint64) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnVersion, Compare: c, Number: n}
}

// ModRevision is a condition on the revision that last wrote a key; 0 when it is absent.
func ModRevision(key string, c cell.Comparison, r cell.Revision) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnModRevision, Compare: c, Number: uint64(r)}
}

// CreateRevision is a condition on the revision that created a key; 0 when it is absent.
func CreateRevision(key string, c cell.Comparison, r cell.Revision) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnCreateRevision, Compare: c, Number: uint64(r)}
}

// Put sets a key to a value.
func Put(key string, v cell.Value) cell.Op { return cell.Op{Kind: cell.OpPut, Key: key, Value: v} }

// Delete removes a key.
func Delete(key string) cell.Op { return cell.Op{Kind: cell.OpDelete, Key: key} }

// Increment adds to an integer; an absent key counts as 0.
func Increment(key string, delta int64) cell.Op {
	return cell.Op{Kind: cell.OpIncrement, Key: key, Value: cell.Int(delta)}
}

// Get reads a key.
func Get(key string) cell.Op { return cell.Op{Kind: cell.OpGet, Key: key} }

// Scan reads the keys with a prefix, at most limit of them (zero: cell.ScanLimitMax).
func Scan(prefix string, limit uint32) cell.Op {
	return cell.Op{Kind: cell.OpScan, Key: prefix, Limit: limit}
}
