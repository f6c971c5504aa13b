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
//   - Experiments 1 to 8, one file each, and What If (whatif.go), also on cells that run (live.go).
//
// # The network
//
// A rack hangs on devices, devices on devices. A failed device carries nothing, and what is left falls into parts; two servers can talk when
// both run and their racks are in one part. Servers of one rack always can. There is no capacity and no half-failed device: a link that
// loses every second packet is the business of package sim. A site without devices is one part.
//
// # Failures
//
// A Process strikes each unit of its level again and again, at exponential intervals, for exponential times. Its correlation, Together, is the
// chance that a server of the unit is hit when the unit is: 1 for a rack whose switch died, less for a bad deployment that not every
// server of the color had yet. Failures are counted per server, so that overlapping ones end one by one. Poison is a failure that follows a
// command instead of a machine. The rates of the experiments are round numbers; only ratios between ways to build the same thing are claimed.
//
// # Dice
//
// Every part of every experiment has dice of its own, derived from the seed and a name (stream). So experiments may run at the same time, alone or
// in any order, and a new series leaves those that were there alone. Contests that are compared meet the same failures.
//
// # Intervals
//
// Every interval covers 95 %. Shares of independent trials have Wilson's interval; what is measured on many cells under one drawn
// failure is one trial, not many, since the cells fail together, so there the interval is that of a ratio over trials. Where nothing
// was seen in n trials, the interval ends at Wilson's bound for n.
//
// Comparisons with a closed form count how many intervals hold it, or in experiment 1 how many standard deviations the worst point is off;
// among 91 points 3.7 are as unlikely as 2 are for one.
//
// # Verdicts
//
// A Finding sets a claim of the paper against numbers, and its verdict is computed from these. When a change of placement or repair turns a verdict
// round, the report says so by itself.
//
// # What tests hold
//
//   - experiment 1 equals the binomial, and the closed forms agree with enumerating all states;
//   - each experiment gives the same bytes for one seed, and others for another; a Watch ends it at the first question;
//   - whatever the site, no rack, power domain or server takes the majority of a cell that placement placed, a color touches its own cells
//     only, and below the overlap limit no cell dies with another;
//   - Judge finds planted mistakes: nodes too many in a power domain or rack, a cell across colors, an ignored overlap limit;
//   - a further failure never gives a cell back, and no cell serves two parts of the network.
//
// # How to add an experiment
//
// Write its parameters as a struct with JSON names and units, a function of Run that returns a Result, and a line in Experiments. Ask Run.Watch from
// within the longest loop, scale trials by Run.trials, take dice from stream with new names, and compute the verdicts. The page, the files
// and the tests that hold for all experiments follow from that.
package lab
