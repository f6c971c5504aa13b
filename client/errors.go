package client

import (
	"slices"

	"physalia/cell"
)

// UnknownError is the error of a transaction that may have been applied, now or later, or not at all. It matches
// errors.Is(err, cell.UnknownResult) and whatever Err wraps. Cell.Resolve learns the transaction's fate.
type UnknownError struct {
	Cell        cell.ID
	Incarnation cell.Incarnation // in which it was sent
	Request     cell.Request     // the identity under which it was sent, and under which the cell remembers it
	Txn         cell.Txn
	Err         *cell.Error // of kind UnknownResult
}

// Error describes the error in one line.
func (e *UnknownError) Error() string { return e.Err.Error() + " [request " + e.Request.String() + "]" }

// Unwrap returns the *cell.Error.
func (e *UnknownError) Unwrap() error { return e.Err }

// fail turns the end of a call into the error that users see.
func (h *Cell) fail(x *exchange, err *cell.Error) error {
	if err.Kind != cell.UnknownResult || x.params != &x.txn {
		return err
	}
	txn := x.txn.Txn
	if len(txn.Then) == 1 && &txn.Then[0] == &x.put[0] {
		txn.Then = slices.Clone(txn.Then) // the exchange will serve others
	}
	return &UnknownError{Cell: h.id, Incarnation: x.txn.Header.Incarnation, Request: x.txn.Request, Txn: txn, Err: err}
}

// forgotten is the error of a call whose transaction was applied while its results are no longer remembered: the answer
// came from a retry so late that the cell kept only its fate.
func forgotten(op string, id cell.ID) error {
	return &cell.Error{Op: op, Kind: cell.UnknownResult, Cell: id, Hint: "read the key",
		Detail: "it was applied exactly once, but the cell no longer remembers the result: the answer came too late"}
}
