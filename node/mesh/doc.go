// Package mesh carries frames between the servers of one brick and color: the doing half of what core.Output says.
//
// Every ordered pair of servers uses one TCP connection per lane (heartbeat, Paxos, bulk), dialled by the sender, so that
// a snapshot never delays a vote and nothing delays a heartbeat. Each lane has one goroutine that swaps a double buffer
// and writes it in one call; a lane that cannot connect drops what it is given, and says so in Stats: Paxos expects
// messages to be lost. Memory is bounded per lane. Servers of another colony, brick or color are refused at the Hello.
package mesh
