package cell

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind classifies an error for machines. A Kind is itself an error, so errors.Is(err, cell.Expired) works on whatever
// wraps an *Error of that kind. The numbers are part of the wire format and never change.
type Kind uint8

// The kinds. Each says whether the request took effect: "not applied" is final, "unknown" means that it may or may
// not have been applied, now or later, until the client resolves it by repeating the same Request.
const (
	Internal      Kind = 1  // unknown: a bug in the server; the node is quarantined
	Invalid       Kind = 2  // not applied: the request is malformed or out of bounds; repeating it is useless
	WrongType     Kind = 3  // not applied: an operation met a value of another type; the transaction aborted
	TooLarge      Kind = 4  // not applied: the transaction would exceed a bound of the cell
	Expired       Kind = 5  // not applied by this attempt, unknown if an earlier attempt was sent: outside the window of remembered results (rule 14)
	Overloaded    Kind = 6  // not applied: rejected early; repeat after RetryAfter
	NotProposer   Kind = 7  // not applied: this node does not lead; the error may name who does
	UnknownHere   Kind = 8  // not applied: this server hosts no node of the cell; it may exist elsewhere
	Deleted       Kind = 9  // not applied: the cell's incarnation is sealed
	Unavailable   Kind = 10 // not applied: no quorum, no proposer, or the node is still loading
	UnknownResult Kind = 11 // unknown: sent, and no final answer arrived
	Quarantined   Kind = 12 // not applied: this node failed an assertion or met a command it does not understand
	Stale         Kind = 13 // not applied: the request carried an incarnation, configuration or plan number of the past
	Exists        Kind = 14 // not applied: the name is taken
	NotFound      Kind = 15 // not applied: no such cell, key or server
	Conflict      Kind = 16 // not applied: a condition of a volume operation did not hold
	NoRoom        Kind = 17 // not applied: placement cannot satisfy its constraints, or a majority of a cell's disks has no room for writes; Detail names them with numbers
	Refused       Kind = 18 // not applied: not allowed here (wrong colony, color, brick, identity or mode)
	Void          Kind = 19 // not applied: the request was resolved before it arrived and will never be applied (rule 14)
	NoLease       Kind = 20 // not applied: the lease is not held (any more): revoked, expired or never granted
	Moved         Kind = 21 // not applied: the cell's node moved away from this server; Pointer says where the cell lives now (rule 11)
	Denied        Kind = 22 // not applied: who asks has no right to it; Detail says which one is missing
)

var kindNames = map[Kind]string{
	Internal: "internal error", Invalid: "invalid request", WrongType: "wrong type", TooLarge: "too large",
	Expired: "expired", Overloaded: "overloaded", NotProposer: "not the proposer", UnknownHere: "unknown here",
	Deleted: "deleted", Unavailable: "unavailable", UnknownResult: "unknown result", Quarantined: "quarantined",
	Stale: "stale", Exists: "exists already", NotFound: "not found", Conflict: "conflict", NoRoom: "no room",
	Refused: "refused", Void: "void", NoLease: "no such lease", Moved: "moved", Denied: "denied",
}

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return k.String() }

// String names the kind for people.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("error kind %d", uint8(k))
}

// Valid reports whether this build knows the kind.
func (k Kind) Valid() bool { _, ok := kindNames[k]; return ok }

// MaybeApplied reports whether a request that ended with this kind may have taken effect. Expired is among them: it is
// final for the attempt that it answers, but an earlier attempt may have been applied and forgotten. Only who knows that
// there was no other attempt may read it as "not applied".
func (k Kind) MaybeApplied() bool { return k == Internal || k == UnknownResult || k == Expired }

// Error is how every part of a colony says no. It survives the wire whole, except for Err.
type Error struct {
	Op         string        // what was being done, for people: "kv.put", "node.create"
	Kind       Kind          // for machines
	Cell       ID            // which cell, if one
	Detail     string        // what was wrong, with the numbers
	Hint       string        // what to do next
	RetryAfter time.Duration // Overloaded, Unavailable: do not come back earlier
	Leader     ServerID      // NotProposer: who is believed to lead; empty when nobody is known
	LeaderAddr string        // NotProposer: that server's client address
	Pointer    *Pointer      // Moved: where the cell lives now, as far as this server knows
	Err        error         // cause; does not cross the wire
}

// Pointer tells where a cell lives: what a server keeps of a node that moved away (rule 11). It is a hint; a reader follows
// it only to a higher (Incarnation, Configuration) than he knows.
type Pointer struct {
	Incarnation   Incarnation
	Configuration uint64
	Servers       []Location // of the members, in the order of their node numbers
}

// Location is one server and where clients reach it.
type Location struct {
	Server     ServerID
	ClientAddr string // empty when it is not known
}

// Error describes the error in one line: op, cell, kind, detail, cause, hint.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		if e.Cell != "" {
			b.WriteString(" " + string(e.Cell))
		}
		b.WriteString(": ")
	} else if e.Cell != "" {
		b.WriteString(string(e.Cell) + ": ")
	}
	b.WriteString(e.Kind.String())
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Is makes errors.Is(err, kind) work.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain, else the first bare Kind, or Internal for a foreign error,
// or zero for nil, a nil *Error in an error included.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		if e == nil {
			return 0
		}
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Internal
}

// AsError returns err as an *Error of the operation op: an *Error in its chain keeps everything else, a foreign error
// becomes the cause of one of the given kind. A nil err gives nil.
func AsError(op string, kind Kind, err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e != nil {
		own := *e
		own.Op = op
		return &own
	}
	return &Error{Op: op, Kind: kind, Err: err}
}
