// Package sim runs a whole colony on one thread, driven by one 64-bit seed: real cores (package node/core) above model
// disks (package node/storage), a network that carries the real encoded bytes and loses, repeats, delays and cuts, servers
// that crash, pause and sync slowly, and clients that lose replies and repeat their requests. One Schedule gives one
// history, byte for byte; Report.Trace is its fingerprint.
//
// # How to read a scenario
//
// A Schedule says how large the world is, what the weather is like, and which faults happen when. Run plays it:
//
//  1. Faults. Cells are created, clients work, faults come and go, for Span of simulated time.
//  2. Healing. Everything is repaired, except that the servers in Dead stay down and damaged ones stay damaged (any four of
//     seven must suffice). Every call that begins now is answered, and every sound member catches up.
//  3. The last power cut. All servers lose what they had not synced, start again, and every key is read once more.
//
// # Who watches
//
// Checkers look on from outside, one per file, each named after the property it hunts:
//
//   - agreement: a slot's entry is the same on every member, whenever it is applied, and nothing follows a seal (P2, P4, P7);
//   - memory: what a member promised or accepted in a message that left is not forgotten by a crash (P1, P3, rule 1);
//   - state: members that applied the same slots have the same state (rule 19);
//   - health: no node goes out of service by an assertion, and no server stops;
//   - convergence: once the world is healed, every sound member catches up;
//   - durability: what was acknowledged is in the log and in what is read at the end, with the same outcome;
//   - once: every request took effect at most once (rule 14);
//   - blame: what was told to be not applied never takes effect (rule 14);
//   - session: what a client has seen it does not unsee;
//   - fences: fences never repeat or go back (rule 17);
//   - lease: no two clients rely on one lease at the same time (rule 18);
//   - useful: a cell whose proposer hears nobody takes writes again within three seconds (rule 13);
//   - block store: no two copies acknowledge under one fence, nothing acknowledged is lost, no read shows what was overwritten;
//   - order: replies carry revisions that agree with real time and with the log (linearizability in linear time);
//   - linearizability: porcupine's independent search over the histories of single keys, knowing nothing of revisions;
//   - answered: once the world is healed, everybody gets an answer.
//
// Those of control planes and of sites are told below.
//
// # Who works
//
// Plain clients (client.go) are in every world. A schedule may add people (people.go), each with sessions and clocks of
// their own, so that they meet the faults of clients:
//
//   - lockers compete for a lock, a key that is attached to a lease. route.Hold decides when they keep the lease alive and
//     for how long they believe in it. Some hold it and write nothing, some write under it, some give it back, some just stop,
//     and some send a keep-alive when nobody believes in the lease any more;
//   - recorders attach, promote and replace in one partition of the volume record, against each other;
//   - a crowd writes so much that the cell forgets the outcomes of everybody else;
//   - the block store of package sim/blockstore runs on the machines of the first servers, with crashes of its own.
//
// When everything is healed they have ends to reach, too: each locker takes the lock once more, which it can only when the
// leases of those who stopped have expired; the users of the block store get their answers and read every block.
//
// The naive twin (history.go) follows all of their commands; what it says became of each is what the machine must have told.
//
// # The control plane
//
// One schedule in eight has a control plane of its own (Schedule.Control, control*.go): the deciding code of packages lifecycle,
// health and placement in a process on a clock of its own. Everything that passes between it and the servers is on the way like any
// other packet, and carries its real bytes: registrations, pings, questions for what peers hear, pushed routes, and every call of
// the manager with its answer. The store is a vault that outlives the process; a batch that was on its way when the process died
// is there as a whole, or not at all.
//
//   - The process dies and another one starts, stands still, or is not reached by some servers, or by none.
//   - Two processes believe to be active. The vault is fenced, as the stores of package lifecycle are: whoever opened it earlier can
//     write no more, and acts on what it knows until it finds out.
//   - The vault is emptied, or put back to a backup, when the cells with clients exist. An operator begins the rebuild, or the manager
//     begins it by itself where the store is empty; the operator ends it when every server that there is was heard.
//
// Operators (control_people.go) repeat what they ask for until it is acknowledged: cells with clients are created, and deleted only
// where the fault Seal says so; scratch cells, which have no clients, are created and deleted again and again under few names;
// members are replaced, servers are drained for a while, users are located. Repairers propose by themselves.
//
// The checkers of the control plane look at servers and logs, and never at what the manager believes:
//
//   - founding: one incarnation is founded with one jury, whoever tells it, and none while an earlier one may choose (rule 4, H13);
//   - rises: nothing is chosen where a deletion was acknowledged, or where a later incarnation was founded (rule 15, H15);
//   - drops: a member's node goes only when its incarnation is sealed, or its own log has removed it (rule 16, H16);
//   - repairs: nobody is given up before the patience is over, a cell has one proposal at a time, and the budget holds;
//   - desired: in a healed world what was acknowledged is so, the manager's list and the servers agree, and nothing waits but for
//     servers that stay away.
//
// In these worlds seven of nine servers stay sound, so that every creation and every repair must come to its end.
//
// # Sites
//
// A schedule with a Site (site.go, scenario correlated) has up to 32 servers in two bricks or colors, in racks and power domains, and a control
// plane that places and repairs up to five cells on them. Parts of the site fail together, and a probe (probe.go) asks every cell while they
// are down. So the argument for tiny cells is tried with messages, disks and elections, and not only counted as package sim/lab
// does:
//
//   - served: a cell with four members that run and hear each other takes a write, one without them does not;
//   - blast: the loss of one rack, of one power domain, or of the servers of another cell leaves a cell its majority; what is lost in one
//     brick or color is not noticed in another;
//   - colors: nothing passes between servers of different colors or bricks;
//   - margin: a change of members never leaves fewer of them running.
//
// Parts may burn: their servers and disks are gone for good, and in the end repair must have replaced every one of them. Durability
// and all other properties are watched as always. The worlds are calm otherwise.
//
// # Baits
//
// A bait (bait.go) is a pattern for a kind of mistake that takes several things at once: who reaches whom, who pauses, what
// heals first. Every deliberate mistake behind the build tag planted must be found within a few hundred schedules.
//
// # What is not modelled
//
// The shell around a core (TCP, Pebble, MessagePack-RPC connections, gossip) and that of the client have tests of their own.
// Where a schedule has no control plane, somebody repeats creations until they succeed, managers of a simpler kind replace members
// and die over it (mover.go), and two discovery copies know what those tell them.
//
// # What goes where
//
// A fault is a FaultKind, a line in strike, and a pattern that draws it. A property is a checker in a file of its own. An
// operation is an opKind of client, or another user of session, which is the client library's deciding code on the clock and
// network of the world.
package sim
