// Command physalia is a colony of tiny databases in one binary: the storage server, the control plane, and the commands
// that people and scripts use, one file per subcommand. It parses, prints and wires; what it wires decides elsewhere.
//
// Where things are:
//
//	server.go, control.go             the two daemons; daemon.go is what they share
//	cell.go, explain.go               cells, asked of the control plane and of their members
//	kv.go, volume.go                  the client library at the command line
//	demo.go, bench.go                 trials with real processes
//	sim.go                            simulated worlds: run, replay, shrink
//	lab.go, labreport.go, labwhatif.go  the laboratory: experiments, and what if
//	root.go, settings.go              the tree of commands; flags, environment and file
//	cert.go, certissue.go, ...         authorities and certificates; certjoin.go gets a first one from the control plane
//	token.go                          what clients may do
//	controlaudit.go                   who asked the control plane for what
//	exit.go, fail.go, output.go       how every command ends, fails and prints
//	literal.go, txntext.go, txnjson.go  how values and transactions are written
//
//	control/    plugs lifecycle, discovery and health together
//	operator/   questions to the control plane
//	colony/     a colony of child processes
//	demo/, bench/, judge/  the trials and their verdicts
//	hunt/       many simulated worlds at once
//	figures/    draws what the laboratory measured
//
// Data goes to standard output, everything else to standard error. Exit codes are a fixed table (exit.go).
package main

import "os"

// main ends with the exit code that scripts rely on: see exit.go. Signals end the context of whatever runs, which then cleans up.
func main() {
	a := app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookupEnv: os.LookupEnv}
	if a.slack = slackOf(os.Args[1:], os.LookupEnv); a.slack > 0 {
		a.slackError = slacken(a.slack) // may not return: the program begins again
	}
	fallible()
	os.Exit(a.run(os.Args[1:]))
}
