// Package refusal names why a connection, or what came on one, was refused. The set is fixed: it is a label of one family of
// metrics, physalia_refused_total, and docs/security.md says of each reason what it means and what to do.
//
// A Reason is an error, so that whoever refuses puts it into the chain of what he reports, and whoever counts finds it there
// with Of. What is refused twice on its way (by TLS, then by whoever waited for TLS) is counted where it was found first.
package refusal

import "errors"

// Reason is why something was refused. The names are label values of a metric and do not change.
type Reason uint8

// The reasons. Those up to Broken are found while a connection proves who it is (package pki), the others by whoever serves it.
const (
	Welcome          Reason = iota // no reason: not refused
	PlainText                      // the other side does not speak TLS
	NotPlainText                   // the other side speaks TLS to a port without
	NoCertificate                  // it showed none
	UnknownAuthority               // signed by nobody whom this side trusts
	Expired                        // or its authority has
	NotYetValid                    // by this side's clock
	BadCertificate                 // anything else that the standard library finds: usage, constraints, key
	NoIdentity                     // it carries no identity, or more than one
	OtherColony                    // by its certificate, or by its Hello
	OtherBrick                     // peers only
	OtherColor                     // peers only
	WrongRole                      // no business at this port
	OtherName                      // the Hello claims to be somebody else
	RefusedThere                   // the other side refused this side's certificate, and does not tell why
	Broken                         // not TLS 1.3, or the connection ended during the handshake

	TooMany      // connections at this listener
	TooManyFrom  // connections from this address
	TooManyOf    // connections of this identity
	SlowStart    // the handshake, or the Hello, did not end in time
	SlowFrame    // a frame began and did not end in time
	SlowReader   // what it was sent was not taken in time, or too much of it waited
	OtherSpeech  // the first bytes are no Hello
	OtherVersion // of the protocol
	EarlierLife  // an earlier boot of a server that is connected
	LargeFrame   // a length above the bound of the connection; nothing was allocated for it
	BadFrame     // an empty one, or one with a wrong checksum
	BadMessage   // a frame, or a packet of gossip, whose content does not decode
	BadRecord    // a record of TLS that was changed, repeated, or is none
	OtherLabel   // gossip of another pool, or of nobody's
	OtherKey     // gossip that no key of this pool opens

	Count // of the reasons
)

var names = [Count]string{"", "plain text", "not plain text", "no certificate", "unknown authority", "expired", "not yet valid", "bad certificate",
	"no identity", "other colony", "other brick", "other color", "wrong role", "other name", "refused there", "broken",
	"too many connections", "too many from one address", "too many of one identity", "slow start", "slow frame", "slow reader", "other speech",
	"other version", "earlier life", "large frame", "bad frame", "bad message", "bad record", "other label", "other key"}

// String is the reason as the metric has it.
func (r Reason) String() string { return names[r] }

// Error makes a Reason an error, for the chain of what is reported.
func (r Reason) Error() string { return r.String() }

// Of is the first reason in an error's chain, or Welcome.
func Of(err error) Reason {
	var r Reason
	if errors.As(err, &r) {
		return r
	}
	return Welcome
}
