// Package lab is the laboratory: it measures what correlated failures do to cells that the real placement code placed, and what
// they would do to a data centre that somebody describes.
//
// Everything here is a pure function of a seed and parameters: the same seed gives the same numbers, byte for byte, on one kind of
// processor. There is no clock, file, goroutine or shared dice inside; who wants to see progress, or to stop a long run, hands in a
// Watch. Drawing and writing is somebody else's business (cmd/physalia/figures).
//
// # What is real, and what is a model
//
// Juries come from placement.Place, Improve and Substitute, with a placement.Book, as in production. Slow repair is
// health.Repairer with its production policy. Failures, the network between racks, and how long a replacement takes are models;
// every Result lists their parameters. A store is reachable for a client when a majority of its members are up and in
// the client's part of the network: what paxos needs, no more (package sim tests that it is also enough).
//
// # Parts
//
//   - Site (site.go): servers, domains and network devices as small numbers, read from a file (file.go) or generated (shape.go).
//   - Process and Trace (trace.go): failures with rate, duration and correlation, per level of the site.
//   - State (state.go): which servers are down and which racks can talk, at one moment.
//   - Fleet (fleet.go): very many placed cells, 2 bytes per node.
//   - Judge (judge.go): what the loss of each single domain would cost a fleet, by brute force. It knows nothing of placement.
//   - Experiments 1 to 8, one file each, and What If (whatif.go).
//
// # Intervals
//
// Every interval covers 95 %. Shares of independent trials have Wilson's interval; what is measured on many cells under one drawn
// failure is one trial, not many, since the cells fail together, so there the interval is that of a ratio over trials. Where nothing
// was seen in n trials, the interval ends at Wilson's bound for n.
package lab
