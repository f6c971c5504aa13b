// Package ground is what a measurement stands on: the machine, the disk, and what processes use. It reads /proc and statfs; what cannot
// be read is an error, never a zero.
package ground

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Facts describe machine and disk. The JSON names stay.
type Facts struct {
	CPU            string  `json:"cpu"`        // as the kernel names it
	Processors     int     `json:"processors"` // that this process may use
	MemoryGiB      float64 `json:"memory_gib"`
	Kernel         string  `json:"kernel"`           // release
	FileSystem     string  `json:"file_system"`      // of the data
	Go             string  `json:"go"`               // version that built clients and libraries
	FdatasyncP50US float64 `json:"fdatasync_p50_us"` // of blocks of 4 KiB appended to one file, alone
	FdatasyncP99US float64 `json:"fdatasync_p99_us"`
	LoadAverage    string  `json:"load_average"` // before the first round
	LoadAfter      string  `json:"load_average_after"`
	Date           string  `json:"date"`
}

// fileSystems are the names of common file systems by the number that statfs gives.
var fileSystems = map[int64]string{0xef53: "ext", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlay", 0x2fc12fc1: "zfs", 0x01021994: "tmpfs", 0x858458f6: "ramfs"}

// Look measures the disk below dir and describes the machine. A file system in memory is refused: a sync there costs nothing, and what is
// measured would be another question.
func Look(dir string) (f Facts, err error) {
	f = Facts{Processors: runtime.NumCPU(), Go: runtime.Version(), LoadAverage: Load(), Date: time.Now().UTC().Format("2006-01-02 15:04 UTC")}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return f, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	if f.FileSystem, err = durable(int64(st.Type)); err != nil {
		return f, fmt.Errorf("%s is on a %w; name a directory on a disk with --dir", dir, err)
	}
	f.CPU = field("/proc/cpuinfo", "model name")
	f.MemoryGiB = kibibytes(field("/proc/meminfo", "MemTotal")) / (1 << 20)
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		f.Kernel = strings.TrimSpace(string(text))
	}
	f.FdatasyncP50US, f.FdatasyncP99US, err = measureSync(dir)
	return f, err
}

// durable names a file system by its number, and refuses one in memory.
func durable(number int64) (string, error) {
	name := fileSystems[number]
	switch name {
	case "tmpfs", "ramfs":
		return "", fmt.Errorf("%s, in memory, where a sync costs nothing", name)
	case "":
		return fmt.Sprintf("number %#x", number), nil
	}
	return name, nil
}

// field is the value of the first line "name : value" of a file in /proc; empty when there is none.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kibibytes reads "123 kB".
func kibibytes(s string) float64 {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, " kB"), 64)
	if err != nil {
		return 0
	}
	return n
}

// Load is the machine's load average over one, five and fifteen minutes; empty where it cannot be read.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// syncs is how many syncs measureSync takes.
const syncs = 500

// measureSync appends blocks to a file and syncs its data after each: no write can be durable faster than that, on this disk.
func measureSync(dir string) (p50, p99 float64, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, 0, fmt.Errorf("measure the disk: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	// As much as a small batch of a log takes.
	block := make([]byte, 4096)
	times := make([]time.Duration, syncs)
	for i := range times {
		if _, err := f.Write(block); err != nil {
			return 0, 0, fmt.Errorf("measure the disk: %w", err)
		}
		began := time.Now()
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, fmt.Errorf("measure the disk: %w", err)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return float64(times[syncs/2].Microseconds()), float64(times[syncs*99/100].Microseconds()), nil
}

// OwnCPU is the processor time that this process has used, user and system.
func OwnCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it cannot fail for the process itself
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// clockTick is the unit of processor times in /proc; 100 per second on every architecture that Go supports.
const clockTick = 10 * time.Millisecond

// Process is the processor time and the resident memory, in bytes, of a running process.
func Process(pid int) (cpu time.Duration, rss int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the name in parentheses and may hold anything; fields 14, 15 and 24 are the times and the pages.
	_, rest, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return 0, 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	var n [3]int64
	for i, at := range []int{11, 12, 21} {
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	return time.Duration(n[0]+n[1]) * clockTick, n[2] * int64(os.Getpagesize()), nil
}
