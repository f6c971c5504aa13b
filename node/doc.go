// Package node is the storage server of a colony: the thin shell that runs the deciding part, node/core, against Pebble,
// TCP, gossip and a clock. It decides nothing about cells; what it decides is what to refuse.
//
// One goroutine, the loop, owns the core. Everything that arrives (frames of peers, requests of clients and of the control
// plane, storage reports, heartbeats) waits in one inbox; each turn takes all of it, steps the core, hands over one storage
// batch and one frame per peer and lane, and writes the replies. Nothing in a turn blocks on a disk or a socket, and
// nothing costs anything per idle cell.
//
//	clients ----> clientFace --\                        /--> storage (Pebble)  --> durable, loaded --> inbox
//	peers   ----> mesh --------+--> inbox --> loop+core +--> mesh (one frame per peer and lane)
//	control <---> controlAgent-/                        \--> replies
//
// # Bounds
//
// What outsiders can make a server hold is bounded at the door: connections and requests in flight per connection (rpc),
// bytes per lane (mesh), messages, requests and their bytes in the inbox, bytes handed to a disk that does not keep up
// (backlog), addresses in the book, what one identity has in flight (gates). Beyond its bound a message is dropped and a
// request refused early, with what to do. What waits is bounded in time, too, and cells take turns (package admission); a turn
// takes votes before requests, and requests before bulk (turns).
//
// # When something fails
//
// An error of the disk, or of the core as a whole, stops the server: Failed is closed, requests are refused, heartbeats
// cease, and the process should exit; nothing acknowledged is lost. A loop or a disk that merely hangs silences the
// heartbeats too, so that others take over what this server led (rule 13). The control plane is never needed to serve.
//
// # Who runs where
//
// The loop: core, loop, turns, backlog, outbox.take, core.Events. Reader goroutines of connections: clientFace, controlFace,
// Server.peerMessages. memberlist's goroutines: gossip's delegate methods. One goroutine each: controlAgent.run,
// gossip.run, Server.keepAddresses, Server.keepRoom. The rest (inbox, gates, addressBook, vitals, metrics) is shared and says how.
package node
