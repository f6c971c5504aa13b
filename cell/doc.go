// Package cell holds the nouns that clients and servers of a colony share: who a cell is, what may be asked of it,
// what it answers, and how it says no.
//
// A cell is the replicated database of one partition key (one volume): seven nodes, a few tens of kilobytes, one
// revision counter. It understands one operation shape, the transaction (Txn), given whole and up front: conditions,
// then operations, else operations. It is atomic, serializable and linearizable. Get, Put, compare-and-swap and the
// volume record's promote are sugar over it (NSDI 2020, section 2.3).
//
// Beside the transaction a cell understands leases: a client's time-bounded locks, with keys attached to them that go when
// they go (Lease). The cell has no time: the log decides what becomes of a lease, the clock of its proposer only when an
// expiry is logged, the clock of its holder how long that one believes in it (rule 18).
//
// Everything here is a plain value without clock, disk, socket or goroutine. Values are immutable once built and safe
// for concurrent use. Check is the one gate at which untrusted values are bounded; it runs in the client (early, clear
// errors) and again in the server (authoritative).
package cell
