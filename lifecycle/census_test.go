package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// lost is a world of seven-node cells whose store is gone.
func lost(t *testing.T, servers int, names ...cell.ID) *world {
	t.Helper()
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, servers)
	w.create(time.Minute, names...)
	w.drain()
	w.store = NewMemStore()
	w.config.Seed = 99
	return w
}

// findings shows what was found, one line each.
func findings(s *wire.RebuildState) (list []string) {
	for _, f := range s.Findings {
		list = append(list, fmt.Sprintf("%s %s.%d: %s", f.Kind, f.Cell, f.Incarnation, f.Detail))
	}
	return list
}

// wantFinding insists on exactly one finding, with these words.
func wantFinding(t *testing.T, s *wire.RebuildState, words ...string) {
	t.Helper()
	list := findings(s)
	if len(list) != 1 || slices.ContainsFunc(words, func(x string) bool { return !strings.Contains(list[0], x) }) {
		t.Fatalf("found %q, want one with %q", list, words)
	}
}

// An empty store that meets servers with nodes begins a rebuild by itself: nothing is created before an operator has looked.
func TestEmptyStoreDoubtsItself(t *testing.T) {
	w := lost(t, 7, "a")
	w.crash()
	w.nextID++
	w.m.Create(w.now, w.nextID, wire.CreateCells{Cells: []cell.ID{"a", "b"}})
	w.turn()
	wantError(t, w.replies[w.nextID].Err, cell.Unavailable, "knows no cell")
	w.crash() // and it survives a restart, whoever is connected then
	if s := w.listen(1); !s.Rebuilding || !s.Complete || s.Live != 1 || len(s.Findings) > 0 {
		t.Fatalf("%+v", s)
	}
	w.wantCell(t, "a", 1, "live", "")
	w.rebuild(wire.RebuildEnd)
	w.create(time.Minute, "b")
	w.drain()
	w.wantCell(t, "b", 2, "live", "") // above all that was heard of: a server that kept silent may host b.1
}

// A rebuild does not end before every connected server was heard, unless it is forced.
func TestRebuildEndsWhenAllWereHeard(t *testing.T) {
	w := lost(t, 8, "a")
	w.crash()
	w.nextID++
	w.m.Rebuild(w.now, w.nextID, wire.Rebuild{Action: wire.RebuildEnd})
	w.turn()
	wantError(t, w.replies[w.nextID].Err, cell.Refused, "not all heard")
	w.nextID++
	w.m.Rebuild(w.now, w.nextID, wire.Rebuild{Action: wire.RebuildEnd, Force: true})
	w.turn()
	if r := w.replies[w.nextID]; r.Rebuild == nil || r.Rebuild.Rebuilding {
		t.Fatalf("forced: %+v", r)
	}
}

// Without a majority a cell stays undecided: its name is taken, what is known of every member is told, and when the others come
// it is adopted.
func TestUndecidedUntilAMajorityIsSeen(t *testing.T) {
	w := lost(t, 7, "a")
	for _, s := range w.servers[3:] {
		w.setUp(s, false)
	}
	w.crash()
	s := w.listen(2)
	wantFinding(t, s, "undecided a.1", "3 of 7 members", "not heard", "hosts it")
	if len(w.list()) != 0 {
		t.Fatalf("a cell was made of a minority: %+v", w.list())
	}
	w.rebuild(wire.RebuildEnd)
	wantError(t, w.outcome(t, w.create(0, "a")), cell.Exists, "which this store does not know")
	w.setUp(w.servers[3], true)
	w.rounds(1)
	c := w.wantCell(t, "a", 1, "live", "4 of 7 nodes founded")
	if c.Live != 4 || c.Margin != 0 {
		t.Errorf("live %d, margin %d", c.Live, c.Margin)
	}
	for _, s := range w.servers[4:] {
		w.setUp(s, true)
	}
	w.rounds(1)
	w.wantCell(t, "a", 1, "live", "")
	if s := w.rebuild(wire.RebuildLook); s.Found != 0 {
		t.Errorf("found %v", findings(s))
	}
}

// A member that a server lost is reported and counts as dead. Its node is never created again under its number; as soon as there
// is room it is replaced.
func TestMissingMemberIsNotFoundedAgain(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 8)
	spare := w.servers[7]
	w.setUp(spare, false)
	w.create(time.Minute, "a")
	w.drain()
	w.rounds(1)
	w.wantCell(t, "a", 1, "live", "")
	gone := w.byID[w.wantCell(t, "a", 1, "live", "").Members[2].Server]
	delete(gone.nodes, incKey{"a", 1})
	w.rounds(1)
	c := w.wantCell(t, "a", 1, "live", "does not host it")
	if c.Live != 6 || c.Margin != 2 {
		t.Errorf("live %d, margin %d", c.Live, c.Margin)
	}
	wantFinding(t, w.rebuild(wire.RebuildLook), "missing a.1", string(gone.reg.Server))
	w.crash()
	w.rounds(2)
	if _, back := gone.nodes[incKey{"a", 1}]; back {
		t.Error("the node was created again")
	}
	w.setUp(spare, true)
	w.rounds(2)
	if c := w.wantCell(t, "a", 1, "live", ""); !slices.Contains(serversOf(c), spare.reg.Server) {
		t.Errorf("it was not repaired: %v", serversOf(c))
	}
}

// Four nodes of a deleted cell, which were away while the others were wiped (hazard H15), make no living cell when the store is
// lost, whoever is heard first, and no server drops them unproven: an operator who deletes the cell has its own log decide.
func TestHalfDeletedStaysDeleted(t *testing.T) {
	for _, first := range []int{0, 4} { // of the three that have wiped theirs
		w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute, Scans: 2, ScanPage: 1}, 7)
		w.create(time.Minute, "a")
		w.drain()
		k := incKey{"a", 1}
		w.sealed[k] = true
		for i, s := range w.servers {
			if s.lags[k] = i < first || i >= first+3; !s.lags[k] {
				delete(s.nodes, k)
				s.tombs["a"] = 1
				s.tombs["0"], s.tombs["1"], s.tombs["2"] = 1, 1, 1 // they are told before it, a page each
			}
		}
		w.store = NewMemStore()
		w.crash()
		wantFinding(t, w.listen(1), "half-deleted a.1", "has a tombstone", "hosts it")
		w.rebuild(wire.RebuildEnd)
		wantError(t, w.outcome(t, w.create(0, "a")), cell.Exists, "half-deleted")
		w.delete(time.Minute, wire.Drop{Cell: "a"})
		w.rounds(3)
		w.wantCell(t, "a", 1, "deleted", "")
		w.create(time.Minute, "a")
		w.rounds(1)
		w.wantCell(t, "a", 2, "live", "")
	}
}

// Who does not host his node when a cell is adopted is never told of its founding: what he once promised there is not known (A3).
func TestAbsentMemberOfAnAdoptedCell(t *testing.T) {
	w := lost(t, 7, "a")
	gone := w.servers[4]
	delete(gone.nodes, incKey{"a", 1})
	w.crash()
	wantFinding(t, w.listen(2), "missing a.1", string(gone.reg.Server))
	w.rebuild(wire.RebuildEnd)
	w.rounds(2)
	w.crash()
	w.rounds(2)
	if _, back := gone.nodes[incKey{"a", 1}]; back {
		t.Error("the node was created again")
	}
	w.wantCell(t, "a", 1, "live", "does not host it")
}

// A later life beside a living one is a contradiction that nobody but an operator resolves: the record stays, no node is dropped.
func TestLaterLifeBesideALivingOne(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 14)
	w.create(time.Minute, "a")
	w.drain()
	first, second := incKey{"a", 1}, incKey{"a", 2}
	f := wire.Founding{Cell: "a", Incarnation: 2, Owner: 1, Alpha: 4}
	for _, s := range w.servers {
		if _, hosts := s.nodes[first]; !hosts {
			f.Members = append(f.Members, wire.Founder{Node: uint64(len(f.Members)) + 1, Server: s.reg.Server})
		}
	}
	w.juries[second] = f
	for _, mem := range f.Members {
		w.byID[mem.Server].nodes[second] = f
	}
	before := w.hostedNow()
	w.rounds(3)
	wantFinding(t, w.rebuild(wire.RebuildLook), "conflict a.2", "a.1 live is here, too")
	w.wantCell(t, "a", 1, "live", "")
	if after := w.hostedNow(); after != before {
		t.Errorf("hosted was\n%s, is\n%s", before, after)
	}
}

// Nodes of another jury under the number of a living record confirm nothing, and are not dropped with it (L3).
func TestStrangersInTheCensus(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 11)
	k := incKey{"a", 1}
	stranger := wire.Founding{Cell: "a", Incarnation: 1, Alpha: 9, Owner: 1}
	for i, s := range w.servers {
		if i < 3 || i >= 7 {
			stranger.Members = append(stranger.Members, wire.Founder{Node: uint64(len(stranger.Members)) + 1, Server: s.reg.Server})
		}
		w.setUp(s, i < 7)
	}
	for _, s := range w.servers[:3] {
		s.nodes[k] = stranger
	}
	w.create(time.Minute, "a")
	w.drain()
	for _, s := range w.servers {
		w.setUp(s, true)
	}
	w.rounds(2)
	if n := w.m.names["a"].Founded.size(); n != 4 {
		t.Errorf("%d members are taken for founded", n)
	}
	if s := w.rebuild(wire.RebuildLook); len(s.Findings) == 0 || !strings.Contains(findings(s)[0], "a.1") {
		t.Errorf("found %v", findings(s))
	}
	w.crash() // what the founding told of the strangers is forgotten
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.rounds(3)
	for i, s := range w.servers {
		if _, hosts := s.nodes[k]; hosts != (i < 3) {
			t.Errorf("%s hosts a node: %v", s.reg.Server, hosts)
		}
	}
	wantFinding(t, w.rebuild(wire.RebuildLook), "half-deleted a.1", "hosts it")
}

// A page that was read before a deletion and arrives after it does not make the name taken.
func TestPageOfThePast(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute, RebuildPace: 1e6, ScanPace: 1e6}, 7)
	w.create(time.Minute, "a")
	w.advance(time.Second) // the first round is over
	w.now += time.Minute
	w.turn()
	for len(w.flight) == 0 || w.flight[0].Method != wire.MethodCensus {
		if len(w.flight) > 0 {
			w.deliver(0, true, true)
		}
		w.now += time.Millisecond
		w.turn()
	}
	late := w.flight[0]
	page := w.census(w.byID[late.Server], late.Params.(*wire.Census))
	w.flight = w.flight[1:]
	if len(page.Nodes) != 1 {
		t.Fatalf("the page has %d nodes", len(page.Nodes))
	}
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.drain()
	w.wantCell(t, "a", 1, "deleted", "")
	w.m.Heard(w.now, late.ID, page, nil, nil)
	w.create(time.Minute, "a")
	w.drain()
	w.wantCell(t, "a", 2, "live", "")
}

// The only tombstone that says that a cell was deleted is the last of many, and the four nodes that are left are a majority: it
// is read before them all the same.
func TestLateTombstone(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute, Scans: 2, ScanPage: 1, RebuildPace: 2e9}, 7)
	w.create(time.Minute, "a")
	w.drain()
	k := incKey{"a", 1}
	w.sealed[k] = true
	for i, s := range w.servers {
		s.lags[k] = true
		w.setUp(s, i == 0 || i >= 3)
	}
	delete(w.servers[0].nodes, k)
	w.servers[0].tombs = map[cell.ID]cell.Incarnation{"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "a": 1}
	w.store = NewMemStore()
	w.crash()
	w.listen(1)
	if c := w.m.names["a"]; c != nil {
		t.Errorf("made of what is left of a deleted cell: %v", c)
	}
}

// With the store of the day before, which has the cell for alive, the tombstone at a server that had confirmed is proof enough to
// go on with the deletion.
func TestHalfDeletedInAnOldStore(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 7)
	w.create(time.Minute, "a")
	w.drain()
	w.rounds(1)
	old := w.store.clone()
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.drain()
	w.store = old
	w.crash()
	w.rebuild(wire.RebuildBegin)
	w.listen(2)
	w.rebuild(wire.RebuildEnd)
	w.rounds(2)
	w.wantCell(t, "a", 1, "deleted", "")
}

// A tombstone raises the number: a name that was deleted as its third life is created as the fourth, whatever the store forgot.
func TestTombstonesRaiseIncarnations(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 7)
	w.servers[5].tombs["a"] = 3
	w.rounds(1)
	w.wantCell(t, "a", 3, "deleted", "")
	w.create(time.Minute, "a")
	w.drain()
	w.wantCell(t, "a", 4, "live", "")

	w = newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute, ScanPace: 1e6}, 7)
	w.servers[5].tombs["a"] = 3
	for w.turn(); w.m.claims["a"] == nil; w.turn() {
		w.drain()
		w.now += time.Millisecond
	}
	w.create(time.Minute, "a") // while the round is not over
	w.drain()
	w.wantCell(t, "a", 4, "live", "")
}

// A node that no record explains is adopted while the manager works, too, and never dropped.
func TestUnknownCellIsAdopted(t *testing.T) {
	w := lost(t, 7, "a")
	w.store = NewMemStore()
	w.config.ScanEvery = 0 // it trusts its store at first
	w.crash()
	w.create(time.Minute, "b")
	w.drain()
	w.config.ScanEvery = time.Minute
	w.crash()
	w.rounds(1)
	w.wantCell(t, "a", 1, "live", "")
	w.wantCell(t, "b", 1, "live", "")
}

// Two juries under one number are a contradiction: nothing is adopted, and nothing is dropped.
func TestConflictingJuries(t *testing.T) {
	w := lost(t, 9, "a")
	k := incKey{"a", 1}
	other := w.juries[k]
	other.Owner = other.Owner%7 + 1
	hosts := 0
	for _, s := range w.servers {
		if _, ok := s.nodes[k]; ok && hosts < 3 {
			s.nodes[k] = other
			hosts++
		}
	}
	w.crash()
	wantFinding(t, w.listen(1), "conflict a.1")
	w.rebuild(wire.RebuildEnd)
	w.rounds(2)
	for _, s := range w.servers {
		if _, ok := s.nodes[k]; ok {
			hosts--
		}
	}
	if hosts != -4 {
		t.Errorf("nodes were dropped: %d", hosts)
	}
}

// The pace is in pages per second, however many servers connect at once, and a round begins no sooner than it may.
func TestPaceOfTheCensus(t *testing.T) {
	const servers, pace = 200, 50
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute, ScanPace: pace, Scans: 1000}, servers)
	asked, at := 0, map[time.Duration]int{}
	for begin := w.now; w.now-begin < 50*time.Second; {
		w.turn()
		for len(w.flight) > 0 {
			asked++
			at[w.now/time.Second]++
			w.deliver(0, true, true)
			for i, s := range w.servers { // who was heard and connects again is not asked again
				if asked == servers+servers/2 && w.m.server(s.reg.Server).scanned == 1 && i%2 == 0 {
					w.setUp(s, false)
					w.setUp(s, true)
				}
			}
		}
		next, ok := w.m.Next()
		if !ok {
			break
		}
		w.now = max(w.now, next)
	}
	for second, pages := range at {
		if pages > pace+1 {
			t.Errorf("%d pages in second %d", pages, second)
		}
	}
	if asked != 2*servers || w.m.observer.round != 1 {
		t.Errorf("%d pages in %d rounds, want %d in one", asked, w.m.observer.round, 2*servers)
	}
}

// A server that is lost while it is asked, or whose answers are, is asked again; nobody is missed who was not heard to the end.
func TestCensusSurvivesLosses(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute, ScanPage: 1, RetryMin: time.Millisecond, RetryMax: time.Second}, 7)
	w.create(time.Minute, cellNames(9)...)
	w.drain()
	for n := 0; w.m.observer.ended < 3; n++ {
		w.turn()
		switch {
		case len(w.flight) > 0:
			w.deliver(0, n%3 != 0, n%5 != 0)
		default:
			at, _ := w.m.Next()
			w.now = max(w.now, at)
		}
		if n%17 == 0 {
			s := w.servers[n%7]
			w.setUp(s, !s.up)
		}
		for _, c := range w.m.names {
			if c.Absent != 0 {
				t.Fatalf("%v is missed at %b", c, c.Absent)
			}
		}
	}
}

// A server that does not answer the census to the end is left out of the round after some tries, and nobody is missed on it.
func TestSilentServerIsNotMissed(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 7)
	w.create(time.Minute, "a")
	w.drain()
	for mute := w.servers[3].reg.Server; w.m.observer.ended < 2; {
		w.turn()
		if len(w.flight) > 0 {
			w.deliver(0, true, w.flight[0].Server != mute || w.flight[0].Method != wire.MethodCensus)
			continue
		}
		at, _ := w.m.Next()
		w.now = max(w.now, at)
	}
	w.wantCell(t, "a", 1, "live", "")
	if s := w.rebuild(wire.RebuildLook); s.Found != 0 || s.Complete {
		t.Errorf("complete %v, found %v", s.Complete, findings(s))
	}
}

// TestStoreFromBefore is the promise of the issue in numbers: the store is from before 100 creations, 100 replacements and 100
// deletions, or empty.
func TestStoreFromBefore(t *testing.T) {
	for _, empty := range []bool{false, true} {
		c := Config{Seed: 5, ScanEvery: time.Minute, ScanPage: 64}
		w := newWorld(t.Fatalf, c, 14)
		w.create(time.Minute, cellNames(300)...)
		w.rounds(1)
		old := w.store.clone()
		if empty {
			old = NewMemStore()
		}
		var made []cell.ID
		var drops []wire.Drop
		for i, name := range cellNames(300) {
			switch {
			case i < 100:
				w.replace(time.Minute, name, w.m.names[name].Members[i%7].Server(), "")
			case i < 200:
				drops = append(drops, wire.Drop{Cell: name})
			}
			if i < 100 {
				made = append(made, cell.ID(fmt.Sprintf("later-%d", i)))
			}
		}
		w.delete(time.Minute, drops...)
		w.create(time.Minute, made...)
		w.advance(5 * time.Minute)
		want := w.alive()
		if len(want) != 300 {
			t.Fatalf("%d cells are alive, want 300", len(want))
		}
		w.store = old
		w.config.Seed++
		w.crash()
		w.rebuild(wire.RebuildBegin)
		if s := w.listen(2); !s.Complete || s.Live != 300 || s.Deleted != 100 || s.Found > 0 {
			t.Fatalf("empty %v: %+v\n%s", empty, s, strings.Join(findings(s), "\n"))
		}
		w.checkRebuilt(want)
		w.rebuild(wire.RebuildEnd)
		w.advance(time.Minute)
		w.checkRebuilt(want)
	}
}

// Members are told to drop their nodes, and do; before they answer, a census tells of their tombstones, which ends the deletion. Their
// answers then are late, whether they say that it is done or that the call failed, and whether the name has a next life or not.
func TestDropsAreAnsweredAfterTheCensus(t *testing.T) {
	for _, failed := range []bool{false, true} {
		for _, reborn := range []bool{false, true} {
			w := newWorld(t.Fatalf, seven(), 7)
			w.create(time.Minute, "a")
			w.drain()
			w.delete(time.Minute, wire.Drop{Cell: "a"})
			for w.m.names["a"].State == Sealing {
				w.deliver(0, true, true)
			}
			drops := w.flight
			if len(drops) != 7 {
				t.Fatalf("%d drops are under way", len(drops))
			}
			if w.flight = nil; reborn {
				w.m.wishAgain(w.m.names["a"])
			}
			for _, c := range drops {
				s := w.byID[c.Server]
				w.serve(s, c)
				w.m.grave(w.m.server(s.reg.Server), &wire.Grave{Cell: "a", Incarnation: 1})
			}
			w.turn()
			for _, c := range drops {
				if failed {
					w.m.Done(w.now, c.ID, nil, &cell.Error{Op: c.Method, Kind: cell.UnknownResult, Detail: "lost"})
				} else {
					w.m.Done(w.now, c.ID, make([]wire.Outcome, 1), nil)
				}
				w.turn()
			}
			w.settle()
			w.create(time.Minute, "a")
			w.settle()
			w.wantCell(t, "a", 2, "live", "")
			w.checkSettled()
			if err := w.store.Scan(func(key, value []byte) error { return NewManager(w.config).Restore(key, value) }); err != nil {
				t.Error(err)
			}
		}
	}
}

// A cell is deleted in the middle of a replacement, while it has no majority. The learner stands among the members then, and the
// census must not take the others for missing: when they are all back, the cell is sealed and wiped.
func TestCensusKnowsTheMembersOfACellThatIsDeletedWhileItMoves(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Second}, 9)
	w.create(time.Minute, "a")
	w.drain()
	members := serversOf(w.wantCell(t, "a", 1, "live", ""))
	w.replace(0, "a", members[0], "")
	for w.m.names["a"].Moving().Node == 0 {
		w.deliver(0, true, true)
	}
	for _, id := range members[3:] {
		w.setUp(w.byID[id], false)
	}
	w.delete(0, wire.Drop{Cell: "a"})
	w.rounds(2)
	if in := w.m.names["a"]; in.State != Sealing || in.Absent != 0 {
		t.Errorf("%v, absent %b", in, in.Absent)
	}
	for _, id := range members[3:] {
		w.setUp(w.byID[id], true)
	}
	w.rounds(20)
	w.wantCell(t, "a", 1, "deleted", "")
}

// The answer of a drop is lost, and the census tells that the node is gone before the manager gives the call up: by then the
// incarnation has no members any more.
func TestDropEndsAfterTheCensusHasTold(t *testing.T) {
	for _, end := range []string{"lost", "refused", "done"} {
		w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Second}, 7)
		w.create(time.Minute, "a")
		w.drain()
		w.delete(0, wire.Drop{Cell: "a"})
		for w.m.names["a"].State != Wiping {
			w.deliver(0, true, true)
		}
		w.turn()
		var late []Call // whose drops arrive, and are not answered
		for _, c := range w.flight {
			w.serve(w.byID[c.Server], c)
			late = append(late, c)
		}
		w.flight = nil
		w.rounds(2)
		w.wantCell(t, "a", 1, "deleted", "")
		for _, c := range late {
			err := &cell.Error{Kind: cell.Unavailable}
			switch end {
			case "lost":
				w.m.Done(w.now, c.ID, nil, err)
			case "refused":
				w.m.Done(w.now, c.ID, []wire.Outcome{{Err: err}}, nil)
			case "done":
				w.m.Done(w.now, c.ID, []wire.Outcome{{}}, nil)
			}
			w.turn()
		}
		w.rounds(1)
		w.wantCell(t, "a", 1, "deleted", "")
	}
}

// A member refused its founding, since a node of an earlier incarnation was in its way. When that is gone, the member is asked
// again; and tombstones of earlier incarnations do not keep a member that is missing from being replaced, nor does a replacement whose new server
// has died.
func TestCensusAsksAgainAndReplacesBesideOldTombstones(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Second}, 9)
	w.create(time.Minute, "a")
	w.drain()
	members := serversOf(w.wantCell(t, "a", 1, "live", ""))
	in := w.m.names["a"]
	odd := w.byID[members[2]]
	in.Founded.remove(2)
	in.begin().foreign.add(2)
	delete(odd.nodes, incKey{"a", 1})
	w.rounds(3)
	if _, there := odd.nodes[incKey{"a", 1}]; !there || in.Founded != in.all() {
		t.Errorf("it was not asked again: founded %b", in.Founded)
	}
	w.m.claims["a"] = &claim{graves: []grave{{w.m.server(members[0]), 0}}}
	w.byID[members[4]].leave(incKey{"a", 1})
	delete(w.byID[members[4]].nodes, incKey{"a", 1})
	for range 20 {
		if !in.Moving().isZero() {
			break
		}
		w.rounds(1)
	}
	if w.rounds(4); slices.Contains(serversOf(w.list()[0]), members[4]) {
		t.Errorf("it is not replaced: %+v", in.Moving())
	}
	missing := in.Members[0].Server()
	w.byID[missing].leave(incKey{"a", 1})
	delete(w.byID[missing].nodes, incKey{"a", 1})
	if err := w.m.Propose(w.now, Proposal{Cell: "a", Remove: missing, Cause: ByRepair}); err != nil {
		t.Fatal(err)
	}
	in.Absent.add(0) // as the census found
	w.setUp(w.byID[in.Moving().Add], false)
	if w.rounds(6); slices.Contains(serversOf(w.list()[0]), missing) {
		t.Errorf("it waits for a server that has died: %+v", in.Moving())
	}
}
