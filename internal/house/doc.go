// Package house holds no code, only the tests that keep the house in order: which package may import which (arrows),
// what a deciding package may not touch (clocks, disks, sockets, goroutines), how large files and functions may grow,
// how much they must explain, and a few habits that reviewers should not have to watch for (hygiene).
//
// Every rule is a table in this package, so that an exception is a reviewed line of a diff. Rules read the sources
// themselves: they see files of every build tag and need no build.
package house
