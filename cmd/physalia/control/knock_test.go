package control

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"physalia/internal/knock"
	"physalia/internal/wire"
	"physalia/node"
)

func serverConfig(t *testing.T, dir, control string, key knock.Key) node.Config {
	t.Helper()
	return node.Config{DataDir: dir, Colony: "test", Name: "s1", Brick: "b1", Rack: "r1", Power: "p1", Color: "red", ListenPeer: "127.0.0.1:0",
		ListenClient: "127.0.0.1:0", ListenGossip: "127.0.0.1:0", Control: []string{control}, KnockKey: key, MemTableBytes: 4 << 20,
		Logger: slog.New(slog.DiscardHandler)}
}

// eventually waits until something holds; how long it takes is nobody's business here.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// session tells whether the server is connected with a boot number, for every duty.
func session(p *Control, boot uint64) func() bool {
	return func() bool {
		s := p.fleet.Sessions()
		return len(s) == 1 && s[0].Registration.Boot == boot && len(p.fleet.SessionsFor(wire.AllDuties)) == 1
	}
}

// A server connects the first time of all. From then on it knocks, and is called at the address that it registered, also by
// the next control process, which knows it from the store.
func TestServerKnocks(t *testing.T) {
	key, err := knock.NewKey([]byte(strings.Repeat("k", knock.KeyBytesMin)))
	if err != nil {
		t.Fatal(err)
	}
	c := config(t)
	c.KnockKey = key
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := node.Start(serverConfig(t, dir, p.Addr(), key))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a stranger connects", session(p, 1))
	if k := p.fleet.KnockStats(); k.Called != 0 {
		t.Errorf("a stranger was called: %+v", k)
	}
	client := s.ClientAddr()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := serverConfig(t, dir, p.Addr(), key)
	again.ListenClient = client
	if s, err = node.Start(again); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it knocks and is called", session(p, 2))
	eventually(t, "its call is counted", func() bool { return p.fleet.KnockStats().Called == 1 }) // just after its session is there
	if body := get(t, "http://"+p.OpsAddr()+"/metrics"); !strings.Contains(body, `physalia_control_calls_back_total{result="accepted"} 1`) ||
		!strings.Contains(body, `physalia_control_knocks_dropped_total{reason="forged"} 0`) {
		t.Errorf("the metrics do not tell of knocks:\n%s", body)
	}

	c.Listen = p.Addr()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = start(t, c)
	eventually(t, "the next control process calls it", session(p, 2))
	eventually(t, "the call of the next process is counted", func() bool { return p.fleet.KnockStats().Called == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
