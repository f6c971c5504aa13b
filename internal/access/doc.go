// Package access knows, for every connection of a server or of a control process, what its user may do: by the role in the
// certificate, and for clients by the token that they have shown. What that allows is decided by internal/grant; here are the
// connections, the keys of the moment, the clock and the counters.
//
//   - Operators and control processes may do everything, and so may everybody in plain text, which nobody but this machine can speak.
//   - A client may do what its token grants, and without one nothing but find cells.
//
// A token is read once per connection, and again when the keys that this side trusts have changed.
package access
