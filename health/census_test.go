package health

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/internal/wire"
)

// checkCensus holds both directions of the index, and the queues, against each other.
func checkCensus(t failer, r *Repairer) {
	t.Helper()
	seats, queued := 0, 0
	for at := range r.hosts {
		for i, ref := range r.hosts[at].cells {
			found := false
			for k := range int(r.row(ref).size) {
				s := r.seat(ref, k)
				found = found || s.host == hostRef(at) && s.at == uint32(i)
			}
			if !found {
				t.Fatalf("server %s lists cell %s at %d, which does not know", r.hosts[at].id, r.row(ref).id, i)
			}
			seats++
		}
	}
	cells := 0
	for _, ref := range r.table {
		if ref == 0 {
			continue
		}
		w := r.row(ref)
		if r.find(w.id) != ref {
			t.Fatalf("cell %s is not found", w.id)
		}
		cells++
		seats -= int(w.size)
		if (r.active[ref] != nil) != (w.class == classBusy) {
			t.Fatalf("cell %s is %s, active %v", w.id, w.class, r.active[ref])
		}
		if w.class != classFine && w.class != classBusy {
			queued++
		}
	}
	for i := range r.pools {
		for c, q := range r.pools[i].queues {
			n := 0
			for ref := q.head; ref != 0; ref = r.row(ref).next {
				if w := r.row(ref); w.class != class(c) || int(w.pool) != i || w.next == 0 && q.tail != ref {
					t.Fatalf("cell %s is %s of pool %d, in queue %s of %d", w.id, w.class, w.pool, class(c), i)
				}
				n++
			}
			if n != q.len {
				t.Fatalf("queue %s of pool %d has %d cells, and says %d", class(c), i, n, q.len)
			}
			queued -= n
		}
	}
	if seats != 0 || queued != 0 || cells != r.cells {
		t.Fatalf("%d seats and %d queued cells too many; %d cells, says %d", seats, queued, cells, r.cells)
	}
}

// TestCensus: whatever routes come, the index stays whole and holds what a map would.
func TestCensus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, err := NewRepairer(DefaultRepairConfig())
		if err != nil {
			t.Fatal(err)
		}
		twin := map[cell.ID]wire.Route{}
		for range rapid.IntRange(1, 300).Draw(t, "routes") {
			route := wire.Route{Cell: cell.ID(fmt.Sprintf("c%d", rapid.IntRange(0, 40).Draw(t, "cell"))), Incarnation: cell.Incarnation(rapid.IntRange(1, 3).Draw(t, "incarnation")),
				Configuration: uint64(rapid.IntRange(1, 5).Draw(t, "configuration")), Deleted: rapid.IntRange(0, 3).Draw(t, "deleted") == 0}
			if !route.Deleted {
				for _, s := range rapid.SliceOfNDistinct(rapid.IntRange(0, 20), 1, 13, rapid.ID).Draw(t, "servers") {
					route.Members = append(route.Members, wire.Founder{Node: 1, Server: cell.ServerID(fmt.Sprint("s", s))})
				}
			}
			r.Route(time.Second, &route)
			have, known := twin[route.Cell]
			switch newer := !known || route.Incarnation > have.Incarnation || route.Incarnation == have.Incarnation && (route.Deleted || route.Configuration > have.Configuration); {
			case newer && route.Deleted:
				delete(twin, route.Cell)
			case newer:
				twin[route.Cell] = route
			}
		}
		checkCensus(t, r)
		if len(twin) != r.cells {
			t.Fatalf("%d cells, want %d", r.cells, len(twin))
		}
		for id, want := range twin {
			ref := r.find(id)
			if ref == 0 || r.row(ref).configuration != want.Configuration || int(r.row(ref).size) != len(want.Members) {
				t.Fatalf("cell %s: %+v, want %+v", id, r.row(ref), want)
			}
			for i, m := range want.Members {
				if got := r.hosts[r.seat(ref, i).host].id; got != m.Server {
					t.Fatalf("cell %s member %d on %s, want %s", id, i, got, m.Server)
				}
			}
		}
	})
}

func TestRowSize(t *testing.T) {
	if size := unsafe.Sizeof(row{}); size != 104 {
		t.Fatalf("a row takes %d bytes; census says 104", size)
	}
}
