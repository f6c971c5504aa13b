package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
	"physalia/node/storage"
	"physalia/paxos"
)

// server is a real core above a model disk; it is that disk's storage.Sink. It does what the loop of package node does.
type server struct {
	world   *World
	at      int
	id      cell.ServerID
	dice    *rand.Rand
	life    int            // counts starts; what was planned in an earlier life does not happen
	began   time.Duration  // when this life began; the core's clock starts there
	core    *core.Core     // nil while it is down
	model   *storage.Model // of this life
	image   *storage.Image // what the disk holds while it is down
	decoder peer.Decoder
	inbox   inbox
	turning bool // a turn is planned
	syncing bool
	slow    time.Duration // every sync takes that much longer
	paused  int           // pauses that hold now
	ambush  *ambush       // crashes it at a bad moment
}

// inbox is what waits for a turn. It is unbounded here; what a full one does is the business of package node.
type inbox struct {
	durable  storage.BatchNumber
	loaded   []loaded
	heard    []cell.ServerID
	messages []core.PeerMessage
	calls    []func(*core.Core)
	requests []*core.Request
	tick     bool
}

type loaded struct {
	id    storage.ReadID
	pairs []storage.Pair
	err   error
}

// ambush waits for a server to send an Accept, lets it reach that many peers, and then crashes the server.
type ambush struct {
	peers int
	fault *Fault
}

// How often, and how long, servers do things.
const (
	tickEvery      = 20 * time.Millisecond
	heartbeatEvery = 40 * time.Millisecond
	livenessPeriod = 150 * time.Millisecond
	nudgeAfter     = 20 * time.Millisecond
	nudgeMax       = 400 * time.Millisecond
	noticeAfter    = 60 * time.Millisecond
	ringPositions  = 16
)

// config is small wherever production is large, so that floors move, batches fill and nodes go cold often.
func (s *server) config() core.Config {
	cfg := core.Default()
	cfg.Server, cfg.Boot, cfg.Recovered = s.id, uint64(s.life), s.model.Recovered()
	cfg.Window, cfg.BatchCommands, cfg.IdleAfter = ringPositions, s.world.plan.Batch, s.world.plan.Idle
	cfg.LivenessPeriod, cfg.NudgeAfter, cfg.NudgeMax, cfg.NoticeAfter = livenessPeriod, nudgeAfter, nudgeMax, noticeAfter
	cfg.Dice = s.dice
	cfg.Events = core.Events{
		Quarantined: func(id cell.ID, why string) {
			s.world.fail("health", "%s took its node of %s out of service: %s", s.id, id, why)
		},
		Applied: func(id cell.ID, i cell.Incarnation, d *paxos.Delivery) {
			s.world.watchApplied(s, s.world.cellNamed(id), d)
		},
	}
	return cfg
}

// start boots the server from its image. Its clock starts anywhere, so that a time that survived a restart would show.
func (s *server) start() {
	s.life++
	s.inbox = inbox{}
	s.turning, s.syncing, s.ambush = false, false, nil
	s.began = s.world.now - between(s.dice, time.Hour)
	s.model = storage.OpenModel(s.image, s)
	s.core = core.New(s.config(), s.clock(), storage.GetBatch)
	for _, other := range s.world.servers {
		s.core.Address(other.id, string(other.id))
	}
	s.world.trace.note(s.world.now, "%s starts with batch %d", s.id, s.model.Recovered())
	s.whileAlive(between(s.dice, tickEvery), s.tick)
	s.wake()
}

// clock is the server's own monotonic clock.
func (s *server) clock() time.Duration { return s.world.now - s.began }

// crash kills the server; of the batches that are not synced the given percentage survives.
func (s *server) crash(keep int) {
	if s.core == nil {
		return
	}
	open := s.model.Last() - s.model.Durable()
	n := s.model.Durable() + open*storage.BatchNumber(keep)/100
	s.world.trace.add(uint64(s.world.now), uint64(s.at), uint64(n))
	s.world.trace.note(s.world.now, "%s crashes, keeps batch %d of %d (%d durable)", s.id, n, s.model.Last(), s.model.Durable())
	s.world.report.Crashes++
	s.world.report.BatchesLost += int(s.model.Last() - n)
	s.image = s.model.Crash(n)
	s.core, s.model = nil, nil
	s.life++
}

// whileAlive is World.after for what a crash undoes (timers, syncs, turns): it plans something that happens only if the server has not crashed by then.
func (s *server) whileAlive(after time.Duration, do func()) {
	life := s.life
	s.world.after(after, func() {
		if s.life == life {
			do()
		}
	})
}

// tick is the shell's ticker.
func (s *server) tick() {
	s.inbox.tick = true
	s.wake()
	s.whileAlive(tickEvery, s.tick)
}

// wake plans a turn.
func (s *server) wake() {
	if s.core == nil || s.turning || s.paused > 0 {
		return
	}
	s.turning = true
	s.whileAlive(between(s.dice, s.world.plan.Turn), s.turn)
}

// turn takes everything from the inbox, steps the core, and does what it decided: the batch first, then loads, frames and
// replies, as the loop in package node does.
func (s *server) turn() {
	s.turning = false
	if s.paused > 0 {
		return
	}
	in := s.inbox
	s.inbox = inbox{}
	if err := s.feed(&in); err != nil {
		s.world.fail("health", "%s cannot go on: %v", s.id, err)
		return
	}
	out := s.core.Flush()
	if out.Batch != nil {
		s.model.Commit(out.Batch)
		s.sync()
	}
	for i := range out.Loads {
		s.model.Read(out.Loads[i].ID, out.Loads[i].Ranges...)
		s.whileAlive(between(s.dice, s.world.plan.Sync), func() { s.model.Pump() })
	}
	if s.send(out) {
		return // it died over it
	}
	for i := range out.Replies {
		r := out.Replies[i]
		r.To.Conn.(*call).reply(&r)
	}
	s.core.Recycle()
	s.world.watchTurn(s)
}

// feed gives the core its inputs in the order of the loop in package node.
func (s *server) feed(in *inbox) error {
	c := s.core
	c.Now(s.clock())
	if in.durable > 0 {
		c.OnDurable(in.durable)
	}
	for _, l := range in.loaded {
		if err := c.OnLoaded(l.id, l.pairs, l.err); err != nil {
			return err
		}
	}
	for _, id := range in.heard {
		c.Heard(id)
	}
	for i := range in.messages {
		c.OnPeer(&in.messages[i])
	}
	for _, f := range in.calls {
		f(c)
	}
	for _, r := range in.requests {
		c.OnRequest(r)
	}
	if in.tick {
		c.Tick(s.clock())
	}
	return nil
}

// send hands the frames to the network and reports whether the server died over it.
func (s *server) send(out *core.Output) bool {
	for i := range out.Peers {
		s.world.carry(s, &out.Peers[i])
		if s.ambush != nil && s.ambush.peers <= 0 {
			fault := s.ambush.fault
			s.ambush = nil
			s.crash(fault.Keep)
			s.world.after(fault.For, func() { s.world.revive(s) })
			return true
		}
	}
	return false
}

// sync is a group commit: it makes what is committed by now durable after a while; what is committed meanwhile waits for the next sync.
func (s *server) sync() {
	if s.syncing {
		return
	}
	s.syncing = true
	through := s.model.Last()
	s.whileAlive(s.slow+between(s.dice, s.world.plan.Sync), func() {
		s.syncing = false
		s.model.Sync(through)
		if s.model.Last() > through {
			s.sync()
		}
	})
}

// Durable implements storage.Sink.
func (s *server) Durable(n storage.BatchNumber) {
	s.inbox.durable = n
	s.wake()
}

// ReadDone implements storage.Sink.
func (s *server) ReadDone(id storage.ReadID, pairs []storage.Pair, err error) {
	s.inbox.loaded = append(s.inbox.loaded, loaded{id, pairs, err})
	s.wake()
}

// Failed implements storage.Sink; the model fails only when it is told to, and nobody does.
func (s *server) Failed(err error) { panic(fmt.Sprintf("disk of %s: %v", s.id, err)) }

// call is a request on its way, and where its answer goes. Replies are encoded and decoded as on the wire.
type call struct {
	method string
	answer func(result []byte, err *cell.Error)
}

// submit hands a request to a server as a connection would; the params are its real bytes.
func (s *server) submit(c *call, params []byte) {
	r, err := core.ParseRequest(c.method, params)
	if err != nil {
		c.reply(&core.Reply{Err: err})
		return
	}
	r.Origin = core.Origin{Conn: c}
	s.inbox.requests = append(s.inbox.requests, r)
	s.wake()
}

// reply carries an answer through the envelope.
func (c *call) reply(r *core.Reply) {
	var b []byte
	switch {
	case r.Err != nil:
		b = wire.AppendFailure(nil, r.To.ID, r.Err)
	case r.Result != nil:
		b = wire.AppendResult(nil, r.To.ID, r.Result.Append(nil))
	default:
		b = wire.AppendResult(nil, r.To.ID, nil)
	}
	m, err := wire.ParseRPC(b)
	if err != nil {
		panic(fmt.Sprintf("reply to %s cannot be read: %v", c.method, err))
	}
	c.answer(m.Result, m.Err)
}
