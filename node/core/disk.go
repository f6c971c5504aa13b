package core

import (
	"fmt"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/paxos"
)

// A disk can be ill without being broken, in two ways. Both end by themselves, neither is a reason to stop the server, and
// both are said in heartbeats, so that the healthy can be preferred. That is all it is: a preference. A server that is ill
// leads when nobody else can, since a cell that is led badly is better than one that is not led.
//
// # Stalled
//
// While a batch waits and the disk has made no progress for stallShare of a support period, heartbeats are withheld (support.go): nobody supports this
// server for long then, and its local reads end. Writes go on with the votes of others, so nobody has a reason to take over.
// Therefore a server that is stalled for longer gives its cells away: to members that were heard of in the last few moments,
// which those whose disks stall with this one are not. When the disk moves again the server counts as slow for a while,
// longer each time, so that leadership does not follow every hiccup.
//
// # Full
//
// The shell says how much room there is (Space). A server that is low on it refuses creations, gives its cells away to
// members that have room, and goes on voting: a cell takes writes as long as a majority of its jury has room. When none has,
// its writes are refused at once (NoRoom), while reads and leases go on. What is left between Low and Full is for what is
// in flight, for campaigns and for the log's own work. At Full the server does not even vote for commands any more: it lags
// and catches up later, like one that was away.

// Space is how much room the disk of a server has.
type Space uint8

// The levels, from best to worst.
const (
	Ample Space = iota
	Low
	Full
)

// String names the level in logs.
func (s Space) String() string { return [...]string{"ample", "low", "full"}[s] }

// disk is what a core knows of its own disk, and how many servers are ill.
type disk struct {
	space   Space
	stalled bool
	slow    bool
	since   time.Duration // when it last began to stall
	until   time.Duration // slow ends then, unless it is stalled
	rest    time.Duration // how long it counts as slow behind a stall
	said    peer.Ailment  // of this server, as last counted
	ill     int           // servers that said to be ill, this one included; zero is the usual case, and costs nothing
	at      int           // how far the sweep that gives cells away has come in hotList
}

// Bounds of how long a disk counts as slow, in support periods: restMin behind the first stall, twice as long behind each one
// that comes within restMemory times that, at most restMax.
const (
	restMin    = 5
	restMax    = 60
	restMemory = 4
)

// heardBeats: a member is fit to take a cell over if it was heard of within so many heartbeats.
const heardBeats = 2

// awayPerTick bounds how many hot nodes one tick looks at to give them away.
const awayPerTick = 128

// SetSpace tells how much room the disk has.
func (c *Core) SetSpace(s Space) {
	c.disk.space = s
	c.countIll()
}

// Disk tells whether the disk stalls, whether it counts as slow, and how much room it has.
func (c *Core) Disk() (stalled, slow bool, space Space) {
	return c.disk.stalled, c.disk.slow, c.disk.space
}

// ails is what this server says of itself.
func (c *Core) ails() (a peer.Ailment) {
	if c.disk.slow {
		a |= peer.SlowDisk
	}
	if c.disk.space != Ample {
		a |= peer.NoRoom
	}
	return a
}

// countIll notes that this server's own state may have changed.
func (c *Core) countIll() {
	now := c.ails()
	c.changeIll(c.disk.said, now)
	if now != c.disk.said && c.cfg.Events.Ails != nil {
		c.cfg.Events.Ails(c.disk.stalled, c.disk.slow, c.disk.space)
	}
	c.disk.said = now
}

func (c *Core) changeIll(before, after peer.Ailment) {
	if before == 0 && after != 0 {
		c.disk.ill++
	}
	if before != 0 && after == 0 {
		c.disk.ill--
	}
}

// hears notes what a peer says of itself.
func (c *Core) hears(s *server, a peer.Ailment) {
	c.changeIll(s.ailment, a)
	s.ailment = a
}

// examine looks at the own disk, at every tick, and gives cells away while it is ill.
func (c *Core) examine() {
	d := &c.disk
	switch stalled := c.stalled(); {
	case stalled && !d.stalled:
		if c.now >= d.until+restMemory*d.rest {
			d.rest = 0
		}
		d.rest = min(max(2*d.rest, restMin*c.cfg.SupportPeriod), restMax*c.cfg.SupportPeriod)
		d.stalled, d.slow, d.since = true, true, c.now
	case d.stalled && !stalled:
		d.stalled, d.until = false, c.now+d.rest
	case d.slow && !d.stalled && c.now >= d.until:
		d.slow = false
	}
	c.countIll()
	if d.said != 0 && c.led > 0 && (!d.stalled || c.now-d.since >= (heardBeats+1)*c.cfg.HeartbeatEvery) {
		c.giveAway()
	}
}

// giveAway hands cells that are led from here to members that are well, some per tick.
func (c *Core) giveAway() {
	for range min(awayPerTick, len(c.hotList)) {
		if c.disk.at++; c.disk.at >= len(c.hotList) {
			c.disk.at = 0
		}
		h := c.hotList[c.disk.at]
		if h.hot == nil || h.hot.replica.Role() != paxos.Proposer {
			continue
		}
		if heir := c.relief(h); heir != nil {
			c.bequeath(h, heir)
		}
	}
}

// relief is a member that may take the cell over from an ill server: well, and heard of in the last moments; nil when there is none.
// They are looked for behind this one in the jury, so that its cells spread.
func (c *Core) relief(h *hosted) *server {
	self := h.configuration.Index(h.node)
	for i := 1; i < len(h.members); i++ {
		s := h.members[(self+i+len(h.members))%len(h.members)]
		if s.id != c.cfg.Server && s.ailment == 0 && c.alive(s.id) && c.now-s.proven <= heardBeats*c.cfg.HeartbeatEvery {
			return s
		}
	}
	return nil
}

// bequeath hands a cell over: what is in flight is finished, then the heir campaigns.
func (c *Core) bequeath(h *hosted, heir *server) {
	for i, s := range h.members {
		if s == heir {
			c.guard(h, func() { h.hot.replica.HandOver(h.configuration.Members[i].Node) })
			c.touch(h)
			c.activate(h)
			return
		}
	}
}

// yields reports whether this server leaves a cell to others because it is ill and they are not.
func (c *Core) yields(h *hosted) bool { return c.disk.said != 0 && c.relief(h) != nil }

// hasRoom reports whether a server has room for writes, as far as it is known. What a server said that is not heard of any more
// says nothing: it may be dead, and its cells must not stay read-only over its last word.
func (c *Core) hasRoom(s *server) bool {
	if s.id == c.cfg.Server {
		return c.disk.space == Ample
	}
	return s.ailment&peer.NoRoom == 0 || !c.alive(s.id)
}

// mayWrite says why a cell that is led from here takes no write now, or nothing. Keep-alives and revocations are small, and whoever
// holds a lease should not lose it over somebody else's disk: they pass until the disk is full.
func (c *Core) mayWrite(h *hosted, r *Request) *cell.Error {
	if c.disk.ill == 0 || (r.Log == wire.CommandKeepAlive || r.Log == wire.CommandRevoke) && c.disk.space != Full {
		return nil
	}
	var without []string
	for _, s := range h.members {
		if !c.hasRoom(s) {
			without = append(without, string(s.id))
		}
	}
	if c.disk.space != Ample && 2*len(without) < len(h.members) {
		if heir := c.relief(h); heir != nil {
			c.bequeath(h, heir)
			return c.redirect(r.op(), h, heir.id)
		}
	}
	if 2*len(without) < len(h.members) && c.disk.space != Full {
		return nil
	}
	c.refused("disks are full")
	return &cell.Error{Op: r.op(), Kind: cell.NoRoom, Cell: h.id, RetryAfter: fullAgain, Hint: "free space on these disks; it clears by itself",
		Detail: fmt.Sprintf("the cell is read-only: %d of its %d members have no room on their disks (%s)", len(without), len(h.members), strings.Join(without, ", "))}
}

// fullAgain is when a client may ask again whose write met full disks.
const fullAgain = time.Second

// noVote reports whether a message would make this server write a command although its disk is full.
func (c *Core) noVote(m *paxos.Message) bool {
	return c.disk.space == Full && (m.Kind == paxos.MsgAccept || m.Kind == paxos.MsgTeach || m.Kind == paxos.MsgTeachAll)
}

// noPlace refuses new nodes while there is no room for them, nil while there is.
func (c *Core) noPlace(refuse func(cell.Kind, string, ...any) *cell.Error) *cell.Error {
	if c.disk.space == Ample {
		return nil
	}
	c.refused("disks are full")
	return refuse(cell.Overloaded, "the server's disk has no room for new nodes: space is %v", c.disk.space)
}
