//go:build poison

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"physalia/cell/machine"
)

// A build for trials ends in ways that nobody can recover: over a poisoned command, and at random while a file exists. The environment
// says so, since nothing of this is for people: PHYSALIA_FALL_WHILE names the file, PHYSALIA_FALL_EVERY the mean time between falls.
const fallCode, fallLook = 87, 50 * time.Millisecond

// fallible lets this process fall.
func fallible() {
	machine.PoisonExit = func() { os.Exit(fallCode) }
	file, every := os.Getenv("PHYSALIA_FALL_WHILE"), os.Getenv("PHYSALIA_FALL_EVERY")
	if file == "" {
		return
	}
	mean, err := time.ParseDuration(every)
	if err != nil || mean <= 0 {
		fmt.Fprintf(os.Stderr, "PHYSALIA_FALL_EVERY is %q\n", every)
		os.Exit(int(exitUsage))
	}
	go func() {
		for range time.Tick(fallLook) {
			if _, err := os.Stat(file); err == nil && rand.Float64() < float64(fallLook)/float64(mean) {
				os.Exit(fallCode)
			}
		}
	}()
}
