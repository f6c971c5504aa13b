package node

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/knock"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

const brickDuties = wire.DutyDiscovery | wire.DutyHealth

// TestDutiesOfTwoInstances: the server follows the first instance's pointer, pushes routes to whoever has the discovery duty,
// from the beginning when it moves, and keeps one connection to each.
func TestDutiesOfTwoInstances(t *testing.T) {
	first, second := newControlPlane(t), newControlPlane(t)
	there := []wire.DutyHolder{{Duties: brickDuties, Name: "second", Addr: second.addr()}}
	moved := false
	first.answer = func(wants wire.Duties) *wire.Registered {
		if moved {
			return &wire.Registered{Control: "first", Takes: wants}
		}
		return &wire.Registered{Control: "first", Takes: wants & wire.DutyLifecycle, Elsewhere: there}
	}
	second.answer = func(wants wire.Duties) *wire.Registered {
		return &wire.Registered{Control: "second", Takes: wants & brickDuties}
	}
	s := startAlone(t, func(cfg *Config) { cfg.Control = []string{first.addr()} })
	first.create(s, cellIDs(20)...)
	eventually(t, "the second has all routes", func() bool { return second.holds(20) })
	if first.routes() != 0 || first.sessions() != 1 || second.sessions() != 1 {
		t.Errorf("the first has %d routes; %d and %d registrations", first.routes(), first.sessions(), second.sessions())
	}
	second.locked(func() {
		if wants := second.registrations[0].Wants; wants != brickDuties {
			t.Errorf("it wanted %v of the second", wants)
		}
	})

	first.locked(func() { moved = true })
	gone := second.session()
	back := &wire.DutiesMoved{Duties: brickDuties, Elsewhere: []wire.DutyHolder{{Duties: brickDuties, Name: "first", Addr: "somewhere:1"}}}
	// A server that has no duty left for this instance closes the connection, perhaps before its answer has left; whoever told it
	// takes both for the same.
	if err := gone.Call(t.Context(), wire.MethodDutiesMoved, back, nil); err != nil && cell.KindOf(err) != cell.UnknownResult {
		t.Fatal(err)
	}
	eventually(t, "the first has all routes, too", func() bool { return first.sessions() == 2 && first.holds(20) })
	<-gone.Done() // it serves nothing any more
	if first.sessions() != 2 || second.sessions() != 1 {
		t.Errorf("%d and %d registrations", first.sessions(), second.sessions())
	}
	first.create(s, "vol-new")
	eventually(t, "and hears what is new", func() bool { return first.routes() == 21 })
}

// TestDialBackHasToBeProven: whoever connects to a server as the control plane has to know the key, and a nonce that the
// server has sent and nobody has used.
func TestDialBackHasToBeProven(t *testing.T) {
	key, err := knock.NewKey([]byte(strings.Repeat("k", knock.KeyBytesMin)))
	if err != nil {
		t.Fatal(err)
	}
	door, err := net.ListenPacket("udp", "127.0.0.1:0") // nobody listens for connections at this port
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	s := startAlone(t, func(cfg *Config) { cfg.Control, cfg.KnockKey = []string{door.LocalAddr().String()}, key })
	buf := make([]byte, 2048)
	if err := door.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, _, err := door.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	k, why := key.Open("test", buf[:n])
	if why != "" || k.Server != s.Identity().Server || k.Boot != 1 || k.Nonce == [16]byte{} {
		t.Fatalf("knock is %+v, %q", k, why)
	}

	registered := make(chan wire.Registration, 8)
	call := func(m *wire.DialBack) (*rpc.Conn, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, err := rpc.Dial(ctx, s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForDialBack, Colony: "test"}, FrameMax: wire.ControlFrameMax,
			Handler: rpc.HandlerFunc(func(c *rpc.Conn, q rpc.Request) {
				var g wire.Registration
				if q.Method == wire.MethodRegister && wire.Unmarshal(q.Params, &g) == nil {
					registered <- g
				}
				c.Reply(q.ID, &wire.Registered{Control: "c", Takes: g.Wants}, nil)
			})})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(nil) })
		if err := conn.Call(ctx, wire.MethodPing, nil, nil); !errors.Is(err, cell.Refused) {
			t.Errorf("before any proof, a ping is answered with %v", err)
		}
		return conn, conn.Call(ctx, wire.MethodDialBack, m, nil)
	}
	stranger := &wire.DialBack{Control: "c", Addr: "c:1"}
	key.Prove("test", s.Identity().Server, 1, stranger)
	guesser := &wire.DialBack{Control: "c", Addr: "c:1", Nonce: k.Nonce}
	for name, m := range map[string]*wire.DialBack{"no nonce of a knock": stranger, "no key": guesser} {
		if _, err := call(m); !errors.Is(err, cell.Refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := &wire.DialBack{Control: "c", Addr: "c:1", Nonce: k.Nonce}
	key.Prove("test", s.Identity().Server, 1, good)
	conn, err := call(good)
	if err != nil {
		t.Fatal(err)
	}
	if g := <-registered; g.Server != k.Server || g.Wants != wire.AllDuties {
		t.Errorf("over the proven connection registers %+v", g)
	}
	if err := conn.Call(t.Context(), wire.MethodPing, nil, &wire.Pong{}); err != nil {
		t.Errorf("ping: %v", err)
	}
	if _, err := call(good); !errors.Is(err, cell.Refused) {
		t.Errorf("the same proof again: %v", err)
	}
}

// TestNoKnocksNoDialBack: without a key, nobody connects to a server as the control plane.
func TestNoKnocksNoDialBack(t *testing.T) {
	s := startAlone(t)
	if _, err := rpc.Dial(t.Context(), s.ClientAddr(), rpc.Config{Hello: wire.Hello{Purpose: wire.ForDialBack, Colony: "test"}}); !errors.Is(err, cell.Refused) {
		t.Errorf("it was let in: %v", err)
	}
}
