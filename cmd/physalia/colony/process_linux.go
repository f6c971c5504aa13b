package colony

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childAttributes puts a child into a group of its own, so that Ctrl-C reaches only the parent, which then ends the
// children in order; if the parent dies, the kernel ends them.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// clockTick is the unit of processor times in /proc; 100 per second on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// processCPU reads user and system time of a running process.
func processCPU(pid int) (time.Duration, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field is the name in parentheses and may hold anything; fields 14 and 15 are the times.
	_, rest, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, false
	}
	user, userErr := strconv.ParseInt(fields[11], 10, 64)
	system, systemErr := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, userErr == nil && systemErr == nil
}

// processWritten reads how many bytes a running process has caused to be written to disks.
func processWritten(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, false
	}
	_, rest, ok := strings.Cut(string(text), "\nwrite_bytes: ")
	number, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(number, 10, 64)
	return n, ok && err == nil
}

// processMemory reads how much of a running process is in memory, and the most that was.
func processMemory(pid int) (m Memory, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, false
	}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		switch n, err := strconv.ParseInt(number, 10, 64); {
		case err != nil:
		case name == "VmRSS":
			m.Resident = n << 10
		case name == "VmHWM":
			m.Peak = n << 10
		}
	}
	return m, m.Resident > 0
}
