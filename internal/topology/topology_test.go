package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
)

func server(id, brick, rack, power, color string) Server {
	return Server{ID: cell.ServerID(id), Name: "n-" + id, Brick: Brick(brick), Rack: Rack(rack),
		Power: PowerDomain(power), Color: Color(color), Capacity: 10}
}

func TestCheck(t *testing.T) {
	good := server("s1", "b1", "r1", "p1", "red")
	cases := []struct {
		name   string
		change func(*Server)
		want   string // part of the error; empty: accepted
	}{
		{"good", func(*Server) {}, ""},
		{"no identity", func(s *Server) { s.ID = "" }, "server identity has 0 bytes"},
		{"no brick", func(s *Server) { s.Brick = "" }, `has brick ""`},
		{"no rack", func(s *Server) { s.Rack = "" }, `has rack ""`},
		{"no power", func(s *Server) { s.Power = "" }, `has power domain ""`},
		{"no color", func(s *Server) { s.Color = "" }, `has color ""`},
		{"space in rack", func(s *Server) { s.Rack = "r 1" }, `has rack "r 1"`},
		{"long color", func(s *Server) { s.Color = Color(strings.Repeat("c", 65)) }, `has color "ccc`},
		{"longest color", func(s *Server) { s.Color = Color(strings.Repeat("c", 64)) }, ""},
		{"long name", func(s *Server) { s.Name = strings.Repeat("n", 65) }, "name of 65 bytes"},
		{"no name, no capacity", func(s *Server) { s.Name, s.Capacity = "", 0 }, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := good
			c.change(&s)
			err := s.Check()
			if c.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || cell.KindOf(err) != cell.Invalid {
				t.Fatalf("got %v, want an invalid request with %q", err, c.want)
			}
		})
	}
}

func TestContradictionNamesBothValues(t *testing.T) {
	was := server("s1", "b1", "r1", "p1", "red")
	is := was
	is.Name, is.Capacity, is.Load = "other", 99, 7
	if err := was.Contradiction(&is); err != nil {
		t.Fatalf("a new name, capacity and load are no contradiction: %v", err)
	}
	is.Rack, is.Color = "r2", "blue"
	err := was.Contradiction(&is)
	want := `server s1 changed its place: rack was "r1", now "r2"; color was "red", now "blue"`
	if err == nil || !strings.Contains(err.Error(), want) || cell.KindOf(err) != cell.Refused {
		t.Fatalf("got %v, want refused: %s", err, want)
	}
	other := server("s2", "b9", "r9", "p9", "blue")
	if err := was.Contradiction(&other); err != nil {
		t.Fatalf("another identity cannot contradict: %v", err)
	}
}

func TestDistance(t *testing.T) {
	a := Location{Server: "a", Brick: "b1", Rack: "r1", Power: "p1"}
	cases := []struct {
		m    Location
		want Distance
	}{
		{Location{Server: "a"}, SameServer},
		{Location{Server: "b", Brick: "b1", Rack: "r1", Power: "p2"}, SameRack},
		{Location{Server: "b", Brick: "b1", Rack: "r2", Power: "p1"}, SamePower},
		{Location{Server: "b", Brick: "b1", Rack: "r2", Power: "p2"}, SameBrick},
		{Location{Brick: "b1"}, SameBrick},
		{Location{Server: "b", Brick: "b2", Rack: "r1", Power: "p1"}, OtherBrick},
		{Location{Server: "b"}, OtherBrick},
		{Location{}, OtherBrick},
	}
	for _, c := range cases {
		if got := a.Distance(c.m); got != c.want {
			t.Errorf("distance to %+v is %v, want %v", c.m, got, c.want)
		}
		if got := c.m.Distance(a); got != c.want {
			t.Errorf("distance from %+v is %v, want %v", c.m, got, c.want)
		}
	}
	if d := (Location{}).Distance(Location{}); d != OtherBrick {
		t.Errorf("two unknown places are %v apart, want other brick", d)
	}
}

func TestNewViewRefusesTwoDescriptions(t *testing.T) {
	s := server("s1", "b1", "r1", "p1", "red")
	if _, err := NewView([]Server{s, s}); err == nil || !strings.Contains(err.Error(), "described twice") {
		t.Fatalf("got %v", err)
	}
	moved := s
	moved.Brick = "b2"
	if _, err := NewView([]Server{s, moved}); err == nil || !strings.Contains(err.Error(), `brick was "b1", now "b2"`) {
		t.Fatalf("got %v", err)
	}
	if _, err := NewView(make([]Server, ServersMax+1)); err == nil || !strings.Contains(err.Error(), "65537 servers") {
		t.Fatalf("got %v", err)
	}
}

func TestWith(t *testing.T) {
	a, b := server("a", "b1", "r1", "p1", "red"), server("b", "b1", "r2", "p1", "red")
	v, err := NewView([]Server{b})
	if err != nil {
		t.Fatal(err)
	}
	w, err := v.With(a)
	if err != nil || w.Len() != 2 || v.Len() != 1 {
		t.Fatalf("with a: %v, %d and %d servers", err, w.Len(), v.Len())
	}
	b.Load = 5
	if w, err = w.With(b); err != nil || w.Server("b").Load != 5 || v.Server("b").Load != 0 {
		t.Fatalf("newer description of b: %v", err)
	}
	b.Power = "p2"
	if _, err = w.With(b); cell.KindOf(err) != cell.Refused {
		t.Fatalf("moved b: got %v, want refused", err)
	}
}

// TestViewIndexes compares every index of a view with a naive scan.
func TestViewIndexes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := func(prefix string, n int, label string) string {
			return fmt.Sprintf("%s%d", prefix, rapid.IntRange(1, n).Draw(t, label))
		}
		servers := make([]Server, rapid.IntRange(0, 30).Draw(t, "servers"))
		for i := range servers {
			servers[i] = server(fmt.Sprintf("s%d", i), name("b", 2, "brick"), name("r", 4, "rack"), name("p", 3, "power"), name("c", 2, "color"))
		}
		v, err := NewView(servers)
		if err != nil {
			t.Fatal(err)
		}
		pools := 0
		for _, s := range servers {
			if got := v.Server(s.ID); got == nil || *got != s {
				t.Fatalf("server %s: got %v", s.ID, got)
			}
			if l := v.Locate(Location{Server: s.ID}); l != s.Location() {
				t.Fatalf("server %s located at %+v", s.ID, l)
			}
			p := v.Pool(s.Pool())
			i := p.Index(s.ID)
			if i < 0 || p.Servers[i] != s || p.Racks[p.RackOf[i]] != s.Rack || p.Powers[p.PowerOf[i]] != s.Power {
				t.Fatalf("server %s is wrong in its pool", s.ID)
			}
		}
		for _, p := range v.Pools() {
			pools += len(p.Servers)
			if !slices.IsSortedFunc(p.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) }) {
				t.Fatalf("pool %s is not ordered", p.Key)
			}
		}
		if pools != len(servers) || v.Server("nobody") != nil || v.Pool(PoolKey{"b9", "c9"}) != nil {
			t.Fatalf("%d servers in pools, want %d", pools, len(servers))
		}
	})
}
