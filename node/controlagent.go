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

// changed notes that a route has to be told; called by the core, on the loop. Of a node that is gone only the sum of its
// bucket is told: other members go on answering for the cell.
func (a *controlAgent) changed(info wire.NodeInfo, gone bool) {
	a.routes.note(&info, gone)
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
	told, err := a.open(ctx, conn) // before it registers, so that no change falls between what is asked for and what is told
	if err != nil {
		return err
	}
	defer told.close()
	var registered wire.Registered
	if err := a.call(ctx, conn, wire.MethodRegister, s.registration(), &registered); err != nil {
		return err
	}
	s.cfg.Logger.Info("registered with the control plane", "addr", addr, "control", registered.Control)
	s.gossip.seeds(registered.Seeds)
	return a.push(ctx, conn, told)
}

func (a *controlAgent) call(ctx context.Context, conn *rpc.Conn, method string, params, result wire.Message) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return conn.Call(ctx, method, params, result)
}

// push tells discovery what changes, one page at a time, until the session is over; it returns why. What is not
// acknowledged is told again.
func (a *controlAgent) push(ctx context.Context, conn *rpc.Conn, told *teller) error {
	acknowledged := uint64(0)
	for failures, silent := 0, 0; ; {
		page, err := a.next(ctx, conn, told, acknowledged)
		if err != nil {
			return err
		}
		err = a.call(ctx, conn, wire.MethodPush, page, nil)
		if conn.Err() != nil {
			return conn.Err()
		}
		poke(told.wake) // there may be more, or the same again
		if err == nil {
			acknowledged, failures, silent = page.To, 0, 0
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

// next waits for changes to push, and takes a page of them.
func (a *controlAgent) next(ctx context.Context, conn *rpc.Conn, told *teller, acknowledged uint64) (*wire.RoutePush, error) {
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
		case <-told.wake:
			page, err := inTurn(ctx, a.server, conn, wire.MethodPush, func(c *core.Core) *wire.RoutePush { return told.take(a.server, c, acknowledged) })
			if err != nil || page != nil {
				return page, err
			}
		}
	}
}

// open begins to note what changes.
func (a *controlAgent) open(ctx context.Context, conn *rpc.Conn) (*teller, error) {
	return inTurn(ctx, a.server, conn, wire.MethodRegister, func(*core.Core) *teller { return a.routes.open() })
}

// inTurn has the loop do something and waits for it, for as long as the session lives.
func inTurn[T any](ctx context.Context, s *Server, conn *rpc.Conn, method string, do func(*core.Core) T) (none T, err error) {
	done := make(chan T, 1) // the loop must not wait for us
	if err := s.inbox.ask(method, func(c *core.Core) { done <- do(c) }); err != nil {
		return none, err
	}
	select {
	case result := <-done:
		return result, nil
	case <-conn.Done():
		return none, conn.Err()
	case <-ctx.Done():
		return none, ctx.Err()
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
	case wire.MethodDigest:
		if m := new(wire.DigestRequest); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) {
				digests, err := s.digest(core, m)
				c.Reply(to.ID, digests, cell.AsError(wire.MethodDigest, cell.Internal, err))
			})
		}
	case wire.MethodPull:
		if m := new(wire.PullRequest); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) {
				page, err := s.pull(core, m)
				c.Reply(to.ID, page, cell.AsError(wire.MethodPull, cell.Internal, err))
			})
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

// decode reads the parameters of a request; when it reports false, the request is answered already.
func (s *Server) decode(c *rpc.Conn, q rpc.Request, params wire.Message) bool {
	err := wire.Unmarshal(q.Params, params)
	if err != nil {
		s.refuseRequest(c, q, cell.AsError(q.Method, cell.Invalid, err))
	}
	return err == nil
}
