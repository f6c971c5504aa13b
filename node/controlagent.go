package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// controlAgent keeps one connection to the control plane. The server opens it and registers; from then on the control
// plane sends the requests over it, at its own pace (controlFace), and the agent pushes routes, paged and acknowledged.
// Nothing of the data plane waits for it, and without a control plane it costs an attempt every few seconds.
//
// The connection serves several duties of the control plane. A push that is refused, or not answered, concerns discovery
// alone: it is repeated later, and the session stays. The session ends when its connection does, or when the control plane
// neither acknowledges pushes nor asks for anything any more; then the next address is tried.
type controlAgent struct {
	server  *Server
	routes  *outbox
	timeout time.Duration // of one call; other patience is a multiple of it
	asked   atomic.Int64  // when the control plane last asked for something, as a time of vitals; 0: not in this session
}

// How the agent paces itself.
const (
	controlBackoffMin = 100 * time.Millisecond
	controlBackoffMax = 3 * time.Second
	controlTimeout    = 5 * time.Second  // one call, by default; the control plane answers from memory
	pushBackoffMax    = 30 * time.Second // between attempts of a push that is refused
	pushSilenceMax    = 3                // pushes in a row without any answer that end a session
	controlSilenceMax = 6                // timeouts without a request that end a session, once there was one: servers are pinged
)

func newControlAgent(s *Server) *controlAgent {
	a := &controlAgent{server: s, routes: newOutbox(), timeout: s.cfg.controlTimeout}
	if a.timeout == 0 {
		a.timeout = controlTimeout
	}
	return a
}

// changed notes that a route has to be pushed; called by the core, on the loop.
func (a *controlAgent) changed(info wire.NodeInfo, gone bool) {
	if gone {
		return // the manager that ordered the wipe knows; other members go on answering for the cell
	}
	a.routes.note(info.Handle)
}

// run connects to one control process after the other until ctx ends.
func (a *controlAgent) run(ctx context.Context) {
	control := a.server.cfg.Control
	failures := 0
	for i := rand.IntN(len(control)); ctx.Err() == nil; i++ {
		addr := control[i%len(control)]
		began := time.Now()
		err := a.session(ctx, addr)
		if time.Since(began) > controlBackoffMax+a.timeout {
			failures = 0 // it was one
		}
		if failures++; ctx.Err() == nil && isRound(failures) {
			a.server.cfg.Logger.Warn("no control plane", "addr", addr, "attempts", failures, "err", err)
		}
		pause(ctx, nil, jittered(controlBackoffMin, controlBackoffMax, failures))
	}
}

// isRound picks ever rarer attempts to log: 1, 2, 4, 8 and so on.
func isRound(n int) bool { return n&(n-1) == 0 }

// jittered is the pause after so many failures in a row: twice as long each time, between half of it and all of it.
func jittered(least, most time.Duration, failures int) time.Duration {
	limit := min(least<<min(max(failures-1, 0), 20), most)
	return limit/2 + rand.N(limit/2)
}

// pause waits for d, or until ctx or done ends.
func pause(ctx context.Context, done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-done:
	case <-timer.C:
	}
}

// session registers with one control process and serves it until the connection ends. All goroutines of the connection
// have ended when it returns.
func (a *controlAgent) session(ctx context.Context, addr string) error {
	s := a.server
	hello := s.hello()
	hello.Purpose = wire.ForControl
	ended := make(chan struct{})
	conn, err := rpc.Dial(ctx, addr, rpc.Config{Hello: hello, FrameMax: wire.ControlFrameMax, Handler: controlFace{s},
		OnClose: func(*rpc.Conn, error) { close(ended) }})
	if err != nil {
		return err
	}
	defer func() { conn.Close(nil); <-ended }()
	defer context.AfterFunc(ctx, func() { conn.Close(ctx.Err()) })()
	a.asked.Store(0)
	var registered wire.Registered
	if err := a.call(ctx, conn, wire.MethodRegister, s.registration(), &registered); err != nil {
		return err
	}
	s.cfg.Logger.Info("registered with the control plane", "addr", addr, "control", registered.Control)
	s.gossip.seeds(registered.Seeds)
	a.routes.everything()
	return a.push(ctx, conn)
}

func (a *controlAgent) call(ctx context.Context, conn *rpc.Conn, method string, params, result wire.Message) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return conn.Call(ctx, method, params, result)
}

// push tells discovery what it has not been told, one page at a time, until the session is over; it returns why. A page
// is kept until it is acknowledged.
func (a *controlAgent) push(ctx context.Context, conn *rpc.Conn) error {
	var page []wire.NodeInfo // taken and not acknowledged
	for failures, silent := 0, 0; ; {
		var err error
		if len(page) == 0 {
			if page, err = a.next(ctx, conn); err != nil {
				return err
			}
		}
		err = a.call(ctx, conn, wire.MethodPush, a.server.routes(page), nil)
		if conn.Err() != nil {
			return conn.Err()
		}
		if err == nil {
			page, failures, silent = nil, 0, 0
			continue
		}
		if failures++; isRound(failures) {
			a.server.cfg.Logger.Warn("discovery takes no routes", "attempts", failures, "err", err)
		}
		if silent++; cell.KindOf(err) != cell.UnknownResult {
			silent = 0 // an answer, if not the one we want
		}
		if silent >= pushSilenceMax {
			return fmt.Errorf("%d pushes without an answer: %w", silent, err)
		}
		wait := jittered(controlBackoffMin, pushBackoffMax, failures)
		if e := cell.AsError(wire.MethodPush, cell.Internal, err); e.RetryAfter > wait {
			wait = min(e.RetryAfter, pushBackoffMax)
		}
		pause(ctx, conn.Done(), wait)
	}
}

// next waits for routes to push, and takes a page of them.
func (a *controlAgent) next(ctx context.Context, conn *rpc.Conn) ([]wire.NodeInfo, error) {
	watch := time.NewTicker(a.timeout)
	defer watch.Stop()
	for {
		select {
		case <-conn.Done():
			return nil, conn.Err()
		case <-watch.C:
			if at := a.asked.Load(); at != 0 && a.server.vitals.now()-time.Duration(at) > controlSilenceMax*a.timeout {
				return nil, &cell.Error{Op: "control.session", Kind: cell.Unavailable, Detail: "the control plane asks nothing any more"}
			}
		case <-a.routes.wake:
			page, err := a.take(ctx, conn)
			if err != nil {
				return nil, err
			}
			if len(page) > 0 {
				poke(a.routes.wake) // there may be more
				return page, nil
			}
		}
	}
}

// take has the loop take a page.
func (a *controlAgent) take(ctx context.Context, conn *rpc.Conn) ([]wire.NodeInfo, error) {
	pages := make(chan []wire.NodeInfo, 1) // the loop must not wait for us
	if err := a.server.inbox.ask(wire.MethodPush, func(c *core.Core) { pages <- a.routes.take(c) }); err != nil {
		return nil, err
	}
	select {
	case page := <-pages:
		return page, nil
	case <-conn.Done():
		return nil, conn.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// controlFace takes the control plane's requests, on the connection's reader goroutine, and queues them for the loop, which
// answers. A ping goes through the loop too: a server whose loop hangs must not look well.
type controlFace struct{ server *Server }

// Handle implements rpc.Handler.
func (f controlFace) Handle(c *rpc.Conn, q rpc.Request) {
	if q.Notify {
		return // the control plane asks; there is nobody to answer
	}
	s := f.server
	s.agent.asked.Store(int64(s.vitals.now()))
	to := core.Origin{Conn: c, ID: q.ID}
	switch q.Method {
	case wire.MethodCreateNodes:
		if m := new(wire.CreateNodes); s.decode(c, q, m) {
			for i := range m.Foundings {
				s.addresses.founders(m.Foundings[i].Members)
			}
			s.askFor(c, q, func(core *core.Core) { core.CreateNodes(to, m) })
		}
	case wire.MethodRecoverNodes:
		if m := new(wire.RecoverNodes); s.decode(c, q, m) {
			for i := range m.Recoveries {
				s.addresses.founders(m.Recoveries[i].Founding.Members)
			}
			s.askFor(c, q, func(core *core.Core) { core.RecoverNodes(to, m) })
		}
	case wire.MethodCreateLearner:
		if m := new(wire.CreateLearner); s.decode(c, q, m) {
			s.addresses.founders(m.Members)
			s.askFor(c, q, func(core *core.Core) { core.CreateLearner(to, m) })
		}
	case wire.MethodDropNodes:
		if m := new(wire.DropNodes); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) { core.DropNodes(to, m) })
		}
	case wire.MethodListNodes:
		if m := new(wire.ListNodes); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) { c.Reply(to.ID, core.ListNodes(m), nil) })
		}
	case wire.MethodCensus:
		if m := new(wire.Census); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) { s.answerCensus(c, q, core, func() wire.Message { return core.Census(m) }) })
		}
	case wire.MethodGraves:
		if m := new(wire.Census); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) { s.answerCensus(c, q, core, func() wire.Message { return core.Graves(m) }) })
		}
	case wire.MethodPing:
		s.askFor(c, q, func(core *core.Core) {
			nodes, _, _ := core.Counts()
			c.Reply(to.ID, &wire.Pong{Boot: s.boot, Nodes: uint64(nodes)}, nil)
		})
	case wire.MethodSeal, wire.MethodChange, wire.MethodExport:
		s.submit(c, q)
	default:
		s.refuseRequest(c, q, &cell.Error{Op: "server", Kind: cell.Invalid, Detail: "a server does not answer this method to the control plane"})
	}
}

// answerCensus answers a page of a census, unless the server does not know yet what it hosts: half a list would say that the
// other half is lost.
func (s *Server) answerCensus(c *rpc.Conn, q rpc.Request, core *core.Core, page func() wire.Message) {
	if !core.Ready() {
		s.refuseRequest(c, q, &cell.Error{Op: q.Method, Kind: cell.Unavailable, Detail: "the server is starting", RetryAfter: controlBackoffMin})
		return
	}
	c.Reply(q.ID, page(), nil)
}

// decode reads the parameters of a request; when it reports false, the request is answered already.
func (s *Server) decode(c *rpc.Conn, q rpc.Request, params wire.Message) bool {
	err := wire.Unmarshal(q.Params, params)
	if err != nil {
		s.refuseRequest(c, q, cell.AsError(q.Method, cell.Invalid, err))
	}
	return err == nil
}
