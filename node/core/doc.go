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
// Nodes are cold (an entry in the index, everything else in storage), loading, or hot (a paxos.Replica and a
// machine.Machine in memory). The first message or request makes a cold node hot; nothing is answered from a node that
// was not read (rule 7). A panic or failed assertion while stepping or applying quarantines that node alone.
package core
