package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/pki"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// controlLink is one connection to a control instance, with one goroutine that opens it, registers when it is asked to, and
// watches it. It tells the agent what happens and decides nothing.
type controlLink struct {
	agent *controlAgent
	addr  string
	asks  chan wire.Duties // capacity 1
	ctx   context.Context  // ends when the agent has no use for it any more
	stop  context.CancelFunc
	asked atomic.Int64 // when the control plane last asked for something, as a time of vitals; 0: never
	conn  *rpc.Conn    // set before the first event that is no error

	stopPush context.CancelFunc // the agent's
}

// linkEvent is one of: opened by the control plane, registered, moved, an error that ended a request to register, or (lost) one that ended the connection.
type linkEvent struct {
	link       *controlLink
	opened     bool
	registered *wire.Registered
	since      uint64 // registered: the position of the changes before it asked
	moved      *wire.DutiesMoved
	err        error
	lost       bool
}

func (a *controlAgent) newLink(ctx context.Context, addr string) *controlLink {
	l := &controlLink{agent: a, addr: addr, asks: make(chan wire.Duties, 1), stopPush: func() {}}
	l.ctx, l.stop = context.WithCancel(ctx)
	return l
}

// tell hands an event to the agent, unless the link is given up. From any goroutine but the agent's.
func (l *controlLink) tell(e linkEvent) {
	e.link = l
	select {
	case l.agent.events <- e:
	case <-l.ctx.Done():
	}
}

// drop gives the link up; the agent calls it.
func (l *controlLink) drop() {
	l.stopPush()
	l.stop()
}

// run opens the connection and serves it until it ends or the link is given up. All goroutines of the connection have ended
// when it returns.
func (l *controlLink) run() {
	s := l.agent.server
	hello := s.hello()
	hello.Purpose = wire.ForControl
	closed := make(chan struct{})
	conn, err := rpc.Dial(l.ctx, l.addr, rpc.Config{Hello: hello, FrameMax: wire.ControlFrameMax, Handler: controlFace{s, l},
		DialContext: s.guard.Dialer(pki.ControlPort, nil), OnClose: func(*rpc.Conn, error) { close(closed) }})
	if err != nil {
		l.tell(linkEvent{err: err})
		return
	}
	l.conn = conn
	l.serve()
	conn.Close(nil)
	<-closed
}

// serve registers whenever it is asked to, until the connection ends.
func (l *controlLink) serve() {
	watch := time.NewTicker(l.agent.timeout)
	defer watch.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.conn.Done():
			l.tell(linkEvent{err: l.conn.Err(), lost: true})
			return
		case wants := <-l.asks:
			l.register(wants)
		case <-watch.C:
			if err := l.silent(); err != nil {
				l.conn.Close(err)
			}
		}
	}
}

// silent says whether the control plane has asked for something once, and not for long.
func (l *controlLink) silent() error {
	quiet := l.agent.server.vitals.now() - time.Duration(l.asked.Load())
	if l.asked.Load() == 0 || quiet <= controlSilenceMax*l.agent.timeout {
		return nil
	}
	return &cell.Error{Op: "control.session", Kind: cell.Unavailable, Detail: fmt.Sprintf("the control plane has asked nothing for %v", quiet)}
}

// register asks the instance for some duties.
func (l *controlLink) register(wants wire.Duties) {
	s := l.agent.server
	ask := s.registration()
	ask.Wants = wants
	since, err := l.agent.position(l.ctx, l.conn)
	if err != nil {
		l.tell(linkEvent{err: err})
		return
	}
	registered := new(wire.Registered)
	if err := l.agent.call(l.ctx, l.conn, wire.MethodRegister, ask, registered); err != nil {
		l.tell(linkEvent{err: err})
		return
	}
	s.cfg.Logger.Info("registered with the control plane", "addr", l.addr, "control", registered.Control, "wanted", wants,
		"takes", registered.Takes, "elsewhere", registered.Elsewhere)
	s.gossip.seeds(registered.Seeds)
	l.tell(linkEvent{registered: registered, since: since})
}
