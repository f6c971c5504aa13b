package sim

import (
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/lifecycle"
	"physalia/node/core"
)

// link is a connection that a server keeps to a control process.
type link struct {
	up      bool
	life    int      // of the server
	pending []func() // calls that end when it is lost
}

// linkLoss is how long it takes until a connection is given up over which nothing comes back.
const linkLoss = 80 * time.Millisecond

// reaches reports whether packets pass between a control process and a server.
func (p *process) reaches(s *server) bool {
	c := p.control
	return c.cut[s.at] == 0 && c.world.noControl == 0
}

// call carries a request to a server and its answer back, over the connection that the server keeps. A lost answer, or a lost
// connection, ends it as unknown; what was on its way may arrive all the same, also when the process is dead by then.
//
// Every call ends exactly once for the manager, whichever comes first: the answer, the end of its timeout, the loss of the
// connection. An answer is lost as those to clients are; a stream that has lost something is closed, so nothing follows it.
func (p *process) call(c lifecycle.Call) {
	w, s := p.control.world, p.control.world.serverNamed(c.Server)
	over := false
	end := func(do func(now time.Duration)) {
		if !over {
			over = true
			p.post(do)
		}
	}
	fail := func(kind cell.Kind) func() {
		return func() {
			end(func(now time.Duration) { p.manager.Done(now, c.ID, nil, &cell.Error{Op: c.Method, Kind: kind}) })
		}
	}
	lost := fail(cell.UnknownResult)
	l := &p.links[s.at]
	if !l.up {
		p.after(between(p.dice, wayMax), fail(cell.Unavailable))
		return
	}
	l.pending = append(l.pending, lost)
	p.after(c.Timeout, lost)
	params := c.Params.Append(nil)
	w.trace.note(w.now, "%s asks %s: %s %+v", p.name, s.id, c.Method, c.Params)
	life := s.life
	w.after(between(p.control.dice, wayMax), func() {
		if s.core == nil || s.life != life || !p.reaches(s) {
			return // the loss of the connection shows
		}
		k := &call{c.Method, func(result []byte, err *cell.Error) {
			if !p.reaches(s) || percent(p.dice, w.lostReplies) {
				p.after(linkLoss, lost)
				return
			}
			p.after(between(p.dice, wayMax), func() { end(func(now time.Duration) { p.answered(now, &c, result, err) }) })
		}}
		w.deliver(s, k, c.Method, params)
	})
}

// answered gives an answer to the manager in the shape that its method has. A result that cannot be read is a failure of the run:
// the bytes are those that a real server would have sent.
func (p *process) answered(now time.Duration, c *lifecycle.Call, result []byte, err *cell.Error) {
	w := p.control.world
	w.trace.add(uint64(w.now), uint64(c.ID))
	w.trace.note(w.now, "%s hears from %s: %s: %v", p.name, c.Server, c.Method, err)
	read := func(m wire.Message) {
		if e := wire.Unmarshal(result, m); e != nil {
			w.fail("health", place{s: w.serverNamed(c.Server)}, "its answer to %s cannot be read: %v", c.Method, e)
		}
	}
	switch c.Method {
	case wire.MethodChange:
		if err == nil {
			var conf wire.Configured
			read(&conf)
			w.trace.note(w.now, "it is %+v", conf)
			p.manager.Configured(now, c.ID, &conf)
			return
		}
	case wire.MethodCensus:
		if err == nil {
			page := &wire.CensusPage{}
			read(page)
			p.manager.Heard(now, c.ID, page, nil, nil)
			return
		}
	case wire.MethodGraves:
		if err == nil {
			page := &wire.GravePage{}
			read(page)
			p.manager.Heard(now, c.ID, nil, page, nil)
			return
		}
	case wire.MethodCreateNodes, wire.MethodDropNodes:
		if err == nil {
			var o wire.Outcomes
			read(&o)
			p.manager.Done(now, c.ID, o.Outcomes, nil)
			return
		}
	}
	p.manager.Done(now, c.ID, nil, err)
}

// deliver hands a request of the control plane to a server, as the control face of package node does: what concerns the server as
// a whole goes to its loop as it is, what concerns one cell is a request like a client's. A census is refused while the server does
// not know yet what it hosts.
func (w *World) deliver(s *server, k *call, method string, params []byte) {
	to := core.Origin{Conn: k}
	queue := func(m wire.Message, do func(*core.Core)) {
		if err := wire.Unmarshal(params, m); err != nil {
			w.fail("health", place{s: s}, "a request for %s cannot be read: %v", method, err)
			return
		}
		s.inbox.calls = append(s.inbox.calls, do)
		s.wake()
	}
	page := func(c *core.Core, m func() wire.Message) {
		if !c.Ready() {
			k.reply(&core.Reply{Err: &cell.Error{Op: method, Kind: cell.Unavailable, RetryAfter: tickEvery}})
			return
		}
		c.Tell(to, m())
	}
	switch method {
	case wire.MethodCreateNodes:
		m := &wire.CreateNodes{}
		queue(m, func(c *core.Core) { c.CreateNodes(to, m) })
		for i := range m.Foundings {
			w.watchTold(s, &m.Foundings[i])
		}
	case wire.MethodDropNodes:
		m := &wire.DropNodes{}
		queue(m, func(c *core.Core) { c.DropNodes(to, m) })
	case wire.MethodCreateLearner:
		m := &wire.CreateLearner{}
		queue(m, func(c *core.Core) { c.CreateLearner(to, m) })
	case wire.MethodCensus:
		m := &wire.Census{}
		queue(m, func(c *core.Core) { page(c, func() wire.Message { return c.Census(m) }) })
	case wire.MethodGraves:
		m := &wire.Census{}
		queue(m, func(c *core.Core) { page(c, func() wire.Message { return c.Graves(m) }) })
	case wire.MethodSeal, wire.MethodChange:
		s.submit(k, params)
	default:
		w.fail("health", place{s: s}, "nobody answers %s", method)
	}
}
