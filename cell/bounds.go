package cell

import "fmt"

// The bounds of a cell. A cell is tiny on purpose: whole-state teaching, restart and repair stay cheap.
const (
	KeyBytesMax   = 256       // length of a key
	ValueBytesMax = 16 << 10  // Value.Size of one value
	IntBitsMax    = 4096      // magnitude of an integer, in bits
	TxnOpsMax     = 128       // conditions and operations of one transaction, both branches together
	TxnBytesMax   = 64 << 10  // keys and values of one transaction
	CellBytesMax  = 256 << 10 // keys, values and leases of one cell, each counted with its overhead
	ScanLimitMax  = 1024      // entries of one scan
	ScanBytesMax  = 128 << 10 // keys and values of all scan results of one transaction; More tells
)

// KeyOverheadBytes is what one key costs against CellBytesMax beside its name and value.
const KeyOverheadBytes = 32

// Check bounds a transaction from outside; the error names the place and the bound. It is the one gate: what passes
// here can be proposed, and applying it is total.
func (t *Txn) Check() error {
	if n := len(t.If) + len(t.Then) + len(t.Else); n == 0 || n > TxnOpsMax {
		return invalid(n == 0, "transaction has %d conditions and operations, allowed are 1 to %d", n, TxnOpsMax)
	}
	size := 0
	for i := range t.If {
		if err := t.If[i].check(); err != nil {
			return at(err, "condition", i)
		}
		size += len(t.If[i].Key) + t.If[i].Value.Size()
	}
	for b, ops := range [2][]Op{t.Then, t.Else} {
		for i := range ops {
			if err := ops[i].check(); err != nil {
				return at(err, [2]string{"then", "else"}[b], i)
			}
			size += len(ops[i].Key) + len(ops[i].After) + ops[i].Value.Size()
		}
	}
	if size > TxnBytesMax {
		return invalid(false, "transaction has %d bytes of keys and values, allowed are %d", size, TxnBytesMax)
	}
	return nil
}

func (c *Condition) check() error {
	if c.Target == OnHeld {
		if c.Key != "" || c.Number == 0 || (c.Compare != Equal && c.Compare != NotEqual) {
			return invalid(true, "a condition on a lease names no key, a lease, and Equal (held) or NotEqual (not held)")
		}
		return nil
	}
	if err := checkKey(c.Key); err != nil {
		return err
	}
	switch c.Target {
	case OnExistence:
		if c.Compare != Equal && c.Compare != NotEqual {
			return invalid(true, "an existence condition compares with Equal (exists) or NotEqual (absent)")
		}
		return nil
	case OnValue:
		if err := checkValue(c.Value); err != nil {
			return err
		}
	case OnCreateRevision, OnModRevision, OnVersion, OnLease:
	default:
		return invalid(true, "condition target %d is not known to this version", c.Target)
	}
	if c.Compare < Equal || c.Compare > GreaterEqual {
		return invalid(true, "comparison %d is not known to this version", c.Compare)
	}
	return nil
}

func (o *Op) check() error {
	if o.Lease != 0 && o.Kind != OpPut {
		return invalid(true, "only a put attaches its key to a lease")
	}
	if o.Kind == OpScan {
		if len(o.Key) > KeyBytesMax || len(o.After) > KeyBytesMax {
			return invalid(false, "scan prefix or position is longer than %d bytes", KeyBytesMax)
		}
		if o.Limit > ScanLimitMax {
			return invalid(true, "scan limit is %d, allowed are 1 to %d", o.Limit, ScanLimitMax)
		}
		return nil
	}
	if err := checkKey(o.Key); err != nil {
		return err
	}
	switch o.Kind {
	case OpPut:
		return checkValue(o.Value)
	case OpIncrement:
		if o.Value.Type() != IntType {
			return invalid(true, "increment of key %q needs an integer, not %s", o.Key, o.Value.Type())
		}
		return checkValue(o.Value)
	case OpDelete, OpGet:
		return nil
	}
	return invalid(true, "operation %d is not known to this version", o.Kind)
}

func checkKey(k string) error {
	if len(k) == 0 || len(k) > KeyBytesMax {
		return invalid(len(k) == 0, "key has %d bytes, allowed are 1 to %d", len(k), KeyBytesMax)
	}
	return nil
}

func checkValue(v Value) error {
	if v.IsZero() {
		return invalid(true, "value is missing")
	}
	if v.large != nil && v.large.BitLen() > IntBitsMax {
		return invalid(false, "integer has %d bits, allowed are %d", v.large.BitLen(), IntBitsMax)
	}
	if v.Size() > ValueBytesMax {
		return invalid(false, "value has %d bytes, allowed are %d", v.Size(), ValueBytesMax)
	}
	return nil
}

// invalid makes an Invalid error when malformed, else TooLarge.
func invalid(malformed bool, format string, args ...any) *Error {
	k := TooLarge
	if malformed {
		k = Invalid
	}
	return &Error{Op: "txn.check", Kind: k, Detail: fmt.Sprintf(format, args...)}
}

func at(err error, what string, i int) error {
	e := err.(*Error)
	e.Detail = fmt.Sprintf("%s %d: %s", what, i, e.Detail)
	return e
}
