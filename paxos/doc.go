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
//  3. Create a learner with NewLearner when the log issued its number to this server, late or repeatedly, but never where
//     something of that number is stored: from then on it is Restore, with Recovery.Learner until a snapshot is stored.
//  4. Drop messages of other cells and incarnations (rule 10), and step messages that the replica sends to itself. Never drop
//     one for its configuration number: whoever is behind is taught by it (hazard H12). Call Overtaken when the sender's
//     configuration is the later one, also if the message itself may not be stepped.
//  5. Send what is addressed to zero to all members and learners of Configuration; what is addressed to a node, to the server
//     that Configuration.Server names, and answers to whoever asked. That reaches the node that left, too (Left).
//  6. Keep a node until Effects.Released. Then a pointer to its last configuration stays, the storage goes. Where a message for
//     that node arrives later, answer with the pointer; who gets one calls Heed.
//  7. Call Nudge now and then while Unfinished says so. An idle replica needs no calls at all. Servers that share a cell
//     compare how far they are after a partition or a restart, and let the one behind ask (MsgLearn): a member that was away
//     while it was replaced has no other way to hear of it, since nobody counts on it any more.
//  8. Call Campaign when somebody needs the cell and its proposer seems dead. Safety never depends on that judgement.
//  9. Answer reads locally only while LocalReads says so and a majority of Jury keeps others from leading; such a member calls
//     Refuse instead of Step for a Prepare, unless IsFree (rule 12). Call Resign on a proposer that is of no use, HandOver
//     before a member is drained or replaced (rule 13).
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
// The members change in the log, one at a time. AddLearner issues a number to a node on a server. It is created as a learner,
// is taught the state, gets every broadcast and answers it, uncounted. Replace puts a learner in the place of a member; chosen at
// slot i it is in force from slot i+alpha on, so that whoever may propose a slot knows its jury: a proposer is never more than
// alpha slots ahead of what it applied. No-ops close that window in an idle cell. Promises are remembered by node and counted
// per jury, so a proposer whose jury changes either has its majority there already, or asks the others before it goes on, and
// takes over what they accepted. The member that left answers until the members of the new jury said, in their votes, that a
// majority of them durably holds everything before it; the proposer logs that as Settle, and whoever meets Settle knows that the
// node that left is released. Until then no other Replace is taken. (Lamport, Malkhi, Zhou: Reconfiguring a State Machine, the
// method with alpha, and rules 2, 3 and 11.)
//
// A proposer resigns by saying that it gave its ballot up for good, which frees those who stand by it; it may name an heir,
// which campaigns at once. HandOver is that, after what is in flight is finished.
//
// Each member keeps a ring of Window records. A slot's record may be overwritten once the host's state covers the slot; the highest such
// slot is the floor. On disk that takes a durable snapshot of the state. In memory lessons may go round the ring without one: then nothing is
// overwritten on disk either, before the batch that stores the state.
//
// # Invariants
//
// Each name is found here, in the code that keeps and asserts it, in testdata, and in the simulation's checkers.
//
//   - P1 (promises bind). A member accepts nothing, promises nothing and confirms nothing below its promised ballot, and
//     the promise is durable before anybody hears of it. Accepting is also promising. Kept by onPrepare, onAccept and
//     onConfirm; told in promise.txt.
//
//   - P2 (one value per slot). Once a majority accepted v at slot s in one ballot, every higher ballot offers v at s.
//     Kept by onPromise and adopt; asserted in accept and learn; told in duel.txt.
//
//   - P3 (ballots are used once). A round is durable before its first message leaves, and a restarted member never
//     proposes in a ballot it may have used, ballot 1 included. Kept by Campaign, resign and Restore; told in reuse.txt and
//     resign.txt.
//
//   - P4 (the ring is the truth up to applied). Before applied passes a slot, its ring record is the chosen entry, and it is durable
//     with any record that says so, so that a record's applied-through replays exactly what was applied. A chosen-through index
//     certifies a record only if it was accepted in the ballot of the message that carried the index; otherwise the slot is
//     relearned. Kept by certify, learn and remember; asserted in Restore; told in certify.txt, deposed.txt and thrift.txt.
//
//   - P5 (floor). At or below its floor a member neither promises nor accepts, it says how far it got; a candidate that
//     hears so does not count that promise before it was taught as far. A ring position that is still needed is never overwritten.
//     Kept by onPrepare, onAccept, backed and remember; told in floor.txt, behind.txt and thrift-ring.txt.
//
//   - P6 (reads are confirmed). A read is answered only after a majority confirmed, durably and after the read arrived,
//     that this ballot is still the highest it promised, and after everything re-proposed was applied. Kept by Read and
//     onConfirmed; told in read.txt and read-early.txt.
//
//   - P7 (a seal is the end). Nothing is proposed behind a seal: its proposer drains the pipeline first, and a successor
//     that adopts a seal drops whatever was accepted behind it. That may have a majority in a slot of its own, but it was
//     never delivered to anybody: had the seal's slot been chosen otherwise, the successor would have found that there
//     in a higher ballot. Kept by fill and maybeLead; told in seal.txt, seal-adopted.txt and seal-late.txt.
//
//   - P8 (ballots are counted per jury). A ballot is used in a slot only when a majority of that slot's jury promised it, and what
//     those members had accepted there is what is proposed. The jury of a slot is a function of the log alpha slots before it,
//     the same for everybody. Kept by juryOf, backed, isGranted and fill; asserted in propose and turnOver; told in
//     reform.txt, reform-alpha.txt, reform-carried.txt and reform-laggard.txt.
//
//   - P9 (leaving). A member that left answers until a majority of the new jury would restart with everything below that jury's
//     first slot. Only then it is released. Kept by holds, isHeld and housekeeping; asserted in Effects; told in leaving.txt and
//     learner.txt.
//
//   - P10 (numbers are issued once). A node number comes from the log, once; the same request gets the same one. A change that was
//     planned for another configuration, or while one is under way, is refused by the log. Kept by admit and replace; asserted
//     in admit and reform; told in numbers.txt and learner.txt.
//
// # Departures from the textbook
//
// Thrift: a proposer may ask a majority and teach the others several slots at once (thrift.go). Lessons: what a member is taught it keeps
// in memory until it stores something that says how much it applied; nobody counts on it before it votes, so after a crash it is taught
// again.
//
// Self-messages: the own promise, vote and confirmation are messages to oneself in SendDurable, so that "my own disk
// counts only when it is durable" is one rule and not three. Broadcasts: a message with To zero goes to every other
// member and learner; encoding it once is cheaper, and a receiver that is not in the slot's jury is not counted anyway. That is
// also all that learners need to keep up. Taught records raise the promise to their ballot: promising more is always safe, and
// keeps "promised is at least every accepted ballot" true on every member. Promises to a proposer are taken as long as it leads,
// since its next jury may need them. Reads that wait for a jury are asked again when it changes: its members may be gone. A
// removed member is no problem of the others: it may campaign, be promised and depose somebody, which costs a ballot; what it
// finds then is that it was removed, and it resigns.
package paxos
