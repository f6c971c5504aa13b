package discovery

import (
	"fmt"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/node/ledger"
)

// world is servers with real ledgers and copies with real scanners, in simulated time. Nothing else exists: whatever a copy
// knows came from them, and there is nobody like a lifecycle manager who could be asked.
type world struct {
	t       testing.TB
	now     time.Duration
	servers map[cell.ServerID]*worldServer
	copies  map[string]*worldCopy
	pace    Pace
	cells   map[cell.ID]wire.Route // the truth
	asked   map[string]int         // requests by method
	busiest int                    // most requests that one source was asked within one second
	perSec  map[string]int
	second  time.Duration
	lose    bool // pushes get lost
}

type worldServer struct {
	id     cell.ServerID
	ledger *ledger.Ledger
	nodes  map[uint64]cell.ID
	handle map[cell.ID]uint64
	next   uint64
	told   uint64
	copy   string // that it has a session with
}

type worldCopy struct {
	addr    string
	cache   *Cache
	scanner *Scanner
	life    uint64
}

func newWorld(t testing.TB, servers, copies int, p Pace) *world {
	w := &world{t: t, servers: map[cell.ServerID]*worldServer{}, copies: map[string]*worldCopy{}, pace: p, cells: map[cell.ID]wire.Route{},
		asked: map[string]int{}, perSec: map[string]int{}}
	for i := range copies {
		c := &worldCopy{addr: fmt.Sprintf("copy-%d:1", i)}
		w.copies[c.addr] = c
		w.restart(c)
	}
	for i := range servers {
		s := &worldServer{id: worldID(i), ledger: ledger.New(), nodes: map[uint64]cell.ID{}, handle: map[cell.ID]uint64{},
			copy: fmt.Sprintf("copy-%d:1", i%copies)}
		w.servers[s.id] = s
	}
	w.join()
	return w
}

func worldID(i int) cell.ServerID { return cell.ServerID(fmt.Sprintf("s%03d", i)) }

// restart makes a copy forget everything.
func (w *world) restart(c *worldCopy) {
	c.life += 1 << 32
	c.cache = NewCache(Config{Life: c.life})
	c.scanner = NewScanner(w.pace, c.cache)
}

// join begins the sessions of all servers with their copies.
func (w *world) join() {
	for i := range len(w.servers) {
		s := w.servers[worldID(i)]
		c := w.copies[s.copy]
		c.cache.Address(&wire.Registration{Server: s.id, Brick: "b", PeerAddr: string(s.id) + ":1", ClientAddr: string(s.id) + ":2", Boot: 1})
		s.told = s.ledger.Position()
		c.scanner.Begin(w.now, Source{Server: s.id})
	}
}

// set makes a route the truth, and tells the servers of it.
func (w *world) set(r wire.Route) {
	for _, m := range w.cells[r.Cell].Members {
		s := w.servers[m.Server]
		s.ledger.Gone(s.handle[r.Cell], r.Cell)
		delete(s.nodes, s.handle[r.Cell])
	}
	w.cells[r.Cell] = r
	for _, m := range r.Members {
		s := w.servers[m.Server]
		s.next++
		s.nodes[s.next], s.handle[r.Cell] = r.Cell, s.next
		s.ledger.Changed(&wire.NodeInfo{Handle: s.next, Cell: r.Cell, Incarnation: r.Incarnation, Configuration: r.Configuration})
	}
}

// fill makes so many cells of seven members, spread over the servers.
func (w *world) fill(cells int) {
	for i := range cells {
		w.set(w.route(i, 1))
	}
}

func (w *world) route(i int, configuration uint64) wire.Route {
	r := wire.Route{Cell: cell.ID(fmt.Sprintf("vol-%07d", i)), Incarnation: 1, Configuration: configuration}
	for k := range 7 {
		id := worldID((i*3 + k + int(configuration)) % len(w.servers))
		r.Members = append(r.Members, wire.Founder{Node: uint64(k + 1), Server: id})
	}
	return r
}

func (s *worldServer) route(w *world) ledger.Route {
	return func(handle uint64) (wire.Route, bool) {
		id, ok := s.nodes[handle]
		return w.cells[id], ok
	}
}

// step lets everybody do what is to be done now, and moves the time on.
func (w *world) step(by time.Duration) {
	if w.now/time.Second != w.second {
		w.second = w.now / time.Second
		clear(w.perSec)
	}
	for i := range len(w.servers) { // pushes
		s := w.servers[worldID(i)]
		if s.told == s.ledger.Position() {
			continue
		}
		p := s.ledger.Changes(s.told, 256, s.route(w))
		s.told = p.To
		w.asked[wire.MethodPush]++
		if c := w.copies[s.copy]; !w.lose {
			if err := c.scanner.Push(w.now, s.id, p); err != nil {
				w.t.Fatal(err)
			}
			c.cache.Heard(w.now, s.id)
		}
	}
	for i := range len(w.copies) {
		c := w.copies[fmt.Sprintf("copy-%d:1", i)]
		c.scanner.Copies(w.now, w.others(c))
		asks, _ := c.scanner.Next(w.now)
		for k := range asks {
			r := w.answer(&asks[k])
			if err := c.scanner.Answered(w.now, &asks[k], &r); err != nil {
				w.t.Fatal(err)
			}
			if asks[k].To.Server != "" {
				c.cache.Heard(w.now, asks[k].To.Server)
			}
		}
	}
	w.now += by
}

func (w *world) others(c *worldCopy) (list []string) {
	for i := range len(w.copies) {
		if addr := fmt.Sprintf("copy-%d:1", i); addr != c.addr {
			list = append(list, addr)
		}
	}
	return list
}

// answer does what servers and other copies do.
func (w *world) answer(a *Ask) (r Answer) {
	key := string(a.To.Server) + a.To.Copy
	w.perSec[key]++
	w.busiest = max(w.busiest, w.perSec[key])
	s, c := w.servers[a.To.Server], w.copies[a.To.Copy]
	switch {
	case a.Digest != nil:
		w.asked[wire.MethodDigest]++
		if s != nil {
			r.Digests = s.ledger.Digests(a.Digest.Known)
		} else {
			r.Digests = c.cache.Digests(a.Digest.Known)
		}
	case a.Pull != nil:
		w.asked[wire.MethodPull]++
		if s != nil {
			r.Pulled, r.Err = s.ledger.Pull(a.Pull, s.route(w))
		} else {
			r.Pulled, r.Err = c.cache.Pull(a.Pull)
		}
	case a.Changes != nil:
		w.asked[wire.MethodChanges]++
		r.Changes = c.cache.Changes(*a.Changes)
	default:
		w.asked[wire.MethodContacts]++
		page := c.cache.Contacts(w.now, *a.Contacts)
		r.Contacts = &page
	}
	return r
}

// wrong counts the cells of which a copy does not know the truth, addresses included.
func (w *world) wrong(c *worldCopy) (n int) {
	for id, want := range w.cells {
		got := c.cache.Route(id)
		ok := got.Incarnation == want.Incarnation && got.Configuration == want.Configuration && len(got.Members) == len(want.Members)
		for i := range got.Members {
			m := &got.Members[i]
			ok = ok && m.Server == want.Members[i].Server && m.ClientAddr == string(m.Server)+":2"
		}
		if !ok {
			n++
		}
	}
	return n
}

// settle steps until every copy knows the truth and has nothing left to ask, and returns how long that took; it fails after
// most.
func (w *world) settle(most time.Duration) time.Duration {
	w.t.Helper()
	began := w.now
	for {
		w.step(5 * time.Millisecond)
		behind := 0
		for _, c := range w.copies {
			behind += c.scanner.Stats().Behind
		}
		if behind == 0 && (w.now-began)%(250*time.Millisecond) == 0 {
			bad := 0
			for _, c := range w.copies {
				bad += w.wrong(c)
			}
			if bad == 0 {
				return w.now - began
			}
		}
		if w.now-began > most {
			for _, c := range w.copies {
				w.t.Errorf("%s: %d of %d cells are wrong, %+v", c.addr, w.wrong(c), len(w.cells), c.scanner.Stats())
			}
			w.t.Fatalf("not settled after %v", most)
		}
	}
}
