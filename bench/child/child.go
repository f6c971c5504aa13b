// Package child starts the server processes of a subject, and makes sure that none outlives this one: each is killed by the kernel when
// its parent dies. Counters of processes are read over HTTP, in the text format of Prometheus.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"physalia/bench/contest"
	"physalia/bench/ground"
)

// Child is one process.
type Child struct {
	name, log string        // log is the file with its output
	cmd       *exec.Cmd     // started
	ended     chan struct{} // closed when it has ended
	mu        sync.Mutex
	killed    bool // its end was asked for
}

// Environment gives each of the servers its share of the processors, at least one, as the product's own trials do: more would have each
// runtime schedule for all of them. It is the same for every subject.
func Environment() string { return fmt.Sprintf("GOMAXPROCS=%d", share()) }

// Share takes no more than a server's share for this process, which has the clients. What the environment says is forgotten, so that it
// reaches no subject.
func Share() {
	os.Unsetenv("GOMAXPROCS") //nolint:errcheck // it fails for impossible names only
	runtime.GOMAXPROCS(share())
}

// share is how many processors each process may use at once.
func share() int { return max(1, runtime.NumCPU()/contest.Servers) }

// Start starts a process; its output goes to the file log.
func Start(name, log string, line ...string) (*Child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own handle
	c := &Child{name: name, log: log, cmd: exec.Command(line[0], line[1:]...), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), Environment())
	c.cmd.Stdout, c.cmd.Stderr = out, out
	// A group of its own: Ctrl-C reaches only this process, which then ends the others.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(c.ended)
		c.cmd.Wait() //nolint:errcheck // how it ended is in ProcessState, which Failed tells
	}()
	return c, nil
}

// Running reports whether the process is alive.
func (c *Child) Running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (c *Child) Kill() error {
	// Noted first, so that its end is never taken for a failure.
	c.mu.Lock()
	c.killed = true
	c.mu.Unlock()
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	<-c.ended
	return nil
}

// Failed describes a process that ended although nobody asked it to, with the end of its log; else it is nil.
func (c *Child) Failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed || c.Running() {
		return nil
	}
	// What it said last usually tells why.
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s ended by itself: %v; its log ends: %s", c.name, c.cmd.ProcessState, text[max(0, len(text)-600):])
}

// Usage is what the process uses now.
func (c *Child) Usage() (u contest.Usage, err error) {
	u.CPU, u.RSS, err = ground.Process(c.cmd.Process.Pid)
	return u, err
}

// Fleet are the processes of one subject.
type Fleet []*Child

// Failed is the first failure of any.
func (f Fleet) Failed() error {
	for _, c := range f {
		if err := c.Failed(); err != nil {
			return err
		}
	}
	return nil
}

// Usage is what each process that is alive uses.
func (f Fleet) Usage() (all []contest.Usage, err error) {
	for _, c := range f {
		if !c.Running() {
			continue // it was killed, and Failed tells when it was not
		}
		u, err := c.Usage()
		if err != nil {
			return nil, errors.Join(err, c.Failed())
		}
		all = append(all, u)
	}
	return all, nil
}

// Kill ends them all. Their directories are removed afterwards, so they need not end in order.
func (f Fleet) Kill() (err error) {
	for _, c := range f {
		err = errors.Join(err, c.Kill())
	}
	return err
}

// Addresses finds n ports on loopback that are free now; whoever takes one in between makes its server fail to start, which Failed tells.
func Addresses(n int) (all []string, err error) {
	// All of them are open at the same time, so that no port is given twice.
	var open []net.Listener
	defer func() {
		for _, l := range open {
			err = errors.Join(err, l.Close())
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		all = append(all, l.Addr().String())
	}
	return all, nil
}

// Counters reads one page of counters and adds up the samples of each wanted name, whatever their labels.
func Counters(ctx context.Context, url string, want ...string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The page is ours or etcd's, on loopback; its size is bounded all the same.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("counters from %s: %s", url, answer.Status), err)
	}
	return counters(string(text), want)
}

// counters adds up samples; a name without any is an error, for a missing counter is not a zero.
func counters(text string, want []string) (map[string]float64, error) {
	sums, seen := map[string]float64{}, map[string]bool{}
	for line := range strings.Lines(text) {
		// "name value", or "name{labels} value"; what follows the value is a time.
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.IndexByte(line, '{'); i > 0 {
			name = line[:i]
			_, value, ok = strings.Cut(strings.TrimSpace(line), "} ")
		}
		for _, w := range want {
			if !ok || name != w {
				continue
			}
			n, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			if err != nil {
				return nil, fmt.Errorf("counter %s: %w", name, err)
			}
			sums[w], seen[w] = sums[w]+n, true
		}
	}
	for _, w := range want {
		if !seen[w] {
			return nil, fmt.Errorf("no counter %s on that page", w)
		}
	}
	return sums, nil
}
