package discovery

import (
	"net"
	"testing"

	"go.uber.org/goleak"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOverSockets: a server pushes, a client looks up. A malformed route costs neither the others nor the connection.
func TestOverSockets(t *testing.T) {
	s := NewService(ServiceConfig{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := fleet.Serve(ln, fleet.Config{Colony: "col", Server: s.ServerHandlers(), Client: s.ClientHandlers(), Joined: s.Joined})
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	dial := func(h wire.Hello) *rpc.Conn {
		gone := make(chan struct{})
		c, err := rpc.Dial(t.Context(), f.Addr().String(), rpc.Config{Hello: h, OnClose: func(*rpc.Conn, error) { close(gone) }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(nil); <-gone })
		return c
	}
	g := wire.Registration{Server: "s1", Colony: "col", Brick: "b", Rack: "r", Power: "p", Color: "red", PeerAddr: "own:1",
		ClientAddr: "own:2", GossipAddr: "own:3", Boot: 1}
	server := dial(wire.Hello{Purpose: wire.ForControl, Colony: "col", Brick: "b", Color: "red", Server: "s1", Boot: 1})
	if err := server.Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
	push := &wire.RoutePush{Routes: []wire.Route{route("bad", 0, 1, "s1"), route("a", 3, 4, "s1", "s2"), route("gone", 2, 9)}}
	if err := server.Call(t.Context(), wire.MethodPush, push, nil); err != nil {
		t.Fatal(err)
	}
	client := dial(wire.Hello{Purpose: wire.ForClient})
	if err := client.Call(t.Context(), wire.MethodPush, push, nil); cell.KindOf(err) != cell.Refused {
		t.Fatalf("a client pushes: %v", err)
	}
	var got wire.Routes
	if err := client.Call(t.Context(), wire.MethodLookup, &wire.LookupRequest{Cells: []cell.ID{"gone", "a", "bad"}}, &got); err != nil {
		t.Fatal(err)
	}
	if r := got.Routes; !r[0].Deleted || r[1].Incarnation != 3 || r[1].Members[0].ClientAddr != "own:2" || r[2].Incarnation != 0 {
		t.Fatalf("%+v", got)
	}
	if err := client.Call(t.Context(), wire.MethodLookup, &wire.LookupRequest{}, &got); cell.KindOf(err) != cell.Invalid {
		t.Fatalf("no cells: %v", err)
	}
	if st := s.Stats(); st.Cells != 2 || st.Refused != 1 || st.Newer != 2 {
		t.Fatalf("%+v", st)
	}
}
