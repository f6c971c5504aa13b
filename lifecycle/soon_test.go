package lifecycle

import (
	"slices"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// TestConfirmationsAreStoredSoon: a requester hears of his cell with one batch stored on the way, the record of the founding; what
// the servers confirmed follows, and a crash in between has the same jury asked again.
func TestConfirmationsAreStoredSoon(t *testing.T) {
	m := NewManager(Config{Jury: 3})
	for i := range 3 {
		if err := m.ServerUp(0, testServer(i)); err != nil {
			t.Fatal(err)
		}
	}
	m.Effects(0)
	m.Create(0, 1, wire.CreateCells{Cells: []cell.ID{"a"}, Wait: 1000})
	founding := m.Effects(0)
	if len(founding.Persist) != 1 || len(founding.Calls) != 3 || len(founding.Replies) != 0 {
		t.Fatalf("a creation begins with %+v", founding)
	}
	yes := make([]wire.Outcome, 1)
	m.Done(0, founding.Calls[0].ID, yes, nil)
	m.Done(0, founding.Calls[1].ID, yes, nil)
	if e := m.Effects(0); len(e.Persist) != 0 || len(e.Replies) != 1 || e.Replies[0].Outcomes.Outcomes[0].Err != nil || len(e.Routes) != 1 {
		t.Fatalf("confirmed by a majority: %+v", e)
	}

	// The crash: what is stored is the founding alone. Whoever asks for the cell waits for the same servers.
	again := NewManager(Config{Jury: 3})
	for i := range 3 {
		if err := again.ServerUp(0, testServer(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.Restore(founding.Persist[0].Key, founding.Persist[0].Value); err != nil {
		t.Fatal(err)
	}
	asked := again.Effects(0).Calls
	if len(asked) != 3 {
		t.Fatalf("after the crash: %+v", asked)
	}
	for _, c := range asked {
		f, want := c.Params.(*wire.CreateNodes).Foundings[0], founding.Calls[0].Params.(*wire.CreateNodes).Foundings[0]
		if f.Incarnation != want.Incarnation || f.Owner != want.Owner || !slices.Equal(f.Members, want.Members) {
			t.Errorf("asked of %s: %+v, before the crash %+v", c.Server, f, want)
		}
	}

	// Without one, the record follows, once, with everything that was confirmed by then.
	m.Done(0, founding.Calls[2].ID, yes, nil)
	if e := m.Effects(confirmMax - 1); len(e.Persist) != 0 {
		t.Errorf("stored too early: %+v", e)
	}
	if at, ok := m.Next(); !ok || at > confirmMax {
		t.Errorf("next at %v, %v", at, ok)
	}
	e := m.Effects(confirmMax)
	if len(e.Persist) != 1 {
		t.Fatalf("stored in time: %+v", e)
	}
	r, err := decodeRecord(e.Persist[0].Value, intern{})
	if err != nil || r.State != Live || r.Founded != r.all() {
		t.Errorf("stored is %v, founded %b, %v", &r, r.Founded, err)
	}
	if w := m.Confirmed(); len(w) != 0 {
		t.Errorf("left to be stored: %+v", w)
	}
}

// TestOrderlyEndStoresConfirmations: a manager that stops in order leaves nothing to be asked again.
func TestOrderlyEndStoresConfirmations(t *testing.T) {
	h := newHosts(t, 7)
	store := NewMemStore()
	s := open(t, ServiceConfig{Store: store, Caller: h})
	h.join(s)
	if o, err := createAll(s, "a"); err != nil || o.Outcomes[0].Err != nil {
		t.Fatal(o, err)
	}
	closeService(t, s)
	s = open(t, ServiceConfig{Store: store, Caller: h})
	if n := s.Stats().Cells[Live]; n != 1 {
		t.Errorf("%d cells live after the restart, want 1", n)
	}
	closeService(t, s)
}
