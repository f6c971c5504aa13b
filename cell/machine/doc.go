// Package machine is the replicated state machine of one cell: commands that Paxos chose go in, in the order of the log,
// and outcomes come out. It has no clock, disk, socket, goroutine, randomness or float, and never ranges over a map, so
// the same log gives the same bytes on every node (NSDI 2020, section 2.3).
//
// The host must
//  1. apply every chosen command, in the order of the log, each once;
//  2. stop the node as failed when Apply returns an error: this version does not understand what was chosen, and going
//     on would make the node differ from its peers (rule 9);
//  3. let one goroutine at a time use a Machine, or the machines that share a Scratch; what Read and Recall return may be used by others
//     afterwards, what Apply returns until the next Apply.
//
// Invariants, each asserted where it is kept and hunted by the tests named:
//
//   - M1 (total). Every command that passes cell.Txn.Check has a defined outcome in every state (twin_test.go).
//   - M2 (atomic). A transaction takes effect whole or not at all; an aborted one still has a revision and a recorded
//     outcome, so its fate can be asked for like any other (ops_test.go).
//   - M3 (one revision each). Every command raises the revision by exactly one, except a repeated one, whose outcome is
//     in the window, an expired one, and the expiry of a lease that is gone or was renewed, which change nothing; and a
//     keep-alive, which changes only the count of its lease (once_test.go, leases_test.go).
//   - M4 (the window has no gaps). It holds exactly the outcomes of the revisions after its floor, at most cell.WindowMax
//     of them. A request that is not among them and whose Since is at or above the floor was therefore never applied:
//     had it been, then at a revision above Since, and that one is still remembered (rule 14, hazard H14).
//   - M5 (canonical). Snapshot is a function of the state alone, and Restore of it continues with the same bytes as the
//     machine that wrote it (determinism_test.go).
//   - M6 (the hash is that of the state). Hash, kept while commands are applied, is Recompute from the whole state. Each
//     Snapshot asserts it, so a state that was damaged in memory is neither written nor taught (hash_test.go).
//
// # What is remembered
//
// The fate of each of the last 256 transactions (succeeded, first condition that failed, aborted and why, revision) is
// always exact. Results are bounded beside it: those of one transaction are kept when they count at most
// cell.ResultKeptMax, and of all that are kept the newest that together count at most cell.WindowBytesMax; so a client
// with large results cannot push another client's fate out of the window. Two things are never kept. The key and value
// of a put: the client sent them, and they are most of a window's bytes; TxnResult.Complete restores them. And the text
// of an abort: only its kind is state, so that a version with a better wording still computes the same bytes.
//
// # Resolve
//
// The empty transaction asks for the fate of its Request. If nothing is recorded, the request is recorded as Void: a copy
// of the original that arrives later finds it in the window and is not applied; one that arrives after the window has
// moved on is Expired. Either way "not applied" is final.
//
// # Leases
//
// A lease is granted at a revision, which is its name, renewed by keep-alives, and ended by a revoke or by an expiry that
// names the count of renewals it has seen. With it go the keys that are attached to it, at one revision, in their order. A
// put attaches its key, or detaches it when it names no lease; an increment leaves it attached; nothing else looks at who
// holds what, unless a condition does. Grants and revokes are exactly once like transactions. Keep-alives are not in the
// window: repeated, they renew once more, and a cell whose holders renew every second must not forget its transactions
// for that. An expiry needs no window either: the count, and that a name is never used again, make it harmless.
package machine
