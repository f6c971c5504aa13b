package grant

import (
	"fmt"

	"physalia/cell"
)

// Reason is why a request was denied. The names are label values of a metric and do not change. Those about a request come last, in
// the order of how far the grants come.
type Reason uint8

// The reasons.
const (
	Allowed      Reason = iota // no reason: not denied
	NoToken                    // a client's certificate alone grants nothing
	BadToken                   // the token is not one, or too long
	UnknownKey                 // it is signed by a key that this side does not know
	BadSignature               // it was changed, or made up
	OtherColony                // it is for another colony
	OtherHolder                // it is for another client's certificate
	TokenExpired               // by this side's clock
	TokenNotYet                // likewise
	ControlOnly                // the method is for control processes and operators, whatever a token grants
	NoCell                     // no grant is about the cell
	NoVerb                     // those about the cell do not have the verb
	NoKey                      // those with the verb are about other keys
	reasonCount
)

// Reasons is how many there are, Allowed included.
const Reasons = int(reasonCount)

var reasonNames = [reasonCount]string{"", "no token", "bad token", "unknown key", "bad signature", "other colony", "other holder", "token expired",
	"token not yet valid", "control only", "no cell", "no verb", "no key"}

// String is the reason as the metric has it.
func (r Reason) String() string { return reasonNames[r] }

// Refusal says what a request lacked. It is inside a *cell.Error of kind Denied.
type Refusal struct {
	Reason Reason
	Who    string
	Need   Verbs // any of them would have done; zero when that is not the point
	Cell   cell.ID
	Key    string // or the beginning of keys, of a scan
}

// Error is the reason alone; the *cell.Error around it tells the rest.
func (f *Refusal) Error() string { return f.Reason.String() }

// detail says in one phrase who may not do what.
func (f *Refusal) detail() string {
	who := f.Who
	switch f.Reason {
	case NoToken:
		return who + " has shown no token, and a client's certificate alone grants nothing"
	case NoCell:
		if f.Cell == "" {
			return fmt.Sprintf("no grant of %s is about all the cells that are asked for; %s is needed", who, f.Need)
		}
		return fmt.Sprintf("no grant of %s is about this cell; %s is needed", who, f.Need)
	case NoVerb:
		return fmt.Sprintf("%s may not %s here", who, f.Need)
	case NoKey:
		return fmt.Sprintf("%s may not %s key %q", who, f.Need, clip(f.Key))
	case ControlOnly:
		return who + " is no control process and no operator"
	}
	return fmt.Sprintf("the token of %s does not count: %s", who, f.Reason)
}

var hints = [reasonCount]string{
	NoToken:      "issue one with `physalia token issue`, and name it with --token",
	BadToken:     "see `physalia token show`",
	UnknownKey:   "it was signed before a rotation, or this side's tokens.pub is old: issue it anew, or `physalia cert renew`",
	BadSignature: "issue it anew",
	OtherColony:  "name the token of this colony with --token",
	OtherHolder:  "use it with the certificate that it was issued for",
	TokenExpired: "issue it anew; a program reads the new file within seconds",
	TokenNotYet:  "compare the clocks of both sides",
	ControlOnly:  "use an operator's certificate",
}

// AsError is the refusal as the rest of the colony says no.
func (f *Refusal) AsError(op string) *cell.Error {
	hint := hints[f.Reason]
	if hint == "" {
		hint = "`physalia token show` tells what a token grants; ask who issued it for more"
	}
	return &cell.Error{Op: op, Kind: cell.Denied, Cell: f.Cell, Detail: f.detail(), Hint: hint, Err: f}
}
