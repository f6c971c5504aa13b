package pki

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/wire"
)

func server(name, brick, color string) Identity {
	return Identity{Colony: "eu1", Role: Server, Brick: brick, Color: color, Name: name}
}

func person(role Role) Identity { return Identity{Colony: "eu1", Role: role, Name: "x"} }

// chainOf is what a verified chain looks like to Judge, which reads nothing but the identity.
func chainOf(t *testing.T, uris ...string) []*x509.Certificate {
	t.Helper()
	c := &x509.Certificate{}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = append(c.URIs, u)
	}
	return []*x509.Certificate{c}
}

// TestRolesAndPorts compares Judge with the whole matrix, written out by hand.
func TestRolesAndPorts(t *testing.T) {
	takes := map[Port]string{PeerPort: "server", ClientPort: "control client operator", ControlPort: "server control client operator", OpsPort: "control client operator", AnyPort: ""}
	meets := map[Port]string{PeerPort: "server", ClientPort: "server", ControlPort: "control", OpsPort: "server control", AnyPort: "server control"}
	self := server("s1", "b1", "red")
	for side, table := range []map[Port]string{Accepting: takes, Dialling: meets} {
		for port := range portCount {
			for _, role := range []Role{Server, Control, Client, Operator} {
				other := person(role)
				if role == Server {
					other = server("s2", "b1", "red")
				}
				want := WrongRole
				if strings.Contains(" "+table[port]+" ", " "+string(role)+" ") {
					want = Welcome
				}
				got := Welcome
				id, why := Judge(self, port, Side(side), chainOf(t, other.String()))
				if why != nil {
					got = why.Reason
				}
				if got != want || id != other {
					t.Errorf("%s %s: %s is judged %q, want %q", sideNames[side], port, other, got, want)
				}
			}
		}
	}
}

// TestJudge: colony always, brick and color among peers only.
func TestJudge(t *testing.T) {
	self := server("s1", "b1", "red")
	for _, c := range []struct {
		port  Port
		other []string
		want  Reason
	}{
		{PeerPort, []string{"physalia://eu2/server/b1/red/s2"}, OtherColony},
		{PeerPort, []string{"physalia://eu1/server/b2/red/s2"}, OtherBrick},
		{PeerPort, []string{"physalia://eu1/server/b1/blue/s2"}, OtherColor},
		{ControlPort, []string{"physalia://eu1/server/b2/blue/s2"}, Welcome},
		{ControlPort, []string{"physalia://EU1/server/b1/red/s2"}, OtherColony},
		{ClientPort, []string{"physalia://eu2/client/c"}, OtherColony},
		{PeerPort, nil, NoIdentity},
		{PeerPort, []string{"https://eu1/server/b1/red/s2"}, NoIdentity},
		{PeerPort, []string{"physalia://eu1/server/b1/red/s2", "physalia://eu1/operator/o"}, NoIdentity},
		{PeerPort, []string{"physalia://eu1/server/s2"}, NoIdentity},
		{ClientPort, []string{"physalia://eu1/king/k"}, NoIdentity},
		{ClientPort, []string{"physalia://eu1/client/a%2Fb"}, NoIdentity},
	} {
		got := Welcome
		if _, why := Judge(self, c.port, Accepting, chainOf(t, c.other...)); why != nil {
			got = why.Reason
		}
		if got != c.want {
			t.Errorf("%s: %v is judged %q, want %q", c.port, c.other, got, c.want)
		}
	}
}

// TestJudgeHello: nobody may say of himself what his certificate does not.
func TestJudgeHello(t *testing.T) {
	s2 := server("s2", "b1", "red")
	asServer := wire.Hello{Purpose: wire.ForPaxos, Colony: "eu1", Brick: "b1", Color: "red", Server: "s2-k3v9q2xa"}
	with := func(change func(*wire.Hello)) wire.Hello {
		h := asServer
		change(&h)
		return h
	}
	for name, c := range map[string]struct {
		side  Side
		other Identity
		hello wire.Hello
		want  Reason
	}{
		"a peer":                     {Accepting, s2, asServer, Welcome},
		"a server to control":        {Accepting, s2, with(func(h *wire.Hello) { h.Purpose = wire.ForControl }), Welcome},
		"a server as a client":       {Accepting, s2, wire.Hello{Purpose: wire.ForClient, Colony: "eu1"}, WrongRole},
		"a server that answers":      {Dialling, s2, with(func(h *wire.Hello) { h.Purpose = 0 }), Welcome},
		"an unknown purpose":         {Accepting, s2, with(func(h *wire.Hello) { h.Purpose = 200 }), Welcome},
		"another colony":             {Accepting, s2, with(func(h *wire.Hello) { h.Colony = "eu2" }), OtherColony},
		"another brick":              {Accepting, s2, with(func(h *wire.Hello) { h.Brick = "b2" }), OtherBrick},
		"another color":              {Accepting, s2, with(func(h *wire.Hello) { h.Color = "blue" }), OtherColor},
		"another name":               {Accepting, s2, with(func(h *wire.Hello) { h.Server = "s1-k3v9q2xa" }), OtherName},
		"a longer name":              {Accepting, s2, with(func(h *wire.Hello) { h.Server = "s2-b-k3v9q2xa" }), OtherName},
		"the bare name":              {Accepting, s2, with(func(h *wire.Hello) { h.Server = "s2" }), OtherName},
		"no random part":             {Dialling, s2, with(func(h *wire.Hello) { h.Server = "s2-" }), OtherName},
		"a client":                   {Accepting, person(Client), wire.Hello{Purpose: wire.ForClient}, Welcome},
		"an operator":                {Accepting, person(Operator), wire.Hello{Purpose: wire.ForClient, Colony: "eu1"}, Welcome},
		"control that forwards":      {Accepting, person(Control), wire.Hello{Purpose: wire.ForClient, Colony: "eu1"}, Welcome},
		"control that calls back":    {Accepting, person(Control), wire.Hello{Purpose: wire.ForDialBack, Colony: "eu1"}, Welcome},
		"a client that calls back":   {Accepting, person(Client), wire.Hello{Purpose: wire.ForDialBack, Colony: "eu1"}, WrongRole},
		"an operator as a server":    {Accepting, person(Operator), asServer, WrongRole},
		"control that answers":       {Dialling, person(Control), wire.Hello{Purpose: wire.ForControl, Colony: "eu1"}, Welcome},
		"control answers as server":  {Dialling, person(Control), asServer, WrongRole},
		"a server answers as nobody": {Dialling, s2, wire.Hello{Purpose: wire.ForControl, Colony: "eu1"}, WrongRole},
	} {
		got := Welcome
		if why := JudgeHello(c.side, c.other, &c.hello); why != nil {
			got = why.Reason
		}
		if got != c.want {
			t.Errorf("%s is judged %q, want %q", name, got, c.want)
		}
	}
}

// FuzzParseIdentity: whatever is read is well-formed and is written as it was read.
func FuzzParseIdentity(f *testing.F) {
	for _, text := range []string{"", "physalia://", "physalia://eu1/server/b1/red/s1", "physalia://eu1/client/c", "physalia://eu1/operator/..", "physalia://e..u/control/c", "physalia://eu1/server/b1/red/s1/x", strings.Repeat("a", 1000)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseIdentity(text)
		if err != nil {
			if cell.KindOf(err) != cell.Invalid {
				t.Errorf("%v", err)
			}
			return
		}
		if id.Check() != nil || id.String() != text {
			t.Errorf("%q is read as %+v, written as %q", text, id, id)
		}
	})
}

// TestReasonsHaveNames: a metric without one would be a series without a label.
func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range refusal.Count {
		if seen[r.String()] || r != Welcome && r.String() == "" {
			t.Errorf("reason %d is %q", r, r)
		}
		seen[r.String()] = true
	}
}

// TestHalfLife: with the lives that certificates have, two weeks without a renewal expire nothing.
func TestHalfLife(t *testing.T) {
	now := time.Now()
	c := &x509.Certificate{NotBefore: now.Add(-backdate), NotAfter: now.Add(LeafLife)}
	if left := c.NotAfter.Sub(RenewFrom(c)); left < 14*24*time.Hour {
		t.Errorf("%v are left at half-life", left)
	}
}
