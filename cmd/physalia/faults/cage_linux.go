package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// tools are the programs that accidents are made with.
var tools = []string{"ip", "nft", "nsenter", "unshare", "mount", "umount", "mkfs.ext4"}

// cagedVariable marks the process inside the cage, and names its directory.
const cagedVariable = "PHYSALIA_FAULTS_CAGE"

// dirPrefix begins the name of every cage's directory; the process number follows.
const dirPrefix = "physalia-faults-"

// Caged is the directory of the cage that this process lives in, if it does.
func Caged() (dir string, ok bool) { return os.LookupEnv(cagedVariable) }

// Cage runs this program again, with the same arguments, in a private mount and network namespace, and returns its exit
// status. The program there has a directory of its own, which is removed in the end, as are those that a crash of an
// earlier run left behind; before it starts, prepare may put something into it, with the network of the machine. The
// error says what is missing where no cage can be made.
func Cage(prepare func(dir string) error) (status int, err error) {
	if missing := lacking(); missing != "" {
		return 0, errors.New(missing)
	}
	dir, err := makeDir()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) // the next run tries again
	if err := prepare(dir); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	defer runtime.UnlockOSThread()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), cagedVariable+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	interrupts := make(chan os.Signal, 1) // the child gets them too, and has more to say
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// lacking says what this machine lacks for a cage, or nothing. That the kernel knows everything shows only in use.
func lacking() string {
	if os.Geteuid() != 0 {
		return "not root"
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return "no program " + tool
		}
	}
	err := try("unshare", "--mount", "--net", "true")
	if err != nil {
		return "no private namespaces: " + err.Error()
	}
	return ""
}

// makeDir makes the directory of a cage, after removing those whose process is gone.
func makeDir() (string, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), dirPrefix))
		if err == nil && !alive(pid) {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
	}
	dir := filepath.Join(os.TempDir(), dirPrefix+strconv.Itoa(os.Getpid()))
	return dir, os.Mkdir(dir, 0o700)
}

// alive reports whether there is a process of a number.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// try runs a program to its end; the error has what it said.
func try(name string, args ...string) error { return feed("", name, args...) }

// feed is try with something on standard input.
func feed(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(said)))
	}
	return nil
}
