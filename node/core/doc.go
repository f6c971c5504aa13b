// Package core is the deciding part of a server: it hosts the nodes of many cells and turns inputs into effects.
//
// A Core has a single owner and no goroutine, clock, disk or socket inside; time is handed in. One turn is: any number of
// inputs (frames from peers, requests of clients and of the control plane, storage reports, ticks), then one Flush, which
// returns one storage batch, one buffer per peer and lane, and the replies. The shell in package node runs it against
// Pebble and TCP, package sim against models of them.
//
// What the turn may release before its batch is durable, and what not, is decided here (rule 1): messages in
// SendDurable, and replies to creations and drops, wait in one queue for storage's durable reports.
//
// Nodes are cold (a row without pointers in package slab, everything else in storage), loading, or hot (a paxos.Replica and a
// machine.Machine in memory); a node of which somebody holds a hosted is warm, and cold.go says when it is forgotten. Nothing that a turn
// or a tick does is proportional to the cold ones, and Config.HotMax bounds the hot ones. The first message or request makes a cold node hot; nothing is answered from a node that
// was not read (rule 7). A panic or failed assertion while stepping or applying quarantines that node alone.
// A follower applies the slots that are delivered to it a few at a time, or when somebody looks at its state (lag.go).
//
// # Support, leases, elections
//
// What keeps a proposer in its place is a fact about two servers (support.go), carried by heartbeats that the core makes at
// Tick and reads by OnHeartbeat. On it rest read leases and what a member may promise (readlease.go), who campaigns and who
// resigns (elections.go), what happens when a disk forgot (memory.go), passing requests on (forward.go), and telling servers
// that come back what they missed (rejoin.go). A server's death is swept by the successors (sweep.go), cold nodes vote from their rows
// (coldvote.go), and who comes back is given cells again (balance.go).
//
// The time of client leases is counted here, for the cells that are led from here and have some: one heap of deadlines, and
// an expiry that is proposed like any command (leases.go).
//
// # What the shell and the simulation rely on
//
//   - Every request is answered exactly once, and an answer of a kind that says "not applied" is given only for a command
//     that this node never sent to anyone, or when the log itself proves that nothing will come of it.
//   - Whatever leaves may be lost, repeated or overtaken; whatever left is true after any crash of this server, since it
//     rests on batches that are durable, or on votes of others that are.
//   - A crash between two batches, a node that goes cold and a node that was never touched all come back by the same way:
//     restore, from the stored state and the ring. Only a node created in this life of the process is made new.
//   - The time is set by Now after everything that follows had arrived, never before: a read lease is judged by it (hazard H3).
//     OnFrame and OnHeartbeat of a turn come before its messages.
//   - An error of OnLoaded or OnHeartbeat means that the server must stop, and says why.
//   - No decision depends on the order of a map, on the time of day or on luck: the same inputs give the same outputs.
package core
