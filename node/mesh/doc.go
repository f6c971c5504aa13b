// Package mesh carries frames between the servers of one brick and color: the doing half of what core.Output says.
//
// # Lanes
//
// Every ordered pair of servers uses one TCP connection per lane (heartbeat, Paxos, bulk, forward), dialled by the sender, so that
// a snapshot never delays a vote and nothing delays a heartbeat. What is dialled is only written, what is accepted is
// only read: the two directions of a pair fail on their own, as networks do. Within a lane and one connection frames
// arrive in the order of Send; across connections nothing is promised, and Paxos needs nothing.
//
// # What is lost
//
// The mesh never blocks its caller and never repeats a frame. A lane that cannot connect, or whose peer does not read,
// drops what it is given and says so in Stats: Paxos expects messages to be lost, and an old vote is worth nothing. A
// connection on which the peer acknowledges nothing for silenceMax is given up, since after a longer partition TCP itself
// would wait for as long again before it tries.
//
// # What is bounded
//
// Per peer and lane: the bytes queued to be sent, the bytes received and not yet recycled, one connection per direction.
// Per mesh: the connections. A frame is checked before anything of it is believed; one that does not decode ends its
// lane and is counted, since it comes from a broken or foreign peer.
//
// # Who may talk
//
// Servers of another colony, brick or color are refused at the Hello, by both sides, before any other byte (DESIGN.md
// section 10). With TLS (Config.Listener and Config.Dial) they are refused before that, and the Hello is held to the certificate. An address where another server answers than the one that was meant is refused too: addresses are rumours.
//
// # Heartbeats
//
// A heartbeat says that this server can be useful to that peer, not that a goroutine runs: the core makes it, in the turns of
// the loop, and reads it there (core.Support, rule 13, hazard H9). The mesh carries the newest one and never makes one up.
package mesh
