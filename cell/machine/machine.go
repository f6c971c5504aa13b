package machine

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/wire"
)

// Machine is the state of one cell: keys, leases, revision, window of outcomes. The zero Machine is an empty cell. It is not safe
// for concurrent use. In memory a full window takes about 25 KB, each key about 100 bytes more than it counts.
type Machine struct {
	revision cell.Revision
	store    store
	window   window
}

// Outcome is what became of one request. Exactly one of three things is true:
//   - Err is nil: it was applied, and Result tells how;
//   - Err is WrongType, TooLarge, Void or, except for keep-alives and expiries, NoLease: it was given a revision (Result.Revision) but changed no key, for good;
//   - Err is Expired: it was not applied now; whether an earlier copy of it was is not known any more. Or it is NoLease of
//     a keep-alive, NoLease or Stale of an expiry: nothing was changed.
type Outcome struct {
	Request  cell.Request
	Result   cell.TxnResult
	Err      *cell.Error
	Kind     wire.CommandKind // as in the command; CommandTxn when recalled
	Lease    cell.LeaseID     // the lease that the command is about, or that it granted
	Renewals uint64           // of a keep-alive: renewals of the lease, this one included
}

// New returns the machine of an empty cell at revision zero.
func New() *Machine { return new(Machine) }

// Revision returns the number of transactions applied so far.
func (m *Machine) Revision() cell.Revision { return m.revision }

// Keys returns the number of keys.
func (m *Machine) Keys() int { return len(m.store.entries) }

// Bytes returns what keys and leases count against cell.CellBytesMax.
func (m *Machine) Bytes() int { return m.store.bytes }

// Apply applies one logged command, an encoded wire.Command, and returns its outcome. The command may be reused
// afterwards; the outcome is valid until the next Apply, its results (Outcome.Result.Results) until the next Apply or Read: most
// members apply what nobody asked them; see Use. An error, always a *cell.Error of kind Quarantined, means that the command is damaged or that this version
// does not fully understand it; then nothing was changed, and the node must stop as failed (rule 9).
func (m *Machine) Apply(command []byte) (*Outcome, error) {
	s := m.room()
	c, out := &s.command, &s.outcome
	*out = Outcome{}
	defer c.Empty()
	if err := c.Reread(command); err != nil {
		return out, err
	}
	if err := c.Check(); err != nil {
		return out, refuse("machine.apply", err)
	}
	m.apply(c, out)
	return out, nil
}

// apply is Apply for a command that passed the gate; it is total. The outcome is empty before.
func (m *Machine) apply(c *wire.Command, out *Outcome) {
	poison(c)
	switch c.Kind {
	case wire.CommandKeepAlive:
		*out = m.keepAlive(c)
		return
	case wire.CommandExpire:
		*out = m.expire(c)
		return
	}
	if !m.isNew(&c.Request) {
		*out, _ = m.Recall(c.Request)
		out.Result.Complete(&c.Txn)
		out.concerns(c)
		return
	}
	m.revision++
	out.Request = c.Request
	switch {
	case c.Kind == wire.CommandGrant:
		out.Result, out.Err = fate(m.store.grant(&c.Lease, m.revision), m.revision)
	case c.Kind == wire.CommandRevoke:
		var err *cell.Error
		if !m.store.end(c.Lease.ID) {
			err = noLease("lease.revoke", c.Lease.ID)
		}
		out.Result, out.Err = fate(err, m.revision)
	case c.Txn.IsResolve():
		out.Result, out.Err = cell.TxnResult{Revision: m.revision}, abort(cell.Void, m.revision)
	default:
		out.Result, out.Err = m.store.transact(&c.Txn, m.revision)
	}
	m.window.remember(m.room(), out, c.Txn.Branch(out.Result.Succeeded))
	out.concerns(c)
}

// isNew reports whether a request has no outcome yet: Recall knows nothing of it.
func (m *Machine) isNew(r *cell.Request) bool {
	return (r.Since >= m.window.floor || plantedNoFloor) && m.window.find(&r.Client, r.Sequence) < 0
}

// fate is the result of a command that has no results of its own.
func fate(err *cell.Error, revision cell.Revision) (cell.TxnResult, *cell.Error) {
	if err != nil {
		return cell.TxnResult{Revision: revision}, err
	}
	return cell.TxnResult{Succeeded: true, Failed: -1, Revision: revision}, nil
}

// concerns says what a command was about, in the outcome that it had, now or before.
func (o *Outcome) concerns(c *wire.Command) {
	o.Kind = c.Kind
	switch {
	case c.Kind == wire.CommandRevoke:
		o.Lease = c.Lease.ID
	case c.Kind == wire.CommandGrant && o.Err == nil:
		o.Lease = cell.LeaseID(o.Result.Revision)
	}
}

// Read runs a transaction that only reads (cell.Txn.IsRead) on the state as applied so far. It changes nothing, and the
// result carries the current revision. Errors: Invalid when the transaction is malformed or would write, TooLarge when
// the results would count more than cell.ResultBytesMax.
func (m *Machine) Read(t *cell.Txn) (cell.TxnResult, *cell.Error) {
	if err := t.Check(); err != nil {
		return cell.TxnResult{}, &cell.Error{Op: "txn.read", Kind: cell.KindOf(err), Err: err}
	}
	if !t.IsRead() {
		return cell.TxnResult{}, &cell.Error{Op: "txn.read", Kind: cell.Invalid, Detail: "the transaction would write",
			Hint: "send it as a transaction, not as a read"}
	}
	m.room()
	result, err := m.store.read(t, m.revision)
	result.Results = slices.Clone(result.Results)
	return result, err
}

// Recall returns the outcome of a request if that needs no log entry any more: the recorded one, or Expired when the
// request is not in the window and older than its floor. It reports false for a request that can still be applied. On a
// node that lags the answer is true as well: outcomes never change, and an expired request stays expired. In a recorded
// result puts are without key and value, or all results are missing; see cell.TxnResult.Complete, which may be called on
// the result.
func (m *Machine) Recall(r cell.Request) (Outcome, bool) {
	if at := m.window.find(&r.Client, r.Sequence); at >= 0 {
		item := m.window.decode(at)
		out := Outcome{Request: r, Result: item.Result}
		if item.Err != nil {
			out.Err = abort(item.Err.Kind, item.Result.Revision)
		}
		return out, true
	}
	if r.Since >= m.window.floor || plantedNoFloor {
		return Outcome{}, false
	}
	return Outcome{Request: r, Result: cell.TxnResult{Revision: m.revision}, Err: &cell.Error{
		Op: "txn", Kind: cell.Expired,
		Detail: fmt.Sprintf("the request was made after revision %d; outcomes up to revision %d are forgotten", r.Since, m.window.floor),
		Hint:   "read the keys to see whether an earlier attempt was applied, then decide again with a new request",
	}}, true
}

// abort describes an outcome whose reason is not at hand.
func abort(k cell.Kind, r cell.Revision) *cell.Error {
	if k == cell.Void {
		return &cell.Error{Op: "txn", Kind: k, Detail: fmt.Sprintf("resolved as not applied at revision %d", r),
			Hint: "it will never be applied; decide again with a new request"}
	}
	return &cell.Error{Op: "txn", Kind: k, Detail: fmt.Sprintf("aborted at revision %d; the first answer told why", r)}
}

// refuse makes the error that stops a node.
func refuse(op string, err error) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Quarantined, Err: err,
		Hint: "run a version that understands it, or replace this node; never skip it"}
}
