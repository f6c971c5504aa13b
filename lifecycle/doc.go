// Package lifecycle is the authority on which cells and incarnations exist and who their members should be. Who they are
// is decided by each cell's own log.
//
// Manager decides: a step machine with inputs (requests, the end of calls, servers up and down, time) and Effects. Store
// keeps its desired state. Service is the thin shell with one loop around both. The owner of a Manager must
//
//  1. feed it everything stored with Restore before any input, and stop if that fails;
//  2. call its inputs and Effects from one goroutine, with a time that never runs backwards;
//  3. obey Effects in their order: persist, then call, then reply;
//  4. report the end of every call once, with Done, also when the server is gone or the reply was lost;
//  5. keep the store to one active manager at a time. Two stores for one colony are a mistake that servers contain (they
//     refuse a second jury under one identity), not a mode of operation.
//
// An incarnation passes through these states, each durable before anybody hears of its consequences:
//
//	creating -> live -> sealing -> wiping -> deleted (a tombstone, until the next incarnation replaces it)
//
// A lost one goes from creating or live to wiping at once. Live, and who has confirmed, are no decisions: a requester may hear of
// his cell before they are stored, which they are soon after (saveSoon). What he was told stands on a majority of servers and
// on the record of the founding, both durable; after a crash in between the same jury is asked again, and says the same.
//
// The loop is closed: whatever a member has not confirmed is asked again, with pauses, for as long as its server may come
// back; every question is idempotent, so a lost confirmation costs a message. Waiting in a CellInfo says what is missing.
//
// Invariants, by name:
//
//   - L1 (one founding). The founding jury of (cell, incarnation) is durable before the first server hears of it, and who is
//     told of it is told the same, whatever became of the members since (rule 4, hazard H13). Calls leave after Persist; a record is removed only after its end is proven.
//   - L2 (proven end). Nodes are dropped, and the next incarnation is planned, only when nothing can ever be chosen in
//     the incarnation: its seal was reported chosen, or so many members durably refuse to host it that no majority can
//     come together (rules 15 and 16, hazard H15).
//   - L3 (known nodes). Seals are asked of, and drops sent to, only servers that confirmed hosting this very jury's
//     node, or that reported the incarnation dead. A member that never answered is first asked to found its node; that
//     question tells what it hosts. So a store that is older than the colony never harms a cell that it does not know
//     (hazard H16).
//   - L4 (names). An incarnation is planned only when every server that could receive one of its nodes has confirmed
//     that its node of the one before is gone. What is left on servers that are down is dropped when they return.
//   - L5 (one beginning). A recovered incarnation begins with one state, which is durable here together with its jury and with
//     the end of the lost one, and stays until every member has it. The nodes of the lost one are dropped only when a
//     majority of the new jury has confirmed that it hosts it (rule 17).
//
// # Lossy recovery
//
// An incarnation that lost its majority is ended ByLoss, on an operator's word that the named servers are dead for good. That
// is the only ending without a proof, and the only exception to L2 and L4: its successor is founded, with the survivors'
// state, on servers that may still host its nodes, and each of them wipes the one in the batch that creates the other. What
// the operator vouches for is narrow. A survey asks every member that is not named dead, and everybody whom their own logs
// name; judge then refuses when a majority is left by the cell's own log, when somebody is silent, or when a seal may have
// been chosen. The named identities are retired, durably, before the first question.
//
// Plan and execution are apart. PlanRecovery changes nothing and reserves nothing. Recover takes the plan back and chooses
// nothing: a plan number of the past, a planned server that is gone, or survivors that hold less than the plan says end in
// Stale for that cell. What it did once it finds done.
//
// # Creations that cannot finish
//
// A founding jury without a majority cannot be sealed, and a server that was told of it may hold its node although the
// answer was lost. Planning the next incarnation at once could therefore give one name two living cells. So:
//
//   - While fewer than a majority have confirmed and a majority still can, the incarnation stays pending, its name is
//     taken, members are told again, and the requester learns after his wait what is missing.
//   - When so many members report a tombstone for this incarnation (cell.Deleted) that no majority is left, the
//     incarnation is void: a tombstone is durable and forbids the node for ever, so nothing was or will be chosen. That
//     is as good as a seal: the few founded nodes are dropped, and the next incarnation follows by itself. This is what
//     a manager meets whose store forgot a deletion.
//   - When members host the incarnation with another jury (cell.Stale or cell.Exists), there is a cell that this store
//     does not know. Nothing is retried under a higher incarnation, which would be its twin, and nothing is wiped: the
//     creation stays pending and says so, until the store is rebuilt from the servers.
//   - A deletion of a pending incarnation first finishes its founding, since only a founded cell can be sealed.
//
// # Members that are replaced
//
// A replacement is one stored wish, Record.Move: this server out, that one in. Everything else is decided anew at each step by
// what the cell's own log shows (nextMove): a number is issued, the new server creates its node, the cell swaps, and settles.
// Every step may be repeated, by this manager, by its successor, or by two at a time: what is planned for an older
// configuration, the log refuses. When the cell shows what was wanted, its members become the record's. One at a time per cell.
// An operator asks with Replace; whoever watches cells asks with Propose, and may Withdraw while nothing but planning has happened.
//
// # What holds the manager back
//
// Creations and replacements begin within token buckets of the colony, of each brick and of each server (Limits); a proposal that may
// not begin leaves nothing behind, while wishes for cells, operators' petitions and drains wait here, in order. A Pause of an
// action is durable, and stops it at the last point at which no cell is left worse. A server with a Duty takes no new node, and
// is emptied from placement's book of its cells. Status tells all of it, and what has not converged, oldest first.
//
// # Who asks for replacements
//
// Replacements are proposed, each with a Cause: by an operator, by whoever watches for dead members, by a server that shall be
// empty (drain.go), by users who are elsewhere (near.go: a volume's users are told by Locate, stored beside the cell, and followed
// until placement.Improve finds no better server), and by servers that are much fuller than others of their pool (balance.go).
// Limits and pauses of their cause stand before all of them (limits.go, pause.go).
//
// # The store and the servers
//
// Two loops are closed here: what a member has not confirmed is asked again, and what servers host is compared with what is
// wanted, in rounds, at a pace of its own (observe.go). A node that no record explains becomes a claim; enough agreeing claims become
// a record (evidence.go, adopt.go). More invariants:
//
//   - A1 (nothing unknown is dropped). A node in no record is dropped only when its incarnation has ended by L2, shown by the
//     servers' own words: a seal that a node applied, or tombstones at so many members that no majority is left.
//   - A2 (a majority makes a cell). A record of a living cell is made of reports only when a majority of the members of the newest
//     configuration that anybody reports runs exactly that one, no tombstone is known for it, and no second jury.
//   - A3 (nobody is founded twice). A member of whom no confirmation is known, in a record made of reports, and one that is
//     gone, is Absent: never told of the founding, replaced like a dead one.
//   - A4 (numbers rise). No incarnation that was heard of, from a record, a node or a tombstone, is planned again.
//   - A5 (a rebuild only listens). While the store is rebuilt no server is asked for anything but the census, in this life of
//     the manager and in the next, until an operator ends it (rebuild.go).
//
// # What servers must hold to
//
// node.create: success means that the node of this jury is durable, or was before; Deleted means a durable tombstone of
// this or a higher incarnation, or a sealed node of it; Stale means a node of this incarnation with another jury.
// node.recover: as node.create, with the state that the node begins with; success means that a node of an older incarnation is
// gone and forbidden by a durable tombstone. cell.export: what the node holds as of now; Quarantined and UnknownHere
// mean that it will never vote again.
// node.drop: success means that the node is gone and a durable tombstone forbids it, also where there was no node.
// node.learner: success means that the node of that number is durable, or was before.
// cell.change: the proposer's configuration, as chosen; Stale when the change was planned for another one.
// cell.seal: success means that the seal is applied at the answering member.
// node.census, node.graves: every node that is durable when the page is made, and every tombstone; refused while the server does not
// know yet. A node that is created meanwhile may be told or not; one that is durable before the first page is never left out.
package lifecycle
