package lifecycle

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

// deliverCensus carries a page of the census; it reports false for other calls.
func (w *world) deliverCensus(s *fakeServer, c Call, answered bool) bool {
	q, ok := c.Params.(*wire.Census)
	switch {
	case !ok:
		return false
	case !answered:
		w.m.Heard(w.now, c.ID, nil, nil, &cell.Error{Op: c.Method, Kind: cell.UnknownResult, Detail: "lost"})
	case c.Method == wire.MethodGraves:
		w.m.Heard(w.now, c.ID, nil, w.graves(s, q), nil)
	default:
		w.m.Heard(w.now, c.ID, w.census(s, q), nil, nil)
	}
	w.turn()
	return true
}

// leave notes that a node moved away: whatever is told again, it never comes back.
func (s *fakeServer) leave(k incKey) {
	if s.left == nil {
		s.left = map[incKey]bool{}
	}
	s.left[k] = true
}

// census is a page of what a server hosts; handles are positions in the order of names.
func (w *world) census(s *fakeServer, q *wire.Census) *wire.CensusPage {
	keys := slices.SortedFunc(maps.Keys(s.nodes), func(a, b incKey) int { return strings.Compare(string(a.cell), string(b.cell)) })
	page := &wire.CensusPage{}
	for i := int(q.After); i < len(keys); i++ {
		if len(page.Nodes) == int(q.Limit) {
			page.More = true
			break
		}
		k := keys[i]
		conf := w.cellOf(k).conf
		n := wire.CensusNode{Handle: uint64(i) + 1, Cell: k.cell, Incarnation: k.inc, Configuration: conf.Number, Alpha: conf.Alpha,
			Sealed: w.sealed[k] && !s.lags[k], Node: nodeOn(conf.Members, s.reg.Server)}
		if n.Node == 0 {
			n.Node, n.Learner = nodeOn(conf.Learners, s.reg.Server), true
		}
		if conf.Number == 1 && !n.Learner {
			n.Owner = s.nodes[k].Owner
		}
		if f := s.nodes[k]; len(f.Members) > 0 && !sameJury(f, w.juries[k]) { // a node of another jury under the same number
			n.Configuration, n.Alpha, n.Owner, conf.Members, n.Learner, n.Sealed = 1, f.Alpha, f.Owner, f.Members, false, false
			n.Node = nodeOn(f.Members, s.reg.Server)
		}
		for _, f := range conf.Members {
			n.Members = append(n.Members, wire.CensusMember{Node: f.Node, Server: f.Server})
		}
		page.Nodes = append(page.Nodes, n)
	}
	return page
}

func (w *world) graves(s *fakeServer, q *wire.Census) *wire.GravePage {
	for _, id := range slices.Sorted(maps.Keys(s.tombs)) {
		if !slices.Contains(s.stones, id) {
			s.stones = append(s.stones, id)
		}
	}
	page := &wire.GravePage{Next: q.After}
	for _, id := range s.stones[q.After:] {
		if len(page.Graves) == int(q.Limit) {
			page.More = true
			break
		}
		page.Graves = append(page.Graves, wire.Grave{Cell: id, Incarnation: s.tombs[id]})
		page.Next++
	}
	return page
}

func (w *world) rebuild(a wire.RebuildAction) *wire.RebuildState {
	w.nextID++
	w.m.Rebuild(w.now, w.nextID, wire.Rebuild{Action: a, Limit: wire.ListLimitMax})
	w.turn()
	r := w.replies[w.nextID]
	if r.Rebuild == nil {
		w.fail("rebuild %d is answered with %+v", a, r)
		return &wire.RebuildState{}
	}
	return r.Rebuild
}

// rounds lets everything arrive until so many more rounds of the census have ended.
func (w *world) rounds(n uint32) {
	for i, target := 0, w.m.observer.round+n; ; i++ {
		if i > 200_000 {
			w.fail("no end of %d rounds: %+v", n, w.m.observer)
			return
		}
		w.turn()
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
			continue
		}
		if o := &w.m.observer; o.round > target || o.round == target && o.state == idle {
			return
		}
		at, ok := w.m.Next()
		if !ok {
			w.fail("nothing to do in round %d of %d", w.m.observer.round, target)
			return
		}
		w.now = max(w.now, at)
	}
}

// hostedNow is what every server hosts and has buried, to be compared.
func (w *world) hostedNow() string {
	var b bytes.Buffer
	for _, s := range w.servers {
		var list []string
		for k := range s.nodes {
			list = append(list, fmt.Sprint(k))
		}
		slices.Sort(list)
		fmt.Fprintln(&b, s.reg.Server, list, len(s.tombs))
	}
	return b.String()
}

// listen lets the rebuild run to the end of a round, and holds it to its word: nobody is told anything.
func (w *world) listen(rounds uint32) *wire.RebuildState {
	before := w.hostedNow()
	w.flight = slices.DeleteFunc(w.flight, func(c Call) bool { return c.Method != wire.MethodCensus && c.Method != wire.MethodGraves })
	for target := w.m.observer.round + rounds; w.m.observer.round < target || w.m.observer.round == target && w.m.observer.state != idle; {
		w.turn()
		for _, c := range w.flight {
			if c.Method != wire.MethodCensus && c.Method != wire.MethodGraves {
				w.fail("%s is told %s in a rebuild", c.Server, c.Method)
			}
		}
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
			continue
		}
		at, ok := w.m.Next()
		if !ok {
			w.fail("the rebuild has nothing to do")
		}
		w.now = max(w.now, at)
	}
	if after := w.hostedNow(); after != before {
		w.fail("a rebuild changed what servers host:\n%s\n%s", before, after)
	}
	return w.rebuild(wire.RebuildLook)
}

// alive are the incarnations that can choose, of which a majority hosts its node.
func (w *world) alive() map[incKey]wire.Configured {
	all := map[incKey]wire.Configured{}
	for k, f := range w.juries {
		conf := w.cellOf(k).conf
		hosts := 0
		for _, mem := range conf.Members {
			if _, ok := w.byID[mem.Server].nodes[k]; ok {
				hosts++
			}
		}
		if !w.sealed[k] && hosts > len(f.Members)/2 {
			all[k] = conf
		}
	}
	return all
}

// checkRebuilt holds the manager's picture against the truth: each living cell with its newest members, nothing else as living.
func (w *world) checkRebuilt(want map[incKey]wire.Configured) {
	live := 0
	for _, c := range w.list() {
		conf, ok := want[incKey{c.Cell, c.Incarnation}]
		switch {
		case c.State == "live" && !ok:
			w.fail("%s.%d is listed as live, and is not", c.Cell, c.Incarnation)
		case c.State == "live":
			live++
			if got := serversOf(c); !slices.Equal(got, serversOf(wire.CellInfo{Members: conf.Members})) {
				w.fail("%s.%d is listed on %v, and lives on %v", c.Cell, c.Incarnation, got, conf.Members)
			}
		case ok:
			w.fail("%s.%d lives, and is listed as %s: %s", c.Cell, c.Incarnation, c.State, c.Waiting)
		}
	}
	if live != len(want) {
		w.fail("%d of %d living cells are listed; findings: %v", live, len(want), w.m.observer.last)
	}
}

func (s *MemStore) clone() *MemStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &MemStore{pairs: maps.Clone(s.pairs)}
}

// history lets random creations, deletions and replacements happen.
func (w *world) history(t *rapid.T, names []cell.ID, steps int) {
	for range steps {
		name := rapid.SampledFrom(names).Draw(t, "name")
		switch rapid.IntRange(0, 3).Draw(t, "what") {
		case 0:
			w.create(time.Minute, name)
		case 1:
			w.delete(time.Minute, wire.Drop{Cell: name})
		default:
			if in := w.m.names[name]; in != nil && in.State == Live {
				w.replace(time.Minute, name, in.Members[rapid.IntRange(0, len(in.Members)-1).Draw(t, "leaves")].Server(), "")
			}
		}
		for range rapid.IntRange(0, 30).Draw(t, "deliveries") {
			if len(w.flight) == 0 {
				break
			}
			w.deliver(rapid.IntRange(0, len(w.flight)-1).Draw(t, "call"), true, true)
		}
		w.now += time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond
		w.turn()
	}
}

// TestRebuildProperty: after any history the store is emptied, or replaced by an old one, at any moment. The rebuild finds every
// living cell with its newest members, and no server is told anything; afterwards the same names are created again, and no
// incarnation is founded twice, nothing that lives is dropped, and what was deleted stays deleted.
func TestRebuildProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := smallConfig()
		c.Seed = rapid.Uint64().Draw(t, "seed")
		c.ScanEvery, c.ScanPage = time.Second, rapid.IntRange(1, 5).Draw(t, "page")
		w := newWorld(t.Fatalf, c, rapid.IntRange(4, 7).Draw(t, "servers"))
		names := []cell.ID{"a", "b", "c", "d", "e", "f"}
		w.history(t, names, rapid.IntRange(0, 12).Draw(t, "before"))
		old := w.store.clone()
		w.history(t, names, rapid.IntRange(0, 12).Draw(t, "after"))
		if rapid.Bool().Draw(t, "quiet") {
			w.rounds(2)
		}
		if w.store = old; rapid.Bool().Draw(t, "empty") {
			w.store = NewMemStore()
		}
		w.config.Seed++
		w.crash()
		w.rebuild(wire.RebuildBegin)
		want := w.alive()
		wished := map[incKey]bool{} // deletions that the store remembers
		for name, in := range w.m.names {
			wished[incKey{name, in.Incarnation}] = in.State == Sealing
		}
		state := w.listen(2)
		if !state.Complete || !state.Rebuilding || len(state.Silent) > 0 {
			t.Fatalf("after two rounds: %+v", state)
		}
		w.checkAdopted(want, state)
		w.rebuild(wire.RebuildEnd)
		for _, name := range names {
			w.create(time.Minute, name)
		}
		w.create(time.Minute, "new")
		w.rounds(4)
		for k, conf := range want {
			if now, ok := w.alive()[k]; !wished[k] && (!ok || now.Number < conf.Number) {
				t.Fatalf("%v lived before the rebuild, and does not after it", k)
			}
		}
	})
}

// checkAdopted is checkRebuilt for a history that was cut at any moment: a creation that fewer than a majority have heard of, and
// a deletion under way, are allowed to be open.
func (w *world) checkAdopted(want map[incKey]wire.Configured, state *wire.RebuildState) {
	listed := map[incKey]wire.CellInfo{}
	for _, c := range w.list() {
		listed[incKey{c.Cell, c.Incarnation}] = c
	}
	for k, conf := range want {
		c, known := listed[k]
		open := slices.ContainsFunc(state.Findings, func(f wire.Finding) bool { return f.Cell == k.cell && f.Incarnation == k.inc })
		switch {
		case !known && !open:
			w.fail("%v lives, and is neither listed nor found; listed are %v, found %v", k, listed, state.Findings)
		case known && c.State == "live" && !slices.Equal(serversOf(c), serversOf(wire.CellInfo{Members: conf.Members})):
			w.fail("%v is listed on %v, and lives on %v", k, serversOf(c), conf.Members)
		case known && c.State != "live" && c.State != "sealing":
			w.fail("%v lives, and is listed as %s", k, c.State)
		}
	}
	for k, c := range listed {
		if _, lives := want[k]; c.State == "live" && !lives {
			w.fail("%v is listed as live, and is not: %s", k, c.Waiting)
		}
	}
}
