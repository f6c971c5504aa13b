package fleet

import (
	"fmt"
	"hash/fnv"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// register makes a connection its server's session, or says why not. It runs on the connection's reader goroutine, so the
// connection's end is reported to closed only after it has returned: Joined comes before Left.
func (f *Fleet) register(c *rpc.Conn, req rpc.Request) {
	var g wire.Registration
	if err := wire.Unmarshal(req.Params, &g); err != nil {
		c.Reply(req.ID, nil, &cell.Error{Op: req.Method, Kind: cell.Invalid, Detail: err.Error()})
		return
	}
	if err := checkRegistration(&g, c.Peer()); err != nil {
		c.Reply(req.ID, nil, err)
		return
	}
	wants := g.Wants
	if g.Wants = 0; wants == 0 {
		wants = wire.AllDuties
	}
	// The order is that of cost: pointers for those who are in, the pace, what the control plane has to say, the books.
	if f.pointed(c, req, &g, wants) {
		return
	}
	if err := f.entry.register(g.Server); err != nil {
		c.Reply(req.ID, nil, err)
		return
	}
	if f.cfg.Admit != nil {
		if err := f.cfg.Admit(g); err != nil {
			f.cfg.Log.Warn("server is not admitted", "server", g.Server, "remote", c.RemoteAddr(), "error", err)
			c.Reply(req.ID, nil, err)
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.admit(f.members[g.Server], &g, c); err != nil {
		c.Reply(req.ID, nil, err)
		return
	}
	answer := f.answer(&g, wants)
	if answer.Takes == 0 {
		f.stats.redirected.Add(1)
		c.Reply(req.ID, answer, nil)
		return
	}
	// The answer leaves before Joined and Duty are called: whatever they ask of the server comes after it.
	answer.Seeds = f.seeds(&g)
	f.stats.registered.Add(1)
	had, has := f.enlist(&g, c, answer.Takes)
	c.Reply(req.ID, answer, nil)
	f.cfg.Log.Info("server registered", "server", g.Server, "name", g.Name, "boot", g.Boot, "duties", has, "remote", c.RemoteAddr())
	if f.cfg.Joined != nil {
		f.cfg.Joined(g)
	}
	if f.cfg.Duty != nil {
		f.cfg.Duty(g, had, has)
	}
}

// answer says what this instance does for a server and who does the rest; mu is held.
func (f *Fleet) answer(g *wire.Registration, wants wire.Duties) *wire.Registered {
	return &wire.Registered{Control: f.cfg.Control, Addr: f.table.Addr(), Takes: wants & f.table.Mine(g.Brick),
		Elsewhere: f.table.Elsewhere(wants, g.Brick)}
}

// pointed answers a server that is in already and wants what this instance does not have. It changes nothing, costs little,
// and is not paced: while an election is under way, those who ask about it must not keep others out.
func (f *Fleet) pointed(c *rpc.Conn, req rpc.Request, g *wire.Registration, wants wire.Duties) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m, answer := f.members[g.Server], f.answer(g, wants)
	if m == nil || m.conn != c || answer.Takes != 0 {
		return false
	}
	f.stats.redirected.Add(1)
	c.Reply(req.ID, answer, nil)
	return true
}

// enlist makes a connection the session of its server, with these duties beside those that it has already; mu is held.
func (f *Fleet) enlist(g *wire.Registration, c *rpc.Conn, takes wire.Duties) (had, has wire.Duties) {
	m := &member{reg: *g, conn: c, has: takes, since: time.Now(), slot: pingSlot(g.Server)}
	if old := f.members[g.Server]; old != nil && old.conn != nil {
		had, m.since = old.has, old.since
		if old.conn == c {
			m.has |= old.has
		} else {
			old.conn.Close(&cell.Error{Op: "control.register", Kind: cell.Stale,
				Detail: fmt.Sprintf("server %s has registered again, with boot %d", g.Server, g.Boot)})
		}
	}
	f.members[g.Server] = m
	return had, m.has
}

// checkRegistration bounds what a server says of itself, and compares it with the Hello of its connection. The codec has
// bounded every length.
func checkRegistration(g *wire.Registration, h wire.Hello) *cell.Error {
	refuse := func(k cell.Kind, format string, args ...any) *cell.Error {
		return &cell.Error{Op: wire.MethodRegister, Kind: k, Detail: fmt.Sprintf(format, args...),
			Hint: "check the server's configuration"}
	}
	if err := g.Server.Check(); err != nil {
		return refuse(cell.Invalid, "%v", err)
	}
	for _, f := range [...]struct{ name, value string }{{"brick", g.Brick}, {"rack", g.Rack}, {"power domain", g.Power},
		{"color", g.Color}, {"peer address", g.PeerAddr}, {"client address", g.ClientAddr}, {"gossip address", g.GossipAddr}} {
		if f.value == "" {
			return refuse(cell.Invalid, "server %s does not say its %s", g.Server, f.name)
		}
	}
	if g.Boot == 0 {
		return refuse(cell.Invalid, "server %s has boot 0, the first is 1", g.Server)
	}
	if g.Server != h.Server || g.Colony != h.Colony || g.Brick != h.Brick || g.Color != h.Color || g.Boot != h.Boot {
		return refuse(cell.Refused, "the registration is for %s of colony %q brick %q color %q boot %d, the connection for %s of %q %q %q boot %d",
			g.Server, g.Colony, g.Brick, g.Color, g.Boot, h.Server, h.Colony, h.Brick, h.Color, h.Boot)
	}
	return nil
}

// admit compares a registration with what is known of the identity.
func (f *Fleet) admit(old *member, g *wire.Registration, c *rpc.Conn) *cell.Error {
	switch {
	case old == nil && len(f.members) >= f.cfg.ServersMax:
		return &cell.Error{Op: wire.MethodRegister, Kind: cell.Overloaded, RetryAfter: 10 * time.Second,
			Detail: fmt.Sprintf("%d servers are known", len(f.members))}
	case old == nil:
		return nil
	case old.conn != nil && g.Boot < old.reg.Boot:
		return &cell.Error{Op: wire.MethodRegister, Kind: cell.Stale,
			Detail: fmt.Sprintf("server %s is connected with boot %d, this is boot %d", g.Server, old.reg.Boot, g.Boot),
			Hint:   "two processes run under one identity: stop one of them"}
	}
	was, is := &old.reg, g
	if was.Brick != is.Brick || was.Rack != is.Rack || was.Power != is.Power || was.Color != is.Color {
		return &cell.Error{Op: wire.MethodRegister, Kind: cell.Refused,
			Detail: fmt.Sprintf("server %s moved from brick %s rack %s power %s color %s to %s %s %s %s",
				g.Server, was.Brick, was.Rack, was.Power, was.Color, is.Brick, is.Rack, is.Power, is.Color),
			Hint: "start it with its old place, or with an empty data directory to give it a new identity"}
	}
	return nil
}

// seeds picks gossip addresses of other connected servers of the same brick and color; the map's order makes it a
// different choice each time.
func (f *Fleet) seeds(g *wire.Registration) (addrs []string) {
	for id, m := range f.members {
		if len(addrs) == f.cfg.SeedsMax {
			break
		}
		if id != g.Server && m.conn != nil && m.reg.Brick == g.Brick && m.reg.Color == g.Color {
			addrs = append(addrs, m.reg.GossipAddr)
		}
	}
	return addrs
}

// closed is told the end of every connection; it matters when the connection was a session.
func (f *Fleet) closed(c *rpc.Conn, err error) {
	if f.cfg.Refused != nil {
		f.cfg.Refused(err)
	}
	id := c.Peer().Server
	if !fromServer(c) {
		return
	}
	f.entry.leave(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.members[id]
	if m == nil || m.conn != c {
		return
	}
	f.cfg.Log.Info("server lost", "server", id, "name", m.reg.Name, "error", err)
	f.release(m, wire.AllDuties)
}

// release takes duties away from a session, which ends with the last of them; mu is held.
func (f *Fleet) release(m *member, d wire.Duties) {
	had := m.has
	if m.has &^= d; m.has == had {
		return
	}
	if f.cfg.Duty != nil {
		f.cfg.Duty(m.reg, had, m.has)
	}
	if m.has != 0 {
		return
	}
	m.conn, m.since = nil, time.Now()
	if f.cfg.Left != nil {
		f.cfg.Left(m.reg.Server)
	}
}

// pingSlots is into how many parts a ping period is cut, so that pings are a trickle and not a burst.
const pingSlots = 16

// pingSlot smears servers over the period.
func pingSlot(id cell.ServerID) uint8 {
	h := fnv.New32a()
	h.Write([]byte(id))
	return uint8(h.Sum32() % pingSlots)
}

// ping asks every session for a sign of life, at a constant pace, and ends those that give none.
func (f *Fleet) ping() {
	defer f.wg.Done()
	tick := time.NewTicker(max(f.cfg.PingEvery/pingSlots, time.Microsecond))
	defer tick.Stop()
	for slot := uint8(0); ; slot = (slot + 1) % pingSlots {
		select {
		case <-f.stop:
			return
		case <-tick.C:
			f.pingAll(slot)
		}
	}
}

// pingAll counts pings, not time: after a pause of this process, nobody is blamed for its silence.
func (f *Fleet) pingAll(slot uint8) {
	type session struct {
		id   cell.ServerID
		m    *member
		conn *rpc.Conn
	}
	var ask, silent []session
	f.mu.Lock()
	for id, m := range f.members {
		switch {
		case m.conn == nil || m.slot != slot:
		case m.owing >= f.cfg.PingMisses:
			silent = append(silent, session{id, m, m.conn})
		default:
			m.owing++
			ask = append(ask, session{id, m, m.conn})
		}
	}
	f.mu.Unlock()
	for _, s := range silent {
		s.conn.Close(&cell.Error{Op: wire.MethodPing, Kind: cell.Unavailable,
			Detail: fmt.Sprintf("server %s did not answer %d pings", s.id, f.cfg.PingMisses)})
	}
	for _, s := range ask {
		s.conn.Go(wire.MethodPing, nil, func(result []byte, err error) { f.pong(s.m, s.conn, result, err) })
	}
}

// pong takes an answer. An error that the server itself sent is a sign of life, too; what the connection reports of
// itself is not.
func (f *Fleet) pong(m *member, c *rpc.Conn, result []byte, err error) {
	if err != nil && c.Err() != nil {
		return
	}
	var p wire.Pong
	if err == nil {
		err = wire.Unmarshal(result, &p)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m.owing = 0
	if err == nil {
		m.reg.Nodes = p.Nodes
	}
}
