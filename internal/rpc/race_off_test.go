//go:build !race

package rpc

// raceEnabled is set when the race detector runs: it makes pools forget on purpose.
const raceEnabled = false
