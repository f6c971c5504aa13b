package node

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"physalia/internal/pki"
	"physalia/internal/refusal"
)

// gossiper is a member of memberlist of an attacker's own making.
func gossiper(t *testing.T, label string, key []byte) *memberlist.Memberlist {
	t.Helper()
	cfg := memberlist.DefaultLANConfig()
	cfg.Name, cfg.BindAddr, cfg.BindPort, cfg.AdvertisePort = "mallory#1", "127.0.0.1", 0, 0
	cfg.Label, cfg.SecretKey = label, key
	cfg.LogOutput = discard{}
	cfg.TCPTimeout = time.Second
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return m
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// TestHostileGossip: garbage, and gossip of other pools and under other keys, by packets and streams, is refused and counted; the
// pool stays as it is.
func TestHostileGossip(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	c := newTestColony(t, 3, func(_ int, cfg *Config) { cfg.GossipKey = key })
	s := c.servers[0]
	eventually(t, "the pool has everybody", func() bool { return s.gossip.members() == 3 })
	before := heap()
	label := fmt.Sprintf("physalia/%s/%s/%s", s.cfg.Colony, s.cfg.Brick, s.cfg.Color)
	labelled := func(rest ...byte) []byte { return append(append([]byte{244, byte(len(label))}, label...), rest...) }
	hostilePackets(t, s, labelled)
	hostileStreams(t, s, labelled)
	for why, m := range map[refusal.Reason]*memberlist.Memberlist{
		refusal.OtherLabel: gossiper(t, "physalia/test/b1/blue", key),
		refusal.OtherKey:   gossiper(t, label, bytes.Repeat([]byte{8}, 32)),
	} {
		n := s.guard.Refused(pki.GossipPort, pki.Accepting, why)
		if joined, err := m.Join([]string{s.GossipAddr()}); err == nil {
			t.Errorf("%q has joined %d", why, joined)
		}
		counted(t, s, pki.GossipPort, why, n, 1)
	}
	var crowd crowd
	crowd.come(t, 1000, s.GossipAddr(), "127.0.0.66", labelled(10, 0, 0, 1, 0))
	counted(t, s, pki.GossipPort, refusal.TooManyFrom, 0, 100)
	eventually(t, "the slow streams are sent away", func() bool { return crowd.size() == 0 })
	crowd.leave()
	bounded(t, before, heapSlack)
	if n := s.gossip.members(); n != 3 {
		t.Errorf("the pool has %d members", n)
	}
}

// hostilePackets sends packets that nobody may take for gossip.
func hostilePackets(t *testing.T, s *Server, labelled func(...byte) []byte) {
	for name, a := range map[string]struct {
		packet []byte
		why    refusal.Reason
	}{
		"garbage":              {[]byte("GET / HTTP/1.1"), refusal.OtherLabel},
		"cut label":            {[]byte{244, 200, 'x'}, refusal.OtherLabel},
		"label of length 0":    {[]byte{244, 0}, refusal.OtherLabel},
		"label alone":          {labelled(), refusal.OtherKey},
		"labelled garbage":     {labelled(bytes.Repeat([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, 100)...), refusal.OtherKey},
		"labelled plain ping":  {labelled(0, 0x82, 0xa5, 'S', 'e', 'q', 'N', 'o', 1), refusal.OtherKey},
		"labelled zeros, long": {labelled(make([]byte, 60_000)...), refusal.OtherKey},
	} {
		n := s.guard.Refused(pki.GossipPort, pki.Accepting, a.why)
		nc, err := net.Dial("udp", s.GossipAddr())
		if err != nil {
			t.Fatal(err)
		}
		// A packet may be lost, so it is sent until it has arrived.
		eventually(t, name+" by packet is counted", func() bool {
			if _, err := nc.Write(a.packet); err != nil {
				t.Log(err)
			}
			return s.guard.Refused(pki.GossipPort, pki.Accepting, a.why) > n
		})
		nc.Close()
	}
}

// hostileStreams does the same with streams.
func hostileStreams(t *testing.T, s *Server, labelled func(...byte) []byte) {
	for name, a := range map[string]struct {
		bytes []byte
		why   refusal.Reason
	}{
		"garbage":               {[]byte("GET / HTTP/1.1"), refusal.OtherLabel},
		"cut label":             {[]byte{244, 200, 'x'}, refusal.OtherLabel},
		"plain state":           {labelled(6, 0x83), refusal.OtherKey},
		"4 GiB of ciphertext":   {labelled(10, 0xff, 0xff, 0xff, 0xff), refusal.LargeFrame},
		"zeros as ciphertext":   {labelled(append([]byte{10, 0, 0, 0, 64}, make([]byte, 64)...)...), refusal.OtherKey},
		"more than a pool says": {labelled(append([]byte{10, 1, 0, 0, 0}, make([]byte, gossipStreamBytes)...)...), refusal.LargeFrame},
	} {
		n := s.guard.Refused(pki.GossipPort, pki.Accepting, a.why)
		i := intrude(t, s.GossipAddr(), "")
		i.say(t, a.bytes)
		if name != "more than a pool says" {
			if err := i.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Logf("closed already: %v", err)
			}
		}
		counted(t, s, pki.GossipPort, a.why, n, 1)
		i.ended(t)
	}
	silent := s.guard.Refused(pki.GossipPort, pki.Accepting, refusal.SlowStart)
	intrude(t, s.GossipAddr(), "") // says nothing
	counted(t, s, pki.GossipPort, refusal.SlowStart, silent, 1)
}

// TestProbesOfTheGossipPortAreNoRefusals: servers look whether a port is open before they let memberlist wait for it.
func TestProbesOfTheGossipPortAreNoRefusals(t *testing.T) {
	s := startAlone(t)
	for range 10 {
		nc, err := net.Dial("tcp", s.GossipAddr())
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	silent := s.guard.Refused(pki.GossipPort, pki.Accepting, refusal.SlowStart)
	intrude(t, s.GossipAddr(), "") // comes last, and is counted last
	counted(t, s, pki.GossipPort, refusal.SlowStart, silent, 1)
	for r := refusal.Welcome; r < refusal.Count; r++ {
		if n := s.guard.Refused(pki.GossipPort, pki.Accepting, r); n != 0 && r != refusal.SlowStart {
			t.Errorf("%d counted as %q", n, r)
		}
	}
}
