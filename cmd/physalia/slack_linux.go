package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// PR_SET_TIMERSLACK and PR_GET_TIMERSLACK of linux/prctl.h.
const (
	prSetTimerSlack = 29
	prGetTimerSlack = 30
)

// slackened marks a process that slacken has begun anew, so that a kernel that does not keep the slack is not asked for ever.
const slackened = "BEGUN_AGAIN_WITH_TIMER_SLACK"

// slacken lets the kernel wake this process's sleeping threads up to d late. Go's runtime keeps a thread that looks, every 20 us, whether
// another one hangs in a system call; in a server that waits for its disk some hundred times per second that thread alone was a third of
// all context switches (docs/decisions/0041). The runtime has no switch for it. The kernel's is inherited by new threads and kept by exec,
// but that thread is older than main: so the program begins again, under the same process number, before it has read anything or listens to
// signals. Where the supervisor has set the slack already, nothing happens.
func slacken(d time.Duration) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if timerSlack() >= d || os.Getenv(slackened) != "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, uintptr(d.Nanoseconds()), 0); errno != 0 {
		return fmt.Errorf("timer slack: prctl: %w", errno)
	}
	err = syscall.Exec(self, os.Args, append(os.Environ(), slackened+"=yes"))
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 0, 0); errno != 0 { // 0: as it was
		err = errors.Join(err, errno)
	}
	return fmt.Errorf("timer slack: begin %s again: %w", self, err)
}

// timerSlack is how late the calling thread may be woken; 0 when the kernel does not say.
func timerSlack() time.Duration {
	ns, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerSlack, 0, 0)
	if errno != 0 {
		return 0
	}
	return time.Duration(ns)
}
