package node

import (
	"sync"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
	"physalia/node/ledger"
)

// routePage is how many routes go into one push: with seven members each about 100 KB.
const routePage = 256

// outbox has what discovery may ask about this server's nodes, and wakes the sessions that tell it of changes. A session
// begins with nothing: what a copy does not know it asks for, at its own pace, by comparing sums (package ledger). A control
// plane that is away for two weeks costs no memory.
type outbox struct {
	ledger *ledger.Ledger // the loop's own

	mu      sync.Mutex
	tellers map[*teller]struct{}
}

// teller is one session's place in the changes. After open, told is the loop's own.
type teller struct {
	box  *outbox
	wake chan struct{} // capacity 1: there may be something to take
	told uint64        // every change up to this one was acknowledged, or was there before the session began
}

func newOutbox() *outbox {
	return &outbox{ledger: ledger.New(), tellers: map[*teller]struct{}{}}
}

// note takes a change of a node's route; the core calls it, on the loop.
func (o *outbox) note(info *wire.NodeInfo, gone bool) {
	news := false
	if gone {
		news = o.ledger.Gone(info.Handle, info.Cell)
	} else {
		news = o.ledger.Changed(info)
	}
	if !news {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for t := range o.tellers {
		poke(t.wake)
	}
}

// open begins a session: what changes after a position is told.
func (o *outbox) open(since uint64) *teller {
	t := &teller{box: o, wake: make(chan struct{}, 1), told: since}
	poke(t.wake) // something may have changed since
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tellers[t] = struct{}{}
	return t
}

// close ends it; anybody may call it.
func (t *teller) close() {
	t.box.mu.Lock()
	defer t.box.mu.Unlock()
	delete(t.box.tellers, t)
}

// take is what to push next, nil when there is nothing. It runs on the loop, so that a push is as of one moment. What is not
// acknowledged is taken again, as it is then.
func (t *teller) take(s *Server, c *core.Core, acknowledged uint64) *wire.RoutePush {
	t.told = max(t.told, acknowledged)
	if t.told == t.box.ledger.Position() {
		return nil
	}
	return t.box.ledger.Changes(t.told, routePage, s.routeOf(c))
}

// routeOf reads routes from the core, with the addresses that are known now.
func (s *Server) routeOf(c *core.Core) ledger.Route {
	return func(handle uint64) (wire.Route, bool) {
		page := c.ListNodes(&wire.ListNodes{After: handle - 1, Limit: 1})
		if len(page.Nodes) != 1 || page.Nodes[0].Handle != handle {
			return wire.Route{}, false // it was wiped meanwhile
		}
		n := &page.Nodes[0]
		for i := range n.Members {
			n.Members[i].PeerAddr = s.addresses.peer(n.Members[i].Server)
		}
		return wire.Route{Cell: n.Cell, Incarnation: n.Incarnation, Configuration: n.Configuration, Members: n.Members, Deleted: n.Sealed}, true
	}
}

// digest answers a discovery copy, on the loop. Before the restart scan is done the sums are those of a part, which would
// make the copy ask for everything.
func (s *Server) digest(c *core.Core, q *wire.DigestRequest) (wire.Message, error) {
	if !c.Ready() {
		return nil, &cell.Error{Op: wire.MethodDigest, Kind: cell.Unavailable, Detail: "the server is starting", RetryAfter: controlBackoffMin}
	}
	return s.agent.routes.ledger.Digests(q.Known), nil
}

// pull answers a discovery copy, on the loop.
func (s *Server) pull(c *core.Core, q *wire.PullRequest) (wire.Message, error) {
	p, err := s.agent.routes.ledger.Pull(q, s.routeOf(c))
	if err != nil {
		return nil, err
	}
	return p, nil
}

// tellRoutes answers what a discovery copy asks; the loop reads, since the ledger is its own.
func (s *Server) tellRoutes(c *rpc.Conn, q rpc.Request) {
	if q.Method == wire.MethodDigest {
		if m := new(wire.DigestRequest); s.decode(c, q, m) {
			s.askFor(c, q, func(core *core.Core) {
				digests, err := s.digest(core, m)
				c.Reply(q.ID, digests, cell.AsError(q.Method, cell.Internal, err))
			})
		}
		return
	}
	if m := new(wire.PullRequest); s.decode(c, q, m) {
		s.askFor(c, q, func(core *core.Core) {
			page, err := s.pull(core, m)
			c.Reply(q.ID, page, cell.AsError(q.Method, cell.Internal, err))
		})
	}
}
