package wire

import "physalia/cell"

// AppendIdentity adds a request's identity: [client, sequence, since].
func AppendIdentity(b []byte, q *cell.Request) []byte {
	b = AppendBytes(AppendArray(b, 3), q.Client[:])
	return AppendUint(AppendUint(b, q.Sequence), uint64(q.Since))
}

// DecodeIdentity reads a request's identity.
func DecodeIdentity(r *Reader, q *cell.Request) {
	r.Struct(3, "request identity")
	decodeClient(r, &q.Client)
	q.Sequence = r.Uint()
	q.Since = cell.Revision(r.Uint())
}

// decodeClient reads a client's identity, exactly 16 bytes.
func decodeClient(r *Reader, c *cell.ClientID) {
	if p := r.Bytes(len(c), "client identity"); copy(c[:], p) != len(c) {
		r.Fail("client identity has %d bytes, want %d", len(p), len(c))
	}
}

// AppendTxn adds a transaction: [conditions, then, else].
func AppendTxn(b []byte, t *cell.Txn) []byte {
	b = AppendArray(AppendArray(b, 3), len(t.If))
	for i := range t.If {
		b = AppendCondition(b, &t.If[i])
	}
	return appendOps(appendOps(b, t.Then), t.Else)
}

// DecodeTxn reads a transaction of at most cell.TxnOpsMax conditions and operations together. Lengths are bounded and
// kinds are known afterwards; the rest is the business of Txn.Check.
func DecodeTxn(r *Reader, t *cell.Txn) {
	*t = cell.Txn{}
	decodeTxn(r, t)
}

// decodeTxn reads a transaction into the memory of an empty one.
func decodeTxn(r *Reader, t *cell.Txn) {
	r.Struct(3, "transaction")
	if n := r.list(cell.TxnOpsMax, conditionBytesMin, "conditions"); n > 0 {
		t.If = room(t.If, n)
		for i := 0; i < n && r.err == nil; i++ {
			DecodeCondition(r, &t.If[i])
		}
	}
	t.Then = decodeOps(r, cell.TxnOpsMax-len(t.If), t.Then)
	t.Else = decodeOps(r, cell.TxnOpsMax-len(t.If)-len(t.Then), t.Else)
}

// room is a list of n empty items, in the memory of an empty list if that suffices.
func room[T any](list []T, n int) []T {
	if cap(list) < n {
		return make([]T, n)
	}
	return list[:n]
}

// conditionBytesMin is the least encoding of a condition: an array of five elements of one byte.
const conditionBytesMin = 6

// AppendCondition adds a condition: [key, target, comparison, value, number].
func AppendCondition(b []byte, c *cell.Condition) []byte {
	b = AppendString(AppendArray(b, 5), c.Key)
	b = AppendUint(AppendUint(b, uint64(c.Target)), uint64(c.Compare))
	return AppendUint(AppendValue(b, &c.Value), c.Number)
}

// DecodeCondition reads a condition.
func DecodeCondition(r *Reader, c *cell.Condition) {
	r.Struct(5, "condition")
	c.Key = r.String(cell.KeyBytesMax, "key")
	c.Target = cell.Target(r.Enum(uint8(cell.OnHeld), "target of a condition"))
	c.Compare = cell.Comparison(r.Enum(uint8(cell.GreaterEqual), "comparison"))
	DecodeValue(r, &c.Value)
	c.Number = r.Uint()
}

// opBytesMin is the least encoding of an operation: an array of six elements of one byte.
const opBytesMin = 7

// AppendOp adds an operation: [kind, key, value, after, limit, lease].
func AppendOp(b []byte, o *cell.Op) []byte {
	b = AppendUint(AppendArray(b, 6), uint64(o.Kind))
	b = AppendValue(AppendString(b, o.Key), &o.Value)
	return AppendUint(AppendUint(AppendString(b, o.After), uint64(o.Limit)), uint64(o.Lease))
}

// DecodeOp reads an operation.
func DecodeOp(r *Reader, o *cell.Op) {
	r.Struct(6, "operation")
	o.Kind = cell.OpKind(r.Enum(uint8(cell.OpScan), "kind of operation"))
	decodePair(r, &o.Key, &o.Value)
	o.After = r.String(cell.KeyBytesMax, "scan position")
	o.Limit = r.Uint32("scan limit")
	o.Lease = cell.LeaseID(r.Uint())
}

func appendOps(b []byte, ops []cell.Op) []byte {
	b = AppendArray(b, len(ops))
	for i := range ops {
		b = AppendOp(b, &ops[i])
	}
	return b
}

// decodeOps reads operations into the memory of an empty list; none at all are that list.
func decodeOps(r *Reader, max int, ops []cell.Op) []cell.Op {
	n := r.list(max, opBytesMin, "operations")
	if n == 0 {
		return ops
	}
	ops = room(ops, n)
	for i := 0; i < n && r.err == nil; i++ {
		DecodeOp(r, &ops[i])
	}
	return ops
}
