// Package health knows which servers are up, and from that the margin of each cell and what should be repaired. It repairs
// nothing itself: it proposes, the lifecycle manager disposes.
//
// A verdict is about a server, never about a cell, and it is an opinion of the control plane: no verdict stops a server
// from serving, and no safety rests on one. The deciding part, Tracker, is a step machine: inputs and time in, changes
// of verdict out, no goroutine, clock or lock inside. The Observer is the thin shell around it that pings.
//
// The rule, with the defaults of DefaultConfig:
//
//   - A server is up from its first registration.
//   - It goes down when it has been disconnected for 2 s, or when the oldest ping or disconnection that no proof of life
//     has followed is 5 s old. A proof is a registration or a pong. Silence that the tracker itself caused, by not
//     pinging, is never held against a server.
//   - It comes back when it has been heard without a failed ping or a disconnection in between for 2 s.
//
// So no server is up for less than the shorter of the first two times, nor down for less than the third: verdicts never
// flap faster (NSDI 2020, section 5.1, "don't move faster than the expected rate of change").
//
// # Why silence counts from the oldest unanswered ping
//
// "No pong for 5 s" sounds simpler, but it blames servers for a slow tracker. When many servers hang at once, pings
// queue behind their timeouts, and a tracker that counts from the last pong declares healthy servers dead just when it
// matters most. Counting from the oldest ping, or disconnection, without a later sign of life is the same for a prompt
// tracker, at most one ping interval later, and right for a slow one. A connection that comes and goes without a sign
// of life does not restart the count.
//
// # What a return must prove
//
// A server that went down is likely to do so again, so it must be heard for ReturnMin without a failed ping or a lost
// connection, and it comes up only with a sign of life, never by the passing of time. A process that restarts faster
// than DisconnectedMax was never down at all.
//
// # After a restart of the control plane
//
// A server that the control plane only remembers, Recall, has no verdict until it is heard, or until it has been missed
// for as long as a disconnected one.
//
// # What peers say
//
// Whoever is missed is asked about: a few servers of its brick and color say when they last heard its heartbeats. While most of
// them do, it is unreachable, not down, for UnreachableMax at most. Peers never make a server go down, nor bring it back.
//
// # Repair
//
// The Repairer, a step machine too, turns verdicts and the members of cells into proposals to replace members, the most
// urgent first and within budgets, and RepairService is its shell. docs/control.md tells operators what it does, and decision
// 0023 why. In short: one dead member waits for the patience, two do not, the brink comes first, a lost majority is
// reported and never touched; a correlated failure holds everything back but raises from the brink by one; a server that
// returns and stays drops what waits. It knows for every server which cells have a member there (census), so nothing ever scans
// all cells, and no cell has a timer or goroutine.
package health
