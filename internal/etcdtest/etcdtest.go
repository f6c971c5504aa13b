// Package etcdtest runs the real etcd server for tests: one member, with its data in the test's directory, that can be
// killed, stopped, frozen and started again at the same address. Only tests link it.
package etcdtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is one etcd process. It is for one goroutine.
type Server struct {
	Addr string // host:port for clients

	t      testing.TB
	binary string
	args   []string
	log    string
	cmd    *exec.Cmd
}

// readyTimeout bounds how long a start may take on a busy machine.
const readyTimeout = 60 * time.Second

// Start builds the server if that has not been done, starts it and waits until it serves. The test's end kills it.
func Start(t testing.TB) *Server {
	t.Helper()
	// Nobody else joins, but a member always listens for peers.
	client, peer := freePort(t), freePort(t)
	dir := t.TempDir()
	s := &Server{Addr: client, t: t, binary: binary(t), log: filepath.Join(dir, "log")}
	// The times between members are short, since the least time to live of a lease follows from them.
	s.args = []string{"--name", "e1", "--data-dir", filepath.Join(dir, "data"), "--listen-client-urls", "http://" + client, "--advertise-client-urls", "http://" + client,
		"--listen-peer-urls", "http://" + peer, "--initial-advertise-peer-urls", "http://" + peer, "--initial-cluster", "e1=http://" + peer,
		"--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "warn", "--log-outputs", s.log}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// binary is the server that tools/etcd.sh builds, at its pinned version. There is no test without it, so a failure to build
// it is a failure of the test.
func binary(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// A test runs in the directory of its package, which is somewhere below the root.
	for ; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "tools", "etcd.sh")); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatal("tools/etcd.sh is in no directory above this one")
		}
	}
	if out, err := exec.Command("bash", filepath.Join(root, "tools", "etcd.sh")).CombinedOutput(); err != nil {
		t.Fatalf("tools/etcd.sh: %v\n%s", err, out)
	}
	return filepath.Join(root, "bin", "etcd")
}

// freePort finds a port that is free now. It is below those that the kernel gives to outgoing connections, so that the server
// finds it free again when it is restarted.
func freePort(t testing.TB) string {
	t.Helper()
	for port := 4000 + os.Getpid()*7%7000; port < 12000; port++ {
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if given[addr] {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		given[addr] = true
		return addr
	}
	t.Fatal("no free port below 12000")
	return ""
}

// given are the ports that this process has handed out.
var given = map[string]bool{}

// Restart starts the server, with what it has on disk, and waits until it serves.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, s.args...)
	s.cmd.SysProcAttr = childAttributes()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	// A connection that stays open would outlive the process that it leads to.
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(readyTimeout); ; <-tick.C {
		// It answers before it has a leader, but not with OK.
		resp, err := client.Get("http://" + s.Addr + "/health")
		if err == nil {
			err = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(s.log)
			s.t.Fatalf("etcd does not serve: %v\n%s", err, lastLines(string(text)))
		}
	}
}

// A failed start says why in its log, at the end.
//
// lastLines is the end of a log.
func lastLines(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Kill ends the server as a power failure of its process would. One that does not run is fine.
func (s *Server) Kill() {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Errorf("kill etcd: %v", err)
	}
	_ = s.cmd.Wait() // says that it was killed
	s.cmd = nil
}

// Pause freezes the server (SIGSTOP), and Resume lets it go on: connections stay, and nobody answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
