package rpc

import (
	"errors"
	"net"
	"sync"
	"time"

	"physalia/cell"
)

// Server accepts connections and serves each with the same configuration.
type Server struct {
	cfg  Config
	gate *Gate
	ln   net.Listener
	wg   sync.WaitGroup // the accept loop and every connection
	stop chan struct{}  // closed by Close

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]*Conn // nil while a connection shakes hands
}

// NewServer serves connections from ln, which it owns from now on, until Close.
func NewServer(ln net.Listener, cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, gate: NewGate(cfg.Limits), ln: ln, stop: make(chan struct{}), conns: make(map[net.Conn]*Conn)}
	s.wg.Add(1)
	go s.accept()
	return s
}

// Addr is the address on which the server listens.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close stops accepting, closes every connection, and waits for all their goroutines. Do not call it from a Handler or
// another function of Config. The error is the listener's.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closed = true
	close(s.stop)
	var open []*Conn
	for nc, c := range s.conns {
		if c == nil {
			nc.Close() // its goroutine reports what becomes of the handshake
			continue
		}
		open = append(open, c)
	}
	s.mu.Unlock()
	err := s.ln.Close()
	for _, c := range open {
		c.Close(&cell.Error{Op: "rpc.server", Kind: cell.Unavailable, Detail: "this side is shutting down"})
	}
	s.wg.Wait()
	return err
}

// acceptPause is how long the accept loop rests after an error such as "too many open files", which only time cures.
const acceptPause = 50 * time.Millisecond

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		nc, err := s.ln.Accept()
		switch {
		case err == nil:
			s.admit(nc)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			s.reject(nil, &cell.Error{Op: "rpc.accept", Kind: cell.Unavailable, Err: err, Detail: "cannot accept connections"})
			select {
			case <-s.stop:
				return
			case <-time.After(acceptPause):
			}
		}
	}
}

// admit starts the goroutine of one connection, or closes the connection when the server is closed or overrun.
func (s *Server) admit(nc net.Conn) {
	pass, why := s.gate.Enter(nc.RemoteAddr())
	if pass == nil {
		nc.Close() // without a word
		s.reject(nc.RemoteAddr(), why)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close() // nobody waits for a word
		pass.Leave()
		return
	}
	s.conns[nc] = nil
	s.wg.Add(1)
	go s.serve(nc, pass)
}

// serve runs one connection from its first byte to its end; it is the connection's reader goroutine.
func (s *Server) serve(nc net.Conn, pass *Pass) {
	defer s.wg.Done()
	defer pass.Leave()
	defer s.forget(nc)
	cfg := s.cfg
	cfg.Check = pass.Check(nc, s.cfg.Check)
	// A connection on which no deadline can be set is closed already, and the handshake finds that out.
	nc.SetDeadline(time.Now().Add(cfg.HandshakeTimeout))
	stream, refusal := AcceptStream(nc, cfg)
	if refusal != nil {
		s.reject(nc.RemoteAddr(), refusal)
		return
	}
	nc.SetDeadline(time.Time{})
	if cfg.Switch != nil {
		cfg.Switch(stream.Peer, &cfg)
		cfg = cfg.withDefaults() // a larger frame needs a longer queue
	}
	if c := newConn(cfg, stream); s.establish(nc, c) {
		c.serve()
	}
}

// establish notes that the handshake is over; it reports false when the server was closed meanwhile.
func (s *Server) establish(nc net.Conn, c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[nc] = c
	return true
}

func (s *Server) forget(nc net.Conn) {
	nc.Close() // it may be closed already; nothing is waiting in it either way
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
}

func (s *Server) reject(remote net.Addr, err *cell.Error) {
	if s.cfg.OnReject != nil {
		s.cfg.OnReject(remote, err)
	}
}
