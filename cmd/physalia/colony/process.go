package colony

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Process is one child, which can be started again after it ended. Its methods are safe for concurrent use.
type Process struct {
	Name string
	// Args is the command line behind the binary.
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Log is the file that its output is appended to, across restarts.
	Log string

	binary []string // the program, and before it what enters its place
	first  []string // Args before the first Become
	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended; nil before the first start
	killed bool          // its end was asked for
	spent  time.Duration // CPU time of lives that have ended
}

// Start starts the child. It is an error while it still runs.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		return fmt.Errorf("%s runs already, process %d", p.Name, p.cmd.Process.Pid)
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own handle
	cmd := exec.Command(p.binary[0], slices.Concat(p.binary[1:], p.Args)...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.killed = cmd, ended, false
	go func() {
		waitErr := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if state := cmd.ProcessState; state != nil {
			p.spent += state.UserTime() + state.SystemTime()
		}
		var exit *exec.ExitError
		if waitErr != nil && !errors.As(waitErr, &exit) {
			fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, waitErr)
		}
		close(ended)
	}()
	return nil
}

// running reports whether the child is alive; the caller holds the lock.
func (p *Process) running() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Become has the next start execute another program, with more arguments than before.
func (p *Process) Become(binary string, more ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		p.first = slices.Clone(p.Args)
	}
	p.binary = append(slices.Clone(p.binary[:len(p.binary)-1]), binary)
	p.Args = append(slices.Clone(p.first), more...)
}

// Running reports whether the child is alive.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running()
}

// Pid is the number of the child's process; false when it does not run.
func (p *Process) Pid() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0, false
	}
	return p.cmd.Process.Pid, true
}

// Failed describes a child that ended although nobody asked it to, or returns nil.
func (p *Process) Failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil || p.running() || p.killed {
		return nil
	}
	return fmt.Errorf("%s ended by itself: %v; its log is %s", p.Name, p.cmd.ProcessState, p.Log)
}

// Kill ends the child with SIGKILL, as a power failure of its process would, and waits until it is gone. A child that is
// gone already is fine.
func (p *Process) Kill() error { return p.end(context.Background(), syscall.SIGKILL) }

// Stop asks the child to end (SIGTERM) and waits; when ctx ends first, it kills it.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.end(ctx, syscall.SIGTERM); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

// Pause freezes the child (SIGSTOP) until Resume: its kernel still takes what arrives, and nobody answers.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a paused child go on (SIGCONT).
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// signal sends a signal to a child that runs.
func (p *Process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return fmt.Errorf("signal %s: it does not run", p.Name)
	}
	return p.cmd.Process.Signal(s)
}

func (p *Process) end(ctx context.Context, how syscall.Signal) error {
	p.mu.Lock()
	if !p.running() {
		p.mu.Unlock()
		return nil
	}
	p.killed = true
	ended := p.ended
	err := p.cmd.Process.Signal(how)
	p.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not end: %w", p.Name, ctx.Err())
	}
}

// CPU is the processor time that the child has used in all its lives, user and system. It reports false where that of
// a running process cannot be read.
func (p *Process) CPU() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return p.spent, true
	}
	now, ok := processCPU(p.cmd.Process.Pid)
	return p.spent + now, ok
}

// Written is how many bytes the child has caused to be written to disks in its present life. It reports false where that
// cannot be read, and for a child that does not run.
func (p *Process) Written() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return 0, false
	}
	return processWritten(p.cmd.Process.Pid)
}

// Memory is how many bytes of a process are resident, now and at most since it began.
type Memory struct{ Resident, Peak int64 }

// Memory is that of the child in its present life. It reports false where that cannot be read, and for a child that does not run.
func (p *Process) Memory() (Memory, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		return Memory{}, false
	}
	return processMemory(p.cmd.Process.Pid)
}
