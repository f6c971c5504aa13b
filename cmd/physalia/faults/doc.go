// Package faults makes real accidents for tests of real processes on a real kernel: networks that lose packets one way,
// both ways or between some, and disks that stall, fill up or lose power.
//
// A Network gives every process a network namespace of its own on one bridge, where packets between two of them can be
// dropped. A Disk is a file system of its own in a file, which can be frozen, filled, and cut off as a power failure would.
//
// All of it needs root, and lives inside a Cage: a private mount and network namespace of the test process. When that
// process ends, however it ends, the kernel takes its bridge, its links, its mounts and its loop devices with it.
//
// The scenarios are the tests of this package, behind the build tag "privileged"; docs/faults.md says how to run them.
package faults
