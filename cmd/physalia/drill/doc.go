// Package drill holds game days: each drill runs a colony of real processes on this machine, does to it what a bad day would do,
// and passes a verdict with figures. A drill asks the servers themselves what they host, through a listener that takes the place
// of the control plane (witness.go), so its verdict does not rest on what the control plane believes.
//
// A drill fails for reasons, each a sentence; a drill that could not be carried out is an error, which is no verdict.
package drill
