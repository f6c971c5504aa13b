// Package pki says who may talk to whom, proves it with TLS 1.3, and keeps the proofs fresh (DESIGN.md section 10).
//
// # Identities
//
// A certificate carries exactly one identity, as a URI:
//
//	physalia://COLONY/server/BRICK/COLOR/NAME     one storage server
//	physalia://COLONY/control/NAME                one control process
//	physalia://COLONY/client/NAME                 a user of cells
//	physalia://COLONY/operator/NAME               a person or tool that runs the colony
//
// Host names and addresses are not part of it: servers move, and an address is a rumour. Both sides of every connection
// show a certificate.
//
// # Deciding
//
// Judge and JudgeHello are pure functions over a verified chain: the peer's colony, brick and color, and whether its role
// fits the port. Each refusal has a Reason from a fixed list, so that it can be counted. The files guard.go, conn.go,
// authority.go, directory.go, rotate.go, inspect.go and stats.go are the shell: sockets, clocks, disks.
//
// # What a holder of a Guard has to know
//
//  1. Without a directory of certificates a Guard is plain text, and that on loopback only, unless Settings.PlainText says otherwise.
//  2. With one, everything is TLS, on loopback too, but for the ops port there.
//  3. Somebody has to call Run: it reads the directory again every few seconds. New files take effect for new connections;
//     bad ones are reported, and the old go on. Connections whose proof does not hold any more (its authority was dropped, or it
//     has expired) are closed.
//  4. Nothing here logs a key, and no error carries one.
package pki
