// Package grant decides what a user of a colony may do. It is given who asks (Rights, made from a certificate's role or from a
// Token) and what is asked (a transaction, something about a lease, a method of the control plane), and it answers nil or a
// *Refusal that says what was missing. It reads no clock, no file and no socket, and an allowed request costs no allocation.
//
// A Grant is a set of verbs, on one cell or on the cells whose names begin with a prefix, and there on the keys that begin with a
// prefix. A request is allowed when every single thing in it is covered by some grant of its Rights; nothing is ever forbidden by a
// grant, so more grants never mean less.
//
//	read     get and scan keys, and state conditions on them, for they tell what is there as a read does
//	write    put, delete and increment keys; one learns what one has replaced or removed
//	lease    grant and keep alive leases, attach keys to them; revoking deletes keys, so it needs the verb on all keys
//	locate   tell the control plane where a volume's users are
//	manage   create, delete and list cells, and replace their members
//	view     see the colony: servers, instances, health, what the control plane waits for; on all cells
//	admin    the red button, drains, recoveries, backups, the audit; on all cells
//
// What an operation needs is in need.go and control.go, in one place each. Tokens are in token.go: signed with Ed25519,
// bounded, and the same bytes for the same content.
package grant
