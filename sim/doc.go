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
//  2. Healing. Everything is repaired, except that the servers in Dead stay down (any four of seven must suffice). Every
//     client must get its answers.
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
//   - durability: what was acknowledged is in the log and in what is read at the end, with the same outcome;
//   - once: every request took effect at most once, and not at all if that was the answer (rule 14);
//   - order: replies carry revisions that agree with real time and with the log (linearizability in linear time);
//   - linearizability: porcupine's independent search over the histories of single keys, knowing nothing of revisions;
//   - answered: once the world is healed, everybody gets an answer.
//
// # What is not modelled
//
// The shell around a core (TCP, Pebble, MessagePack-RPC connections, gossip) has tests of its own. The client here is a
// simple one of this package's own, the control plane is somebody who repeats creations until they succeed, and all
// clocks run at one rate.
package sim
