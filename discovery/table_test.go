package discovery

import (
	"cmp"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/internal/wire"
)

func route(name string, inc, conf uint64, servers ...string) wire.Route {
	r := wire.Route{Cell: cell.ID(name), Incarnation: cell.Incarnation(inc), Configuration: conf, Deleted: len(servers) == 0}
	for i, s := range servers {
		r.Members = append(r.Members, wire.Founder{Node: uint64(i) + 1, Server: cell.ServerID(s), PeerAddr: s + ":1", ClientAddr: s + ":2"})
	}
	return r
}

func drawRoute(t *rapid.T) wire.Route {
	inc, conf := rapid.Uint64Range(1, 3).Draw(t, "incarnation"), rapid.Uint64Range(1, 4).Draw(t, "configuration")
	if rapid.IntRange(0, 4).Draw(t, "deleted") == 0 {
		return route("a", inc, conf)
	}
	// One (incarnation, configuration) has one member set, as in a colony.
	return route("a", inc, conf, fmt.Sprintf("s%d", inc), fmt.Sprintf("t%d", conf))
}

// TestOrderDoesNotMatter: whatever the order and the repetitions, the table ends with the newest of all routes.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes := rapid.SliceOfN(rapid.Custom(drawRoute), 1, 12).Draw(t, "routes")
		newest := slices.MaxFunc(routes, func(a, b wire.Route) int {
			rank := func(r wire.Route) int { return map[bool]int{true: 1}[r.Deleted] }
			return cmp.Or(cmp.Compare(a.Incarnation, b.Incarnation), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Configuration, b.Configuration))
		})
		order := make([]int, len(routes))
		for i := range order {
			order[i] = i
		}
		c := NewCache(Config{})
		last := c.Route("a")
		for _, i := range rapid.Permutation(order).Draw(t, "order") {
			newer, err := c.Put(&routes[i])
			if err != nil {
				t.Fatal(err)
			}
			now := c.Route("a")
			if newer == reflect.DeepEqual(now, last) {
				t.Fatalf("%+v is newer: %v, but the answer went from %+v to %+v", routes[i], newer, last, now)
			}
			last = now
		}
		if newest.Deleted {
			newest.Configuration = last.Configuration // whichever seal came first; it says nothing
		}
		if !reflect.DeepEqual(last, newest) {
			t.Fatalf("got %+v, want %+v", last, newest)
		}
	})
}

func TestLookupAnswersInOrder(t *testing.T) {
	c := NewCache(Config{})
	for _, r := range []wire.Route{route("a", 1, 1, "s1"), route("b", 2, 5)} {
		if _, err := c.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.Lookup(0, wire.LookupRequest{Cells: []cell.ID{"unknown", "b", "a", "a"}})
	want := []wire.Route{{Cell: "unknown"}, route("b", 2, 5), route("a", 1, 1, "s1"), route("a", 1, 1, "s1")}
	if err != nil || !reflect.DeepEqual(got.Routes, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestPutRefuses(t *testing.T) {
	c := NewCache(Config{})
	for name, change := range map[string]func(*wire.Route){
		"name":              func(r *wire.Route) { r.Cell = "-" },
		"incarnation":       func(r *wire.Route) { r.Incarnation = 0 },
		"configuration":     func(r *wire.Route) { r.Configuration = 0 },
		"no members":        func(r *wire.Route) { r.Members = nil },
		"too many members":  func(r *wire.Route) { r.Members = make([]wire.Founder, wire.MembersMax+1) },
		"node zero":         func(r *wire.Route) { r.Members[0].Node = 0 },
		"node out of bound": func(r *wire.Route) { r.Members[1].Node = 1 << 32 },
		"order":             func(r *wire.Route) { r.Members[1].Node = 1 },
		"server":            func(r *wire.Route) { r.Members[1].Server = "" },
	} {
		r := route("a", 1, 1, "s1", "s2")
		change(&r)
		if newer, err := c.Put(&r); newer || cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s: got %v, %v", name, newer, err)
		}
	}
	if s := c.Stats(); s.Cells != 0 || s.Servers != 0 || s.Refused != 9 {
		t.Errorf("%+v", s)
	}
}

func TestBounds(t *testing.T) {
	c := NewCache(Config{CellsMax: 2, ServersMax: 3})
	for _, step := range []struct {
		route wire.Route
		want  cell.Kind
	}{
		{route("a", 1, 1, "s1"), 0}, {route("b", 1, 1, "s1"), 0}, {route("c", 1, 1, "s1"), cell.Overloaded},
		{route("a", 1, 2, "s1", "s2"), 0}, {route("a", 1, 3, "s1", "s3", "s4"), cell.Overloaded},
		{route("a", 1, 3, "s1", "s2", "s3"), 0}, {route("b", 1, 1), 0},
	} {
		if _, err := c.Put(&step.route); cell.KindOf(err) != step.want {
			t.Errorf("%+v: got %v, want %v", step.route, err, step.want)
		}
	}
	c.Address(&wire.Registration{Server: "s3", Boot: 1, PeerAddr: "h:1"})
	c.Address(&wire.Registration{Server: "s9", Boot: 1, PeerAddr: "h:1"})
	if s := c.Stats(); s.Cells != 2 || s.Servers != 3 || s.Refused != 3 {
		t.Errorf("%+v", s)
	}
}

// TestAddresses: a server's own word beats hearsay, before and after, an older boot's beats nothing, and all routes get it.
func TestAddresses(t *testing.T) {
	c := NewCache(Config{})
	put := func(r wire.Route) {
		if _, err := c.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	put(route("a", 1, 1, "s1", "s2"))
	c.Address(&wire.Registration{Server: "s1", Boot: 3, PeerAddr: "new:1", ClientAddr: "new:2"})
	c.Address(&wire.Registration{Server: "s1", Boot: 2, PeerAddr: "old:1", ClientAddr: "old:2"})
	put(route("b", 1, 1, "s1", "s2"))
	nameless := route("c", 1, 1, "s1", "s2")
	nameless.Members[1].PeerAddr, nameless.Members[1].ClientAddr = "", ""
	put(nameless)
	for _, name := range []cell.ID{"a", "b", "c"} {
		m := c.Route(name).Members
		if m[0].PeerAddr != "new:1" || m[0].ClientAddr != "new:2" || m[1].PeerAddr != "s2:1" || m[1].ClientAddr != "s2:2" {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestLookupFitsAFrame(t *testing.T) {
	c := NewCache(Config{})
	servers := make([]string, 7)
	for i := range servers {
		servers[i] = fmt.Sprintf("s%d-%s", i, strings.Repeat("x", 50))
	}
	req := wire.LookupRequest{}
	for i := range wire.BatchMax {
		r := route(fmt.Sprintf("vol-%d", i), 1, 1, servers...)
		if _, err := c.Put(&r); err != nil {
			t.Fatal(err)
		}
		req.Cells = append(req.Cells, r.Cell)
	}
	if _, err := c.Lookup(0, req); cell.KindOf(err) != cell.TooLarge {
		t.Fatalf("got %v, want too large", err)
	}
	req.Cells = req.Cells[:300]
	routes, err := c.Lookup(0, req)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for i := range routes.Routes {
		size += routeBytes(&routes.Routes[i])
	}
	if n := len(routes.Append(nil)); n > size+16 || n < size/2 {
		t.Fatalf("the encoding has %d bytes, reckoned were %d", n, size)
	}
	for _, n := range []int{0, wire.BatchMax + 1} {
		if _, err := c.Lookup(0, wire.LookupRequest{Cells: make([]cell.ID, n)}); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%d cells: %v", n, err)
		}
	}
}

// BenchmarkPut measures taking in routes that are new, and what one costs in memory.
func BenchmarkPut(b *testing.B) {
	const cells = 100_000
	routes := make([]wire.Route, cells)
	for i := range routes {
		servers := make([]string, 7)
		for k := range servers {
			servers[k] = fmt.Sprintf("s%d", (i*7+k)%1000+1)
		}
		routes[i] = route(fmt.Sprintf("vol-%08d", i), 1, 1, servers...)
	}
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := NewCache(Config{})
		for i := range routes {
			if _, err := c.Put(&routes[i]); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/cells, "B/cell")
		runtime.KeepAlive(c)
	}
}
