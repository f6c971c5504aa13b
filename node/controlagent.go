package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// controlAgent keeps one connection to the control plane. The server opens it and registers; from then on the control
// plane sends the requests over it, at its own pace, and the server pushes its routes, paged and acknowledged. Nothing of
// the data plane waits for it.
type controlAgent struct {
	server *Server
	wake   chan struct{}

	mu      sync.Mutex
	pending map[cell.ID]wire.Route // routes that changed and were not acknowledged yet
}

const (
	controlBackoffMin = 100 * time.Millisecond
	controlBackoffMax = 3 * time.Second
	controlTimeout    = 5 * time.Second
	routePage         = 256
)

func newControlAgent(s *Server) *controlAgent {
	return &controlAgent{server: s, wake: make(chan struct{}, 1), pending: make(map[cell.ID]wire.Route)}
}

// changed notes that a route has to be pushed; called by the loop.
func (a *controlAgent) changed(info wire.NodeInfo, gone bool) {
	if gone {
		return // the manager that ordered the wipe knows; other members go on answering for the cell
	}
	a.mu.Lock()
	a.pending[info.Cell] = a.server.route(&info)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default: // a push is due already
	}
}

func (s *Server) route(n *wire.NodeInfo) wire.Route {
	r := wire.Route{Cell: n.Cell, Incarnation: n.Incarnation, Configuration: n.Configuration, Members: n.Members, Deleted: n.Sealed}
	for i := range r.Members {
		r.Members[i].PeerAddr = s.addresses.peer(r.Members[i].Server)
	}
	return r
}

// run connects to one control process after the other until ctx ends.
func (a *controlAgent) run(ctx context.Context) {
	failures := 0
	for i := rand.IntN(len(a.server.cfg.Control)); ctx.Err() == nil; i++ {
		addr := a.server.cfg.Control[i%len(a.server.cfg.Control)]
		began := time.Now()
		err := a.session(ctx, addr)
		if ctx.Err() != nil {
			return
		}
		if failures++; time.Since(began) > controlBackoffMax {
			failures = 1
		}
		a.server.cfg.Logger.Info("no control plane", "addr", addr, "err", err)
		limit := min(controlBackoffMin<<min(failures, 5), controlBackoffMax)
		timer := time.NewTimer(limit/2 + rand.N(limit/2))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// session registers with one control process and serves it until the connection ends.
func (a *controlAgent) session(ctx context.Context, addr string) error {
	s := a.server
	hello := s.hello()
	hello.Purpose = wire.ForControl
	conn, err := rpc.Dial(ctx, addr, rpc.Config{Hello: hello, FrameMax: wire.ControlFrameMax, Handler: controlFace{s}})
	if err != nil {
		return err
	}
	defer conn.Close(nil)
	stop := context.AfterFunc(ctx, func() { conn.Close(ctx.Err()) })
	defer stop()
	var registered wire.Registered
	if err := a.call(ctx, conn, wire.MethodRegister, s.registration(), &registered); err != nil {
		return err
	}
	s.cfg.Logger.Info("registered with the control plane", "addr", addr, "control", registered.Control)
	s.gossip.seeds(registered.Seeds)
	if err := a.pushAll(ctx, conn); err != nil {
		return err
	}
	for {
		select {
		case <-conn.Done():
			return conn.Err()
		case <-a.wake:
			if err := a.pushPending(ctx, conn); err != nil {
				return err
			}
		}
	}
}

func (a *controlAgent) call(ctx context.Context, conn *rpc.Conn, method string, params, result wire.Message) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	return conn.Call(ctx, method, params, result)
}

// pushAll tells discovery every route of this server, page by page, each acknowledged before the next.
func (a *controlAgent) pushAll(ctx context.Context, conn *rpc.Conn) error {
	for after, more := uint64(0), true; more; {
		pages := make(chan *wire.NodeList, 1)
		a.server.inbox.call(func(c *core.Core) { pages <- c.ListNodes(&wire.ListNodes{After: after, Limit: routePage}) })
		var page *wire.NodeList
		select {
		case page = <-pages:
		case <-conn.Done():
			return conn.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
		push := &wire.RoutePush{}
		for i := range page.Nodes {
			push.Routes = append(push.Routes, a.server.route(&page.Nodes[i]))
			after = page.Nodes[i].Handle
		}
		if len(push.Routes) > 0 {
			if err := a.call(ctx, conn, wire.MethodPush, push, nil); err != nil {
				return err
			}
		}
		more = page.More
	}
	return nil
}

// pushPending tells discovery what changed; what was not acknowledged stays pending.
func (a *controlAgent) pushPending(ctx context.Context, conn *rpc.Conn) error {
	for {
		push := &wire.RoutePush{}
		a.mu.Lock()
		for id, route := range a.pending {
			if len(push.Routes) == routePage {
				break
			}
			push.Routes = append(push.Routes, route)
			delete(a.pending, id)
		}
		a.mu.Unlock()
		if len(push.Routes) == 0 {
			return nil
		}
		if err := a.call(ctx, conn, wire.MethodPush, push, nil); err != nil {
			return err // the next session begins with everything
		}
	}
}

// controlFace takes the control plane's requests.
type controlFace struct{ server *Server }

// Handle implements rpc.Handler.
func (f controlFace) Handle(c *rpc.Conn, q rpc.Request) {
	s := f.server
	to := core.Origin{Conn: c, ID: q.ID}
	bad := func(err error) { c.Reply(q.ID, nil, cell.AsError(q.Method, cell.Invalid, err)) }
	switch q.Method {
	case wire.MethodCreateNodes:
		m := new(wire.CreateNodes)
		if err := wire.Unmarshal(q.Params, m); err != nil {
			bad(err)
			return
		}
		for i := range m.Foundings {
			s.addresses.founders(m.Foundings[i].Members)
		}
		s.inbox.call(func(core *core.Core) { core.CreateNodes(to, m) })
	case wire.MethodDropNodes:
		m := new(wire.DropNodes)
		if err := wire.Unmarshal(q.Params, m); err != nil {
			bad(err)
			return
		}
		s.inbox.call(func(core *core.Core) { core.DropNodes(to, m) })
	case wire.MethodListNodes:
		m := new(wire.ListNodes)
		if err := wire.Unmarshal(q.Params, m); err != nil {
			bad(err)
			return
		}
		s.inbox.call(func(core *core.Core) { c.Reply(to.ID, core.ListNodes(m), nil) })
	case wire.MethodPing:
		s.inbox.call(func(core *core.Core) {
			nodes, _, _ := core.Counts()
			c.Reply(to.ID, &wire.Pong{Boot: s.boot, Nodes: uint64(nodes)}, nil)
		})
	case wire.MethodSeal:
		s.submit(c, q)
	default:
		bad(&cell.Error{Kind: cell.Invalid, Detail: "a server does not answer this to the control plane"})
	}
}
