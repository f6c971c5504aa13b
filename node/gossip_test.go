package node

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
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

// life is one life of a server, of which there is nothing but gossip: as little of that as can be, so that what happens does
// not depend on chance or patience. It tells others only when it joins, and what they told it, it never hears again.
func life(t *testing.T, name string, boot uint64, silent func() int, change ...func(*Config)) *gossip {
	t.Helper()
	c := goodConfig("")
	for _, f := range change {
		f(&c)
	}
	book := &addressBook{logger: c.Logger, changed: func(cell.ServerID, address) {}, book: make(map[cell.ServerID]address)}
	g, err := newGossip(book, cell.ServerID(name), gossipMeta{Boot: boot, Peer: fmt.Sprintf("%s:%d", name, boot)}, silent, c.Logger)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := g.config(&c, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.PushPullInterval, cfg.ProbeInterval, cfg.GossipInterval = 0, 0, 0 // pings carry gossip, too
	if g.list, err = memberlist.Create(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.list.Shutdown(); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return g
}

func nobodySilent() int { return 0 }

// joined joins one to another and waits until that one's book tells where the newcomer is.
func joined(t *testing.T, g, to *gossip) {
	t.Helper()
	if n := g.join(t.Context(), []string{to.addr()}, 1); n != 1 {
		t.Fatalf("%s cannot join %s", g.self, to.self)
	}
	want := fmt.Sprintf("%s:%d", g.self, g.boot)
	eventually(t, fmt.Sprintf("%s learns of %s", to.self, want), func() bool { return to.book.peer(g.self) == want })
}

// TestKilledServerIsBelievedElsewhere: a server that could say no goodbye comes back at another address while everybody takes
// its life before for alive, and whoever it tells believes it at once.
func TestKilledServerIsBelievedElsewhere(t *testing.T) {
	witness := life(t, "s1", 1, nobodySilent)
	first := life(t, "s2", 1, nobodySilent)
	joined(t, first, witness)
	if err := first.list.Shutdown(); err != nil { // without Leave
		t.Fatal(err)
	}
	second := life(t, "s2", 2, nobodySilent)
	joined(t, second, witness)
	if n := witness.members(); n != 2 {
		t.Errorf("the pool has %d servers, want 2", n)
	}
	if len(second.present()) != 1 || len(second.lost()) != 0 {
		t.Errorf("its life before counts as another server: %v", second.present())
	}
	third := life(t, "s3", 1, nobodySilent)
	joined(t, third, witness)
	if got := third.book.peer("s2"); got != "s2:2" {
		t.Errorf("others are told %q", got)
	}
}

// TestSilentPeersAreAskedAfter: word of mouth missed a server, and whoever misses it as a peer asks somebody who knows.
func TestSilentPeersAreAskedAfter(t *testing.T) {
	witness := life(t, "s1", 1, nobodySilent)
	var asker *gossip
	asker = life(t, "s2", 1, func() int {
		if asker.book.peer("s3") == "" {
			return 1
		}
		return 0
	})
	joined(t, asker, witness)
	late := life(t, "s3", 1, nobodySilent)
	joined(t, late, witness)
	if got := asker.book.peer("s3"); got != "" {
		t.Fatalf("it was told without being asked: %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); asker.run(ctx) }()
	eventually(t, "it asks", func() bool { return asker.book.peer("s3") == "s3:1" })
	cancel()
	<-ended
}

func TestSearchIsPaced(t *testing.T) {
	var s search
	for i, step := range []struct {
		at     time.Duration // seconds
		silent int
		want   bool
	}{
		{0, 0, false}, {1, 2, true}, {1, 2, false}, {2, 2, true}, {3, 2, false}, {4, 2, true}, {7, 2, false}, {8, 2, true}, // ever more rarely
		{9, 3, true}, {10, 3, true}, {11, 3, false}, // somebody new
		{12, 1, true}, {13, 0, false}, {14, 1, true}, {15, 1, true}, {16, 1, false}, // all are back, then one is silent again
	} {
		if got := s.due(step.at*time.Second, step.silent); got != step.want {
			t.Errorf("step %d: at %d s with %d silent: %v", i, step.at, step.silent, got)
		}
	}
	asked := 0
	for at := time.Minute; at < 2*time.Hour; at += time.Second {
		if s.due(at, 1) {
			asked++
		}
	}
	if asked < 110 || asked > 130 {
		t.Errorf("asked %d times in two hours, want about once a minute", asked)
	}
}

func TestNamesOfLives(t *testing.T) {
	for _, id := range []cell.ServerID{"s1-x", "a/b:c.d_e", "9"} {
		got, boot, err := parseLife(lifeName(id, 7))
		if got != id || boot != 7 || err != nil {
			t.Errorf("%s became %s, boot %d, %v", id, got, boot, err)
		}
	}
	for _, bad := range []string{"", "s1", "s1#", "#1", "s1#x", "s1#1#2", "s1#-1", "s 1#1"} {
		if id, boot, err := parseLife(bad); err == nil {
			t.Errorf("%q is %s, boot %d", bad, id, boot)
		}
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
	if g.list.LocalNode().Name != lifeName(s.Identity().Server, 1) {
		t.Errorf("the name in the pool is %s", g.list.LocalNode().Name)
	}
}

// TestKeysAreChangedUnderAPool: at every step of a rotation two servers understand each other, of which only one has done it; at the
// end the old key opens nothing.
func TestKeysAreChangedUnderAPool(t *testing.T) {
	keys := [][]byte{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}
	keyed := func(c *Config) { c.GossipKey = keys[0] }
	one, two := life(t, "s1", 1, nobodySilent, keyed), life(t, "s2", 1, nobodySilent, keyed)
	joined(t, two, one)
	for _, step := range [][][]byte{{keys[0], keys[1]}, {keys[1], keys[0]}, {keys[1]}} {
		for i, g := range []*gossip{one, two} {
			if err := turn(g.keys, step); err != nil {
				t.Fatal(err)
			}
			if n := two.join(t.Context(), []string{one.addr()}, 1); n != 1 {
				t.Errorf("with %d keys, and %d of 2 servers changed, they do not understand each other", len(step), i+1)
			}
		}
	}
	if now := one.keys.GetKeys(); len(now) != 1 || !bytes.Equal(now[0], keys[1]) {
		t.Errorf("%d keys are left", len(now))
	}
	if n := life(t, "s3", 1, nobodySilent, keyed).join(t.Context(), []string{one.addr()}, 1); n != 0 {
		t.Error("the old key still opens the pool")
	}
}
