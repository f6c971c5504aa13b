//go:build !linux

package colony

import (
	"syscall"
	"time"
)

// childAttributes puts a child into a group of its own, so that Ctrl-C reaches only the parent.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// processCPU is not known here while a process runs.
func processCPU(int) (time.Duration, bool) { return 0, false }

// processWritten is not known here.
func processWritten(int) (int64, bool) { return 0, false }

// processMemory is not known here.
func processMemory(int) (Memory, bool) { return Memory{}, false }
