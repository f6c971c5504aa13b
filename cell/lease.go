package cell

import (
	"fmt"
	"time"
)

// The bounds of leases. Like those of bounds.go they are part of what the state machine is.
const (
	LeaseTTLMin        = 100 * time.Millisecond // shorter ones would end by an ordinary pause
	LeaseTTLMax        = time.Hour              // longer ones would block what they guard for hours after their holder died
	LeasesMax          = 64                     // leases held in one cell at a time
	LeaseLabelBytesMax = 128                    // length of a lease's label
	LeaseOverheadBytes = 64                     // what one lease counts against CellBytesMax beside its label
)

// LeaseRateBound is how many times faster the clock of a lease's proposer may run than its holder's (rule 18). The
// proposer expires a lease after LeaseRateBound times its duration, the holder believes in it for its duration, each by
// its own monotonic clock. See package client for the arithmetic.
const LeaseRateBound = 3

// LeaseID names a lease inside its incarnation: the revision that granted it, so it is never used again there. Zero is no
// lease.
type LeaseID uint64

// Fence returns the fencing token of the lease's holder. Tokens of later leases are greater, in every incarnation.
func (id LeaseID) Fence(of Incarnation) Fence { return Fence{Incarnation: of, Number: uint64(id)} }

// Lease is a client's time-bounded lock inside a cell. It is held from its grant until a revoke or an expiry, and that is
// all the cell knows: which of the two was first is decided by the log, and when an expiry is proposed by the proposer's
// clock. The cell itself has no time.
type Lease struct {
	ID       LeaseID
	TTL      time.Duration // a duration that is counted anew from each keep-alive, never a moment
	Label    string        // who holds it, for people; the cell does not look at it
	Renewals uint64        // keep-alives so far; an expiry names the number it has seen and does nothing if that has moved
}

// LeaseStatus is a lease as it is listed.
type LeaseStatus struct {
	Lease
	Keys uint64 // keys attached to it now
}

// LeaseOp is what is asked of a cell's leases. Which fields are used depends on the command: TTL and Label by a grant,
// ID by all others, Renewals by an expiry. The others are zero.
type LeaseOp struct {
	ID       LeaseID
	TTL      time.Duration
	Label    string
	Renewals uint64
}

// CheckGrant bounds a grant from outside.
func (o *LeaseOp) CheckGrant() error {
	switch {
	case o.ID != 0 || o.Renewals != 0:
		return leaseInvalid(Invalid, "a grant names lease %d, renewals %d; the cell issues them", uint64(o.ID), o.Renewals)
	case o.TTL < LeaseTTLMin || o.TTL > LeaseTTLMax:
		return leaseInvalid(Invalid, "lease is for %v, allowed are %v to %v", o.TTL, LeaseTTLMin, LeaseTTLMax)
	case len(o.Label) > LeaseLabelBytesMax:
		return leaseInvalid(TooLarge, "label has %d bytes, allowed are %d", len(o.Label), LeaseLabelBytesMax)
	}
	return nil
}

// CheckNamed bounds a keep-alive or a revoke from outside: it names a lease and nothing else.
func (o *LeaseOp) CheckNamed() error {
	if *o != (LeaseOp{ID: o.ID}) || o.ID == 0 {
		return leaseInvalid(Invalid, "names lease %d with a duration of %v, a label of %d bytes and %d renewals; only a lease is wanted",
			uint64(o.ID), o.TTL, len(o.Label), o.Renewals)
	}
	return nil
}

func leaseInvalid(k Kind, format string, args ...any) *Error {
	return &Error{Op: "lease.check", Kind: k, Detail: fmt.Sprintf(format, args...)}
}
