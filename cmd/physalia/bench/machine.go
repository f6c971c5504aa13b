package bench

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"physalia/cmd/physalia/judge"
)

// syncs is how many syncs are measured before the load.
const syncs = 300

// measureSync appends blocks of 4 KiB to a file in dir and syncs its data after each. It returns the median and the 99th
// percentile of the syncs in microseconds: no write can be durable faster than that, on this disk.
func measureSync(dir string) (p50, p99 float64, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, 0, fmt.Errorf("measure the disk: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if removeErr := os.Remove(f.Name()); err == nil {
			err = removeErr
		}
	}()
	block := make([]byte, 4096)
	var times []time.Duration
	for range syncs {
		if _, err := f.Write(block); err != nil {
			return 0, 0, fmt.Errorf("measure the disk: %w", err)
		}
		began := time.Now()
		if err := syncData(f); err != nil {
			return 0, 0, fmt.Errorf("measure the disk: %w", err)
		}
		times = append(times, time.Since(began))
	}
	p := judge.Percentiles(times, 50, 99)
	return micros(p[0]), micros(p[1]), nil
}

// ownCPU is the processor time that this process has used, user and system.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail for the process itself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
