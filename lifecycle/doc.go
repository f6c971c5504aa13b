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
// The loop is closed: whatever a member has not confirmed is asked again, with pauses, for as long as its server may come
// back; every question is idempotent, so a lost confirmation costs a message. Waiting in a CellInfo says what is missing.
//
// Invariants, by name:
//
//   - L1 (one jury). The jury of (cell, incarnation) is durable before the first server hears of it and never changes
//     here (rule 4, hazard H13). Calls leave after Persist; a record is removed only after its end is proven.
//   - L2 (proven end). Nodes are dropped, and the next incarnation is planned, only when nothing can ever be chosen in
//     the incarnation: its seal was reported chosen, or so many members durably refuse to host it that no majority can
//     come together (rules 15 and 16, hazard H15).
//   - L3 (known nodes). Seals are asked of, and drops sent to, only servers that confirmed hosting this very jury's
//     node, or that reported the incarnation dead. A member that never answered is first asked to found its node; that
//     question tells what it hosts. So a store that is older than the colony never harms a cell that it does not know
//     (hazard H16).
//   - L4 (names). An incarnation is planned only when every server that could receive one of its nodes has confirmed
//     that its node of the one before is gone. What is left on servers that are down is dropped when they return.
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
// # What servers must hold to
//
// node.create: success means that the node of this jury is durable, or was before; Deleted means a durable tombstone of
// this or a higher incarnation, or a sealed node of it; Stale means a node of this incarnation with another jury.
// node.drop: success means that the node is gone and a durable tombstone forbids it, also where there was no node.
// cell.seal: success means that the seal is applied at the answering member.
package lifecycle
