package client

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/wire"
)

// Cell is the handle of one cell. It is safe for concurrent use; so are all its methods. What they share is described in
// the package comment: which errors mean "not applied", and which "unknown".
type Cell struct {
	client  *Client
	id      cell.ID
	invalid error // the name is not allowed
	last    atomic.Pointer[link]

	mu      sync.Mutex
	place   *route.Place
	dice    route.Dice
	changed chan struct{} // closed at the end of a lookup; nil when nobody waits
	turns   route.Turns
	queue   list.List // of chan struct{}: writes that wait for their turn; each is closed when it comes
}

func newCell(c *Client, id cell.ID) *Cell {
	return &Cell{client: c, id: id, place: route.NewPlace(id), dice: route.Dice(c.seed ^ hash(string(id)))}
}

// ID is the cell's name.
func (h *Cell) ID() cell.ID { return h.id }

// String describes what the Client knows of the cell: its route, with a star at the proposer, and its session.
func (h *Cell) String() string {
	if h.invalid != nil {
		return h.invalid.Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.place.Describe()
}

// ReadOption says how a read is answered.
type ReadOption uint8

// The ways to read.
const (
	Linearizable ReadOption = 0 // by the proposer: sees every transaction that ended before the read began; the default
	Stale        ReadOption = 1 // by any member: a consistent prefix, never older than what this Client has seen of the cell
	Confirmed    ReadOption = 2 // linearizable, and the proposer asks its jury even if it holds a read lease: rests on no clock
)

// Txn runs one transaction, atomically and exactly once; it is linearizable. A transaction without a write is a
// linearizable read. The result of a transaction whose conditions do not hold is not an error: Succeeded tells.
//
// In rare cases, after answers were lost and much else has happened in the cell, only the fate of a transaction can still
// be told: then Results is empty while Succeeded, Failed and Revision are exact.
//
// Not applied: Invalid, TooLarge, WrongType and the general ones. Unknown: *UnknownError. The txn must not change while
// Txn runs, nor, after an *UnknownError, until it is resolved.
func (h *Cell) Txn(ctx context.Context, txn cell.Txn) (cell.TxnResult, error) {
	result, _, err := h.txn(ctx, "client.txn", txn, Linearizable)
	return result, err
}

// Read runs a transaction without writes: gets and scans under conditions, at one moment. Not applied: all errors.
func (h *Cell) Read(ctx context.Context, txn cell.Txn, option ReadOption) (cell.TxnResult, error) {
	if !txn.IsRead() {
		return cell.TxnResult{}, &cell.Error{Op: "client.read", Kind: cell.Invalid, Cell: h.id, Detail: "the transaction writes", Hint: "use Txn"}
	}
	result, _, err := h.txn(ctx, "client.read", txn, option)
	return result, err
}

// txn runs a transaction as what it is, and also tells the incarnation that answered.
func (h *Cell) txn(ctx context.Context, op string, txn cell.Txn, option ReadOption) (cell.TxnResult, cell.Incarnation, error) {
	x, err := h.openFor(ctx, op, &txn)
	if err != nil {
		return cell.TxnResult{}, 0, err
	}
	defer h.client.put(x)
	if txn.IsRead() {
		err = h.read(ctx, x, txn, option)
	} else {
		err = h.write(ctx, x, &logged{txn: txn})
	}
	if err != nil {
		return cell.TxnResult{}, 0, err
	}
	return x.result, x.incarnation, nil
}

// outcome runs a transaction that writes, for one who does not look at the results of its operations.
func (h *Cell) outcome(ctx context.Context, op string, txn cell.Txn) (succeeded bool, err error) {
	x, err := h.openFor(ctx, op, &txn)
	if err != nil {
		return false, err
	}
	defer h.client.put(x)
	x.brief = true
	if err := h.write(ctx, x, &logged{txn: txn}); err != nil {
		return false, err
	}
	return x.result.Succeeded, nil
}

// openFor is open for a transaction, which it checks.
func (h *Cell) openFor(ctx context.Context, op string, txn *cell.Txn) (*exchange, error) {
	if h.invalid != nil {
		return nil, h.invalid
	}
	if err := txn.Check(); err != nil {
		return nil, h.named(op, err)
	}
	return h.open(ctx, op)
}

// open counts a call in and gives it an exchange with a deadline; Client.put must follow.
func (h *Cell) open(ctx context.Context, op string) (*exchange, error) {
	c := h.client
	deadline, err := c.deadline(ctx, op, h.id)
	if err == nil {
		err = c.admit(op, h.id)
	}
	if err != nil {
		return nil, err
	}
	x := c.exchanges.Get().(*exchange)
	x.op, x.deadline = op, deadline
	return x, nil
}

// deadline is when a call must end. It refuses a call whose caller, or whose Client, is gone already.
func (c *Client) deadline(ctx context.Context, op string, id cell.ID) (time.Duration, error) {
	err := ctx.Err()
	if err == nil && c.ctx.Err() != nil {
		err = closedError(op)
	}
	if err != nil {
		return 0, &cell.Error{Op: op, Kind: cell.Unavailable, Cell: id, Detail: "not sent", Err: err}
	}
	if t, ok := ctx.Deadline(); ok {
		return t.Sub(c.origin), nil
	}
	return c.now() + c.cfg.CallTimeout, nil
}

// logged is what a call wants logged: a transaction, or with a method something about a lease.
type logged struct {
	txn    cell.Txn
	method string
	lease  cell.LeaseOp
	inc    cell.Incarnation // in which; zero is the living one
}

// write runs one transaction that writes, or something about a lease, under an identity of its own.
func (h *Cell) write(ctx context.Context, x *exchange, w *logged) error {
	for anew := 0; ; anew++ {
		if err := h.introduce(ctx, x, w.inc, anew > 0); err != nil {
			return err
		}
		if err := h.begun(ctx, x); err != nil {
			return err
		}
		sent, err := h.writeOnce(ctx, x, w)
		if h.ended(err); !sent {
			continue
		}
		if err == nil {
			return nil
		}
		if err.Kind != cell.Expired {
			return h.fail(x, err)
		}
		if anew >= anewMax { // it was not applied, and will not be: all sends were refused
			return &cell.Error{Op: x.op, Kind: cell.Unavailable, Cell: h.id, Err: err, Hint: "send less to this cell",
				Detail: fmt.Sprintf("not applied: %d times, the cell forgot more transactions than it remembers while one was under way", anew+1)}
		}
	}
}

// writeOnce sends a write as a new request; it reports false when the cell was deleted just now.
func (h *Cell) writeOnce(ctx context.Context, x *exchange, w *logged) (sent bool, err *cell.Error) {
	h.mu.Lock()
	inc := h.place.Incarnation()
	if inc == 0 {
		h.mu.Unlock()
		return false, nil
	}
	if w.inc != 0 {
		inc = w.inc
	}
	request := h.place.Request(h.client.id)
	x.sent = h.begin(x, route.Write, inc)
	h.mu.Unlock()
	if w.method == "" {
		x.asTxn(h.id, inc, request, w.txn)
	} else {
		x.asLease(h.id, inc, request, w.method, w.lease)
	}
	if err = h.run(ctx, x); err == nil && x.call.Sends() > 1 {
		x.result.Complete(&w.txn)
	}
	return true, err
}

// anewMax is how often a transaction that expired before it was applied starts anew, as another request.
const anewMax = 3

// introduce makes sure that a revision of the living incarnation is known, as rule 14 wants it before a first send. A
// stale one will do, so any member answers; after an Expired it takes a fresh one. If inc is given, it must not be over.
func (h *Cell) introduce(ctx context.Context, x *exchange, inc cell.Incarnation, fresh bool) error {
	h.mu.Lock()
	ready := h.place.Ready()
	gone := inc != 0 && h.place.Gone(inc)
	h.mu.Unlock()
	if gone {
		return &cell.Error{Op: x.op, Kind: cell.Deleted, Cell: h.id, Detail: fmt.Sprintf("incarnation %d is over", inc)}
	}
	if ready && !fresh {
		return nil
	}
	option := Stale
	if fresh {
		option = Linearizable
	}
	return h.read(ctx, x, cell.Txn{If: []cell.Condition{Version("revision", cell.GreaterEqual, 0)}}, option) // it holds whatever the key; the answer is the revision
}

// read runs one read.
func (h *Cell) read(ctx context.Context, x *exchange, txn cell.Txn, option ReadOption) error {
	purpose := route.Read
	if option == Stale {
		purpose = route.StaleRead
	}
	h.mu.Lock()
	h.begin(x, purpose, 0)
	h.mu.Unlock()
	x.asRead(h.id, option, txn)
	if err := h.run(ctx, x); err != nil {
		return h.fail(x, err)
	}
	return nil
}

// begin starts the call of an exchange, and returns when that was; h.mu is held.
func (h *Cell) begin(x *exchange, purpose route.Purpose, inc cell.Incarnation) (now time.Duration) {
	h.dice += 0x9e3779b97f4a7c15 // another sequence for every call
	now = h.client.now()
	x.call.Begin(purpose, x.op, h.place, inc, now, x.deadline, h.dice)
	x.trace = uint64(h.dice)
	return now
}

// Resolve learns the fate of a transaction that ended in an *UnknownError, and makes it final. A nil error means that it
// was applied, exactly once, with this result (Results may be empty, as with Txn). Void means that it was not and never
// will be, whatever still is under way; WrongType and TooLarge that it was refused as a whole. An *UnknownError again
// means that nobody could be asked, so Resolve may be repeated, or, when errors.Is(err, cell.Expired), that the cell has
// forgotten, or, when errors.Is(err, cell.Stale), that its incarnation is over (deleted and created again, or recovered with
// loss; exactly once does not reach across incarnations): then read back what the transaction would have written. Resolve is
// linearizable.
func (h *Cell) Resolve(ctx context.Context, unknown *UnknownError) (cell.TxnResult, error) {
	const op = "client.resolve"
	if h.invalid != nil {
		return cell.TxnResult{}, h.invalid
	}
	if unknown.Cell != h.id || unknown.Incarnation == 0 {
		return cell.TxnResult{}, &cell.Error{Op: op, Kind: cell.Invalid, Cell: h.id,
			Detail: fmt.Sprintf("the request is one to cell %q, incarnation %d", unknown.Cell, unknown.Incarnation), Hint: "resolve it there"}
	}
	x, err := h.open(ctx, op)
	if err != nil {
		return cell.TxnResult{}, err
	}
	defer h.client.put(x)
	h.mu.Lock()
	h.begin(x, route.Resolve, unknown.Incarnation)
	h.mu.Unlock()
	x.asTxn(h.id, unknown.Incarnation, unknown.Request, cell.Txn{})
	if failure := h.run(ctx, x); failure != nil {
		err := h.fail(x, failure)
		var again *UnknownError
		if errors.As(err, &again) {
			again.Txn = unknown.Txn
		}
		return cell.TxnResult{}, err
	}
	x.result.Complete(&unknown.Txn)
	return x.result, nil
}

// named puts the operation and the cell into an error that does not know them yet.
func (h *Cell) named(op string, err error) error {
	e := *asError(err)
	e.Op, e.Cell = op, h.id
	return &e
}

// asTxn makes the exchange send a transaction.
func (x *exchange) asTxn(id cell.ID, inc cell.Incarnation, request cell.Request, txn cell.Txn) {
	x.txn = wire.TxnRequest{Header: wire.Header{Cell: id, Incarnation: inc, Trace: x.trace}, Request: request, Txn: txn}
	x.method, x.params, x.header = wire.MethodTxn, &x.txn, &x.txn.Header
}

// asLease makes the exchange ask something of a lease.
func (x *exchange) asLease(id cell.ID, inc cell.Incarnation, request cell.Request, method string, op cell.LeaseOp) {
	x.about = wire.LeaseRequest{Header: wire.Header{Cell: id, Incarnation: inc, Trace: x.trace}, Request: request, Lease: op}
	x.method, x.params, x.header = method, &x.about, &x.about.Header
}

// asLeases makes the exchange ask for all leases.
func (x *exchange) asLeases(id cell.ID) {
	x.list = wire.LeasesRequest{Header: wire.Header{Cell: id, Trace: x.trace}}
	x.method, x.params, x.header = wire.MethodLeases, &x.list, &x.list.Header
}

// asRead makes the exchange send a read.
func (x *exchange) asRead(id cell.ID, option ReadOption, txn cell.Txn) {
	x.read = wire.ReadRequest{Header: wire.Header{Cell: id, Trace: x.trace}, Stale: option == Stale, Txn: txn, Confirm: option == Confirmed}
	x.method, x.params, x.header = wire.MethodRead, &x.read, &x.read.Header
}
