// Package node is the storage server of a colony: the thin shell that runs the deciding part, node/core, against Pebble,
// TCP, gossip and a clock.
//
// One goroutine owns the core. Everything that arrives (frames of peers, requests of clients and of the control plane,
// storage reports, heartbeats) waits in one inbox; each turn takes all of it, steps the core, hands over one storage
// batch and one frame per peer and lane, and writes the replies. Nothing in a turn blocks on a disk or a socket.
//
//	clients ----> clientFace --\                        /--> storage (Pebble)  --> durable, loaded --> inbox
//	peers   ----> mesh --------+--> inbox --> loop+core +--> mesh (one frame per peer and lane)
//	control <---> controlAgent-/                        \--> replies
package node
