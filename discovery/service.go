package discovery

import (
	"log/slog"
	"sync"

	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/wire"
)

// Service is a Cache that many may use at once. Nothing in it blocks for longer than one page of routes takes.
type Service struct {
	log   *slog.Logger
	mu    sync.RWMutex
	cache *Cache
	newer func([]wire.Route) // may be nil
}

// NewService makes a service around an empty cache. A nil log discards.
func NewService(c Config, log *slog.Logger) *Service {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{log: log, cache: NewCache(c)}
}

// Put takes routes in, from whomever. Malformed ones are skipped, counted and logged: a hint that is not understood is
// worth no more than one that never came, and a server that sends one must not lose its connection over it.
func (s *Service) Put(routes []wire.Route) {
	var first error
	refused := 0
	var newer []wire.Route
	s.mu.Lock()
	for i := range routes {
		isNew, err := s.cache.Put(&routes[i])
		if err != nil {
			refused++
			if first == nil {
				first = err
			}
		}
		if isNew && s.newer != nil {
			newer = append(newer, routes[i])
		}
	}
	s.mu.Unlock()
	if len(newer) > 0 {
		s.newer(newer)
	}
	if refused > 0 {
		s.log.Warn("routes refused", "count", refused, "of", len(routes), "first", first)
	}
}

// Address takes the addresses of a server that has registered.
func (s *Service) Address(g wire.Registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.Address(&g)
}

// Lookup answers a request; see Cache.Lookup.
func (s *Service) Lookup(req wire.LookupRequest) (wire.Routes, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.Lookup(req)
}

// Stats counts what the cache holds.
func (s *Service) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cache.Stats()
}

// ServerHandlers returns the methods to be served to registered servers: push and lookup.
func (s *Service) ServerHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{wire.MethodPush: s.push, wire.MethodLookup: s.lookup}
}

// ClientHandlers returns the methods to be served to clients and operators: lookup.
func (s *Service) ClientHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{wire.MethodLookup: s.lookup}
}

// push takes a page of a server's routes; the answer says that it needs not be sent again.
func (s *Service) push(r fleet.Request) {
	var p wire.RoutePush
	if r.Decode(&p) {
		s.Put(p.Routes)
		r.Reply(nil, nil)
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
