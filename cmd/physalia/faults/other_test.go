//go:build privileged && !linux

package faults_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var require = flag.Bool("require", false, "fail where the accidents cannot be made, instead of saying so")

// TestMain says that nothing was tested: the accidents are made of Linux.
func TestMain(*testing.M) {
	flag.Parse()
	fmt.Fprintln(os.Stderr, "\n!!! NOT RUN: privileged fault tests: not Linux")
	if *require {
		os.Exit(1)
	}
}
