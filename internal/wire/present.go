package wire

// MethodPresent is how a connection's user shows a token, to a server or to the control plane: client -> either: Present ->
// nothing. It counts for the requests behind it on that connection, which need not wait for the answer, and replaces what was shown
// before. After a token that does not count, everything is denied for the reason that the answer has.
const MethodPresent = "access.present"

// Present is what a user shows, and says of his doings.
type Present struct {
	Token  string // as issued; empty: none
	Reason string // why he does what follows, for the record of the control plane
}

// Bounds of Present. A token is meant to be a few hundred bytes.
const (
	TokenBytesMax  = 4096
	ReasonBytesMax = StatusTextMax // as of orders
)

// Append adds [token, reason].
func (m *Present) Append(b []byte) []byte {
	return AppendString(AppendString(AppendArray(b, 2), m.Token), m.Reason)
}

// Decode reads what Append wrote.
func (m *Present) Decode(r *Reader) {
	r.Struct(2, "Present")
	*m = Present{Token: r.String(TokenBytesMax, "token"), Reason: r.String(ReasonBytesMax, "reason")}
}
