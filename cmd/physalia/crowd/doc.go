// Package crowd is the clients of a trial. Each of them works on one cell through the client library, as a user would: it
// writes and reads the register that all clients of that cell share, counts its own writes, and now and then manages the
// volume's record. What it sees goes into a judge.Log, so that a verdict can be passed when the crowd has stopped.
//
// The crowd knows nothing of accidents: what happens to the colony meanwhile is the trial's business.
package crowd
