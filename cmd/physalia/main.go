// Command physalia is a colony of tiny databases in one binary: the storage server, the control plane, and the commands
// that people and scripts use, one file per subcommand. It parses, prints and wires; what it wires decides elsewhere.
//
// Data goes to standard output, everything else to standard error. Exit codes are a fixed table (exit.go).
package main

import "os"

func main() {
	a := app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookupEnv: os.LookupEnv}
	os.Exit(a.run(os.Args[1:]))
}
