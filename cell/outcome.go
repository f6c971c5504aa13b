package cell

// The window of remembered outcomes (rule 14). Together with the bounds of bounds.go these numbers are part of what the
// state machine is: nodes that disagree on one compute different states (hazard H21), so changing one takes a new version
// of the command format.
const (
	WindowMax      = 256       // transactions whose fate (succeeded, failed, aborted, revision) a cell remembers
	WindowBytesMax = 32 << 10  // OpResult.Size of all results kept beside those fates
	ResultKeptMax  = 8 << 10   // OpResult.Size of one transaction's results; larger ones are not kept at all
	ResultBytesMax = 512 << 10 // OpResult.Size of one transaction's results; one that would exceed it aborts with TooLarge
	ResultOverhead = 32        // what one OpResult or scanned Entry counts beside its key and value, in bytes
)

// MaybeApplied reports whether err leaves open if the transaction that ended with it took effect, now or later. It is
// false for nil. Whatever did not come from a colony (a context that ended, a broken connection) leaves it open.
func MaybeApplied(err error) bool { return err != nil && KindOf(err).MaybeApplied() }

// IsResolve reports whether t is the empty transaction, which asks for the fate of its Request instead of doing
// anything: the cell answers with the recorded outcome; or, if there is none, records the request as Void, so that a copy
// that is still under way can never be applied; or says Expired. It goes through the log like every other transaction,
// and is the only one that Check refuses and a server accepts.
func (t *Txn) IsResolve() bool { return len(t.If)+len(t.Then)+len(t.Else) == 0 }

// Branch returns the operations that ran in a transaction with the given fate.
func (t *Txn) Branch(succeeded bool) []Op {
	if succeeded {
		return t.Then
	}
	return t.Else
}

// Size is what the result counts against the bounds of results, in bytes.
func (r *OpResult) Size() int {
	n := ResultOverhead + len(r.Entry.Key)
	if !r.Entry.Value.IsZero() {
		n += r.Entry.Value.Size()
	}
	for i := range r.Entries {
		n += ResultOverhead + len(r.Entries[i].Key) + r.Entries[i].Value.Size()
	}
	return n
}

// Complete restores, in the answer to a retry of t, what a cell does not remember because the client knows it: the keys
// and values that t's own puts wrote. It writes to r.Results, so r must not be shared. It reports false when the cell no
// longer had the results: then r.Results is empty although operations ran, and r tells only the fate (Succeeded, Failed,
// Revision), which is always exact. An answer to a first attempt is complete already and stays as it is.
func (r *TxnResult) Complete(t *Txn) bool {
	ops := t.Branch(r.Succeeded)
	if len(r.Results) != len(ops) {
		return false
	}
	for i := range ops {
		if e := &r.Results[i].Entry; ops[i].Kind == OpPut && e.Value.IsZero() {
			e.Key, e.Value = ops[i].Key, ops[i].Value
		}
	}
	return true
}
