package core

import (
	"math"
	"time"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
)

// Support is what one server gives another: "I will not help depose your proposers until then" (rules 12 and 13). It is a
// fact about two servers, however many cells they share.
//
// # The arithmetic
//
// The giver extends its support to SupportPeriod from its own clock when a heartbeat arrives that asks for it, and says
// in its next heartbeat which one that was (Granted). The holder knows when it sent that one, which was earlier, and
// counts leaseShare of the period from then on its own clock. Clocks are monotonic, and each runs at most 10 % too fast or
// too slow. So the support lasts at least P/1.1 = 0.909 P of true time from its arrival, the holder's claim at most
// 0.8 P/0.9 = 0.889 P from before that: it ends first, whatever the network did in between.
//
// # Who is given support
//
// Whoever proves that it is useful, all within one period: its heartbeat echoes one that was sent to it (a round trip),
// its Paxos lane delivered something here, and the heartbeat says that ours did there (rule 13, hazard H9). The Paxos lane
// of a quiet pair carries an empty frame per heartbeat for that. A server asks for support only while its loop turns and
// its disk writes: heartbeats leave with Tick, and are withheld while the disk made no progress for half a period although a batch waits (hazard R1).
//
// # What support is not
//
// It confirms no ballot. What a member confirms of its cell carries the epoch of the support that was given then, and
// counts only while that very epoch lasts: see readlease.go.
const leaseShare = 0.8

// stallShare is the part of a support period for which a batch may wait for the disk before heartbeats are withheld.
const stallShare = 0.5

// support is what this server and a peer know of each other. Times are of the own clock; zero is never.
type support struct {
	boot uint64        // newest boot of the peer that was heard of
	met  time.Duration // when it was first heard of

	// As giver.
	given    time.Duration // until when support is given; meaningful while giving
	giving   bool
	epoch    uint64        // counter of the own support epoch for this peer, raised when support lapses
	granted  uint64        // the peer's heartbeat upon which support was last extended; 0: not in this epoch
	heardSeq uint64        // highest heartbeat of the peer's boot
	heardOn  time.Duration // the peer's Paxos lane last delivered a frame
	proven   time.Duration // the peer last proved to be useful

	// As holder.
	held      time.Duration // until when the peer's support may be relied on
	heldEpoch peer.Epoch
	sequence  uint64 // newest own heartbeat to the peer
	sent      [sentKept]sentBeat
	beatAt    time.Duration // the next one is due
	spoke     time.Duration // the own Paxos lane last carried a frame to the peer
	probe     bool          // an empty frame is to leave on the Paxos lane
}

// sentBeat remembers when a heartbeat left.
type sentBeat struct {
	sequence uint64
	at       time.Duration
}

// sentKept is how many own heartbeats are remembered per peer: more than leave within a support period.
const sentKept = 16

// Beat is one heartbeat that leaves.
type Beat struct {
	To        cell.ServerID
	Heartbeat peer.Heartbeat
}

// supporting is what a core knows of support as a whole.
type supporting struct {
	longest time.Duration       // support may have been given for so long before this start (rule 12)
	ready   storage.BatchNumber // batch that makes the own period durable
	waiting []waitingBatch      // handed to storage, not durable, oldest first
	moved   time.Duration       // when storage last reported progress
	wanted  bool                // a memory of a peer changed since the last write
	wrote   time.Duration       // when memories were last written
}

// waitingBatch is a batch that storage has not reported.
type waitingBatch struct {
	number storage.BatchNumber
	at     time.Duration
}

// lapse notices that support has run out. Every question about support comes through here, so that the counter is raised
// before anything can rely on the support being gone, and before it is given again.
func (c *Core) lapse(s *server) {
	if s.giving && c.now >= s.given {
		c.withdraw(s)
	}
}

// withdraw ends the support of a peer, because it ran out or because the process it was given to is dead.
func (c *Core) withdraw(s *server) {
	s.giving, s.granted = false, 0
	s.epoch++
	s.balance = balancing{}
	c.forsake(s)
}

// supports reports whether support is given to a peer now.
func (c *Core) supports(s *server) bool {
	c.lapse(s)
	return s.giving
}

// supportedBy reports whether a peer's support may be relied on now.
func (c *Core) supportedBy(s *server) bool { return c.now < s.held }

// meet notes the boot that a peer speaks from, and reports false for an earlier one than is known. A new boot means that
// the process before it is dead, and with it every ballot and lease that it had: boots are durable before they are told.
func (c *Core) meet(s *server, boot uint64) bool {
	if boot <= s.boot {
		return boot == s.boot
	}
	if s.giving {
		c.withdraw(s)
	}
	c.remembers(s, boot)
	s.boot, s.met = boot, max(c.now, 1)
	s.heardSeq, s.heardOn, s.held, s.granted, s.commands = 0, 0, 0, 0, 0
	s.beatAt = c.now // it wants to know what is remembered of it
	return true
}

// OnFrame notes a frame of messages from a peer, empty ones included, before its messages come. On the Paxos lane it
// proves that the lane works.
func (c *Core) OnFrame(from cell.ServerID, boot uint64, lane Lane, durable storage.BatchNumber) {
	s := c.sender(from)
	if s.id == c.cfg.Server || !c.meet(s, boot) {
		return
	}
	c.seen(s, durable)
	if lane == LanePaxos {
		s.heardOn = max(c.now, 1)
	}
}

// OnHeartbeat takes a heartbeat of a peer. An error means that this server must not go on: the peer remembers more of it
// than it does itself (rule 8).
func (c *Core) OnHeartbeat(from cell.ServerID, h *peer.Heartbeat) error {
	s := c.server(from)
	switch {
	case s.id == c.cfg.Server:
		return nil
	case !c.meet(s, h.Boot):
		c.drop("heartbeat of an earlier boot")
		return nil
	case h.Sequence <= s.heardSeq:
		c.drop("heartbeat repeated or overtaken")
		return nil
	}
	s.heardSeq, s.gone = h.Sequence, false
	c.hears(s, h.Ails)
	c.seen(s, storage.BatchNumber(h.Durable))
	if err := c.recall(s, h); err != nil {
		return err
	}
	if h.For == c.cfg.Boot {
		c.take(s, h)
		c.give(s, h)
	}
	return nil
}

// take notes what support the peer gives. It counts from when the heartbeat that it was given for left here; what says
// nothing of the kind ends it, and a newer epoch replaces an older one.
func (c *Core) take(s *server, h *peer.Heartbeat) {
	s.held, s.heldEpoch = 0, peer.Epoch{Boot: h.Boot, Counter: h.Counter}
	if at, ok := s.sentAt(h.Granted); ok {
		s.held = at + time.Duration(leaseShare*float64(c.cfg.SupportPeriod))
	}
}

// give extends the support for a peer that proves to be useful.
func (c *Core) give(s *server, h *peer.Heartbeat) {
	at, ok := s.sentAt(h.Echo)
	if plantedOneWayBeats {
		at, ok, s.heardOn, h.Lane = c.now, true, max(c.now, 1), 0
	}
	if !ok || !c.recent(at) || s.heardOn == 0 || !c.recent(s.heardOn) || time.Duration(h.Lane)*time.Millisecond >= c.cfg.SupportPeriod ||
		c.durable < c.support.ready {
		return
	}
	c.lapse(s)
	s.proven = max(c.now, 1)
	s.given, s.granted = c.now+c.cfg.SupportPeriod, h.Sequence
	if !s.giving {
		s.giving = true
		s.balance.due = c.now + c.cfg.BalanceAfter
		c.rejoined(s)
	}
}

// recent reports whether something happened within the last support period.
func (c *Core) recent(at time.Duration) bool { return c.now-at < c.cfg.SupportPeriod }

// sentAt tells when a heartbeat left, if that was not too many heartbeats ago.
func (s *support) sentAt(sequence uint64) (time.Duration, bool) {
	b := &s.sent[sequence%sentKept]
	return b.at, sequence != 0 && b.sequence == sequence
}

// beat sends the heartbeats that are due, and an empty frame along the Paxos lanes that were silent for as long.
func (c *Core) beat() {
	if !c.ready || c.durable < c.support.ready {
		return
	}
	if c.stalled() {
		if c.cfg.Events.Withheld != nil {
			c.cfg.Events.Withheld()
		}
		return
	}
	for _, s := range c.roster {
		c.lapse(s)
		if s.shared == 0 || s.id == c.cfg.Server || c.now < s.beatAt {
			continue
		}
		s.beatAt = c.now + c.cfg.HeartbeatEvery
		c.out.Beats = append(c.out.Beats, Beat{s.id, c.heartbeat(s)})
		if c.now-s.spoke >= c.cfg.HeartbeatEvery {
			s.probe = true
			c.talk(s)
		}
	}
}

// heartbeat makes the next heartbeat to a peer.
func (c *Core) heartbeat(s *server) peer.Heartbeat {
	s.sequence++
	s.sent[s.sequence%sentKept] = sentBeat{s.sequence, c.now}
	h := peer.Heartbeat{Boot: c.cfg.Boot, Sequence: s.sequence, Durable: uint64(c.durable), For: s.boot, Echo: s.heardSeq,
		Lane: peer.SilentLane, Counter: s.epoch, Granted: s.granted, Known: uint64(s.known), Before: uint64(s.before), Since: s.since}
	h.Ails = c.ails()
	if s.heardOn != 0 {
		h.Lane = uint64(min((c.now-s.heardOn)/time.Millisecond, math.MaxInt32))
	}
	return h
}

// stalled reports whether the disk makes no progress. One that has much to do, and does it, is behind, not stalled: that is
// a reason to take less on (behind), and to withhold heartbeats over it would turn a burst into elections.
func (c *Core) stalled() bool {
	w := c.support.waiting
	return len(w) > 0 && c.now-max(w[0].at, c.support.moved) >= time.Duration(stallShare*float64(c.cfg.SupportPeriod))
}

// behindShare is the part of a support period for which a batch may wait for the disk before new writes are refused.
const behindShare = 0.25

// behind reports whether the disk moves, but batches wait for it for too long: what is proposed now would only wait longer.
// While it is stalled, in contrast, the votes of others carry on (disk.go says for how long).
func (c *Core) behind() bool {
	w, limit := c.support.waiting, time.Duration(behindShare*float64(c.cfg.SupportPeriod))
	return len(w) > 0 && c.now-w[0].at >= limit && c.now-c.support.moved < limit
}

// handOver notes a batch that goes to storage.
func (c *Core) handOver(n storage.BatchNumber) {
	c.support.waiting = append(c.support.waiting, waitingBatch{n, c.now})
}

// synced forgets the batches that became durable.
func (c *Core) synced() {
	w := c.support.waiting
	i := 0
	for i < len(w) && w[i].number <= c.durable {
		i++
	}
	if i > 0 {
		c.support.moved = c.now
	}
	c.support.waiting = w[:copy(w, w[i:])]
}

// putPeriod makes the longest support period of this data directory durable, if it grew: before any support is given.
// After the next restart the node waits for so long, since nobody remembers what was given (rule 12).
func (c *Core) putPeriod() {
	if c.support.longest < c.cfg.SupportPeriod {
		c.write().Set([]byte{keyPeriod}, peer.AppendPeriod(nil, uint64(c.cfg.SupportPeriod)))
		c.support.ready = c.handed + 1
	}
}

// Support counts the peers that this server supports, and those whose support it holds.
func (c *Core) Support() (given, held int) {
	for _, s := range c.roster {
		if c.supports(s) {
			given++
		}
		if c.supportedBy(s) {
			held++
		}
	}
	return given, held
}
