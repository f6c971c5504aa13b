package sim

import (
	"errors"
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
	time    clock
	boot    uint64         // count of starts, as its directory has it
	life    int            // counts starts; what was planned in an earlier life does not happen
	core    *core.Core     // nil while it is down
	model   *storage.Model // of this life
	image   *storage.Image // what the disk holds while it is down
	decoder peer.Decoder
	names   map[cell.ID]*core.Name // of this life
	inbox   inbox
	spare   inbox // empty; what the inbox gets in exchange for what it holds, as in package node
	turning bool  // a turn is planned
	syncing bool
	slow    time.Duration      // every sync takes that much longer
	stalled int                // faults that hold its syncs up now
	lacking [core.Full + 1]int // faults that leave its disk with so little room
	heldUp  func()             // the end of a sync that is held up
	paused  int                // pauses that hold now
	ambush  *ambush            // crashes it at a bad moment
	owner   cell.ServerID      // whose directory it has, as the superblock in it says
	damaged string             // how its disk, or a node of it, was damaged; empty: never
	stopped bool               // it stopped by itself, for good
	since   time.Duration      // when it last started, or crashed
	hosting []hosting          // since its start; some may not be durable
}

// inbox is what waits for a turn. It is unbounded here; what a full one does is the business of package node.
type inbox struct {
	durable  storage.BatchNumber
	loaded   []loaded
	signs    []func(*core.Core) error // heartbeats and forwarded requests
	packets  []packet
	calls    []func(*core.Core)
	requests []*core.Request
	tick     bool
}

// emptied is the inbox without what it held; its memory is used again.
func (in *inbox) emptied() inbox {
	clear(in.packets)
	clear(in.calls)
	clear(in.requests)
	clear(in.loaded)
	clear(in.signs)
	return inbox{loaded: in.loaded[:0], signs: in.signs[:0], packets: in.packets[:0], calls: in.calls[:0], requests: in.requests[:0]}
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

// tickEvery is between two ticks of a server.
const tickEvery = 20 * time.Millisecond

// config is small wherever production is large, so that floors move, batches fill and nodes go cold often.
func (s *server) config() core.Config {
	cfg, p := core.Default(), &s.world.plan
	cfg.Server, cfg.Boot, cfg.Recovered = s.id, s.boot, s.model.Recovered()
	cfg.Window, cfg.BatchCommands, cfg.IdleAfter = p.Window, p.Batch, p.Idle
	cfg.Thrifty = p.Thrifty
	cfg.JournalBytes = int(p.Seed%4) << 11 // none, or a few turns' records: nodes are shelved, and segments deleted, all the time
	if p.Cramped {
		cfg.HotMax = 0
	}
	cfg.LivenessPeriod, cfg.NudgeAfter, cfg.NudgeMax, cfg.NoticeAfter = p.Liveness, p.Nudge, 20*p.Nudge, p.Notice
	cfg.SupportPeriod, cfg.HeartbeatEvery, cfg.MemoryEvery = p.Liveness, p.Heartbeat, 3*p.Heartbeat
	cfg.Dice = s.dice
	cfg.Events = core.Events{
		Quarantined: func(id cell.ID, _ core.Reason, why string) {
			if s.damaged == "" {
				s.world.fail("health", place{s: s}, "it took its node of %s out of service: %s", id, why)
			}
			s.world.trace.note(s.world.now, "%s quarantines %s: %s", s.id, id, why)
			s.world.report.Quarantined++
		},
		Applied: func(id cell.ID, i cell.Incarnation, d *paxos.Delivery) {
			s.world.watchApplied(s, s.world.volumeOf(id, i), d)
		},
	}
	if s.world.plan.Control != nil {
		cfg.Events.Routes = func(info wire.NodeInfo, gone bool) { s.world.watchNode(s, &info, gone) }
	}
	return cfg
}

// start boots the server from its image.
func (s *server) start() {
	s.life++
	if s.owner != s.id { // node/datadir refuses to open it
		s.retire(errForeign)
		return
	}
	s.boot++
	s.inbox = inbox{}
	s.names = make(map[cell.ID]*core.Name)
	s.turning, s.syncing, s.ambush, s.heldUp = false, false, nil, nil
	s.time.restart(s.world.now, s.dice)
	s.model = storage.OpenModel(s.image, s)
	s.core = core.New(s.config(), s.clock(), storage.GetBatch)
	s.core.SetSpace(s.space())
	for _, other := range s.world.servers {
		s.core.Address(other.id, string(other.id))
	}
	s.since = s.world.now
	s.world.trace.note(s.world.now, "%s starts with batch %d", s.id, s.model.Recovered())
	s.whileAlive(between(s.dice, tickEvery), s.tick)
	s.wake()
}

// namesMax is how many names a server keeps, as node/mesh does; so few that it often forgets some that the core knows.
const namesMax = 3

// name returns the name of a cell, as those who decode messages keep it.
func (s *server) name(id cell.ID) *core.Name {
	n := s.names[id]
	if n == nil {
		if len(s.names) >= namesMax {
			clear(s.names)
		}
		n = &core.Name{ID: id}
		s.names[id] = n
	}
	return n
}

// space is how much room its disk has.
func (s *server) space() core.Space {
	for level := core.Full; level > core.Ample; level-- {
		if s.lacking[level] > 0 {
			return level
		}
	}
	return core.Ample
}

// lack begins a fault that leaves its disk with so little room, or ends one.
func (s *server) lack(level core.Space, by int) {
	s.lacking[level] += by
	if s.core != nil {
		s.core.SetSpace(s.space())
		s.wake()
	}
}

// clock is the server's own monotonic clock.
func (s *server) clock() time.Duration { return s.time.at(s.world.now) }

// retire is what a server does that cannot go on: it stops, for good. Only one whose disk was damaged may do that.
func (s *server) retire(err error) {
	if s.damaged == "" {
		s.world.fail("health", place{s: s}, "it cannot go on: %v", err)
		return
	}
	s.world.trace.note(s.world.now, "%s stops for good: %v", s.id, err)
	s.world.report.Stopped++
	s.stopped = true
	s.crash(100)
}

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
	s.forgetHosted(n)
	s.image = s.model.Crash(n)
	s.core, s.model, s.heldUp, s.since = nil, nil, nil, s.world.now
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
	s.whileAlive(s.time.real(tickEvery), s.tick)
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
	s.inbox = s.spare
	err := s.feed(&in)
	s.spare = in.emptied()
	if err != nil {
		s.retire(err)
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
	for i := range out.Beats {
		s.world.beat(s, &out.Beats[i])
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
	for _, f := range in.signs {
		if err := f(c); err != nil {
			return err
		}
	}
	for i := range in.packets {
		p := &in.packets[i]
		c.OnFrame(p.from, p.boot, p.lane, p.durable)
		for j := range p.messages {
			c.OnPeer(&p.messages[j])
		}
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

// sync is a group commit: it makes what is committed by now durable after a while; what is committed meanwhile waits for
// the next sync. While the disk is stalled no sync ends.
func (s *server) sync() {
	if s.syncing {
		return
	}
	s.syncing = true
	through := s.model.Last()
	end := func() {
		s.syncing = false
		s.model.Sync(through)
		if s.model.Last() > through {
			s.sync()
		}
	}
	s.whileAlive(s.slow+between(s.dice, s.world.plan.Sync), func() {
		if s.stalled > 0 {
			s.heldUp = end
			return
		}
		end()
	})
}

// release ends a stall.
func (s *server) release() {
	s.stalled = 0
	if end := s.heldUp; end != nil {
		s.heldUp = nil
		end()
	}
}

// breakDisk lets a write fail: the server stops at once, and comes back when somebody has replaced the controller.
func (s *server) breakDisk(f *Fault) {
	if s.core != nil {
		s.model.Fail(errBroken)
		s.crash(f.Keep)
		s.world.after(f.For, func() { s.world.revive(s) })
	}
}

var (
	errBroken  = errors.New("the disk is broken")
	errForeign = errors.New("the data directory belongs to another server")
)

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

// Failed implements storage.Sink. The model fails only when breakDisk tells it to, and that stops the server.
func (s *server) Failed(err error) {
	s.world.trace.note(s.world.now, "%s: %v", s.id, err)
}

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
