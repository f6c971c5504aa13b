package control

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/roster"
	"physalia/internal/wire"
	"physalia/lifecycle"
	"physalia/lifecycle/etcdstore"
)

// seat is the lifecycle manager's place in this instance. With a store of its own it is taken from start to end. With a
// shared store it is taken for the terms that this instance wins; in between the instance stands by: requests for the manager
// are refused with the address of the active instance. Its methods are safe for concurrent use.
type seat struct {
	cfg    lifecycle.ServiceConfig // of every term; its Store is the term's
	log    *slog.Logger
	member *etcdstore.Member // nil: the store is this instance's own
	roster roster.Roster
	ended  chan struct{} // closed when the manager of an own store has ended

	remember func([]wire.Registration) // told the servers that a manager's store knows

	mu       sync.Mutex
	service  *lifecycle.Service // nil: standing by
	handlers map[string]fleet.Handler
	up       map[cell.ServerID]wire.Registration // servers that count on this instance's manager
	failure  error                               // how the last term ended, if not as wanted; nil while one lasts
}

// newSeat makes the empty seat of an instance that listens at addr. Who there is, is known from here on.
func newSeat(c *Config, addr string) (*seat, error) {
	if c.Advertise != "" {
		addr = c.Advertise
	}
	s := &seat{log: c.Logger, ended: make(chan struct{}), up: map[cell.ServerID]wire.Registration{}}
	if c.Shared == nil {
		s.roster = roster.Alone(c.Name, addr)
		return s, nil
	}
	// Nobody is active before the first term; Run, which the owner starts, talks to etcd.
	shared := *c.Shared
	shared.Name, shared.Addr, shared.Log = c.Name, addr, c.Logger
	member, err := etcdstore.New(shared)
	if err != nil {
		return nil, err
	}
	s.member, s.roster = member, member.Roster()
	return s, nil
}

// start says what managers work with, and opens the one of an own store. It comes before everything below.
func (s *seat) start(c *Config, service lifecycle.ServiceConfig) error {
	s.cfg = service
	if s.member != nil {
		return nil
	}
	store, err := lifecycle.OpenPebble(lifecycle.PebbleConfig{Dir: filepath.Join(c.DataDir, "lifecycle"), Log: c.Logger})
	if err != nil {
		return err
	}
	manager, err := s.open(store)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	// Only here the end of the manager is the end of the process.
	go func() {
		defer close(s.ended)
		<-manager.Done()
	}()
	return nil
}

// open starts a manager from a store, and seats it. Restoring may take seconds, during which others are refused; the servers
// that are connected by then are told to the manager in the same step that seats it, so that none is missed or told twice.
func (s *seat) open(store lifecycle.Store) (*lifecycle.Service, error) {
	c := s.cfg
	c.Store = store
	manager, err := lifecycle.Open(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.service, s.handlers, s.failure = manager, manager.Handlers(), nil
	for _, r := range s.up {
		manager.ServerUp(r)
	}
	return manager, nil
}

// recall has the fleet told which servers the store of each manager knows: of this one now, and of those to come.
func (s *seat) recall(remember func([]wire.Registration)) {
	s.remember = remember
	if manager, err := s.current("control.recall"); err == nil {
		remember(manager.KnownServers())
	}
}

// serve is one term: the manager starts from the shared store, and works until the term is over or it fails.
func (s *seat) serve(t *etcdstore.Term) error {
	began := time.Now()
	manager, err := s.open(t.Store)
	if err == nil {
		s.remember(manager.KnownServers())
		// From here on requests are taken; when the term ends they are refused again before the manager is closed.
		s.log.Info("the lifecycle manager works", "term", t.Number, "restored in", time.Since(began).Round(time.Millisecond))
		select {
		case <-t.Done():
		case <-manager.Done():
		}
		s.mu.Lock()
		s.service, s.handlers = nil, nil
		s.mu.Unlock()
		err = manager.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
	return err
}

// current is the manager, or who should be asked instead.
func (s *seat) current(op string) (*lifecycle.Service, *cell.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service != nil {
		return s.service, nil
	}
	return nil, s.refusal(op)
}

// refusal says that this instance is not the active one, and who is, or why nobody can be. The caller holds the lock.
func (s *seat) refusal(op string) *cell.Error {
	self := s.roster.Self()
	problem := s.member.Problem()
	takingOver := false
	for _, i := range s.roster.Instances() {
		takingOver = takingOver || i.Active && i.Name == self
		if problem == nil && i.Active && i.Name != self {
			return &cell.Error{Op: op, Kind: cell.NotProposer, Leader: cell.ServerID(i.Name), LeaderAddr: i.Addr,
				Detail: fmt.Sprintf("control instance %s stands by, %s is active", self, i.Name), Hint: "ask " + i.Addr}
		}
	}
	// A pointer to an instance that cannot be told from a dead one would send people in circles: what is missing is said instead.
	e := &cell.Error{Op: op, Kind: cell.Unavailable, RetryAfter: time.Second, Detail: "no control instance is active",
		Hint: "one becomes active within seconds; ask again"}
	switch {
	case problem != nil:
		e.Detail = problem.Error() // what stands in Err would not cross the wire
		e.Hint = ""
	case takingOver:
		e.Detail = "control instance " + self + " is taking over"
	case s.failure != nil:
		e.Detail += "; the last attempt of instance " + self + " ended: " + s.failure.Error()
	}
	return e
}

// serverUp tells the manager, now or when it comes, that a server is connected.
func (s *seat) serverUp(r wire.Registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up[r.Server] = r
	if s.service != nil {
		s.service.ServerUp(r)
	}
}

// serverDown tells it that the server's session has ended.
func (s *seat) serverDown(id cell.ServerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.up, id)
	if s.service != nil {
		s.service.ServerDown(id)
	}
}

// admit judges a server that registers. Identities that are retired are known to the manager alone; an instance that stands by
// gives no server a part in cells.
func (s *seat) admit(r wire.Registration) *cell.Error {
	if manager, err := s.current(wire.MethodRegister); err == nil {
		return manager.Admit(r)
	}
	return nil
}

// clientHandlers serves the manager's methods, whoever is active.
func (s *seat) clientHandlers() map[string]fleet.Handler {
	all := map[string]fleet.Handler{wire.MethodListInstances: s.listInstances}
	// The manager differs from term to term, and the fleet's table of methods does not, so each is looked up when it is asked.
	for _, method := range lifecycle.Methods() {
		all[method] = func(r fleet.Request) {
			s.mu.Lock()
			handle := s.handlers[method]
			var err *cell.Error
			if handle == nil {
				err = s.refusal(method)
			}
			s.mu.Unlock()
			if err != nil {
				r.Reply(nil, err)
				return
			}
			handle(r)
		}
	}
	return all
}

// listInstances answers control.instances.
func (s *seat) listInstances(r fleet.Request) {
	list := wire.InstanceList{Asked: s.roster.Self(), Store: "embedded"}
	if s.member != nil {
		list.Store = "etcd"
		if err := s.member.Problem(); err != nil {
			list.Problem = err.Error()
		}
	}
	// Whoever asks wants to know who is active; a failure of this instance matters only while nobody is.
	someone := false
	for _, i := range s.roster.Instances() {
		someone = someone || i.Active
		list.Instances = append(list.Instances, wire.Instance{Name: i.Name, Addr: i.Addr, Active: i.Active})
	}
	s.mu.Lock()
	if list.Problem == "" && !someone && s.failure != nil {
		list.Problem = s.failure.Error()
	}
	s.mu.Unlock()
	list.Problem = list.Problem[:min(len(list.Problem), wire.ProblemBytesMax)]
	r.Reply(&list, nil)
}

// problem is why the store cannot be used, or nil.
func (s *seat) problem() error {
	if s.member == nil {
		return s.err()
	}
	return s.member.Problem()
}

// health is one line for probes and people: an instance that stands by is well, and so is one whose store does not answer,
// since starting it again would not help.
func (s *seat) health() string {
	if s.active() {
		return "ok: active"
	}
	if err := s.problem(); err != nil {
		return "ok: standing by; " + err.Error()
	}
	return "ok: standing by"
}

// stats is what the manager holds; nothing while standing by.
func (s *seat) stats() lifecycle.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.service == nil {
		return lifecycle.Stats{}
	}
	return s.service.Stats()
}

// active reports whether a manager works here.
func (s *seat) active() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.service != nil
}

// err tells why an instance with a store of its own cannot go on. One that shares a store stands by instead.
func (s *seat) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A failed term is told by refusal and listInstances; the next one may do better.
	if s.member != nil || s.service == nil {
		return nil
	}
	return s.service.Err()
}

// close ends the manager of an own store. A shared one ends with its term.
func (s *seat) close() error {
	// Not under the lock: what the manager answers on its way out may ask for it.
	s.mu.Lock()
	manager := s.service
	s.mu.Unlock()
	if s.member != nil || manager == nil {
		return nil
	}
	err := manager.Close()
	<-s.ended
	return err
}
