package core

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/storage"
	"physalia/paxos"
)

// colony is a handful of cores over model disks, driven by hand: settle carries everything until nothing moves. Time
// stands still unless wait moves it. Package sim is the same with faults, delays and checkers.
type colony struct {
	t       *testing.T
	window  int
	now     time.Duration
	servers []*box
	replies map[uint32]Reply
	nextID  uint32
	tune    func(*Config)                             // of every server that starts; nil: nothing
	lost    func(from, to int, m *paxos.Message) bool // nil: nothing is; frames and heartbeats are asked about, too, as kind 0
	cut     func(from, to int, lane Lane) bool        // nil: no lane is
}

// box is one server: a core, its disk, and what it has not looked at yet. It is its disk's storage.Sink.
type box struct {
	at      int
	core    *Core // nil while it is down
	model   *storage.Model
	image   *storage.Image // while it is down
	slow    bool           // its disk syncs nothing
	durable storage.BatchNumber
	loaded  []func() error
	mail    []func() error
	boot    uint64
	fatal   error         // why it stopped by itself
	now     time.Duration // its own clock is so much ahead
	sick    []string      // why nodes were quarantined, in order
	paused  bool          // it takes no turns
	local   int           // reads that it answered under a read lease
	asked   int           // reads that it answered after its jury confirmed them
	began   int           // campaigns
}

func (b *box) Durable(n storage.BatchNumber) { b.durable = n }
func (b *box) Failed(err error)              { panic(err) }
func (b *box) ReadDone(id storage.ReadID, pairs []storage.Pair, err error) {
	b.loaded = append(b.loaded, func() error { return b.core.OnLoaded(id, pairs, err) })
}

// newColony starts n servers with a ring of 16 slots.
func newColony(t *testing.T, n int) *colony {
	c := &colony{t: t, window: 16, now: time.Second, replies: map[uint32]Reply{}}
	for i := range n {
		b := &box{at: i}
		b.image = storage.NewModel(b).Crash(0)
		c.servers = append(c.servers, b)
		c.start(i)
	}
	c.settle()
	return c
}

func serverID(i int) cell.ServerID { return cell.ServerID(fmt.Sprintf("s%d", i+1)) }

// start boots a server from its image.
func (c *colony) start(i int) {
	b := c.servers[i]
	b.model = storage.OpenModel(b.image, b)
	b.durable, b.loaded, b.mail = 0, nil, nil
	cfg := Default()
	cfg.Server, cfg.Window, cfg.Recovered = serverID(i), c.window, b.model.Recovered()
	b.boot++
	cfg.Boot = b.boot
	cfg.Dice = rand.New(rand.NewPCG(1, uint64(i)))
	cfg.Events.Quarantined = func(_ cell.ID, _ Reason, why string) { b.sick = append(b.sick, why) }
	cfg.Events.Read = func(local bool) {
		if local {
			b.local++
		} else {
			b.asked++
		}
	}
	cfg.Events.Campaign = func(cell.ID, paxos.Ballot) { b.began++ }
	cfg.Thrifty = false                           // its own tests ask for it
	cfg.SweepPerTick, cfg.BalancePerSecond = 0, 0 // who leads is what a test's requests bring about
	if c.tune != nil {
		c.tune(&cfg)
	}
	b.core = New(cfg, c.now+b.now, storage.GetBatch)
}

// crash stops a server; its disk keeps what is durable, and the rest too when keep is set.
func (c *colony) crash(i int, keep bool) {
	b := c.servers[i]
	n := b.model.Durable()
	if keep {
		n = b.model.Last()
	}
	b.image = b.model.Crash(n)
	b.core = nil
}

// restart crashes a server without losing anything, starts it again and lets it hear of its peers.
func (c *colony) restart(i int) {
	c.crash(i, true)
	c.start(i)
	c.wait(acquainted)
}

// acquainted is how long a server that starts needs to hear from everybody.
const acquainted = 200 * time.Millisecond

// settle runs turns until no server has anything to do.
func (c *colony) settle() {
	for busy := true; busy; {
		busy = false
		for _, b := range c.servers {
			if b.core != nil && !b.paused && c.turn(b, false) {
				busy = true
			}
		}
	}
}

// wait moves the time on, in ticks.
func (c *colony) wait(d time.Duration) {
	for end := c.now + d; c.now < end; {
		c.now += 20 * time.Millisecond
		for _, b := range c.servers {
			if b.core != nil && !b.paused {
				c.turn(b, true)
			}
		}
		c.settle()
	}
}

// turn gives a server its inputs, takes its output, and reports whether there was any of either.
func (c *colony) turn(b *box, tick bool) bool {
	b.core.Now(c.now + b.now)
	if !b.slow {
		b.model.SyncAll()
	}
	b.model.Pump()
	durable, loaded, mail := b.durable, b.loaded, b.mail
	b.durable, b.loaded, b.mail = 0, nil, nil
	if durable > 0 {
		b.core.OnDurable(durable)
	}
	for _, answer := range loaded {
		if err := answer(); err != nil {
			c.t.Fatalf("server %s cannot go on: %v", serverID(b.at), err)
		}
	}
	for _, letter := range mail {
		if err := letter(); err != nil {
			b.fatal = err
			c.crash(b.at, true)
			return true
		}
	}
	if tick {
		b.core.Tick(c.now + b.now)
	}
	return c.obey(b, b.core.Flush()) || durable > 0 || len(loaded)+len(mail) > 0
}

// obey does what a core decided and reports whether that was anything.
func (c *colony) obey(b *box, out *Output) bool {
	busy := out.Batch != nil || len(out.Loads)+len(out.Peers)+len(out.Replies)+len(out.Beats) > 0
	if out.Batch != nil {
		b.model.Commit(out.Batch)
	}
	for _, load := range out.Loads {
		b.model.Read(load.ID, load.Ranges...)
	}
	for i := range out.Peers {
		c.carry(b, &out.Peers[i])
	}
	for i := range out.Beats {
		c.pulse(b, &out.Beats[i])
	}
	for _, r := range out.Replies {
		if _, twice := c.replies[r.To.ID]; twice {
			c.t.Fatalf("request %d was answered twice", r.To.ID)
		}
		c.replies[r.To.ID] = r
	}
	b.core.Recycle()
	return busy
}

// post puts something into the mailbox of a server, if it is up and the network lets it through.
func (c *colony) post(from *box, to cell.ServerID, lane Lane, m *paxos.Message, letter func(*Core) error) {
	for _, b := range c.servers {
		if serverID(b.at) == to && b.core != nil && (c.lost == nil || !c.lost(from.at, b.at, m)) && (c.cut == nil || !c.cut(from.at, b.at, lane)) {
			b.mail = append(b.mail, func() error { return letter(b.core) })
		}
	}
}

// laneHeartbeat names the heartbeats' lane to colony.cut.
const laneHeartbeat = lanes

// pulse carries a heartbeat.
func (c *colony) pulse(from *box, beat *Beat) {
	in := wire.NewReader(peer.AppendHeartbeat(nil, &beat.Heartbeat))
	var h peer.Heartbeat
	if peer.DecodeHeartbeat(&in, &h); in.Done() != nil {
		c.t.Fatalf("heartbeat %+v: %v", beat.Heartbeat, in.Done())
	}
	c.post(from, beat.To, laneHeartbeat, &paxos.Message{}, func(k *Core) error { return k.OnHeartbeat(serverID(from.at), &h) })
}

// carry decodes a frame and puts its messages into the receiver's mailbox.
func (c *colony) carry(from *box, frame *PeerOut) {
	in := wire.NewReader(frame.Body)
	id, boot, durable, lane := serverID(from.at), from.boot, from.core.Durable(), frame.Lane
	c.post(from, frame.To, lane, &paxos.Message{}, func(k *Core) error { k.OnFrame(id, boot, lane, durable); return nil })
	for range frame.Count {
		if lane == LaneForward {
			f := &peer.Forward{}
			peer.DecodeForward(&in, f)
			c.post(from, frame.To, lane, &paxos.Message{}, func(k *Core) error { k.OnForward(id, f); return nil })
			continue
		}
		m := &PeerMessage{From: id}
		peer.DecodeMessage(&in, &m.Envelope, &m.Message)
		c.post(from, frame.To, lane, &m.Message, func(k *Core) error { k.OnPeer(m); return nil })
	}
	if err := in.Done(); err != nil {
		c.t.Fatalf("frame of %d messages: %v", frame.Count, err)
	}
}

// only makes the network carry nothing between the servers that are in the set and the others.
func (c *colony) only(set ...int) {
	in := make([]bool, len(c.servers))
	for _, i := range set {
		in[i] = true
	}
	c.lost = func(from, to int, _ *paxos.Message) bool { return in[from] != in[to] }
}

func (c *colony) origin() Origin {
	c.nextID++
	return Origin{ID: c.nextID}
}

// foundingOf is a founding on the given servers with node numbers from 1 on; the first owns ballot 1.
func foundingOf(id cell.ID, incarnation cell.Incarnation, on ...int) wire.Founding {
	f := wire.Founding{Cell: id, Incarnation: incarnation, Owner: 1, Alpha: 4}
	for n, i := range on {
		f.Members = append(f.Members, wire.Founder{Node: uint64(n + 1), Server: serverID(i)})
	}
	return f
}

// createAt asks one server to create its node and returns the outcome.
func (c *colony) createAt(i int, f wire.Founding) *cell.Error {
	to := c.origin()
	c.servers[i].core.CreateNodes(to, &wire.CreateNodes{Foundings: []wire.Founding{f}})
	c.settle()
	return c.outcome(to)
}

// create makes a cell on the first seven servers.
func (c *colony) create(id cell.ID) {
	c.t.Helper()
	for i := range 7 {
		if err := c.createAt(i, foundingOf(id, 1, 0, 1, 2, 3, 4, 5, 6)); err != nil {
			c.t.Fatalf("create on %s: %v", serverID(i), err)
		}
	}
}

func (c *colony) dropAt(i int, id cell.ID, incarnation cell.Incarnation, sealed bool) *cell.Error {
	to := c.origin()
	c.servers[i].core.DropNodes(to, &wire.DropNodes{Sealed: sealed, Drops: []wire.Drop{{Cell: id, Incarnation: incarnation}}})
	c.settle()
	return c.outcome(to)
}

func (c *colony) outcome(to Origin) *cell.Error {
	c.t.Helper()
	return c.answer(to).Result.(*wire.Outcomes).Outcomes[0].Err
}

// answer returns the reply to a request that must have been answered.
func (c *colony) answer(to Origin) Reply {
	c.t.Helper()
	r, ok := c.replies[to.ID]
	if !ok {
		c.t.Fatalf("request %d was not answered", to.ID)
	}
	return r
}

// send submits a request and lets everything settle.
func (c *colony) send(i int, method string, m wire.Message) Origin {
	c.t.Helper()
	to := c.submit(i, method, m)
	c.settle()
	return to
}

// submit hands a request to a server, which has not taken its turn then.
func (c *colony) submit(i int, method string, m wire.Message) Origin {
	c.t.Helper()
	to := c.origin()
	r, err := ParseRequest(method, m.Append(nil))
	if err != nil {
		c.t.Fatalf("%s is refused at the gate: %v", method, err)
	}
	r.Origin = to
	c.servers[i].core.Now(c.now + c.servers[i].now)
	c.servers[i].core.OnRequest(r)
	return to
}

func header(id cell.ID) wire.Header { return wire.Header{Cell: id, Timeout: 1000} }

func requestOf(sequence uint64) cell.Request {
	return cell.Request{Client: cell.ClientID{1}, Sequence: sequence}
}

// increment is the transaction that adds 1 to a key.
func increment(key string) cell.Txn {
	return cell.Txn{Then: []cell.Op{{Kind: cell.OpIncrement, Key: key, Value: cell.Int(1)}}}
}

// count sends an increment of "n" under a sequence number.
func (c *colony) count(i int, id cell.ID, sequence uint64) Reply {
	c.t.Helper()
	return c.answer(c.send(i, wire.MethodTxn, &wire.TxnRequest{Header: header(id), Request: requestOf(sequence), Txn: increment("n")}))
}

// mustCount is count with the value that it must come to.
func (c *colony) mustCount(i int, id cell.ID, sequence uint64, want int64) {
	c.t.Helper()
	r := c.count(i, id, sequence)
	if r.Err != nil {
		c.t.Fatalf("increment %d on %s: %v", sequence, serverID(i), r.Err)
	}
	if got := r.Result.(*wire.TxnReply).Result.Results[0].Entry.Value; !got.Equal(cell.Int(want)) {
		c.t.Fatalf("increment %d on %s: %v, want %d", sequence, serverID(i), got, want)
	}
}

// mustRead reads "n" at a server, linearizably.
func (c *colony) mustRead(i int, id cell.ID, want int64) {
	c.t.Helper()
	c.mustBe(c.read(i, id, false), want)
}

// read reads "n"; a stale read is answered from what the server applied.
func (c *colony) read(i int, id cell.ID, stale bool) Reply {
	c.t.Helper()
	get := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "n"}}}
	return c.answer(c.send(i, wire.MethodRead, &wire.ReadRequest{Header: header(id), Stale: stale, Txn: get}))
}

func (c *colony) mustBe(r Reply, want int64) {
	c.t.Helper()
	if r.Err != nil {
		c.t.Fatalf("read: %v", r.Err)
	}
	got := r.Result.(*wire.ReadReply).Result.Results[0]
	if got.Found != (want != 0) || got.Found && !got.Entry.Value.Equal(cell.Int(want)) {
		c.t.Fatalf("read %v (found: %t), want %d", got.Entry.Value, got.Found, want)
	}
}

func (c *colony) mustFail(r Reply, want cell.Kind) *cell.Error {
	c.t.Helper()
	if r.Err == nil || r.Err.Kind != want {
		c.t.Fatalf("got %v, want %v", r.Err, want)
	}
	return r.Err
}
