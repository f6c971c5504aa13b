// Package paxos agrees on a sequence of entries among the members of one cell: Multi-Paxos as a calculator.
//
// A Replica is one member. It is a plain value machine with a single owner: Step, Propose, Read, Campaign and Nudge
// change it, Effects says what the host must now do. It owns no clock, disk, socket, goroutine or randomness, and it
// never looks inside a command. Ten thousand cells are ten thousand structs.
//
// # The host's duties
//
//  1. Obey Effects in the order that its comment gives. SendDurable waits for storage, SendNow does not.
//  2. Create a member with New only after its founding (identity, configuration, promise of ballot 1) is durable, and
//     after a restart only with Restore, from everything that was durable. Never call New twice for one member.
//  3. Drop messages of other cells and incarnations (rule 10), and step messages that the replica sends to itself.
//  4. Call Nudge now and then while Unfinished says so. An idle replica needs no calls at all.
//  5. Call Campaign when somebody needs the cell and its proposer seems dead. Safety never depends on that judgement.
//
// # The protocol
//
// Ballots are pairs (round, node). The founding configuration names the owner of ballot 1, which all founding members
// promised by being created, so a new cell needs no election. Everybody else campaigns: Prepare asks a promise for every
// slot from the candidate's first open one, Promise brings back what was accepted; a majority makes a proposer, which
// re-proposes what it found and fills holes with no-ops. At most alpha slots are in flight; what arrives meanwhile
// becomes one bounded batch, and what does not fit is rejected. A slot is chosen when a majority of its jury accepted it
// in one ballot, durably. Members learn that from the chosen-through index of later messages, or are taught: a log
// segment, or the whole state. (NSDI 2020 section 2.2; Lamport, Paxos Made Simple; Lampson, How to Build a Highly
// Available System Using Consensus.)
//
// Each member keeps a ring of Window records. A slot's record may be overwritten once a durable snapshot of the host's
// state covers the slot; the highest such slot is the floor.
//
// # Invariants
//
// Each name is found here, in the code that keeps and asserts it, in testdata, and in the simulation's checkers.
//
//   - P1 (promises bind). A member accepts nothing, promises nothing and confirms nothing below its promised ballot, and
//     the promise is durable before anybody hears of it. Accepting is also promising. Kept by onPrepare, onAccept and
//     onConfirm; told in promise.txt.
//   - P2 (one value per slot). Once a majority accepted v at slot s in one ballot, every higher ballot offers v at s.
//     Kept by onPromise and adopt; asserted in accept and learn; told in duel.txt.
//   - P3 (ballots are used once). A round is durable before its first message leaves, and a restarted member never
//     proposes in a ballot it may have used, ballot 1 included. Kept by Campaign and Restore; told in reuse.txt.
//   - P4 (the ring is the truth up to applied). Before applied passes a slot, its ring record is the chosen entry, so
//     that a record's applied-through replays exactly what was applied. A chosen-through index certifies a record only
//     if it was accepted in the ballot of the message that carried the index; otherwise the slot is relearned. Kept by
//     certify and learn; asserted in Restore; told in certify.txt and deposed.txt.
//   - P5 (floor). At or below its floor a member neither promises nor accepts, it says how far it got; a candidate that
//     hears so proposes nothing there before it was taught. A ring position that is still needed is never overwritten.
//     Kept by onPrepare, onAccept and maybeLead; told in floor.txt and behind.txt.
//   - P6 (reads are confirmed). A read is answered only after a majority confirmed, durably and after the read arrived,
//     that this ballot is still the highest it promised, and after everything re-proposed was applied. Kept by Read and
//     onConfirmed; told in read.txt and read-early.txt.
//   - P7 (a seal is the end). Nothing is proposed behind a seal: its proposer drains the pipeline first, and a successor
//     that adopts a seal drops whatever was accepted behind it. That may have a majority in a slot of its own, but it was
//     never delivered to anybody: had the seal's slot been chosen otherwise, the successor would have found that there
//     in a higher ballot. Kept by fill and maybeLead; told in seal.txt, seal-adopted.txt and seal-late.txt.
//
// # Departures from the textbook
//
// Self-messages: the own promise, vote and confirmation are messages to oneself in SendDurable, so that "my own disk
// counts only when it is durable" is one rule and not three. Broadcasts: a message with To zero goes to every other
// member; encoding it once is cheaper, and a receiver that is not in the sender's jury is not counted anyway. Taught
// records raise the promise to their ballot: promising more is always safe, and keeps "promised is at least every
// accepted ballot" true on every member.
package paxos
