//go:build privileged && linux

package faults_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/faults"
)

// The accidents happen: a test of what survives them proves nothing otherwise.

// counterVariable makes the test binary answer every datagram with how many it has received. It is started as a server would
// be, and listens at its address for peers.
const counterVariable = "PHYSALIA_FAULTS_COUNTER"

func countDatagrams() {
	i := slices.Index(os.Args, "--listen-peer")
	if i < 0 {
		select {} // the control plane
	}
	conn, err := net.ListenPacket("udp", os.Args[i+1])
	if err != nil {
		panic(err)
	}
	fmt.Println("listening")
	var buf [64]byte
	for n := 1; ; n++ {
		_, from, err := conn.ReadFrom(buf[:])
		if err != nil {
			panic(err)
		}
		conn.WriteTo([]byte(fmt.Sprint(n)), from) // a cut may refuse it
	}
}

// Packets pass, or are dropped in exactly one direction, and pass again.
func TestNetwork(t *testing.T) {
	dir := t.TempDir()
	n, err := faults.NewNetwork(filepath.Join(dir, "net"), "s1", "s2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	far := startCounter(t, n, dir)
	conn, err := net.Dial("udp", far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ask := func(within time.Duration) string {
		if err := errors.Join(conn.SetDeadline(time.Now().Add(within))); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		var buf [64]byte
		got, err := conn.Read(buf[:])
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return string(buf[:got])
	}
	client, s1, s2 := []string{faults.Client}, []string{"s1"}, []string{"s2"}
	for _, step := range []struct {
		change func() error
		within time.Duration
		want   string
	}{
		{func() error { return nil }, patience, "1"},
		{func() error { return n.Cut(client, s1) }, 200 * time.Millisecond, ""}, // does not arrive
		{n.Heal, patience, "2"},
		{func() error { return n.Cut(s1, client) }, 200 * time.Millisecond, ""}, // arrives as the third, the answer does not
		{n.Heal, patience, "4"},
		{func() error { return n.Sever(client, s2) }, patience, "5"}, // somebody else's
	} {
		if err := step.change(); err != nil {
			t.Fatal(err)
		}
		if got := ask(step.within); got != step.want {
			t.Fatalf("the answer is %q, want %q", got, step.want)
		}
	}
}

// startCounter runs a counter at host s1, and returns its address.
func startCounter(t *testing.T, n *faults.Network, dir string) string {
	t.Helper()
	t.Setenv(counterVariable, "yes")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := colony.Start(colony.Spec{Binary: self, Dir: dir, Bricks: 1, Colors: 1, Servers: 1, Racks: 1, Powers: 1, Host: n.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range []*colony.Process{c.Control, c.Servers[0].Process} {
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for deadline := time.After(patience); ; {
		if said, err := os.ReadFile(c.Servers[0].Log); err == nil && strings.Contains(string(said), "listening") {
			return c.Servers[0].Peer
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatal("the counter does not listen")
		}
	}
}

// A disk keeps what was synced over a power failure and nothing else, makes writers wait while it stalls, and fills up.
func TestDisk(t *testing.T) {
	d, err := faults.NewDisk(filepath.Join(t.TempDir(), "disk"), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	kept, lost, waits := filepath.Join(d.Dir, "kept"), filepath.Join(d.Dir, "lost"), filepath.Join(d.Dir, "waits")
	if err := errors.Join(writeSynced(kept, 1), syncDir(d.Dir), os.WriteFile(lost, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Cut(), d.Unmount(), d.Mount()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(kept); err != nil || len(got) != 1 {
		t.Errorf("what was synced is %q after a power failure: %v", got, err)
	}
	if got, err := os.ReadFile(lost); err == nil && len(got) > 0 {
		t.Errorf("what was not synced is %q after a power failure", got)
	}

	if err := d.Freeze(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- writeSynced(waits, 1) }()
	select {
	case err := <-written:
		t.Errorf("a write to a stalled disk returned: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := errors.Join(d.Thaw(), <-written); err != nil {
		t.Error(err)
	}

	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	if err := writeSynced(filepath.Join(d.Dir, "more"), 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk: %v", err)
	}
	if err := errors.Join(d.Free(), writeSynced(filepath.Join(d.Dir, "again"), 1<<20)); err != nil {
		t.Error(err)
	}
}

// writeSynced writes n bytes to a file and waits until they are on the disk.
func writeSynced(name string, n int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Repeat([]byte("x"), n))
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
