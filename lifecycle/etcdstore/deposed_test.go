package etcdstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"physalia/cell"
	"physalia/internal/etcdtest"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// servers are hosts that found whatever they are told, and remember by whom and with which jury.
type servers struct {
	mu     sync.Mutex
	told   map[string]int           // foundings by instance
	juries map[string]wire.Founding // by cell and incarnation
	errs   []string
}

// caller is the way to the servers of one instance.
type caller struct {
	servers *servers
	name    string
}

func (c *caller) Call(_ context.Context, _ cell.ServerID, method string, params, result wire.Message) error {
	s := c.servers
	s.mu.Lock()
	defer s.mu.Unlock()
	batch, ok := params.(*wire.CreateNodes)
	if !ok {
		return &cell.Error{Op: method, Kind: cell.Refused}
	}
	for _, f := range batch.Foundings {
		s.told[c.name]++
		key := fmt.Sprintf("%s.%d", f.Cell, f.Incarnation)
		if was, known := s.juries[key]; known && fmt.Sprint(was) != fmt.Sprint(f) {
			s.errs = append(s.errs, fmt.Sprintf("%s tells another jury of %s: %v, it was %v", c.name, key, f, was))
		}
		s.juries[key] = f
	}
	result.(*wire.Outcomes).Outcomes = make([]wire.Outcome, len(batch.Foundings))
	return nil
}

// start opens a manager on a term, with all servers connected.
func (s *servers) start(t *testing.T, name string, store *Store, seed uint64) *lifecycle.Service {
	t.Helper()
	m, err := lifecycle.Open(lifecycle.ServiceConfig{Manager: lifecycle.Config{Seed: seed}, Store: store, Caller: &caller{s, name}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 14 {
		id := fmt.Sprintf("s%d", i+1)
		m.ServerUp(wire.Registration{Server: cell.ServerID(id), Name: id, Colony: "test", Brick: "b1", Rack: fmt.Sprintf("r%d", i%5), Power: fmt.Sprintf("p%d", i%4),
			Color: "red", PeerAddr: id + ":1", ClientAddr: id + ":2", GossipAddr: id + ":3", Boot: 1, Capacity: 10_000})
	}
	return m
}

// create asks for cells and waits for what becomes of each.
func create(m *lifecycle.Service, names []cell.ID) (made []cell.ID, refused *cell.Error) {
	done := make(chan struct{})
	m.Create(wire.CreateCells{Cells: names, Wait: 60_000}, func(o *wire.Outcomes, err *cell.Error) {
		defer close(done)
		if refused = err; err != nil {
			return
		}
		for i, x := range o.Outcomes {
			if x.Err == nil {
				made = append(made, names[i])
			} else {
				refused = x.Err
			}
		}
	})
	<-done
	return made, refused
}

func names(from, n int) (list []cell.ID) {
	for i := range n {
		list = append(list, cell.ID(fmt.Sprintf("vol-%04d", from+i)))
	}
	return list
}

// Two managers run on one store and both believe to be active; no clock and no lease tells them. From the moment at which the
// second one's term exists, the first one starts nothing and acknowledges nothing, whatever it had planned.
func TestTwoThatBelieveToBeActive(t *testing.T) {
	w := newWorld(t, connect(t, etcdtest.Start(t)), "/p/two")
	hosts := &servers{told: map[string]int{}, juries: map[string]wire.Founding{}}
	a := hosts.start(t, "a", w.mustOpen(), 1)
	if made, err := create(a, names(0, 300)); len(made) != 300 {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	progress := make(chan int, 40)
	for i := range cap(progress) {
		wait.Go(func() {
			made, _ := create(a, names(1000+i*5, 5))
			progress <- len(made)
		})
	}
	<-progress // a is in the middle of creations when it is deposed
	store := w.mustOpen()
	hosts.mu.Lock()
	before := hosts.told["a"]
	hosts.mu.Unlock()
	b := hosts.start(t, "b", store, 2)
	wait.Wait()
	if made, err := create(a, names(2000, 5)); len(made) > 0 || err == nil {
		t.Errorf("a deposed instance created %v", made)
	}
	<-a.Done()
	if err := a.Err(); err == nil || !strings.Contains(err.Error(), ErrFenced.Error()) {
		t.Errorf("it stopped with: %v", err)
	}
	for _, group := range [][]cell.ID{names(0, 300), names(1000, 200), names(2000, 5)} {
		for len(group) > 0 {
			part := group[:min(100, len(group))]
			group = group[len(part):]
			if made, err := create(b, part); len(made) != len(part) {
				t.Fatalf("the active instance created %d of %d: %v", len(made), len(part), err)
			}
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	_ = a.Close() // says again why it stopped
	hosts.mu.Lock()
	defer hosts.mu.Unlock()
	// What a had stored in time it may tell late; what b knows was stored in time, it tells alike. Nothing else exists.
	for _, err := range hosts.errs {
		t.Error(err)
	}
	if len(hosts.juries) != 505 {
		t.Errorf("%d incarnations for 505 cells", len(hosts.juries))
	}
	for key := range hosts.juries {
		if !strings.HasSuffix(key, ".1") {
			t.Errorf("%s: a cell was created twice", key)
		}
	}
	t.Logf("a told %d foundings before the second term was seen, %d in all; b told %d", before, hosts.told["a"], hosts.told["b"])
	final := lifecycleRecords(t, w.mustOpen())
	if final != 505 {
		t.Errorf("the store holds %d cells", final)
	}
}

// lifecycleRecords counts the records of cells.
func lifecycleRecords(t *testing.T, s *Store) (n int) {
	t.Helper()
	if err := s.Scan(func(k, _ []byte) error {
		if k[0] == 'r' {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}
