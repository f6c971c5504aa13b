package fleet

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/knock"
	"physalia/internal/roster"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// board is a roster of control-1, which the tests serve, and control-2, with the brick b1 of the tests at the second.
func board(list ...roster.Instance) *roster.Board { return roster.NewBoard("control-1", list...) }

func instance(n int, active bool) roster.Instance {
	return roster.Instance{Name: fmt.Sprintf("control-%d", n), Addr: fmt.Sprintf("c%d:7300", n), Active: active}
}

// brickOf finds a brick that an instance owns.
func brickOf(t *testing.T, f *Fleet, mine bool) string {
	t.Helper()
	for i := range 100 {
		brick := fmt.Sprintf("b%d", i)
		if f.table.Mine(brick)&wire.DutyHealth != 0 == mine {
			return brick
		}
	}
	t.Fatal("no such brick")
	return ""
}

func TestRegistrationIsPointedElsewhere(t *testing.T) {
	duties := newJournal()
	b := board(instance(1, true), instance(2, false))
	f, j := serve(t, Config{Roster: b, Duty: func(g wire.Registration, had, has wire.Duties) {
		duties.add(fmt.Sprintf("%s %v -> %v", g.Server, had, has))
	}})
	g := registration("s1", 1)
	g.Brick = brickOf(t, f, false)
	g.Wants = wire.DutyDiscovery | wire.DutyHealth
	moved := make(chan wire.DutiesMoved, 1)
	c, err := dial(t, f, helloOf(g), func(c *rpc.Conn, req rpc.Request) {
		var m wire.DutiesMoved
		if req.Method == wire.MethodDutiesMoved && wire.Unmarshal(req.Params, &m) == nil {
			moved <- m
		}
		c.Reply(req.ID, nil, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(wants wire.Duties) (r wire.Registered) {
		t.Helper()
		g.Wants = wants
		if err := c.Call(t.Context(), wire.MethodRegister, &g, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	second := []wire.DutyHolder{{Duties: wire.DutyDiscovery | wire.DutyHealth, Name: "control-2", Addr: "c2:7300"}}
	if r := ask(wire.DutyDiscovery | wire.DutyHealth); r.Takes != 0 || !slices.Equal(r.Elsewhere, second) || r.Control != "control-1" {
		t.Errorf("it was told %+v", r)
	}
	if len(f.Sessions()) != 0 {
		t.Error("a connection without a duty is a session")
	}
	if r := ask(wire.AllDuties); r.Takes != wire.DutyLifecycle || !slices.Equal(r.Elsewhere, second) {
		t.Errorf("it was told %+v", r)
	}
	duties.wait("s1 none -> lifecycle")
	if got := f.SessionsFor(wire.DutyHealth); len(got) != 0 || len(f.SessionsFor(wire.DutyLifecycle)) != 1 {
		t.Errorf("sessions for health: %v", got)
	}

	b.Set([]roster.Instance{instance(1, true)}) // the other dies; what it had comes with the server
	f.RosterChanged()
	if r := ask(wire.DutyDiscovery | wire.DutyHealth); r.Takes != wire.DutyDiscovery|wire.DutyHealth || r.Elsewhere != nil {
		t.Errorf("it was told %+v", r)
	}
	duties.wait("s1 none -> lifecycle", "s1 lifecycle -> lifecycle+discovery+health")

	b.Set([]roster.Instance{instance(1, false), instance(2, true)}) // it comes back, and is elected
	f.RosterChanged()
	second[0].Duties = wire.AllDuties
	if m := <-moved; m.Duties != wire.AllDuties || !slices.Equal(m.Elsewhere, second) {
		t.Errorf("it was told that %+v", m)
	}
	duties.wait("s1 none -> lifecycle", "s1 lifecycle -> lifecycle+discovery+health", "s1 lifecycle+discovery+health -> none")
	j.wait("+s1.1", "+s1.1", "-s1")
	if err := f.Call(t.Context(), "s1", wire.MethodPing, nil, nil); !errors.Is(err, cell.Unavailable) {
		t.Errorf("a call to a server that is another's business: %v", err)
	}
	if s := f.Stats(); s.Told != 1 || s.Registered != 2 || s.Redirected != 1 || s.Connected != 0 {
		t.Errorf("%+v", s)
	}
	if c.Err() != nil {
		t.Errorf("the connection was closed: %v", c.Err())
	}
}

// Whoever comes when there is no token left is refused in the handshake, with a time of its own; who is in and asks again
// pays as well.
func TestPaceOfRegistrations(t *testing.T) {
	f, _ := serve(t, Config{RegistersPerSecond: 1, RegistersAtOnce: 2})
	first, _ := mustJoin(t, f, registration("s1", 1))
	mustJoin(t, f, registration("s2", 1))
	var last time.Duration
	for i := range 5 {
		_, err := dial(t, f, helloOf(registration(fmt.Sprintf("late-%d", i), 1)), nil)
		var e *cell.Error
		if !errors.As(err, &e) || e.Kind != cell.Overloaded || e.RetryAfter <= last {
			t.Fatalf("refusal %d: %v, the last was after %v", i, err, last)
		}
		last = e.RetryAfter
	}
	g := registration("s1", 1)
	if err := first.Call(t.Context(), wire.MethodRegister, &g, nil); cell.KindOf(err) != cell.Overloaded {
		t.Errorf("it registers again: %v", err)
	}
	if _, err := dial(t, f, wire.Hello{Purpose: wire.ForClient, Colony: "col"}, nil); err != nil {
		t.Errorf("clients wait for servers: %v", err)
	}
	if s := f.Stats(); s.Admitted != 2 || s.Refused != 6 || s.Connected != 2 {
		t.Errorf("%+v", s)
	}
}

func TestTooManyRegisterAtOnce(t *testing.T) {
	f, _ := serve(t, Config{EnteringMax: 2})
	var entering []*rpc.Conn
	for i := range 2 {
		c, err := dial(t, f, helloOf(registration(fmt.Sprintf("s%d", i), 1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		entering = append(entering, c)
	}
	if _, err := dial(t, f, helloOf(registration("s3", 1)), nil); cell.KindOf(err) != cell.Overloaded {
		t.Fatalf("a third enters: %v", err)
	}
	g := registration("s0", 1)
	if err := entering[0].Call(t.Context(), wire.MethodRegister, &g, nil); err != nil {
		t.Fatal(err)
	}
	mustJoin(t, f, registration("s4", 1))
	if s := f.Stats(); s.Full != 1 {
		t.Errorf("%+v", s)
	}
}

// doorbell is a fleet that may be knocked at, and the means to knock.
func doorbell(t *testing.T) (*Fleet, knock.Key, func([]byte)) {
	t.Helper()
	key, err := knock.NewKey([]byte(strings.Repeat("k", knock.KeyBytesMin)))
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, _ := serve(t, Config{Knocks: &Knocks{Packets: packets, Key: key}})
	out, err := net.Dial("udp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return f, key, func(b []byte) {
		if _, err := out.Write(b); err != nil {
			t.Error(err)
		}
	}
}

func dropped(f *Fleet, why knock.Refusal, n uint64) {
	for f.KnockStats().Dropped[why] < n {
		<-time.After(time.Millisecond) // a datagram is read when it is
	}
}

func TestKnocksThatAreDropped(t *testing.T) {
	f, key, send := doorbell(t)
	now := time.Now().UnixMilli()
	send([]byte("hello"))
	dropped(f, knock.Malformed, 1)
	send(make([]byte, 1400))
	dropped(f, knock.Malformed, 2)
	send(key.Seal("other colony", knock.Knock{Server: "s1", Boot: 1, At: now}))
	dropped(f, knock.Forged, 1)
	send(key.Seal("col", knock.Knock{Server: "s1", Boot: 1, At: now}))
	dropped(f, knock.Unknown, 1)
	send(key.Seal("col", knock.Knock{Server: "s1", Boot: 1, At: now - 2*knock.Window.Milliseconds()}))
	dropped(f, knock.Late, 1)
	mustJoin(t, f, registration("s1", 1))
	send(key.Seal("col", knock.Knock{Server: "s1", Boot: 1, At: now}))
	dropped(f, knock.Connected, 1)
	if k := f.KnockStats(); k.Taken != 0 || k.Called != 0 || k.Failed != 0 || k.Waiting != 0 {
		t.Errorf("%+v", k)
	}
}

// The address that is called is the registered one, and who answers there has to be the server that knocked.
func TestCallReachesSomebodyElse(t *testing.T) {
	f, key, send := doorbell(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := rpc.NewServer(ln, rpc.Config{Hello: wire.Hello{Colony: "col", Server: "s2"}})
	defer other.Close()
	g := registration("s1", 1)
	g.ClientAddr = other.Addr().String()
	f.Remember([]wire.Registration{g})
	send(key.Seal("col", knock.Knock{Server: "s1", Boot: 2, At: time.Now().UnixMilli()}))
	for f.KnockStats().Failed == 0 {
		<-time.After(time.Millisecond)
	}
	if k := f.KnockStats(); k.Taken != 1 || k.Called != 0 || len(f.Sessions()) != 0 {
		t.Errorf("%+v", k)
	}
}
