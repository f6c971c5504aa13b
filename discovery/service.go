package discovery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// Caller sends requests to servers that have a session with this process.
type Caller interface {
	Call(ctx context.Context, id cell.ServerID, method string, params, result wire.Message) error
}

// ServiceConfig says what a copy of discovery is. The zero value of every field is useful.
type ServiceConfig struct {
	Cache Config
	Pace  Pace
	// Servers are asked for what they host; nil: servers only push, which the tests of others do with.
	Servers Caller
	// Copies are the addresses of the other copies, asked for before each round; nil: there are none.
	Copies func() []string
	// Dial connects to another copy; needed with Copies. See DialCopy.
	Dial func(ctx context.Context, addr string) (Conn, error)
	// Keeper says where snapshots are; without a Store there are none.
	Keeper KeeperConfig
	// For at least FillingMin after its start, by default 10 s, the copy says that it may not know everything: servers come
	// back within a few seconds. Then until all that are there were compared, but no longer than FillingMax, default 60 s.
	FillingMin, FillingMax time.Duration
	Log                    *slog.Logger // nil discards
}

// callTimeout is the patience with one request to a server or another copy.
const callTimeout = 5 * time.Second

// Service is one copy of discovery: a Cache that many may ask at once, fed by a Scanner. Run does the work that nobody asks
// for; without it, a Service only takes what it is told.
type Service struct {
	cfg   ServiceConfig
	log   *slog.Logger
	began time.Time     // of the durations that the deciding parts count in
	wake  chan struct{} // capacity 1: Next has something to say

	mu      sync.RWMutex
	cache   *Cache
	scanner *Scanner
	filled  atomic.Bool // everybody who was here after FillingMin was compared
	kept    Kept
	newer   func([]wire.Route) // see OnNewer

	conns map[string]Conn // to other copies; the loop's and its calls', under connMu
	cmu   sync.Mutex
}

// NewService makes a copy that knows nothing.
func NewService(c ServiceConfig) *Service {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.FillingMin <= 0 {
		c.FillingMin = 10 * time.Second
	}
	if c.FillingMax <= 0 {
		c.FillingMax = time.Minute
	}
	if c.Cache.Life == 0 {
		c.Cache.Life = uint64(time.Now().UnixMicro())
	}
	c.Keeper = c.Keeper.withDefaults()
	cache := NewCache(c.Cache)
	return &Service{cfg: c, log: c.Log, began: time.Now(), wake: make(chan struct{}, 1), cache: cache,
		scanner: NewScanner(c.Pace, cache), conns: map[string]Conn{}}
}

// now is the time as the deciding parts count it.
func (s *Service) now() time.Duration { return time.Since(s.began) }

// poke makes the loop look again.
func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it has been told
	}
}

// Put takes routes in, from whomever. Malformed ones are skipped, counted and logged: a hint that is not understood is
// worth no more than one that never came, and a server that sends one must not lose its connection over it.
func (s *Service) Put(routes []wire.Route) {
	var err error
	s.writing(func() { err = s.scanner.take(routes) })
	s.refused(err, "caller", "lifecycle")
}

// refused logs that something was not taken in.
func (s *Service) refused(err error, args ...any) {
	if err != nil {
		s.log.Warn("discovery does not take everything in", append(args, "error", err)...)
	}
}

// Joined takes a server whose session has begun: its addresses, and that it can be asked.
func (s *Service) Joined(g wire.Registration) {
	s.mu.Lock()
	s.cache.Address(&g)
	s.cache.Heard(s.now(), g.Server)
	if s.cfg.Servers != nil {
		s.scanner.Begin(s.now(), Source{Server: g.Server})
	}
	s.mu.Unlock()
	s.poke()
}

// Left takes the end of a server's session.
func (s *Service) Left(id cell.ServerID) {
	s.mu.Lock()
	s.scanner.End(Source{Server: id})
	s.mu.Unlock()
	s.poke()
}

// Lookup answers a request; see Cache.Lookup.
func (s *Service) Lookup(req wire.LookupRequest) (wire.Routes, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	routes, err := s.cache.Lookup(s.now(), req)
	routes.Filling = s.filling()
	return routes, err
}

// filling reports that the copy may well not know a cell that exists; s.mu is held.
func (s *Service) filling() bool {
	now := s.now()
	if s.filled.Load() || now < s.cfg.FillingMin {
		return !s.filled.Load()
	}
	if s.scanner.Stats().Behind > 0 && now < s.cfg.FillingMax {
		return true
	}
	s.filled.Store(true)
	return false
}

// Stats counts what the cache holds.
func (s *Service) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.Stats()
}

// Scans counts what was asked of others.
func (s *Service) Scans() ScanStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.scanner.Stats()
}

// Ages tells per brick how old the news is; see Cache.Ages.
func (s *Service) Ages() []BrickAge {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.Ages(s.now())
}

// ServerHandlers returns the methods to be served to registered servers: push and lookup.
func (s *Service) ServerHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{wire.MethodPush: s.push, wire.MethodLookup: s.lookup}
}

// ClientHandlers returns the methods to be served to clients and operators, which is lookup, and to other copies.
func (s *Service) ClientHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{wire.MethodLookup: s.lookup, wire.MethodDigest: s.digest, wire.MethodPull: s.pull,
		wire.MethodChanges: s.changes, wire.MethodContacts: s.contacts}
}

// push takes what changed on a server; the answer says that it needs not be sent again.
func (s *Service) push(r fleet.Request) {
	var p wire.RoutePush
	if !r.Decode(&p) {
		return
	}
	var err error
	s.writing(func() {
		now := s.now()
		err = s.scanner.Push(now, r.Server, &p)
		s.cache.Heard(now, r.Server)
	})
	r.Reply(nil, nil)
	s.refused(err, "server", r.Server)
	if p.Lost {
		s.poke()
	}
}

func (s *Service) lookup(r fleet.Request) {
	var req wire.LookupRequest
	if !r.Decode(&req) {
		return
	}
	routes, err := s.Lookup(req)
	r.Reply(&routes, cell.AsError(wire.MethodLookup, cell.Internal, err))
}

func (s *Service) digest(r fleet.Request) {
	var q wire.DigestRequest
	if r.Decode(&q) {
		r.Reply(reading(s, func(c *Cache) *wire.Digests { return c.Digests(q.Known) }), nil)
	}
}

func (s *Service) pull(r fleet.Request) {
	var q wire.PullRequest
	if !r.Decode(&q) {
		return
	}
	var err error
	page := reading(s, func(c *Cache) (p *wire.Pulled) { p, err = c.Pull(&q); return p })
	if err != nil {
		r.Reply(nil, cell.AsError(wire.MethodPull, cell.Internal, err))
		return
	}
	r.Reply(page, nil)
}

func (s *Service) changes(r fleet.Request) {
	var q wire.ChangesRequest
	if r.Decode(&q) {
		r.Reply(reading(s, func(c *Cache) *wire.RoutePush { return c.Changes(q) }), nil)
	}
}

func (s *Service) contacts(r fleet.Request) {
	var q wire.ContactsRequest
	if r.Decode(&q) {
		page := reading(s, func(c *Cache) wire.Contacts { return c.Contacts(s.now(), q) })
		r.Reply(&page, nil)
	}
}

// reading asks the cache something.
func reading[T any](s *Service, ask func(*Cache) T) T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return ask(s.cache)
}
