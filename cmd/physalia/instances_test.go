package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"physalia/cell"
	"physalia/cmd/physalia/colony"
	"physalia/cmd/physalia/operator"
	"physalia/internal/etcdtest"
	"physalia/internal/wire"
)

// shared is a colony whose control processes share a store in a real etcd.
type shared struct {
	t    *testing.T
	etcd *etcdtest.Server
	*colony.Colony
}

func startShared(t *testing.T, instances int) *shared {
	t.Helper()
	s := &shared{t: t, etcd: etcdtest.Start(t)}
	spec := small(t)
	spec.Instances, spec.Store = instances, "etcd://"+s.etcd.Addr+"/physalia/local"
	var err error
	if s.Colony, err = colony.Start(spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// at asks the control plane, beginning at these instances, or all of them.
func (s *shared) at(instances ...*colony.Instance) operator.Operator {
	o := operator.Operator{Colony: colony.Name}
	for _, i := range instances {
		o.Addresses = append(o.Addresses, i.Addr)
	}
	if len(instances) == 0 {
		o.Addresses = s.ControlAddresses()
	}
	return o
}

// await waits for a condition, which says what is missing.
func (s *shared) await(what string, missing func(ctx context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := missing(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("%s: %v; processes: %v", what, err, s.Failed())
		}
	}
}

// roles asks one instance who is active, as its operator would.
func (s *shared) roles(i *colony.Instance) (active string, d instanceDocument, err error) {
	r := runLine(s.t, nil, "", []string{"control", "instances", "--colony", colony.Name, "--control-plane", i.Addr, "-o", "json"})
	if r.code != 0 {
		return "", d, fmt.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil {
		return "", d, err
	}
	for _, row := range d.Instances {
		if row.Active {
			active = row.Name
		}
	}
	return active, d, nil
}

// awaitActive waits until some other instance than one is active and says so itself, and returns it.
func (s *shared) awaitActive(not *colony.Instance) (active *colony.Instance) {
	s.t.Helper()
	s.await("an active instance", func(context.Context) error {
		for _, i := range s.Instances {
			if i == not || !i.Running() {
				continue
			}
			if name, d, err := s.roles(i); err == nil && name == i.Name && d.Problem == "" {
				active = i
				return nil
			}
		}
		return errors.New("nobody is active")
	})
	return active
}

// cells lists what exists, from the active instance, whoever is asked first.
func (s *shared) cells(ctx context.Context) ([]wire.CellInfo, error) {
	return s.at().Cells(ctx, "test", "")
}

// create asks until the control plane says that the cells are there; it repeats what was refused or not answered, as anybody
// may, since creating is idempotent by name.
func (s *shared) create(names []cell.ID) {
	s.await("creations", func(ctx context.Context) error {
		outcomes, err := s.at().Create(ctx, "test", wire.CreateCells{Cells: names})
		for _, o := range outcomes {
			if o.Err != nil {
				err = errors.Join(err, o.Err)
			}
		}
		return err
	})
}

func named(prefix string, n int) (names []cell.ID) {
	for i := range n {
		names = append(names, cell.ID(fmt.Sprintf("%s-%03d", prefix, i)))
	}
	return names
}

// Three control processes share a store in a real etcd, and one accident follows the other. Each step names what must hold.
func TestSeveralInstances(t *testing.T) {
	s := startShared(t, 3)
	first := s.awaitActive(nil)
	standby := s.Instances[0]
	if standby == first {
		standby = s.Instances[1]
	}
	// Whoever is asked, the operator ends at the active one.
	s.create(named("early", 1))
	if c, err := s.at(standby).Cell(t.Context(), "test", "early-000"); err != nil || c.State != "live" {
		t.Fatalf("%+v: %v", c, err)
	}
	second := s.killedDuringCreations(first)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	third := s.pausedBeyondItsLease(second)
	s.etcdAway(third)
	if err := s.Failed(); err != nil {
		t.Errorf("an instance should stand by, not end: %v", err)
	}
}

// The active instance is killed during 100 creations. Another one finishes what was begun without being asked again; what the
// victim had not stored is asked for again; no cell is created twice.
func (s *shared) killedDuringCreations(active *colony.Instance) (next *colony.Instance) {
	names := named("vol", 100)
	acknowledged := make(chan struct{}, len(names))
	var wait sync.WaitGroup
	for i := range len(names) / 4 {
		wait.Go(func() {
			if _, err := s.at(active).Create(s.t.Context(), "test", wire.CreateCells{Cells: names[4*i : 4*i+4]}); err == nil {
				acknowledged <- struct{}{}
			}
		})
	}
	<-acknowledged
	if err := active.Kill(); err != nil {
		s.t.Fatal(err)
	}
	wait.Wait()
	next = s.awaitActive(active)
	var begun int
	s.await("what was begun to be finished", func(ctx context.Context) error {
		cells, err := s.cells(ctx)
		begun = len(cells)
		for _, c := range cells {
			if c.State != "live" {
				return fmt.Errorf("%s is %s: %s", c.Cell, c.State, c.Waiting)
			}
		}
		return err
	})
	s.t.Logf("%d of 100 cells were acknowledged to whoever asked, %d were stored when the instance was killed", 4*(len(acknowledged)+1), begun-1)
	s.create(names)
	s.await("seven nodes of each cell and no other", func(ctx context.Context) error {
		cells, err := s.cells(ctx)
		if err != nil || len(cells) != 101 {
			return fmt.Errorf("%d cells, want 101: %w", len(cells), err)
		}
		for _, c := range cells {
			if c.Incarnation != 1 || len(c.Members) != 7 {
				s.t.Fatalf("%s was created twice: %+v", c.Cell, c)
			}
		}
		servers, err := s.at(next).Servers(ctx, "test")
		nodes := uint64(0)
		for _, v := range servers {
			nodes += v.Registration.Nodes
		}
		if nodes != 7*101 {
			return fmt.Errorf("%d nodes, want %d: %w", nodes, 7*101, err)
		}
		return nil
	})
	return next
}

// The active instance is frozen until another one is active, with a request before it. When it wakes up it believes to be
// active, and cannot create the cell: it finds itself deposed, and stands by in the same process.
func (s *shared) pausedBeyondItsLease(active *colony.Instance) (next *colony.Instance) {
	conn, err := s.at().Dial(s.t.Context(), active.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(nil)
	if err := active.Pause(); err != nil {
		s.t.Fatal(err)
	}
	answer := make(chan error, 1)
	var outcomes wire.Outcomes
	go func() {
		answer <- conn.Call(s.t.Context(), wire.MethodCreateCells, &wire.CreateCells{Cells: named("ghost", 1), Wait: 60_000}, &outcomes)
	}()
	next = s.awaitActive(active)
	// The servers still hold their connections to the frozen one, so the next can only note what is wanted.
	drop := wire.DeleteCells{Drops: []wire.Drop{{Cell: "vol-099"}}}
	s.await("the next active instance to take the deletion on", func(ctx context.Context) error {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := s.at(next).Delete(limited, "test", drop) // its outcome is pending until servers come
		return err
	})
	if err := active.Resume(); err != nil {
		s.t.Fatal(err)
	}
	if err := <-answer; err == nil && (len(outcomes.Outcomes) != 1 || outcomes.Outcomes[0].Err == nil) {
		s.t.Error("the deposed instance has created a cell")
	}
	s.await("the deposed instance to stand by", func(context.Context) error {
		name, d, err := s.roles(active)
		if err != nil || name != next.Name || len(d.Instances) != 3 {
			return fmt.Errorf("it says that %q is active, of %d: %w", name, len(d.Instances), err)
		}
		return nil
	})
	if _, err := s.at().Cell(s.t.Context(), "test", "ghost-000"); !errors.Is(err, cell.NotFound) {
		s.t.Errorf("the cell that nobody was told of: %v", err)
	}
	s.await("the deletion that was asked for meanwhile", func(ctx context.Context) error {
		c, err := s.at().Cell(ctx, "test", "vol-099")
		if err == nil && c.State != "deleted" {
			err = fmt.Errorf("it is %s: %s", c.State, c.Waiting)
		}
		return err
	})
	s.create(named("ghost", 1)) // asked again, it is created once
	if c, err := s.at().Cell(s.t.Context(), "test", "ghost-000"); err != nil || c.Incarnation != 1 {
		s.t.Errorf("%+v: %v", c, err)
	}
	return next
}

// Etcd dies for longer than a lease. Existing cells serve; the control plane says what is missing; when etcd is back, it goes on.
func (s *shared) etcdAway(active *colony.Instance) {
	put := func(key string) error {
		line := "kv put early-000 " + key + " x --colony " + colony.Name + " --control-plane " + strings.Join(s.ControlAddresses(), ",")
		if r := runLine(s.t, nil, "", strings.Fields(line)); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	}
	if err := put("before"); err != nil {
		s.t.Fatal(err)
	}
	s.etcd.Kill()
	s.await("the refusal of creations", func(ctx context.Context) error {
		limited, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := s.at(active).Create(limited, "test", wire.CreateCells{Cells: named("late", 1)})
		if err == nil || !errors.Is(err, cell.Unavailable) || !strings.Contains(err.Error(), s.etcd.Addr) || !strings.Contains(err.Error(), "start etcd") {
			return fmt.Errorf("the answer to a creation is: %w", err)
		}
		return put("meanwhile")
	})
	if _, d, err := s.roles(active); err != nil || !strings.Contains(d.Problem, s.etcd.Addr) {
		s.t.Errorf("control instances does not say what is missing: %+v, %v", d, err)
	}
	s.etcd.Restart()
	s.create(named("late", 1))
	if err := put("after"); err != nil {
		s.t.Error(err)
	}
	cells, err := s.cells(s.t.Context())
	live := 0
	for _, c := range cells {
		if c.State == "live" {
			live++
		}
	}
	if err != nil || live != 101-1+1+1 {
		s.t.Errorf("%d cells are live, want 102: %v", live, err)
	}
}
