package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client/route"
	"physalia/internal/wire"
)

// Lease is a time-bounded lock in a cell, kept alive in the background by one goroutine until it ends. It ends exactly
// once, for one of the reasons of LeaseEnd; then Done is closed and Err says why. Keys that are attached to it (PutLeased)
// go with it.
//
// While Held is true, and the clock of the cell's proposer runs at most cell.LeaseRateBound times as fast as the one here,
// the cell has not expired the lease, and nobody else holds what it guards; the arithmetic stands at route.Hold. A process
// can be paused right after it asked. So whatever is guarded outside of the cell should be told the Token and refuse
// lower ones, and whatever is guarded inside should be written under the condition LeaseHeld.
type Lease struct {
	cell  *Cell
	id    cell.LeaseID
	inc   cell.Incarnation
	ttl   time.Duration
	ctx   context.Context // ends with the lease
	leave context.CancelFunc

	mu   sync.Mutex
	hold route.Hold
	done chan struct{}
	err  *LeaseError // set before done is closed
}

// LeaseEnd is why a lease is over.
type LeaseEnd = route.HoldEnd

// The ends of a lease.
const (
	LeaseLapsed LeaseEnd = route.HoldLapsed // it was not renewed in time, by the clock here
	LeaseGone   LeaseEnd = route.HoldGone   // the cell does not hold it any more: it was revoked, or has expired
	LeaseNoCell LeaseEnd = route.HoldNoCell // the cell was deleted, or created again
	LeaseClosed LeaseEnd = route.HoldClosed // by Close, Revoke or Client.Close
)

// LeaseError is why a lease is over. It matches whatever Err wraps: cell.NoLease, cell.Deleted and so on.
type LeaseError struct {
	Cell cell.ID
	ID   cell.LeaseID
	End  LeaseEnd
	Err  *cell.Error // nil when the holder ended it
}

// Error describes the end in one line.
func (e *LeaseError) Error() string {
	s := fmt.Sprintf("%s: lease %d: %v", e.Cell, uint64(e.ID), e.End)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the *cell.Error.
func (e *LeaseError) Unwrap() error {
	if e.Err == nil {
		return nil
	}
	return e.Err
}

// Grant asks for a lease of ttl, cell.LeaseTTLMin to cell.LeaseTTLMax, and keeps it alive. The label tells people who
// holds it. Not applied: Invalid, TooLarge (the cell has as many leases as it may) and the general errors. Unknown:
// UnknownResult, or a *LeaseError when the answer took longer than ttl; the lease that may exist then has no holder and
// expires by itself.
func (h *Cell) Grant(ctx context.Context, ttl time.Duration, label string) (*Lease, error) {
	const op = "client.grant"
	if h.invalid != nil {
		return nil, h.invalid
	}
	want := logged{method: wire.MethodGrant, lease: cell.LeaseOp{TTL: ttl, Label: label}}
	if err := want.lease.CheckGrant(); err != nil {
		return nil, h.named(op, err)
	}
	x, err := h.open(ctx, op)
	if err != nil {
		return nil, err
	}
	defer h.client.put(x)
	if err := h.write(ctx, x, &want); err != nil {
		return nil, err
	}
	h.client.earn()
	return h.hold(x, ttl)
}

// hold makes the Lease that was granted to an exchange.
func (h *Cell) hold(x *exchange, ttl time.Duration) (*Lease, error) {
	l := &Lease{cell: h, id: x.lease.Lease, inc: x.lease.Incarnation, ttl: ttl, done: make(chan struct{})}
	l.ctx, l.leave = context.WithCancel(h.client.ctx)
	l.hold.Begin(ttl, x.sent, route.Dice(x.trace))
	l.hold.Next(h.client.now()) // which ends it when its time is over already
	if l.settle(); l.err != nil {
		l.leave()
		return nil, l.err
	}
	if !h.client.start(l.keep) {
		l.Close()
		return nil, h.named("client.grant", closedError("client.grant"))
	}
	return l, nil
}

// keep keeps the lease alive until it ends. It is the only goroutine of a lease.
func (l *Lease) keep() {
	c := l.cell.client
	timer := c.cfg.Clock.NewTimer(l.ttl)
	timer.Stop()
	defer l.leave()
	for {
		l.mu.Lock()
		step := l.hold.Next(c.now())
		l.settle()
		l.mu.Unlock()
		switch step.Do {
		case route.HoldOver:
			return
		case route.HoldRenew:
			err := l.renew(step.Until)
			l.mu.Lock()
			l.hold.Renewed(c.now(), err)
			l.settle()
			l.mu.Unlock()
		default:
			_ = c.wait(l.ctx, timer, step.Until, nil) // why it came back is looked at below
		}
		if l.ctx.Err() != nil {
			l.Close()
			return
		}
	}
}

// renew sends one keep-alive. It is not refused for MaxInFlight: a client with too much to do must not lose its locks.
func (l *Lease) renew(until time.Duration) *cell.Error {
	h, c := l.cell, l.cell.client
	c.inFlight.Add(1)
	x := c.exchanges.Get().(*exchange)
	defer c.put(x)
	x.op, x.deadline = "client.keepalive", until
	err := h.write(l.ctx, x, &logged{method: wire.MethodKeepAlive, lease: cell.LeaseOp{ID: l.id}, inc: l.inc})
	if err == nil {
		c.earn()
		return nil
	}
	return asError(err)
}

// settle closes Done when the lease has ended; l.mu is held.
func (l *Lease) settle() {
	end, err := l.hold.Ended()
	if end == 0 || l.err != nil {
		return
	}
	l.err = &LeaseError{Cell: l.cell.id, ID: l.id, End: end, Err: err}
	close(l.done)
}

// ID is the lease's name in its cell, for PutLeased, AttachedTo and LeaseHeld. Names are never used twice in an incarnation.
func (l *Lease) ID() cell.LeaseID { return l.id }

// Token is the fencing token of its holder: that of any later lease of the cell is greater.
func (l *Lease) Token() cell.Fence { return l.id.Fence(l.inc) }

// TTL is the duration that was asked for.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Held reports whether the lease may be believed in, by a look at the clock. Once false it stays false, and Done is closed
// soon after, or was before.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hold.Held(l.cell.client.now())
}

// Done is closed when the lease is over.
func (l *Lease) Done() <-chan struct{} { return l.done }

// Err is nil while the lease is held, and a *LeaseError once Done is closed.
func (l *Lease) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		return nil
	}
	return l.err
}

// Close ends the lease here and asks nobody: the cell expires it after cell.LeaseRateBound times its duration.
func (l *Lease) Close() {
	l.mu.Lock()
	l.hold.End(LeaseClosed, nil)
	l.settle()
	l.mu.Unlock()
	l.leave()
}

// Revoke ends the lease here, then in the cell, which deletes the keys that are attached to it. A lease that the cell did
// not hold any more is no error. Not applied, so that the lease expires by itself: the general errors. Unknown:
// UnknownResult, which is as good.
func (l *Lease) Revoke(ctx context.Context) error {
	l.Close()
	err := l.cell.revoke(ctx, l.id, l.inc)
	if cell.KindOf(err) == cell.NoLease {
		return nil
	}
	return err
}

// RevokeLease ends any lease of the cell, whoever holds it; the holder learns it with its next keep-alive. Not applied:
// NoLease and the general errors. Unknown: UnknownResult; repeating it is safe.
func (h *Cell) RevokeLease(ctx context.Context, id cell.LeaseID) error { return h.revoke(ctx, id, 0) }

func (h *Cell) revoke(ctx context.Context, id cell.LeaseID, inc cell.Incarnation) error {
	const op = "client.revoke"
	want := logged{method: wire.MethodRevoke, lease: cell.LeaseOp{ID: id}, inc: inc}
	if h.invalid != nil {
		return h.invalid
	}
	if err := want.lease.CheckNamed(); err != nil {
		return h.named(op, err)
	}
	x, err := h.open(ctx, op)
	if err != nil {
		return err
	}
	defer h.client.put(x)
	if err := h.write(ctx, x, &want); err != nil {
		return err
	}
	h.client.earn()
	return nil
}

// KeepAlive renews any lease of the cell once and returns how often it was renewed since its grant. The holder of a Lease
// need not: it is for those who count the time themselves, from before they call. Not applied: NoLease and the general
// errors. Unknown: UnknownResult; repeating it is safe.
func (h *Cell) KeepAlive(ctx context.Context, id cell.LeaseID) (renewals uint64, err error) {
	const op = "client.keepalive"
	want := logged{method: wire.MethodKeepAlive, lease: cell.LeaseOp{ID: id}}
	if h.invalid != nil {
		return 0, h.invalid
	}
	if err := want.lease.CheckNamed(); err != nil {
		return 0, h.named(op, err)
	}
	x, err := h.open(ctx, op)
	if err != nil {
		return 0, err
	}
	defer h.client.put(x)
	if err := h.write(ctx, x, &want); err != nil {
		return 0, err
	}
	h.client.earn()
	return x.lease.Renewals, nil
}

// Leases lists the leases of the cell by name, and the incarnation that makes their names tokens. It is linearizable. Not
// applied: all errors.
func (h *Cell) Leases(ctx context.Context) ([]cell.LeaseStatus, cell.Incarnation, error) {
	if h.invalid != nil {
		return nil, 0, h.invalid
	}
	x, err := h.open(ctx, "client.leases")
	if err != nil {
		return nil, 0, err
	}
	defer h.client.put(x)
	h.mu.Lock()
	h.begin(x, route.Read, 0)
	h.mu.Unlock()
	x.asLeases(h.id)
	if err := h.run(ctx, x); err != nil {
		return nil, 0, err
	}
	h.client.earn()
	return x.leases, x.incarnation, nil
}

// PutLeased sets a key to a value and attaches it to a lease: it is deleted with it, unless another put came between. The
// transaction ends as NoLease (not applied) when the lease is not held.
func PutLeased(key string, v cell.Value, id cell.LeaseID) cell.Op {
	return cell.Op{Kind: cell.OpPut, Key: key, Value: v, Lease: id}
}

// AttachedTo is the condition that a key is attached to that lease; to none with zero.
func AttachedTo(key string, id cell.LeaseID) cell.Condition {
	return cell.Condition{Key: key, Target: cell.OnLease, Compare: cell.Equal, Number: uint64(id)}
}

// LeaseHeld is the condition that a lease is held at the moment of the transaction, whatever clocks say.
func LeaseHeld(id cell.LeaseID) cell.Condition {
	return cell.Condition{Target: cell.OnHeld, Compare: cell.Equal, Number: uint64(id)}
}
