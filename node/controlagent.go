package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/duty"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// controlAgent keeps the connections to the control plane: one per duty, shared where one instance has several. The server
// opens them and registers; from then on the control plane sends the requests over them, at its own pace (controlFace), and
// the agent pushes routes to whoever has the discovery duty, paged and acknowledged. Nothing of the data plane waits for it,
// and without a control plane it costs an attempt every few seconds.
//
// What to try next, when, and for which duty is decided by a duty.Seeker, which run owns; links do it (controllink.go).
//
// A push that is refused, or not answered, concerns discovery alone: it is repeated later, and the connection stays. The
// connection ends when the other side closes it, or when it neither acknowledges pushes nor asks for anything any more.
type controlAgent struct {
	server  *Server
	routes  *outbox
	timeout time.Duration // of one call; other patience is a multiple of it
	events  chan linkEvent
	knocks  *knocks

	// The rest belongs to run.
	seeker *duty.Seeker
	links  map[string]*controlLink // by address
	fails  int                     // attempts in a row without any success

	running sync.WaitGroup // links and pushers
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
	a := &controlAgent{server: s, routes: newOutbox(), timeout: s.cfg.controlTimeout, events: make(chan linkEvent, 16),
		knocks: &knocks{server: s}, links: make(map[string]*controlLink)}
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

// run does what the seeker decides until ctx ends; every connection has ended when it returns.
func (a *controlAgent) run(ctx context.Context) {
	began := time.Now()
	a.seeker = duty.NewSeeker(duty.SeekerConfig{Control: a.server.cfg.Control, Least: controlBackoffMin, Most: controlBackoffMax,
		Spread: a.server.cfg.controlSpread, Knocks: a.knocks.tries(), Stranger: a.server.boot == 1,
		Dice: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		var todo []duty.Action
		select {
		case <-ctx.Done():
		case <-timer.C:
			todo = a.seeker.Tick(time.Since(began))
		case e := <-a.events:
			todo = a.take(ctx, time.Since(began), e)
		}
		for _, do := range todo {
			a.do(ctx, do)
		}
		if at, ok := a.seeker.Next(); ok {
			timer.Reset(at - time.Since(began))
		} else {
			timer.Stop()
		}
	}
	for _, l := range a.links {
		l.drop()
	}
	a.running.Wait()
}

// do does one thing that the seeker decided.
func (a *controlAgent) do(ctx context.Context, do duty.Action) {
	l := a.links[do.Addr]
	switch do.Do {
	case duty.Ask:
		if l == nil {
			l = a.newLink(ctx, do.Addr)
			a.links[do.Addr] = l
			a.running.Go(l.run)
		}
		l.asks <- do.Wants // there is room: an address is asked once at a time
	case duty.Knock:
		a.running.Go(func() { a.knocks.send(ctx, do.Addr) })
	case duty.Close:
		a.forget(l)
	}
}

// forget closes a link; what it still has to tell is of no interest.
func (a *controlAgent) forget(l *controlLink) {
	if l != nil && a.links[l.addr] == l {
		delete(a.links, l.addr)
		l.drop()
	}
}

// take hands an event of a link to the seeker.
func (a *controlAgent) take(ctx context.Context, now time.Duration, e linkEvent) []duty.Action {
	l := e.link
	if e.opened {
		a.forget(a.links[l.addr])
		a.links[l.addr] = l
		a.running.Go(func() { l.serve(); l.conn.Close(nil) })
		return a.seeker.Opened(now, l.addr)
	}
	if a.links[l.addr] != l {
		return nil // of a link that is given up
	}
	switch {
	case e.registered != nil:
		a.fails = 0
		todo := a.seeker.Answered(now, l.addr, e.registered)
		if e.registered.Takes&wire.DutyDiscovery != 0 {
			a.startPush(ctx, l, e.since)
		}
		return todo
	case e.moved != nil:
		a.server.cfg.Logger.Info("duties moved", "from", l.addr, "duties", e.moved.Duties, "to", e.moved.Elsewhere)
		if e.moved.Duties&wire.DutyDiscovery != 0 {
			l.stopPush()
		}
		return a.seeker.Moved(now, l.addr, e.moved)
	}
	again := cell.AsError(wire.MethodRegister, cell.Unavailable, e.err).RetryAfter
	if a.fails++; isRound(a.fails) {
		a.server.cfg.Logger.Warn("no control plane", "addr", l.addr, "attempts", a.fails, "held", a.seeker.Held(), "err", e.err)
	}
	switch {
	case e.lost:
		a.forget(l)
		return a.seeker.Ended(now, l.addr)
	case again > 0 && a.seeker.HeldAt(l.addr) != 0:
		return a.seeker.Busy(now, l.addr, again)
	}
	a.forget(l)
	return a.seeker.Failed(now, l.addr, again)
}

// startPush has a link push what has changed since it registered; what was there before, the other side asks for.
func (a *controlAgent) startPush(ctx context.Context, l *controlLink, since uint64) {
	l.stopPush()
	ctx, l.stopPush = context.WithCancel(ctx)
	told := a.routes.open(since)
	a.running.Go(func() {
		defer told.close()
		if err := a.push(ctx, l.conn, told); ctx.Err() == nil {
			l.conn.Close(err)
		}
	})
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

func (a *controlAgent) call(ctx context.Context, conn *rpc.Conn, method string, params, result wire.Message) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return conn.Call(ctx, method, params, result)
}

// push tells discovery what changes, one page at a time, until the session is over; it returns why. What is not
// acknowledged is told again, as it is then.
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
		if ctx.Err() != nil {
			return ctx.Err()
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
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-conn.Done():
			return nil, conn.Err()
		case <-told.wake:
			page, err := inTurn(ctx, a.server, conn, wire.MethodPush, func(c *core.Core) *wire.RoutePush { return told.take(a.server, c, acknowledged) })
			if err != nil || page != nil {
				return page, err
			}
		}
	}
}

// position is how many changes of routes there were; asked before a registration, it is where the pushes after it begin, so
// that no change falls between what is asked for and what is told.
func (a *controlAgent) position(ctx context.Context, conn *rpc.Conn) (uint64, error) {
	return inTurn(ctx, a.server, conn, wire.MethodRegister, func(*core.Core) uint64 { return a.routes.ledger.Position() })
}

// inTurn has the loop do something and waits for it, for as long as the connection lives.
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
type controlFace struct {
	server *Server
	link   *controlLink
}

// Handle implements rpc.Handler.
func (f controlFace) Handle(c *rpc.Conn, q rpc.Request) {
	if q.Notify {
		return // the control plane asks; there is nobody to answer
	}
	s := f.server
	f.link.asked.Store(int64(s.vitals.now()))
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
			s.askFor(c, q, func(core *core.Core) { s.answerCensus(c, q, to, core, func() wire.Message { return core.Census(m) }) })
		}
	case wire.MethodSick:
		if m := new(wire.Census); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) {
				s.answerCensus(c, q, to, core, func() wire.Message { return core.SickNodes(m) })
			})
		}
	case wire.MethodGraves:
		if m := new(wire.Census); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) { s.answerCensus(c, q, to, core, func() wire.Message { return core.Graves(m) }) })
		}
	case wire.MethodDigest, wire.MethodPull:
		s.tellRoutes(c, q)
	case wire.MethodPing:
		s.askFor(c, q, func(core *core.Core) {
			nodes, _, _ := core.Counts()
			c.Reply(to.ID, &wire.Pong{Boot: s.boot, Nodes: uint64(nodes)}, nil)
		})
	case wire.MethodServerReport:
		s.report(c, q)
	case wire.MethodDutiesMoved:
		if m := new(wire.DutiesMoved); s.decode(c, q, m) {
			c.Reply(q.ID, nil, nil) // first: the agent may close the connection over it
			f.link.tell(linkEvent{moved: m})
		}
	case wire.MethodSeal, wire.MethodChange, wire.MethodExport:
		s.submit(c, q)
	default:
		s.refuseRequest(c, q, &cell.Error{Op: "server", Kind: cell.Invalid, Detail: "a server does not answer this method to the control plane"})
	}
}

// report answers what this server hears of others, gossip included.
func (s *Server) report(c *rpc.Conn, q rpc.Request) {
	m := new(wire.ReportRequest)
	if !s.decode(c, q, m) {
		return
	}
	rumour := s.gossip.living(m.Peers)
	s.askFor(c, q, func(core *core.Core) {
		report := core.Report(m)
		for i := range report.Peers {
			report.Peers[i].Gossip = rumour[i]
		}
		c.Reply(q.ID, report, nil)
	})
}

// answerCensus answers a page of a census, unless the server does not know yet what it hosts: half a list would say that the
// other half is lost.
func (s *Server) answerCensus(c *rpc.Conn, q rpc.Request, to core.Origin, core *core.Core, page func() wire.Message) {
	if !core.Ready() {
		s.refuseRequest(c, q, &cell.Error{Op: q.Method, Kind: cell.Unavailable, Detail: "the server is starting", RetryAfter: controlBackoffMin})
		return
	}
	core.Tell(to, page())
}

// decode reads the parameters of a request; when it reports false, the request is answered already.
func (s *Server) decode(c *rpc.Conn, q rpc.Request, params wire.Message) bool {
	err := wire.Unmarshal(q.Params, params)
	if err != nil {
		s.refuseRequest(c, q, cell.AsError(q.Method, cell.Invalid, err))
	}
	return err == nil
}
