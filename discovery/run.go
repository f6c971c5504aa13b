package discovery

import (
	"context"
	"net"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// Conn is a connection to another copy.
type Conn interface {
	Call(ctx context.Context, method string, params, result wire.Message) error
	Close()
	Lost() bool // it is of no use any more
}

// DialCopy returns how to connect to the other copies of a colony: as a client does, on the port that serves clients. raw opens the
// connections, with TLS or without; nil stands for plain TCP.
func DialCopy(colony string, raw func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, addr string) (Conn, error) {
	return func(ctx context.Context, addr string) (Conn, error) {
		gone := make(chan struct{})
		c, err := rpc.Dial(ctx, addr, rpc.Config{Hello: wire.Hello{Purpose: wire.ForClient, Colony: colony}, FrameMax: wire.ControlFrameMax,
			DialContext: raw, OnClose: func(*rpc.Conn, error) { close(gone) }})
		if err != nil {
			return nil, err
		}
		return &copyConn{c, gone}, nil
	}
}

// copyConn waits in Close until the goroutines of a connection have ended.
type copyConn struct {
	*rpc.Conn
	gone chan struct{}
}

// Close implements Conn.
func (c *copyConn) Close() { c.Conn.Close(nil); <-c.gone }

// Lost implements Conn.
func (c *copyConn) Lost() bool { return c.Err() != nil }

// Run loads the newest snapshot, then asks servers and other copies and writes snapshots, until ctx ends; all its
// goroutines have ended when it returns. It is called once.
func (s *Service) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer func() {
		work.Wait()
		for _, c := range s.conns {
			c.Close()
		}
	}()
	s.load(ctx)
	if s.cfg.Keeper.Store != nil {
		work.Go(func() { s.keep(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		copies := s.copies()
		s.mu.Lock()
		now := s.now()
		s.scanner.Copies(now, copies)
		asks, again := s.scanner.Next(now)
		s.mu.Unlock()
		for i := range asks {
			work.Go(func() { s.ask(ctx, &asks[i]) })
		}
		timer.Reset(max(again-now, 0))
	}
}

// copies asks who else there is, and closes connections to those who are gone.
func (s *Service) copies() []string {
	if s.cfg.Copies == nil {
		return nil
	}
	return s.cfg.Copies()
}

// ask sends one request and takes what comes of it.
func (s *Service) ask(ctx context.Context, a *Ask) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var r Answer
	switch {
	case a.Digest != nil:
		r.Digests = &wire.Digests{}
		r.Err = s.call(ctx, a.To, wire.MethodDigest, a.Digest, r.Digests)
	case a.Pull != nil:
		r.Pulled = &wire.Pulled{}
		r.Err = s.call(ctx, a.To, wire.MethodPull, a.Pull, r.Pulled)
	case a.Changes != nil:
		r.Changes = &wire.RoutePush{}
		r.Err = s.call(ctx, a.To, wire.MethodChanges, a.Changes, r.Changes)
	case a.Contacts != nil:
		r.Contacts = &wire.Contacts{}
		r.Err = s.call(ctx, a.To, wire.MethodContacts, a.Contacts, r.Contacts)
	}
	var err error
	s.writing(func() {
		now := s.now()
		err = s.scanner.Answered(now, a, &r)
		if r.Err == nil && a.To.Server != "" {
			s.cache.Heard(now, a.To.Server)
		}
	})
	s.poke()
	s.refused(err, "server", a.To.Server, "copy", a.To.Copy)
}

// call sends a request to a server's session or to another copy.
func (s *Service) call(ctx context.Context, to Source, method string, params, result wire.Message) error {
	if to.Copy == "" {
		return s.cfg.Servers.Call(ctx, to.Server, method, params, result)
	}
	c, err := s.connection(ctx, to.Copy)
	if err != nil {
		return cell.AsError(method, cell.Unavailable, err)
	}
	return c.Call(ctx, method, params, result)
}

// connection returns the one to another copy. There is at most one request to a copy at any time, so nobody dials twice.
func (s *Service) connection(ctx context.Context, addr string) (Conn, error) {
	s.cmu.Lock()
	c := s.conns[addr]
	s.cmu.Unlock()
	if c != nil && !c.Lost() {
		return c, nil
	}
	if c != nil {
		c.Close()
	}
	c, err := s.cfg.Dial(ctx, addr)
	s.cmu.Lock()
	defer s.cmu.Unlock()
	if err != nil {
		delete(s.conns, addr)
		return nil, err
	}
	s.conns[addr] = c
	return c, nil
}
