// Package colony runs a colony of real processes on this machine: servers and a control plane, each a child that executes
// the same binary with its own data directory, ports and log file. The demo and the bench live on it, and so can tests.
//
// It only starts, watches, kills and measures processes; it never speaks to them. What it starts, it ends: Close kills
// every child, and on Linux the kernel does so when the parent dies first.
package colony
