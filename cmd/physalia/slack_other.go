//go:build !linux

package main

import "time"

// slacken does nothing: what it is for was only seen on Linux.
func slacken(time.Duration) error { return nil }

// timerSlack is not known here.
func timerSlack() time.Duration { return 0 }
