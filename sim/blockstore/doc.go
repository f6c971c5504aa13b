// Package blockstore is a toy block store as a user of Physalia would write one: partitions of a few blocks, each on a
// primary and a replica (chain replication of length two), with the volume record in a cell as the only judge of who they
// are. It exists to prove that the record is enough: the same deciding code runs under the simulator and, in the demo,
// over the real client library.
//
// A Copy is one storage server's copy of one partition, a Client is who reads and writes blocks. Both are step machines:
// Step takes the time and one Input, and returns Effects. They have no clock, disk, socket or goroutine.
//
// # The host's duties
//
//  1. Make Effects.Persist durable, in order, before anything of the same or a later Effects is sent, asked or reported.
//  2. After a crash, go on with New and everything that was durable. A server that has lost its disk comes back under
//     another name.
//  3. Answer every Ask exactly once, with the outcome of its transaction, unless the copy crashes first. "Unknown" is an
//     outcome; nothing needs to be resolved, because whatever is not a success makes the copy read the record again.
//  4. Step a Tick every few milliseconds. Messages may be lost, repeated and reordered, and time may stand still.
//  5. Attach the record once, when the volume is created, to servers that have never held this partition.
//
// # The protocol
//
// The fence (incarnation, generation) names one record for ever, since every change of the record raises the generation.
// Everything is said under a fence. A write goes from the client to the primary, which makes it durable, sends it to the
// replica (Store) and acknowledges it when the replica has confirmed it (Stored). Block by block the primary knows what its
// peer holds and sends what it lacks; the same few lines replicate new writes, fill a spare, and reconcile after a restart.
//
// Failover. A replica that hears nothing from its primary promotes itself, on condition of the generation it knows; a
// primary that hears nothing from its replica removes it, on the same condition. The cell lets one of them win. A primary
// without a replica chooses a spare, fills it, and names it in the record when the spare holds everything.
//
// Only the primary of a record replaces its replica, and only its replica promotes itself. So nobody but its primary can
// end a record that names no replica, and a primary with a replica needs that one's word for everything it acknowledges.
//
// # Reads without a clock
//
// A primary may serve a read while it is certain that no successor has acknowledged anything newer. There are two ways to
// be: ask the replica, which is the only one that could have become the successor, after the read has arrived; or hold a
// lease in the cell, and trust clocks. This package asks (Probe, Probed). It costs one message to and fro, which all reads
// of a moment share, and it stays right when processes are paused and clocks are wrong.
//
// # Invariants
//
// Each name is found here, in the code that keeps and asserts it, and in the checkers.
//
//   - B1 (one primary for each fence). Only the copy that the record of a fence names as primary acknowledges anything
//     under that fence. Kept by Copy.adopt; asserted in Copy.follow; hunted by SplitBrain.
//   - B2 (one life for each fence). A copy serves as primary under a fence only in the life in which it raised its
//     durable fence to it. A restarted primary first raises the generation, because it has forgotten what it proposed:
//     a forgotten "replace" that names a spare could be applied after it has gone on alone. Kept by Copy.adopt and
//     Copy.want; told in TestForgottenProposal; hunted by Lost.
//   - B3 (two copies before the answer). A write is acknowledged, and a version shown to a reader, only when it is
//     durable on the primary and on whoever could be promoted next: the replica of the record, and the spare that an
//     open proposal would make the replica. Kept by Copy.needsPeer and Copy.held; asserted in Copy.answer; hunted by
//     Overwritten and Lost.
//   - B4 (records name whole copies). A primary proposes a replica only when that one has confirmed every block as it
//     now is, and from then on acknowledges nothing without it. A copy knows durably whether it was ever filled, and one
//     that was not neither promotes itself nor serves. Kept by Copy.want and Copy.place; asserted in Copy.propose; told
//     in TestEmptyReplica; hunted by Lost.
//   - B5 (no way back). A copy's fence never falls, it is durable before the copy acts on it, and whatever carries a
//     lower one is refused. Kept by Copy.follow; asserted in Copy.raise; hunted by SplitBrain and Overwritten.
//   - B6 (reads are proven). While somebody could be promoted, a read is answered only after the peer has said, later
//     than the read arrived, that it still is in this fence. Kept by Copy.settle; told in TestPausedPrimary; hunted by
//     Overwritten.
//   - B7 (once). A block remembers the last write of each client, so that a repeated or late copy of a write has no
//     second effect, on whatever server. Kept by Copy.write; hunted by Overwritten.
//   - B8 (a primary overrules). What a primary of a higher fence says a block holds replaces what a copy holds, even
//     something newer, which then was never acknowledged; under one fence versions only rise. Kept by Copy.follow;
//     asserted in Copy.place.
//
// # Why no acknowledged write is lost
//
// Claim: both copies that the current record names hold, for every block, at least the version last acknowledged or shown.
// Attaching names empty copies. Acknowledging keeps it by B3. A promotion names one copy that was named before; what is
// acknowledged later under the old fence has been confirmed by that very copy before it raised its fence (B5), so it
// holds it. Removing the replica keeps the primary. Naming a spare keeps it by B4, and by B2 there is no proposal that
// its primary does not know of. Reconciling after a restart overwrites only what the claim does not speak of, since
// the primary's own copy satisfies it.
//
// # What is left to an operator
//
// A higher incarnation means that the cell was recovered with loss, and that the record may lie: a copy that sees one keeps
// its data, but it is not whole any more, so nobody serves until an operator has compared the copies and says Readmit to
// one. See docs/volumes.md.
package blockstore
