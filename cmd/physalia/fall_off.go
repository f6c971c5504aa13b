//go:build !poison

package main

// fallible prepares a build for trials to fall over (fall_on.go); this one has no way to.
func fallible() {}
