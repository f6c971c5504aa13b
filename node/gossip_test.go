package node

import (
	"context"
	"net"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
)

func TestGossipMeta(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := gossipMeta{Boot: rapid.Uint64Min(1).Draw(t, "boot"), Peer: rapid.StringN(0, 50, 256).Draw(t, "peer"), Client: rapid.StringN(0, 50, 256).Draw(t, "client")}
		b := want.append(nil)
		var got gossipMeta
		if err := got.decode(b); err != nil || got != want {
			t.Fatalf("%+v became %+v: %v", want, got, err)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if err := got.decode(b[:cut]); err == nil {
			t.Fatalf("%d of %d bytes decode", cut, len(b))
		}
		if err := got.decode(append(b, 0)); err == nil {
			t.Fatal("bytes left over decode")
		}
	})
	for name, m := range map[string]gossipMeta{
		"boot 0":       {Peer: "a:1"},
		"long address": {Boot: 1, Peer: strings.Repeat("x", 257)},
	} {
		if err := new(gossipMeta).decode(m.append(nil)); err == nil {
			t.Errorf("%s decodes", name)
		}
	}
}

// knows reports whether a server has another one's own word on where it is.
func knows(s, other *Server) bool {
	s.addresses.mu.Lock()
	defer s.addresses.mu.Unlock()
	return s.addresses.book[other.Identity().Server] == address{other.boot, other.PeerAddr(), other.ClientAddr(), other.GossipAddr()}
}

// TestGossipSpreadsAddresses has no control plane at all: two servers learn of each other by a third, and a server that
// comes back elsewhere is found there.
func TestGossipSpreadsAddresses(t *testing.T) {
	one := startAlone(t)
	join := func(name string) func(*Config) {
		return func(c *Config) { c.Name, c.Join = name, []string{one.GossipAddr()} }
	}
	two := startAlone(t, join("s2"))
	dir := t.TempDir()
	in := func(c *Config) { c.DataDir = dir }
	three := startAlone(t, join("s3"), in)
	eventually(t, "everybody knows everybody", func() bool {
		return knows(one, two) && knows(one, three) && knows(two, one) && knows(two, three) && knows(three, one) && knows(three, two)
	})
	old := three.PeerAddr()
	if err := three.Close(); err != nil {
		t.Fatal(err)
	}
	again := startAlone(t, in, func(c *Config) { c.Name = "s3" }) // the address book is its only seed
	if again.boot != 2 || again.Identity().Server != three.Identity().Server || again.PeerAddr() == old {
		t.Fatalf("boot %d of %s at %s", again.boot, again.Identity().Server, again.PeerAddr())
	}
	eventually(t, "it is found at its new address", func() bool { return knows(one, again) && knows(two, again) })
	if got := one.addresses.peer(again.Identity().Server); got != again.PeerAddr() {
		t.Errorf("the mesh is led to %s, want %s", got, again.PeerAddr())
	}
}

// TestPoolsAreApart: another brick, color, colony or key is another pool, whoever invites.
func TestPoolsAreApart(t *testing.T) {
	one := startAlone(t, func(c *Config) { c.GossipKey = make([]byte, 32) })
	key := func(c *Config) { c.GossipKey = make([]byte, 32) }
	for name, change := range map[string]func(*Config){
		"colony":    func(c *Config) { key(c); c.Colony = "other" },
		"brick":     func(c *Config) { key(c); c.Brick = "b2" },
		"color":     func(c *Config) { key(c); c.Color = "blue" },
		"no key":    func(*Config) {},
		"other key": func(c *Config) { c.GossipKey = []byte("another key, 16b") },
	} {
		t.Run(name, func(t *testing.T) {
			other := startAlone(t, change)
			if n := other.gossip.join(t.Context(), []string{one.GossipAddr()}, 1); n != 0 || other.gossip.list.NumMembers() != 1 {
				t.Errorf("it joined: %d answered, the pool has %d", n, other.gossip.list.NumMembers())
			}
		})
	}
	same := startAlone(t, key, func(c *Config) { c.Name = "s2" })
	if n := same.gossip.join(t.Context(), []string{one.GossipAddr()}, 1); n != 1 {
		t.Errorf("a member of the pool cannot join: %d answered", n)
	}
	// The inviting side takes the newcomer in only after it has answered.
	eventually(t, "the pool has two members", func() bool { return one.gossip.list.NumMembers() == 2 })
}

// TestLostServersAreSought: memberlist forgets who was dead for long; the address book does not.
func TestLostServersAreSought(t *testing.T) {
	one := startAlone(t)
	two := startAlone(t, func(c *Config) { c.Name = "s2" })
	if lost := one.gossip.lost(); len(lost) != 0 {
		t.Fatalf("lost are %v", lost)
	}
	one.addresses.learn(two.Identity().Server, address{Boot: 1, Peer: two.PeerAddr(), Client: two.ClientAddr(), Gossip: two.GossipAddr()})
	lost := one.gossip.lost()
	if len(lost) != 1 || lost[0] != two.GossipAddr() {
		t.Fatalf("lost are %v, want %s", lost, two.GossipAddr())
	}
	if n := one.gossip.join(t.Context(), lost, lostAtOnce); n != 1 || len(one.gossip.lost()) != 0 {
		t.Errorf("%d answered, still lost are %v", n, one.gossip.lost())
	}
}

// TestCloseDuringJoin: a seed that takes connections and says nothing must not keep a server from stopping for long.
func TestCloseDuringJoin(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := startAlone(t, func(c *Config) { c.Join = []string{ln.Addr().String()} })
	for range 2 { // the probe, and memberlist's own
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if n := s.gossip.join(ended, []string{"192.0.2.1:1"}, 1); n != 0 {
		t.Error("a join after the end")
	}
}

func TestSeedsAreBounded(t *testing.T) {
	s := startAlone(t)
	g := s.gossip
	var many []string
	for i := range 5000 {
		many = append(many, net.JoinHostPort("127.0.0.1", string(rune('1'+i%9))))
	}
	g.seeds(many)
	g.seeds([]string{s.GossipAddr(), "127.0.0.1:3"})
	hopes := g.hopes()
	if len(hopes) != 9 || hopes[0] != "127.0.0.1:3" {
		t.Errorf("seeds are %v, want nine, the newest first, without this server's own", hopes)
	}
	if (cell.ServerID)(g.list.LocalNode().Name) != s.Identity().Server {
		t.Errorf("the name in the pool is %s", g.list.LocalNode().Name)
	}
}
