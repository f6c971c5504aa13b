package lifecycle

import (
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// remains makes of a cell of seven what is left of one that was sealed: two have wiped their nodes, two are away for good, and
// three, who have not applied the seal, can never come to a majority again.
func (w *world) remains(name cell.ID, inc cell.Incarnation) {
	k := incKey{name, inc}
	w.sealed[k] = true
	for i, mem := range w.juries[k].Members {
		s := w.byID[mem.Server]
		s.lags[k] = true
		switch {
		case i < 2:
			delete(s.nodes, k)
			s.tombs[name] = inc
		case i < 4:
			s.lost = true
			w.setUp(s, false)
		}
	}
}

// wantGone insists that no server that is up hosts a node of an incarnation.
func (w *world) wantGone(t *testing.T, name cell.ID, inc cell.Incarnation) {
	t.Helper()
	for _, s := range w.servers {
		if _, hosts := s.nodes[incKey{name, inc}]; hosts && s.up {
			t.Errorf("%s still hosts %s.%d", s.reg.Server, name, inc)
		}
	}
}

// The store was lost in the middle of a wiping, and those that are left cannot be asked for the seal: an operator who deletes the name
// has them dropped, since a tombstone tells that a manager once had the proof. Nobody else does (rule 16).
func TestOperatorsEndWhatIsLeftOfADeletedCell(t *testing.T) {
	w := lost(t, 9, "a")
	w.remains("a", 1)
	w.crash()
	wantFinding(t, w.listen(2), "half-deleted a.1", "hosts it", "has a tombstone", "not heard")
	w.rebuild(wire.RebuildEnd)
	w.rounds(2)
	if n := w.hosting("a", 1); n != 3 {
		t.Fatalf("%d servers host a.1 before anybody has asked for its end, want 3", n)
	}
	id := w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.advance(time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	w.wantGone(t, "a", 1)
	w.rounds(2) // those that had wiped theirs before say so
	id = w.create(time.Minute, "a")
	w.advance(time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	w.wantCell(t, "a", 2, "live", "(down)")
}

// hosting counts the servers that are up and host a node of an incarnation.
func (w *world) hosting(name cell.ID, inc cell.Incarnation) (n int) {
	for _, s := range w.servers {
		if _, hosts := s.nodes[incKey{name, inc}]; hosts && s.up {
			n++
		}
	}
	return n
}

// The same where those that are left were away while the store was rebuilt, which has the name for deleted: they keep it taken until
// an operator says that they shall go.
func TestOperatorsEndWhatIsLeftOfATombstone(t *testing.T) {
	w := lost(t, 9, "a")
	w.remains("a", 1)
	var away []*fakeServer
	for _, s := range w.servers {
		if _, hosts := s.nodes[incKey{"a", 1}]; hosts && s.up {
			away = append(away, s)
			w.setUp(s, false)
		}
	}
	w.crash()
	w.rebuild(wire.RebuildBegin)
	w.listen(2)
	w.rebuild(wire.RebuildEnd)
	w.wantCell(t, "a", 1, "deleted", "")
	for _, s := range away {
		w.setUp(s, true)
	}
	w.rounds(2)
	wantFinding(t, w.rebuild(wire.RebuildLook), "half-deleted a.1", "hosts it")
	wantError(t, w.outcome(t, w.create(0, "a")), cell.Exists, "half-deleted")
	if n := w.hosting("a", 1); n != 3 {
		t.Fatalf("%d servers host a.1 before anybody has asked for its end, want 3", n)
	}
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.advance(time.Second)
	w.wantGone(t, "a", 1)
}

// A store that is put back to when a deletion was asked for meets tombstones of its end: the wiping goes on, although those that are
// left cannot come to a majority, and although nobody who knows the end answers when he is asked for the seal.
func TestWipingGoesOnInAStoreThatWaitsForTheSeal(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 9)
	w.create(time.Minute, "a")
	w.drain()
	w.rounds(1)
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.wantCell(t, "a", 1, "sealing", "the seal is not chosen yet")
	w.remains("a", 1)
	w.crash()
	for w.m.observer.ended < 2 {
		w.turn()
		if len(w.flight) > 0 {
			w.deliver(0, true, w.flight[0].Method != wire.MethodSeal)
			continue
		}
		at, _ := w.m.Next()
		w.now = max(w.now, at)
	}
	w.advance(time.Second)
	w.wantCell(t, "a", 1, "wiping", "(down)")
	w.wantGone(t, "a", 1)
}

// A member of an earlier life returns while the wiping of the next one waits for a server that is gone: the tombstones of the later
// life prove the end of the earlier one, too.
func TestWipingDoesNotHideWhatIsLeftOfAnEarlierLife(t *testing.T) {
	w := newWorld(t.Fatalf, Config{Seed: 1, ScanEvery: time.Minute}, 9)
	w.create(time.Minute, "a")
	w.drain()
	late := w.byID[w.juries[incKey{"a", 1}].Members[3].Server]
	w.setUp(late, false)
	late.lags[incKey{"a", 1}] = true
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.drain()
	id := w.create(time.Minute, "a")
	w.advance(time.Second)
	if err := w.outcome(t, id); err != nil {
		t.Fatal(err)
	}
	w.store = NewMemStore() // nobody knows of the first life any more
	w.config.Seed = 99
	w.crash()
	w.rebuild(wire.RebuildBegin)
	w.listen(2)
	w.rebuild(wire.RebuildEnd)
	w.rounds(2)
	w.wantCell(t, "a", 2, "live", "")
	gone := w.byID[w.juries[incKey{"a", 2}].Members[3].Server]
	gone.lost = true
	w.setUp(gone, false)
	w.delete(time.Minute, wire.Drop{Cell: "a"})
	w.drain()
	w.wantCell(t, "a", 2, "wiping", "(down)")
	w.setUp(late, true)
	w.rounds(4)
	w.wantGone(t, "a", 1)
}
