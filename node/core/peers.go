package core

import (
	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// server is what the core knows of another server: when it was heard of, and what leaves for it in this turn. Liveness is
// a fact about servers, never about cells: ten thousand cells with a dead server share one of these.
type server struct {
	id         cell.ServerID
	clientAddr string
	support
	remembered
	rejoin   rejoining
	sweep    sweeping
	balance  balancing
	ailment  peer.Ailment // what it said of itself
	gone     bool         // its address refuses connections
	fit      bool         // as last judged: see thrift.go
	place    int          // in Core.roster
	commands uint32       // newest command set that its boot understands; 0: the oldest
	shared   int          // hosted nodes whose cell has a member there; zero: no heartbeats are wanted
	talking  bool
	urgent   bool // of what waits to leave, something cannot wait for company
	out      [lanes]PeerOut
	spare    [lanes][]byte
}

// peerBodyBytes is where a turn's messages for one peer are split into another frame.
const peerBodyBytes = 1 << 20

// lessonBytes is what a lesson to those who were not asked may have and still go with the votes, instead of in a frame of its own.
const lessonBytes = 16 << 10

// server returns what is known of a server; it is never forgotten, so pointers to it stay good.
func (c *Core) server(id cell.ServerID) *server {
	s := c.servers[id]
	if s == nil {
		s = &server{id: id, place: len(c.roster), support: support{epoch: 1}}
		c.servers[id] = s
		c.roster = append(c.roster, s)
	}
	return s
}

// sender is the server that a message came from.
func (c *Core) sender(id cell.ServerID) *server {
	if c.last == nil || c.last.id != id {
		c.last = c.server(id)
	}
	return c.last
}

// server is the server of a member or learner, nil when the configuration has no such node.
func (h *hosted) server(n paxos.NodeNumber) *server {
	if i := int(n) - 1; i >= 0 && i < len(h.seats) && h.seats[i].node == n {
		return h.seats[i].server // a founding jury is numbered 1, 2, 3, ...
	}
	for i := range h.seats {
		if h.seats[i].node == n {
			return h.seats[i].server
		}
	}
	for i := range h.learners {
		if h.configuration.Learners[i].Node == n {
			return h.learners[i]
		}
	}
	return nil
}

// Gone notes that nothing listens at a peer's address: it counts as dead until it is heard of again. While everybody may
// still be starting it means nothing.
func (c *Core) Gone(id cell.ServerID) {
	if c.now-c.began < c.cfg.LivenessPeriod {
		return
	}
	c.server(id).gone = true
}

// Address tells where clients reach a server, for redirects.
func (c *Core) Address(id cell.ServerID, clientAddr string) { c.server(id).clientAddr = clientAddr }

// Peers lists the servers that share cells with this one, in no particular order; the shell keeps heartbeats with them.
func (c *Core) Peers() []cell.ServerID {
	var ids []cell.ServerID
	for id, s := range c.servers {
		if s.shared > 0 && id != c.cfg.Server {
			ids = append(ids, id)
		}
	}
	return ids
}

// AlivePeers counts the other servers that proved to be useful within the liveness period.
func (c *Core) AlivePeers() int {
	n := 0
	for id, s := range c.servers {
		if id != c.cfg.Server && s.shared > 0 && c.alive(id) {
			n++
		}
	}
	return n
}

// SilentPeers counts the other servers that share cells with this one and do not seem to be alive.
func (c *Core) SilentPeers() int {
	n := 0
	for _, s := range c.roster {
		if s.shared > 0 && s.id != c.cfg.Server && !c.alive(s.id) {
			n++
		}
	}
	return n
}

// PeerChanges grows whenever Peers may have changed.
func (c *Core) PeerChanges() int { return c.peerChanges }

// share counts the servers of a node's cell in or out.
func (c *Core) share(h *hosted, by int) {
	for _, list := range [...][]*server{h.members, h.learners} {
		for _, s := range list {
			c.shareWith(s, by)
		}
	}
}

// shareWith counts one member in or out.
func (c *Core) shareWith(s *server, by int) {
	if s.shared += by; s.shared == max(by, 0) {
		c.peerChanges++
	}
}

// alive reports whether a server proved to be useful within the liveness period, or was started within it. For one period
// after the start everybody counts as alive, so that a mass restart does not begin with a mass election.
func (c *Core) alive(id cell.ServerID) bool {
	if id == c.cfg.Server {
		return true
	}
	s := c.servers[id]
	if s == nil {
		return c.now-c.began < c.cfg.LivenessPeriod
	}
	return c.isAlive(s)
}

// isAlive is alive for another server.
func (c *Core) isAlive(s *server) bool {
	return !s.gone && c.now-max(c.began, s.proven, s.met) < c.cfg.LivenessPeriod
}

// successor is the member that should campaign when the proposer is gone: the next live one in the jury behind it, so
// that the cells of a dead server spread over its peers, and everybody who sees the same servers names the same one. Who
// sees other servers names another; then two may campaign, the higher ballot wins, and the loser's clients are sent on.
func (c *Core) successor(h *hosted, leader paxos.NodeNumber) cell.ServerID {
	members := h.configuration.Members
	start := h.configuration.Index(leader)
	for i := 1; c.disk.ill > 0 && i <= len(members); i++ { // who is well comes first
		s := c.server(cell.ServerID(members[(start+i+len(members))%len(members)].Server)) // not h.members: a peeked node has none
		well := s.ailment == 0 && s.id != c.cfg.Server || s.id == c.cfg.Server && c.disk.said == 0
		if well && c.alive(s.id) && (s.id != c.cfg.Server || !c.rests(h)) {
			return s.id
		}
	}
	for i := 1; i <= len(members); i++ {
		id := cell.ServerID(members[(start+i+len(members))%len(members)].Server)
		if c.alive(id) && (id != c.cfg.Server || !c.rests(h)) {
			return id
		}
	}
	return c.cfg.Server
}

// emit encodes a message for its receiver, or for all other members and learners when To is zero: encoded once, copied per peer. A
// TeachAll gets its state here and not in the replica, which never looks inside; what it teaches is what was applied by
// now, and that is chosen, so it may leave before anything of it is durable here.
func (c *Core) emit(h *hosted, m *paxos.Message, support peer.Epoch) {
	lane := LanePaxos
	if m.Kind == paxos.MsgTeach && m.To != 0 || m.Kind == paxos.MsgTeachAll {
		lane = LaneBulk
	}
	if m.Kind == paxos.MsgTeachAll && m.Snapshot == nil {
		if h.hot == nil {
			return
		}
		m.Snapshot = c.snapshot(h)
	}
	envelope := peer.Envelope{Cell: h.id, Incarnation: h.incarnation, Configuration: h.configuration.Number, Support: support}
	c.attest(h, m, &envelope)
	c.body = peer.AppendMessage(c.body[:0], &envelope, m)
	if m.To != 0 {
		if s := c.whereIs(h, m.To); s != nil {
			c.enqueue(s, lane, c.body)
		}
		return
	}
	if len(c.body) > lessonBytes && m.Kind == paxos.MsgTeach {
		lane = LaneBulk
	}
	patient := m.Kind == paxos.MsgTeach && m.SparesAny() && lane == LanePaxos
	for i := range h.members {
		switch s := h.members[i]; {
		case h.configuration.Members[i].Node == h.node || m.Spares(i):
		case patient:
			c.append(s, lane, c.body)
		default:
			c.enqueue(s, lane, c.body)
		}
	}
	for i := range h.learners {
		if h.configuration.Learners[i].Node != h.node {
			c.enqueue(h.learners[i], lane, c.body)
		}
	}
}

// enqueue adds an encoded message to what leaves for a server in this turn.
func (c *Core) enqueue(s *server, lane Lane, message []byte) {
	s.urgent = true
	c.append(s, lane, message)
}

// append adds one to what leaves for a server in this turn or, when that is nothing but lessons, in the first one that has more to say to
// it, at the next tick at the latest (collect).
func (c *Core) append(s *server, lane Lane, message []byte) {
	c.talk(s)
	o := &s.out[lane]
	if o.Count == peer.FrameMessagesMax || (len(o.Body) > 0 && len(o.Body)+len(message) > peerBodyBytes) {
		c.out.Peers = append(c.out.Peers, *o)
		*o = PeerOut{}
	}
	if o.Body == nil {
		*o = PeerOut{To: s.id, Lane: lane, Body: s.spare[lane][:0]}
		s.spare[lane] = nil
	}
	o.Count++
	o.Body = append(o.Body, message...)
}

// talk notes that something leaves for a server in this turn.
func (c *Core) talk(s *server) {
	if !s.talking {
		s.talking = true
		c.talking = append(c.talking, s)
	}
}

// collect moves what waits for the peers into the output; its buffers go with it until Recycle. Lessons that a proposer teaches eight slots
// at a time to those whom it spares are no frame's worth: half of a busy server's peers get little else from it. They wait for company.
func (c *Core) collect() {
	kept := c.talking[:0]
	for _, s := range c.talking {
		if !s.urgent && !s.probe && !c.ticked {
			kept = append(kept, s)
			continue
		}
		s.talking, s.urgent = false, false
		c.collectFrom(s)
	}
	clear(c.talking[len(kept):])
	c.talking, c.ticked = kept, false
}

// collectFrom moves what waits for one. What leaves on the Paxos lane proves that it works, and spares an empty frame.
func (c *Core) collectFrom(s *server) {
	if s.out[LanePaxos].Count > 0 || s.probe {
		s.out[LanePaxos].To, s.probe, s.spoke = s.id, false, c.now
		c.out.Peers = append(c.out.Peers, s.out[LanePaxos])
		s.out[LanePaxos] = PeerOut{}
	}
	for lane := LanePaxos + 1; lane < lanes; lane++ {
		if s.out[lane].Count > 0 {
			c.out.Peers = append(c.out.Peers, s.out[lane])
			s.out[lane] = PeerOut{}
		}
	}
}

// recycle keeps the buffer of a frame that was sent.
func (s *server) recycle(o *PeerOut) {
	if cap(o.Body) <= peerBodyBytes {
		s.spare[o.Lane] = o.Body
	}
	o.Body = nil
}

// redirect makes the NotProposer answer that names whom to ask.
func (c *Core) redirect(op string, h *hosted, to cell.ServerID) *cell.Error {
	e := &cell.Error{Op: op, Kind: cell.NotProposer, Cell: h.id, Detail: "this node does not lead the cell", Leader: to}
	if s := c.servers[to]; s != nil {
		e.LeaderAddr = s.clientAddr
	}
	return e
}

// founders lists the members of a node's cell with the addresses known here.
func (c *Core) founders(h *hosted) []wire.Founder {
	members := make([]wire.Founder, len(h.configuration.Members))
	for i, m := range h.configuration.Members {
		members[i] = c.founder(m)
	}
	return members
}

// founder is a member with the address known here.
func (c *Core) founder(m paxos.Member) wire.Founder {
	f := wire.Founder{Node: uint64(m.Node), Server: cell.ServerID(m.Server)}
	if s := c.servers[f.Server]; s != nil {
		f.ClientAddr = s.clientAddr
	}
	return f
}
