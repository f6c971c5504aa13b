// Package route decides where a client's request about a cell goes next, how long it waits, and what its failure means.
// It is the deciding half of the client library: plain step machines without goroutine, clock, socket or shared
// randomness, so that the simulator drives the very code that users link.
//
// Four machines, each with a single owner at a time:
//
//   - Place is what a client knows about one cell: its route, its last known proposer, and the session (incarnation,
//     highest revision seen, next sequence number). It lives as long as the client; routes have no expiry.
//   - Call is one request on its way: Next says what to do, Answered tells what came of it, until Next says Stop.
//   - Finder batches lookups of many cells into few requests to the discovery copies.
//   - Hold is the holder's side of one lease: until when it believes in it, and when it keeps it alive.
//
// The owner must, for each Call:
//
//  1. obey every Step of Next and come back no later than Step.Until,
//  2. start a lookup of the cell when Step.Find is set, and report its end with Place.Found,
//  3. repeat the identical request on every Ask; only Header.Attempt and Header.Timeout may differ,
//  4. ask Overdue before it gives an Ask up, and report every Ask that it gave up on as Lost, since its request may still be applied.
//
// Times are durations since an origin that the owner chooses once, on a monotonic clock.
//
// Invariants, by name:
//
//   - R1 (routes only rise): a route replaces another only if its (incarnation, configuration) is higher (rule 11), or if
//     every member of the other one has contradicted it, or never confirmed it and is silent (Place.Doubt): a number that somebody made up must not keep the
//     truth out. Between two doubts of one call there is a pause (R2), so even liars cannot lead a call in a hurry.
//   - R2 (bounded haste): between two pauses each address is asked at most once, and at most roundAsksMax are; a pause
//     is at least Rules.BackoffMin, and follows every round and every Overloaded and Unavailable.
//   - R3 (honest ends): a Write ends as "not applied" only if no request of it can still take effect; else it ends as
//     UnknownResult (rule 14).
//   - R4 (one life): a Write never crosses incarnations; every send of it names the same one.
//   - R5 (no belief beyond): a lease is held only before the moment at which the last acknowledged request for it was
//     begun, plus its duration (rule 18); once it is not held, it never is again.
package route
