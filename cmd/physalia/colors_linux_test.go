package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"physalia/cell"
	"physalia/client"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
	"physalia/internal/pki"
	"physalia/internal/wire"
)

// sockets tells which processes hold a connection with each other, by the kernel's own list.
type sockets struct {
	names map[int]string    // of processes
	pairs map[[2]string]int // how often a connection was seen
}

// look reads the list once.
func (s *sockets) look(t *testing.T) {
	t.Helper()
	owner := map[string]string{} // of a socket, by inode
	for pid, name := range s.names {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just been killed
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name()))
			if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok {
				owner[strings.TrimSuffix(inode, "]")] = name
			}
		}
	}
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]string{} // local address and remote address: whose end that is
	for _, line := range strings.Split(string(text), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 9 && f[3] == "01" {
			ends[f[1]+" "+f[2]] = owner[f[9]]
		}
	}
	for end, one := range ends {
		local, remote, _ := strings.Cut(end, " ")
		other := ends[remote+" "+local]
		if one != "" && other != "" && one < other {
			s.pairs[[2]string{one, other}]++
		}
	}
}

// judge looks at all that was seen: nobody of one color with anybody of another.
func (s *sockets) judge(t *testing.T, colorOf map[string]string) {
	t.Helper()
	// Everybody is seen with whom he must talk to: else the list would say nothing.
	met := map[string]int{}
	for pair := range s.pairs {
		a, b := colorOf[pair[0]], colorOf[pair[1]]
		switch {
		case a != "" && b != "" && a != b:
			t.Errorf("%s (%s) and %s (%s) hold a connection", pair[0], a, pair[1], b)
		case a != "" && b != "":
			met[a]++
		case pair[0] == "control":
			met["control-"+b]++
		case pair[1] == "user":
			met["user-"+a]++
		}
	}
	t.Log(met)
	for what, least := range map[string]int{"red": 15, "blue": 15, "control-red": 7, "control-blue": 7, "user-red": 1, "user-blue": 1} {
		if met[what] < least {
			t.Errorf("%s: %d pairs seen, at least %d exist", what, met[what], least)
		}
	}
}

// TestColorsNeverTalk: real servers of two colors, with certificates, cells, clients and a death; the kernel's list of connections
// and the servers' own counts say that not one byte went from color to color, by the mesh or by gossip. Only the control plane and
// the client talk to all.
func TestColorsNeverTalk(t *testing.T) {
	spec := small(t)
	spec.Secure, spec.Colors = true, 2
	c, op := startSecure(t, spec)
	ids := []cell.ID{"vol-1", "vol-2", "vol-3", "vol-4", "vol-5", "vol-6"}
	if err := op.CreateAll(t.Context(), "test", ids); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	user := clientOf(t, spec, c)
	colorOf, colors := map[string]string{}, map[string]bool{}
	s := &sockets{names: map[int]string{os.Getpid(): "user"}, pairs: map[[2]string]int{}}
	pids := func() {
		for _, p := range c.Servers {
			colorOf[p.Name] = p.Color
			if pid, ok := p.Pid(); ok {
				s.names[pid] = p.Name
			}
		}
		if pid, ok := c.Control.Pid(); ok {
			s.names[pid] = "control"
		}
	}
	pids()
	for round := range 60 {
		for _, id := range ids {
			if _, err := user.Cell(id).Increment(t.Context(), "n", 1); err != nil {
				t.Fatal(logsOf(err, spec.Dir))
			}
		}
		s.look(t)
		switch round {
		case 20:
			if err := c.Servers[0].Kill(); err != nil {
				t.Fatal(err)
			}
		case 40:
			if err := c.Servers[0].Start(); err != nil {
				t.Fatal(err)
			}
			pids()
		}
	}
	for _, id := range ids {
		info, err := op.Cell(t.Context(), "test", id)
		if err != nil {
			t.Fatal(err)
		}
		colors[info.Color] = true
	}
	if len(colors) != 2 {
		t.Fatalf("all cells are of color %v", colors)
	}
	s.judge(t, colorOf)
	// The list is a sample. The servers' counts are not: whatever comes from another color is refused, and counted.
	for _, v := range c.Servers {
		m := metricsOf(t, v.Ops)
		for _, why := range []string{"other color", "other brick", "other label", "other key"} {
			if n := sumOf(m, "physalia_refused_total", `reason="`+why+`"`); n != 0 {
				t.Errorf("%s has refused %v for %s", v.Name, n, why)
			}
		}
		if n := sumOf(m, "physalia_gossip_members"); n != 7 {
			soon(t, v.Name+" gossips with its color", func() bool { return sumOf(metricsOf(t, v.Ops), "physalia_gossip_members") == 7 })
		}
	}
	crossColors(t, spec, c)
}

// crossColors tries, with what a red server has, to talk to a blue one. It is refused and counted.
func crossColors(t *testing.T, spec colony.Spec, c *colony.Colony) {
	red, blue := c.Servers[0], c.Servers[7]
	g, err := pki.Open(pki.Settings{Dir: spec.CertsDir(red.Name)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := g.Dialer(pki.PeerPort, nil)(t.Context(), "tcp", blue.Peer)
	if err == nil {
		nc.Close()
	}
	if cell.KindOf(err) != cell.Refused {
		t.Errorf("a blue server at the peer port: %v", err)
	}
	// The dialling side is refused by its own guard first; a taken-over server would not be so polite.
	if err := rudely(t, spec.CertsDir(red.Name), blue.Peer); err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(filepath.Join(spec.CertsDir(red.Name), "gossip.keys"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := pki.ParseKeyring(keys)
	if err != nil {
		t.Fatal(err)
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort, cfg.LogOutput = "s1-aaaaaaaa#9", "127.0.0.1", 0, 0, io.Discard
	cfg.Label, cfg.SecretKey, cfg.TCPTimeout = "physalia/"+colony.Name+"/"+blue.Brick+"/"+blue.Color, ring[0], 5*time.Second // red's key, under blue's label
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.Join([]string{blue.Gossip}); err == nil {
		t.Errorf("red has joined %d of blue", n)
	}
	if err := m.Shutdown(); err != nil {
		t.Error(err)
	}
	for _, want := range [][]string{{`port="peer"`, `reason="other color"`}, {`port="gossip"`, `reason="other key"`}} {
		soon(t, fmt.Sprintf("%v is counted", want), func() bool { return sumOf(metricsOf(t, blue.Ops), "physalia_refused_total", want...) > 0 })
	}
	if n := sumOf(metricsOf(t, blue.Ops), "physalia_gossip_members"); n != 7 {
		t.Errorf("blue's pool has %v members", n)
	}
}

// startSecure starts a colony of real processes and waits for its servers.
func startSecure(t *testing.T, spec colony.Spec) (*colony.Colony, operator.Operator) {
	t.Helper()
	c, err := colony.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	op := operator.Operator{Colony: colony.Name, Addresses: []string{c.ControlAddr}, Certs: spec.User()}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := op.AwaitServers(ctx, spec.Count(), c.Failed); err != nil {
		t.Fatal(logsOf(err, spec.Dir))
	}
	return c, op
}

// clientOf is a client of a colony.
func clientOf(t *testing.T, spec colony.Spec, c *colony.Colony) *client.Client {
	t.Helper()
	cfg := client.Config{Colony: colony.Name, Control: c.ControlAddresses(), CallTimeout: time.Minute, CertsDir: spec.User().Dir}
	user, err := client.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(user.Close)
	return user
}

// rudely shows a server's certificate at a peer port without asking who is there.
func rudely(t *testing.T, certs, addr string) error {
	t.Helper()
	conn, err := dialTLS(certs, addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	h := wire.Hello{Min: wire.ProtocolMin, Max: wire.ProtocolMax, Purpose: wire.ForPaxos, Colony: colony.Name, Brick: "b1", Color: "blue", Server: "s1-aaaaaaaa", Boot: 1}
	if _, err := conn.Write(wire.EndFrame(h.Append(wire.BeginFrame(nil)), 0)); err != nil {
		return nil // refused already
	}
	if _, err := wire.ReadFrame(conn, nil, 1<<16); err == nil {
		t.Error("a red certificate is welcome in blue")
	}
	return nil
}
