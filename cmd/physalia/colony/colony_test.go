package colony

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the children: it says that it is there, then waits for its end.
func TestMain(m *testing.M) {
	if os.Getenv("COLONY_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	terminate := make(chan os.Signal, 1)
	if !strings.Contains(strings.Join(os.Args, " "), "stubborn") {
		signal.Notify(terminate, syscall.SIGTERM)
	} else {
		signal.Ignore(syscall.SIGTERM)
	}
	for sum := 0; sum < 1<<24; sum++ { // some processor time to measure
	}
	fmt.Println("up:", strings.Join(os.Args[1:], " "))
	<-terminate
}

func spec(t *testing.T) Spec {
	t.Helper()
	t.Setenv("COLONY_TEST_CHILD", "yes")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Binary: self, Dir: t.TempDir(), Bricks: 2, Colors: 2, Servers: 3, Racks: 2, Powers: 3, Capacity: 10}
}

// awaitLine waits until the log of a child has n lines, and returns them.
func awaitLine(t *testing.T, p *Process, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		f, err := os.Open(p.Log)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for s := bufio.NewScanner(f); s.Scan(); {
			lines = append(lines, s.Text())
		}
		f.Close()
		if len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s wrote %d lines, wanted are %d", p.Name, len(lines), n)
		}
	}
}

func TestColony(t *testing.T) {
	s := spec(t)
	c, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if len(c.Servers) != 12 {
		t.Fatalf("%d servers, want 12", len(c.Servers))
	}
	last := c.Servers[11]
	if last.Brick != "b2" || last.Color != "blue" || last.Rack != "r1" || last.Power != "p3" || last.Name != "s12" {
		t.Errorf("the last server is %+v", last)
	}
	addresses := map[string]bool{c.ControlAddr: true, c.ControlOps: true}
	for _, v := range c.Servers {
		for _, a := range []string{v.Peer, v.Client, v.Gossip, v.Ops} {
			if addresses[a] {
				t.Errorf("address %s was given twice", a)
			}
			addresses[a] = true
		}
	}
	if line := awaitLine(t, last.Process, 1)[0]; !strings.Contains(line, "server --data-dir "+filepath.Join(s.Dir, "s12")) {
		t.Errorf("the child was started with %q", line)
	}

	if err := last.Kill(); err != nil || last.Running() {
		t.Errorf("after Kill: running %v, %v", last.Running(), err)
	}
	if err := c.Failed(); err != nil {
		t.Errorf("a child that was killed on purpose has not failed: %v", err)
	}
	if err := last.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, last.Process, 2)
	if err := last.Start(); err == nil {
		t.Error("a running child was started again")
	}
	if spent, ok := last.CPU(); ok && spent <= 0 {
		t.Errorf("two lives took %v of processor time", spent)
	}
	if err := syscall.Kill(last.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-last.ended
	if err := c.Failed(); err == nil || !strings.Contains(err.Error(), "s12") {
		t.Errorf("a child that died by itself: %v", err)
	}
}

// A child that does not obey SIGTERM is killed when the context ends.
func TestStubborn(t *testing.T) {
	s := spec(t)
	p := s.process("x", "stubborn")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, p, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Stop(ctx); err == nil || p.Running() {
		t.Errorf("Stop: %v, running %v", err, p.Running())
	}
}

func TestSpecCheck(t *testing.T) {
	good := Spec{Bricks: 1, Colors: 1, Servers: 7, Racks: 3, Powers: 3}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	bad := good
	bad.Colors = len(colors) + 1
	if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "colors is 9") {
		t.Errorf("got %v", err)
	}
}

// Copies of discovery are told of every control process but themselves, and servers of none of them.
func TestCopies(t *testing.T) {
	s := spec(t)
	s.Copies = 2
	c, err := plan(s)
	if err != nil {
		t.Fatal(err)
	}
	if all := c.DiscoveryAddrs(); len(all) != 3 || len(c.Copies) != 2 || all[0] != c.ControlAddr {
		t.Fatalf("copies at %v", all)
	}
	for i, v := range c.Copies {
		line := strings.Join(v.Args, " ")
		if other := c.Copies[1-i].Addr; !strings.Contains(line, "--discovery-copies "+c.ControlAddr+","+other) || v.Name == c.Control.Name {
			t.Errorf("%s is started with %q", v.Name, line)
		}
		if strings.Contains(strings.Join(c.Servers[0].Args, " "), v.Addr) {
			t.Errorf("servers know %s", v.Name)
		}
	}
}
