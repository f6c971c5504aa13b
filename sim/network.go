package sim

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/node/storage"
	"physalia/paxos"
)

// serversMax bounds the servers of a world without a site, siteMax those of one with it, cellsMax the cells with clients.
const (
	serversMax = 9
	siteMax    = 32
	cellsMax   = 5
)

// network is what lies between servers. Cuts are counted, so that overlapping faults heal one by one.
type network struct {
	dice   *rand.Rand
	loss   int           // percent of packets
	twice  int           // percent of packets that arrive twice
	spread time.Duration // packets take up to that much longer, and overtake each other
	split  bool          // every message is a packet of its own; else a frame is one

	lanes     [lanesCount][siteMax][siteMax]int // cuts, by lane
	clientCut [sessionsMax][siteMax]int
}

const lanesCount = 4

// laneOf names the lanes of package node/core.
var laneOf = map[core.Lane]Lanes{core.LanePaxos: PaxosLane, core.LaneBulk: BulkLane, core.LaneForward: ForwardLane}

// change cuts some lanes of a link once more, or once less.
func (n *network) change(from, to int, lanes Lanes, by int) {
	for i := range n.lanes {
		if lanes&(1<<i) != 0 {
			n.lanes[i][from][to] += by
		}
	}
}

// The usual time of a packet on its way.
const (
	packetMin = 50 * time.Microsecond
	packetMax = 250 * time.Microsecond
)

// delay draws the time that a packet takes. Three of four are fast even in a storm: messages overtake each other best when
// only some are late.
func (n *network) delay() time.Duration {
	d := packetMin + between(n.dice, packetMax-packetMin)
	if n.spread > 0 && n.dice.IntN(4) == 0 {
		d += between(n.dice, n.spread)
	}
	return d
}

// open reports whether a packet that is sent now on a lane may arrive.
func (n *network) open(lane Lanes, from, to int) bool {
	return n.lanes[bits.TrailingZeros8(uint8(lane))][from][to] == 0
}

// between draws a duration from 0 to d.
func between(dice *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(d) + 1))
}

// percent is true p times out of a hundred.
func percent(dice *rand.Rand, p int) bool { return p > 0 && dice.IntN(100) < p }

// carry takes a frame apart as node/mesh does and sends its messages on their way.
func (w *World) carry(from *server, out *core.PeerOut) {
	to := w.serverNamed(out.To)
	p := packet{from: from.id, boot: from.boot, durable: from.core.Durable(), lane: out.Lane}
	if out.Lane == core.LaneForward {
		w.carryForwards(from, to, out)
		return
	}
	messages := make([]core.PeerMessage, out.Count)
	accepts := false
	in := wire.NewReader(out.Body)
	for i := range messages {
		m := &messages[i]
		m.From = from.id
		from.decoder.DecodeMessage(&in, &m.Envelope, &m.Message)
		accepts = accepts || m.Message.Kind == paxos.MsgAccept
		w.watchSent(from, to, m)
	}
	if from.ambush != nil && accepts {
		from.ambush.peers--
	}
	if err := in.Done(); err != nil {
		w.fail("health", place{s: from}, "it sent a frame that cannot be read: %v", err)
		return
	}
	if !w.net.split || len(messages) == 0 {
		p.messages = messages
		w.post(from, to, p)
		return
	}
	for i := range messages {
		p.messages = messages[i : i+1]
		w.post(from, to, p)
	}
}

// packet is a frame, or one message of it, with what every frame says of its sender: none of it arrives without the rest.
type packet struct {
	from     cell.ServerID
	boot     uint64
	durable  storage.BatchNumber
	lane     core.Lane
	messages []core.PeerMessage
}

// post delivers a packet never, once or twice. A cut stops what is sent while it lasts; what was on its way arrives.
func (w *World) post(from, to *server, p packet) {
	times := 1
	if percent(w.net.dice, w.net.twice) {
		times = 2
	}
	for range times {
		delay := w.net.delay()
		if !w.net.open(laneOf[p.lane], from.at, to.at) || percent(w.net.dice, w.net.loss) {
			continue
		}
		w.after(delay, func() { to.receive(p) })
	}
}

// receive puts a packet into a server's inbox; a dead server has none. Messages may reach a later life of the server.
func (s *server) receive(p packet) {
	if s.core == nil {
		return
	}
	for i := range p.messages {
		m := &p.messages[i].Message
		p.messages[i].Name = s.name(p.messages[i].Envelope.Cell)
		s.world.trace.add(uint64(s.world.now), uint64(s.at), uint64(m.Kind), uint64(m.From), uint64(m.Ballot.Round), uint64(m.Slot))
	}
	s.inbox.packets = append(s.inbox.packets, p)
	s.wake()
}

// beat sends a heartbeat on its way.
func (w *World) beat(from *server, b *core.Beat) {
	h := b.Heartbeat
	w.sign(from, w.serverNamed(b.To), HeartbeatLane, func(c *core.Core) error { return c.OnHeartbeat(from.id, &h) })
}

// carryForwards sends the messages of a frame of the forward lane on their way.
func (w *World) carryForwards(from, to *server, out *core.PeerOut) {
	in := wire.NewReader(out.Body)
	for range out.Count {
		f := &peer.Forward{}
		peer.DecodeForward(&in, f)
		w.sign(from, to, ForwardLane, func(c *core.Core) error { c.OnForward(from.id, f); return nil })
	}
	if err := in.Done(); err != nil {
		w.fail("health", place{s: from}, "it sent a frame that cannot be read: %v", err)
	}
}

// sign delivers what is no Paxos message: a heartbeat, or a forwarded request.
func (w *World) sign(from, to *server, lane Lanes, give func(*core.Core) error) {
	w.checkColors(from, to)
	delay := w.net.delay()
	if !w.net.open(lane, from.at, to.at) || percent(w.net.dice, w.net.loss) {
		return
	}
	w.after(delay, func() {
		if to.core != nil {
			to.inbox.signs = append(to.inbox.signs, give)
			to.wake()
		}
	})
}
