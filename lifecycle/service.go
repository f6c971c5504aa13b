package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/must"
	"physalia/internal/wire"
)

// Caller reaches servers; fleet.Fleet is one.
type Caller interface {
	// Call sends a request and waits for its answer or the end of ctx. The error is a *cell.Error.
	Call(ctx context.Context, server cell.ServerID, method string, params, result wire.Message) error
}

// ServiceConfig says what a Service works with. Store and Caller are required.
type ServiceConfig struct {
	Manager Config
	Store   Store // used by nobody else; Close closes it
	Caller  Caller
	// Routes is handed what the manager knows of cells: everything at the start, in pages, and every change. It runs on
	// the loop and must not block. Nil: nobody is interested.
	Routes func([]wire.Route)
	// Objects opens the place of a backup; nil: there are none.
	Objects func(url string) (Objects, error)
	// Now is a monotonic clock; nil takes the real one.
	Now func() time.Duration
	// Wall tells when orders were given, for people; nil takes the real clock.
	Wall func() time.Time
	Log  *slog.Logger // nil discards
}

// Bounds of the shell.
const (
	inboxMax  = 1 << 16 // inputs that wait for the loop; requests beyond are refused as Overloaded
	routePage = 512     // routes handed on per turn while the discovery cache is filled
)

// Service runs a Manager: one loop owns it, one durable batch per turn, one goroutine per call in flight (their number is
// bounded by Config.Calls and Config.Seals). All methods are safe for concurrent use.
type Service struct {
	cfg    ServiceConfig
	ctx    context.Context // ended by Close
	cancel context.CancelFunc
	calls  sync.WaitGroup
	wake   chan struct{} // capacity 1
	done   chan struct{} // closed when the loop has ended

	mu      sync.Mutex
	inbox   []input
	closed  bool  // no more inputs are taken
	backing bool  // a backup is being written
	stats   Stats // after the last turn
	failure error // why the loop stopped by itself
	retired map[cell.ServerID]bool

	// Owned by the loop:
	m       *Manager
	lastID  RequestID
	waiting map[RequestID]func(Reply) // whom to answer
}

// input is something for the loop to tell the manager, and, when it is a request, how to answer it without.
type input struct {
	do    func(now time.Duration)
	reply func(Reply)
}

// Open restores the manager's state from the store and starts the loop. The error says why the store cannot be used.
func Open(c ServiceConfig) (*Service, error) {
	if err := c.Manager.Check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		start := time.Now()
		c.Now = func() time.Duration { return time.Since(start) }
	}
	if c.Wall == nil {
		c.Wall = time.Now
	}
	s := &Service{cfg: c, m: NewManager(c.Manager), wake: make(chan struct{}, 1), done: make(chan struct{}),
		waiting: map[RequestID]func(Reply){}}
	if err := c.Store.Scan(s.m.Restore); err != nil {
		return nil, err
	}
	s.publish()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.loop()
	return s, nil
}

// Create asks for cells; reply is called once, on another goroutine, and must not block. The same holds for Delete and
// List.
func (s *Service) Create(req wire.CreateCells, reply func(*wire.Outcomes, *cell.Error)) {
	s.request("lifecycle.create", func(r Reply) { reply(r.Outcomes, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Create(now, id, req)
	})
}

// Delete asks for the deletion of cells.
func (s *Service) Delete(req wire.DeleteCells, reply func(*wire.Outcomes, *cell.Error)) {
	s.request("lifecycle.delete", func(r Reply) { reply(r.Outcomes, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Delete(now, id, req)
	})
}

// Replace asks for one member of a cell to be replaced; the answer has one outcome.
func (s *Service) Replace(req wire.ReplaceMember, reply func(*wire.Outcomes, *cell.Error)) {
	s.request("lifecycle.replace", func(r Reply) { reply(r.Outcomes, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Replace(now, id, req)
	})
}

// Locate tells where the users of a volume are; the answer has one outcome.
func (s *Service) Locate(req wire.LocateVolume, reply func(*wire.Outcomes, *cell.Error)) {
	s.request("lifecycle.locate", func(r Reply) { reply(r.Outcomes, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.Locate(now, id, req)
	})
}

// List asks for a page of cells.
func (s *Service) List(req wire.ListCells, reply func(*wire.CellList, *cell.Error)) {
	s.request("lifecycle.list", func(r Reply) { reply(r.List, r.Err) }, func(now time.Duration, id RequestID) {
		s.m.List(now, id, req)
	})
}

// Handlers returns the methods of this service, to be served to clients and operators.
func (s *Service) Handlers() map[string]fleet.Handler {
	handlers := map[string]fleet.Handler{
		wire.MethodCreateCells: func(r fleet.Request) {
			var req wire.CreateCells
			if r.Decode(&req) {
				s.Create(req, func(o *wire.Outcomes, err *cell.Error) { answer(&r, o, err) })
			}
		},
		wire.MethodDeleteCells: func(r fleet.Request) {
			var req wire.DeleteCells
			if r.Decode(&req) {
				s.Delete(req, func(o *wire.Outcomes, err *cell.Error) { answer(&r, o, err) })
			}
		},
		wire.MethodReplaceMember: func(r fleet.Request) {
			var req wire.ReplaceMember
			if r.Decode(&req) {
				s.Replace(req, func(o *wire.Outcomes, err *cell.Error) { answer(&r, o, err) })
			}
		},
		wire.MethodLocate: func(r fleet.Request) {
			var req wire.LocateVolume
			if r.Decode(&req) {
				s.Locate(req, func(o *wire.Outcomes, err *cell.Error) { answer(&r, o, err) })
			}
		},
		wire.MethodListCells: func(r fleet.Request) {
			var req wire.ListCells
			if r.Decode(&req) {
				s.List(req, func(l *wire.CellList, err *cell.Error) { answer(&r, l, err) })
			}
		},
		wire.MethodPlanRecovery: s.planRecovery,
		wire.MethodRecoverCells: s.recoverCells,
		wire.MethodRebuild:      s.rebuild,
		wire.MethodBackup:       s.backup,
	}
	maps.Copy(handlers, s.operating())
	return handlers
}

// Methods lists what Handlers serves, for an instance that has no Service at the moment.
func Methods() []string { return slices.Sorted(maps.Keys((&Service{}).Handlers())) }

// answer replies with a result or an error; a nil pointer in an interface would not be nil.
func answer[T any, M interface {
	*T
	wire.Message
}](r *fleet.Request, result M, err *cell.Error) {
	if err != nil {
		r.Reply(nil, err)
		return
	}
	r.Reply(result, nil)
}

// ServerUp tells that a server has registered; it does not block.
func (s *Service) ServerUp(g wire.Registration) {
	s.post(func(now time.Duration) {
		if err := s.m.ServerUp(now, g); err != nil {
			s.cfg.Log.Error("server is not used", "server", g.Server, "error", err)
		}
	})
}

// ServerDown tells that a server's connection is lost; it does not block.
func (s *Service) ServerDown(id cell.ServerID) {
	s.post(func(now time.Duration) { s.m.ServerDown(now, id) })
}

// Stats tells what the manager held after the last turn.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// KnownServers lists every server that the store remembers, ordered by identity; none once the service has stopped. It waits
// for the loop, so it is for a start, not for handlers.
func (s *Service) KnownServers() []wire.Registration {
	known := make(chan []wire.Registration, 1)
	s.post(func(time.Duration) { known <- s.m.KnownServers() })
	select {
	case list := <-known:
		return list
	case <-s.done:
		return nil
	}
}

// Done is closed when the service has stopped, by Close or because it failed; see Err.
func (s *Service) Done() <-chan struct{} { return s.done }

// Err tells why the service failed, or nil. A failed service does nothing any more: start again from the store.
func (s *Service) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Close stops the loop, answers what still waits, waits for all goroutines and closes the store. What was begun goes on
// when a manager starts from the store again.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	<-s.done
	return errors.Join(s.Err(), s.cfg.Store.Close())
}

// request posts a request and remembers whom to answer.
func (s *Service) request(op string, reply func(Reply), do func(now time.Duration, id RequestID)) {
	enter := func(now time.Duration) {
		s.lastID++
		s.waiting[s.lastID] = reply
		do(now, s.lastID)
	}
	if err := s.offer(input{enter, reply}); err != nil {
		err.Op = op
		reply(Reply{Err: err})
	}
}

// post hands an input to the loop. It is not bounded here: there is one per end of a call and per event of a server.
func (s *Service) post(do func(now time.Duration)) {
	if err := s.offer(input{do: do}); err != nil {
		s.cfg.Log.Debug("input after the end", "error", err)
	}
}

// offer puts an input into the inbox, or says why not. Only requests are bounded by inboxMax.
func (s *Service) offer(in input) *cell.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.failure != nil:
		return &cell.Error{Kind: cell.Unavailable, Detail: "the lifecycle manager has stopped", Hint: "ask again later"}
	case in.reply != nil && len(s.inbox) >= inboxMax:
		return &cell.Error{Kind: cell.Overloaded, Detail: fmt.Sprintf("%d inputs wait", len(s.inbox)), RetryAfter: time.Second}
	}
	s.inbox = append(s.inbox, in)
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
	return nil
}

// loop owns the manager.
func (s *Service) loop() {
	defer close(s.done)
	defer s.finish()
	timer := time.NewTimer(0)
	defer timer.Stop()
	routes := cell.ID("")
	more := s.cfg.Routes != nil
	for {
		if more {
			routes, more = s.fill(routes)
		}
		if err := s.turn(); err != nil {
			s.fail(err)
			return
		}
		at, ok := s.m.Next()
		switch {
		case more:
			timer.Reset(0)
		case ok:
			timer.Reset(at - s.cfg.Now())
		default:
			timer.Reset(time.Hour)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// fill hands on one page of routes.
func (s *Service) fill(after cell.ID) (last cell.ID, more bool) {
	page, last, more := s.m.Routes(after, routePage)
	if len(page) > 0 {
		s.cfg.Routes(page)
	}
	return last, more
}

// turn takes everything from the inbox, makes what follows durable with one sync, and lets it out.
func (s *Service) turn() (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case *must.Violation:
			err = v // what is stored is sound: it was checked before it was written
		default:
			panic(v)
		}
	}()
	s.mu.Lock()
	inbox := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	now := s.cfg.Now()
	for _, in := range inbox {
		in.do(now)
	}
	e := s.m.Effects(now)
	if len(e.Persist) > 0 {
		if err := s.cfg.Store.Put(e.Persist); err != nil {
			return err
		}
	}
	for _, c := range e.Calls {
		s.calls.Add(1)
		go s.call(c)
	}
	for _, r := range e.Replies {
		reply := s.waiting[r.Request]
		delete(s.waiting, r.Request)
		reply(r)
	}
	if len(e.Routes) > 0 && s.cfg.Routes != nil {
		s.cfg.Routes(e.Routes)
	}
	s.publish()
	return nil
}

// publish makes what other goroutines may ask for that of the last turn.
func (s *Service) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats = s.m.Stats()
	if len(s.retired) != len(s.m.retired) {
		s.retired = maps.Clone(s.m.retired)
	}
}

// call carries out one call and posts how it ended.
func (s *Service) call(c Call) {
	defer s.calls.Done()
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	var result wire.Outcomes
	var configured wire.Configured
	into := wire.Message(&result)
	var export wire.NodeExport
	switch c.Method {
	case wire.MethodSeal, wire.MethodCreateLearner:
		into = nil
	case wire.MethodChange:
		into = &configured
	case wire.MethodExport:
		into = &export
	case wire.MethodCensus, wire.MethodGraves:
		s.count(ctx, c)
		return
	}
	err := s.cfg.Caller.Call(ctx, c.Server, c.Method, c.Params, into)
	s.post(func(now time.Duration) {
		var failure *cell.Error
		switch {
		case err != nil:
			failure = asError(err)
		case c.Method == wire.MethodChange:
			s.m.Configured(now, c.ID, &configured)
			return
		}
		if c.Method == wire.MethodExport {
			s.m.Exported(now, c.ID, &export, failure)
			return
		}
		s.m.Done(now, c.ID, result.Outcomes, failure)
	})
}

// fail stops the service for good.
func (s *Service) fail(err error) {
	s.cfg.Log.Error("the lifecycle manager stops", "error", err)
	s.mu.Lock()
	s.failure = &cell.Error{Op: "lifecycle", Kind: cell.Internal, Detail: "the manager has stopped", Err: err,
		Hint: "start the control process again; it resumes from its store"}
	s.mu.Unlock()
	s.cancel()
}

// finish answers everybody who still waits, once all calls have ended.
func (s *Service) finish() {
	s.calls.Wait()
	if s.Err() == nil {
		if w := s.m.Confirmed(); len(w) > 0 {
			if err := s.cfg.Store.Put(w); err != nil {
				s.cfg.Log.Info("what servers confirmed last is not stored, so they will be asked again", "error", err)
			}
		}
	}
	s.mu.Lock()
	s.closed = true
	inbox := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	stopped := Reply{Err: &cell.Error{Op: "lifecycle", Kind: cell.UnknownResult, Detail: "the lifecycle manager has stopped",
		Hint: "repeat the request: it is idempotent"}}
	for _, reply := range s.waiting {
		reply(stopped)
	}
	for _, in := range inbox {
		if in.reply != nil {
			in.reply(stopped)
		}
	}
}
