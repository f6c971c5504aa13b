package cell

// Txn is the one operation shape: conditions, and the operations to run when all of them hold (Then) or when one does
// not (Else). It is given whole and up front, so a cell can order and batch transactions without a conversation.
// The operations of one branch run in order and see each other's effects; a branch takes effect whole or not at all.
type Txn struct {
	If   []Condition
	Then []Op
	Else []Op
}

// Target is what a Condition looks at. The numbers are part of the wire format and never change.
type Target uint8

// The targets of a condition. An absent key has revision and version zero and no value.
const (
	OnExistence      Target = 1 // the key exists (Compare Equal) or is absent (Compare NotEqual); no operand
	OnValue          Target = 2 // typed comparison with Value; false when the key is absent or of another type
	OnCreateRevision Target = 3 // comparison with Number
	OnModRevision    Target = 4 // comparison with Number
	OnVersion        Target = 5 // comparison with Number
	OnLease          Target = 6 // the lease that the key is attached to, zero when none or absent: comparison with Number
	OnHeld           Target = 7 // lease Number is held (Compare Equal) or not (Compare NotEqual); Key is empty
)

// Comparison relates what is stored (left) to the operand (right). The numbers are part of the wire format.
type Comparison uint8

// The comparisons.
const (
	Equal        Comparison = 1
	NotEqual     Comparison = 2 // for OnValue: the key is absent, of another type, or differs
	Less         Comparison = 3
	LessEqual    Comparison = 4
	Greater      Comparison = 5
	GreaterEqual Comparison = 6
)

// Condition guards a transaction. Conditions are total: each is true or false in every state, never an error.
type Condition struct {
	Key     string
	Target  Target
	Compare Comparison
	Value   Value  // operand of OnValue
	Number  uint64 // operand of OnCreateRevision, OnModRevision, OnVersion, OnLease, OnHeld
}

// OpKind is what an Op does. The numbers are part of the wire format and never change.
type OpKind uint8

// The operations.
const (
	OpPut       OpKind = 1 // set Key to Value, creating it if absent, and attach it to Lease, or to none
	OpDelete    OpKind = 2 // remove Key; an absent key is not an error, Found tells
	OpIncrement OpKind = 3 // add Value (an integer) to Key, which stays attached; an absent key counts as 0; another type aborts the transaction
	OpGet       OpKind = 4 // read Key
	OpScan      OpKind = 5 // read the keys with prefix Key, in order, after After, at most Limit
)

// Op is one operation of a transaction.
type Op struct {
	Kind  OpKind
	Key   string // key, or prefix for OpScan (the empty prefix scans everything)
	Value Value  // OpPut, OpIncrement
	After string // OpScan: continue behind this key; empty starts at the prefix
	Limit uint32 // OpScan: 1 to ScanLimitMax; zero means ScanLimitMax
	// Lease is what an OpPut attaches its key to: the key is deleted with the lease, unless another put came between. It
	// must be held, else the transaction aborts with NoLease. Zero attaches to none.
	Lease LeaseID
}

// IsRead reports whether the operation changes nothing.
func (o Op) IsRead() bool { return o.Kind == OpGet || o.Kind == OpScan }

// IsRead reports whether no branch of the transaction can change anything; such a transaction needs no log entry.
func (t *Txn) IsRead() bool {
	for _, ops := range [2][]Op{t.Then, t.Else} {
		for i := range ops {
			if !ops[i].IsRead() {
				return false
			}
		}
	}
	return true
}

// Entry is one key as it stands in the cell.
type Entry struct {
	Key            string
	Value          Value
	CreateRevision Revision // revision that created the key
	ModRevision    Revision // revision that last wrote it
	Version        uint64   // writes since it was created; the creation is 1
	Lease          LeaseID  // the lease that it is attached to; zero when none
}

// OpResult answers one Op, in the same position.
type OpResult struct {
	Found   bool    // OpGet: the key exists; OpDelete: it existed; OpPut, OpIncrement: it existed before
	Entry   Entry   // OpGet: as it stands; OpPut, OpIncrement: as written; OpDelete: as removed; zero when there is none
	Entries []Entry // OpScan
	More    bool    // OpScan: there are further keys behind the last of Entries
}

// TxnResult answers a transaction.
type TxnResult struct {
	Succeeded bool       // the conditions held and Then ran; otherwise Else ran
	Failed    int        // index of the first condition that did not hold; -1 when Succeeded
	Revision  Revision   // the cell's revision after the transaction
	Results   []OpResult // one per operation of the branch that ran
}
