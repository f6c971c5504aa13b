//go:build !linux

package bench

// onDisk cannot tell a disk from memory here.
func onDisk(string) error { return nil }
