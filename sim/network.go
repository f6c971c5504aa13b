package sim

import (
	"math/rand/v2"
	"time"

	"physalia/internal/wire"
	"physalia/node/core"
	"physalia/paxos"
)

// serversMax bounds the servers of a world.
const serversMax = 9

// network is what lies between servers. Cuts are counted, so that overlapping faults heal one by one.
type network struct {
	dice   *rand.Rand
	loss   int           // percent of packets
	twice  int           // percent of packets that arrive twice
	spread time.Duration // packets take up to that much longer, and overtake each other
	split  bool          // every message is a packet of its own; else a frame is one
	cut    [serversMax][serversMax]int
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

// open reports whether a packet that is sent now may arrive.
func (n *network) open(from, to int) bool { return n.cut[from][to] == 0 }

// between draws a duration from 0 to d.
func between(dice *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(d) + 1))
}

// percent is true p times out of a hundred.
func percent(dice *rand.Rand, p int) bool { return p > 0 && dice.IntN(100) < p }

// carry takes a frame apart as node/mesh does and sends its messages on their way.
func (w *World) carry(from *server, out *core.PeerOut) {
	to := w.serverNamed(out.To)
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
		w.fail("health", "%s sent a frame that cannot be read: %v", from.id, err)
		return
	}
	if !w.net.split {
		w.post(from, to, messages)
		return
	}
	for i := range messages {
		w.post(from, to, messages[i:i+1])
	}
}

// post delivers a packet never, once or twice. A cut stops what is sent while it lasts; what was on its way arrives.
func (w *World) post(from, to *server, packet []core.PeerMessage) {
	times := 1
	if percent(w.net.dice, w.net.twice) {
		times = 2
	}
	for range times {
		delay := w.net.delay()
		if !w.net.open(from.at, to.at) || percent(w.net.dice, w.net.loss) {
			continue
		}
		w.after(delay, func() { to.receive(packet) })
	}
}

// receive puts a packet into a server's inbox; a dead server has none. Messages may reach a later life of the server.
func (s *server) receive(packet []core.PeerMessage) {
	if s.core == nil {
		return
	}
	for i := range packet {
		m := &packet[i].Message
		s.world.trace.add(uint64(s.world.now), uint64(s.at), uint64(m.Kind), uint64(m.From), uint64(m.Ballot.Round), uint64(m.Slot))
		s.inbox.messages = append(s.inbox.messages, packet[i])
	}
	s.wake()
}

// heartbeats stands for the heartbeat lane: it lets everybody hear of everybody whom the network lets through.
func (w *World) heartbeats() {
	for _, from := range w.servers {
		for _, to := range w.servers {
			if from != to && from.core != nil && to.core != nil && from.paused == 0 && w.net.open(from.at, to.at) {
				to.inbox.heard = append(to.inbox.heard, from.id)
			}
		}
	}
	w.after(heartbeatEvery, w.heartbeats)
}
