package core

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"physalia/cell"
	"physalia/cell/machine"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/slab"
	"physalia/node/storage"
	"physalia/paxos"
)

// Config is what a Core is made of. Times are durations of the owner's monotonic clock.
type Config struct {
	Server cell.ServerID
	Boot   uint64
	// Window is the number of ring positions per node, paxos.WindowMin to paxos.WindowMax. A state snapshot is written
	// about once per Window slots of a cell: cost per slot = state bytes / Window. It may differ between servers. In one
	// data directory it may grow but not shrink: a smaller ring lacks slots that were applied, and no node would load.
	Window        int
	Thrifty       bool // proposers ask a majority, and teach the others later (thrift.go)
	BatchCommands int  // commands per slot at most
	BatchBytes    int  // bytes per slot at most
	// Capacity is how many nodes the server is willing to host.
	Capacity int
	// LivenessPeriod: a peer that did not prove to be useful for so long is taken for dead when a request needs its cell.
	LivenessPeriod time.Duration
	// SupportPeriod is how long support lasts (rule 12), HeartbeatEvery how often it is asked for. A dead proposer's cells
	// are not led by anybody for up to a period; a proposer that gets nothing done for a period resigns. It may change
	// between starts. 0: LivenessPeriod, and a sixth of the period.
	SupportPeriod, HeartbeatEvery time.Duration
	MemoryEvery                   time.Duration // memories of peers' disks are written at most that often
	// NudgeAfter: an unfinished cell without progress repeats what may have been lost; doubles up to NudgeMax.
	NudgeAfter, NudgeMax time.Duration
	// NoticeAfter: a proposer that nobody asks for so long tells the other members what is chosen. Until then they hear it
	// with the next write, and answer stale reads from one write earlier.
	NoticeAfter time.Duration
	// IdleAfter: a hot node that nobody touched for so long goes cold.
	IdleAfter time.Duration
	// HotMax bounds the memory of hot nodes, at about 8 KB and the cell's state for each. Beyond it nodes go cold that nobody touched
	// for four times NoticeAfter, beyond twice as many those that nobody touched for NudgeAfter; proposers only after IdleAfter, and they campaign again when
	// they are asked. Nodes in use are never dropped, so for the moment there may be more. Negative: no bound.
	HotMax int
	// SweepPerTick is how many cells of a dead server this one asks for per tick, of those whose successor it is and that no client
	// wants; a client's request asks at once. 0: none, such cells wait for a client.
	SweepPerTick int
	// BalancePerSecond is how many cells this server hands over per second to servers that came back and lead fewer of the cells in use than
	// it does; BalanceAfter is for how long they must have been well. 0: none.
	BalancePerSecond int
	BalanceAfter     time.Duration
	// HashEvery: members compare the hashes of their states at every slot that it divides (rule 19).
	HashEvery int
	// CommandSet is the newest set of commands that this build understands, ProposeSet the newest that it proposes: at most CommandSet,
	// and never more than all members of a cell understand (versions.go). 0: CommandSet.
	CommandSet, ProposeSet uint32
	// Unpacked stores states as builds from before packed states read them, too: while whoever runs the server may go back (decision 0046).
	Unpacked bool
	// JournalBytes is about how much the journal holds (journal.go), at most twice as much while nodes are shelved; a restart reads it all. 0:
	// there is none, every record has a key of its own at once.
	JournalBytes int
	// Working is where the core writes the handle of the node that it works on, and zero when it works on none, if it is not nil: in memory
	// that outlives the process. Suspect is a node at which the process has died again and again; it is taken out of service.
	Working *uint64
	Suspect Handle
	// VouchPatience: a taught state that nobody else can confirm is installed after so long, if that is the only way for the
	// cell to live (see lesson). A cell shall take writes within three seconds of a failure, so it is well below.
	VouchPatience time.Duration
	// PointersKept is how long it is remembered where a cell went that a node of this server left, PointersMax for how many.
	PointersKept time.Duration
	PointersMax  int
	// LoadingMax bounds the inputs that wait for one loading node; WaitersMax the requests in flight of the server,
	// CellWaitersMax those of one cell (0: WaitersMax).
	LoadingMax, WaitersMax, CellWaitersMax int
	// Recovered is the last batch that storage holds (storage.Storage.Recovered).
	Recovered storage.BatchNumber
	Dice      *rand.Rand
	// NamesKey is a secret of this process with which cells' names are hashed in memory; nothing else depends on it.
	NamesKey uint64
	Events   Events
}

// Default returns the configuration of a production server.
func Default() Config {
	return Config{
		Window: paxos.WindowDefault, Thrifty: true, BatchCommands: paxos.BatchCommandsDefault, BatchBytes: 64 << 10,
		Capacity: 200_000, LivenessPeriod: time.Second, SupportPeriod: time.Second, HeartbeatEvery: 150 * time.Millisecond, MemoryEvery: time.Second, NudgeAfter: 60 * time.Millisecond, NudgeMax: time.Second, NoticeAfter: 250 * time.Millisecond,
		SweepPerTick: 64, BalancePerSecond: 20, BalanceAfter: 30 * time.Second, HashEvery: 64, CommandSet: wire.CommandSet, JournalBytes: 32 << 20, VouchPatience: time.Second, PointersKept: 30 * 24 * time.Hour, PointersMax: 50_000,
		IdleAfter: 30 * time.Second, HotMax: 16_384, LoadingMax: 256, WaitersMax: 1 << 16, CellWaitersMax: 1 << 13,
	}
}

// Events are what the core tells whoever watches; they change nothing. All are optional.
type Events struct {
	Quarantined func(id cell.ID, reason Reason, why string)
	Dropped     func(reason string)                 // a message was dropped (rule 10)
	Refused     func(reason string)                 // a request met a bound and was refused early
	Chosen      func(slots, commands int)           // per turn
	Campaign    func(id cell.ID, b paxos.Ballot)    // this server asks for a cell
	Resigned    func(id cell.ID, b paxos.Ballot)    // this server gave a cell up, since it was of no use to it
	Withheld    func()                              // heartbeats that were due did not leave: the disk makes no progress
	Forwarded   func()                              // a request was passed on to its proposer's server
	Read        func(local bool)                    // a linearizable read was answered, under a read lease or else confirmed
	Routes      func(info wire.NodeInfo, gone bool) // a hosted node appeared, changed or went
	// Swept: a cell that a dead server led was looked at, and what came of it.
	Swept func(result SweepResult)
	// HandedOver: a cell was handed over so that servers lead about as many.
	HandedOver func(id cell.ID, to cell.ServerID)
	// AnsweredCold: a peer's message was answered, or known to say nothing new, without loading the node.
	AnsweredCold func()
	// PointerEvicted: it was forgotten where a cell lives, for lack of room.
	PointerEvicted func()
	// Ails: the state of the own disk has changed; zero of all is that it is well.
	Ails func(stalled, slow bool, space Space)
	// Disputed: the members' states differ and no majority agrees, so the cell takes no writes.
	Disputed func(id cell.ID, why string)
	// Unvouched: a taught state was installed that nobody else could confirm.
	Unvouched func(id cell.ID)
	// Applied: a chosen slot is about to be applied, for the first time or again after a restart.
	Applied func(id cell.ID, incarnation cell.Incarnation, d *paxos.Delivery)
}

// Origin says whom to answer; the shell made it and gets it back.
type Origin struct {
	Conn any
	ID   uint32
}

// Reply is one answer to a request.
type Reply struct {
	To     Origin
	Result wire.Message
	Err    *cell.Error
}

// Lane is the connection that a frame takes to a peer.
type Lane uint8

// The lanes. Bulk carries log segments and whole states, so that they never delay votes; Forward carries requests of clients
// and their answers (peer.Forward), the others Paxos messages.
const (
	LanePaxos Lane = iota
	LaneBulk
	LaneForward
	lanes
)

// PeerOut is what leaves for one peer on one lane in one turn: Count encoded messages, none at all to prove that the lane
// works. Body is reused after the next Flush.
type PeerOut struct {
	To    cell.ServerID
	Lane  Lane
	Count int
	Body  []byte
}

// Load asks storage for some ranges.
type Load struct {
	ID     storage.ReadID
	Ranges []storage.Range
}

// Output is what one turn decided. Its slices are reused after the next Flush. The shell hands Batch to storage first,
// then does the rest in any order.
type Output struct {
	Batch   *storage.Batch // nil when nothing was written
	Loads   []Load
	Peers   []PeerOut
	Replies []Reply
	Beats   []Beat
}

// Core is the deciding part of a server. It has one owner.
type Core struct {
	cfg   Config
	now   time.Duration
	began time.Duration

	cold       *slab.Table                  // a row for every hosted node, in order of handles (cold.go)
	warm       map[cell.ID]*hosted          // those of them that somebody speaks to
	cooling    []*hosted                    // warm ones that may be forgotten at the end of the turn
	booting    Handle                       // rows with lower handles were read or asked for by the restart scan
	tombstones map[cell.ID]cell.Incarnation // no incarnation up to this one is created here again (rule 15)
	graves     []cell.ID                    // the names in tombstones, in the order in which this boot learnt of them
	pointers   pointers                     // nodes that left
	nextHandle Handle
	ready      bool // the restart scan is done

	dirty       []*hosted // touched in this turn
	active      []watched // unfinished, or with waiters: looked at by Tick
	hotList     []*hosted // hot, looked at by Tick in turn for idleness
	hotAt       int
	handing     time.Duration      // no cell is handed over for balance before
	sick        map[Handle]*hosted // out of service; they are always warm
	sickChanges int
	halted      *halted   // the restart scan is, over a damaged row
	waiters     int       // requests without an answer, of all nodes; bounded by Config.WaitersMax
	led         int       // nodes that lead their cell
	leases      leaseHeap // of the cells that are led from here

	batch       *storage.Batch // of this turn, nil until something is written
	newBatch    func() *storage.Batch
	handed      storage.BatchNumber // newest batch handed to storage
	durable     storage.BatchNumber // newest batch reported durable, never above handed
	journal     journal
	held        []heldItem // in order of batch
	fresh       []heldItem // of this turn, not yet numbered
	loads       map[storage.ReadID][]*hosted
	nextLoad    storage.ReadID
	servers     map[cell.ServerID]*server
	usual       time.Duration // from proposal to decision, of the slots of late
	fitness     int           // grows whenever a server begins or ceases to be fit
	roster      []*server     // all of servers, in order of appearance
	support     supporting
	disk        disk
	lives       []peer.Life // of this directory, this one last: see putLife
	forwards    forwards
	last        *server  // sender of the newest message; messages come in frames of one sender
	serving     *Request // being served, until it is answered or among the waiters
	peerChanges int
	talking     []*server           // with messages of this turn, or lessons of earlier ones
	ticked      bool                // this turn lets nothing wait for company
	value       []byte              // scratch for stored values
	state       []byte              // scratch for machines' states
	key         []byte              // scratch for keys
	kept        []byte              // scratch for configurations in memory
	peeked      paxos.Configuration // scratch: of the node that was looked at last
	body        []byte              // scratch for messages
	scratch     paxos.Scratch       // for effects
	applying    machine.Scratch     // for commands
	out         Output
	slots       int // chosen this turn, for Events
	commands    int
}

// heldItem waits for a batch to be durable: a message, a reply, or a node that begins to serve. A message to the node
// itself (its own promise, vote or confirmation) is stepped when it is released: a member's own disk counts only when it
// is durable, like everybody else's.
type heldItem struct {
	batch   storage.BatchNumber
	node    *hosted
	message paxos.Message
	support peer.Epoch                // of the message's envelope
	jury    paxos.ConfigurationNumber // in force when support was stamped
	reply   *Reply
	opens   *hosted
}

// Reads of which there is one at a time; those of nodes have names from loadsKept on.
const (
	nameLoad    storage.ReadID = iota // of a damaged row's name
	bootLoad                          // of the restart scan
	journalLoad                       // of the journal, while the server serves
	ringLoad                          // of the rings that the journal's records go to
	loadsKept
)

// New makes a core; newBatch supplies empty batches (storage recycles them). The first Flush asks for the restart scan;
// until it is answered, every request is told Unavailable.
func New(cfg Config, now time.Duration, newBatch func() *storage.Batch) *Core {
	cfg.SupportPeriod = cmp.Or(cfg.SupportPeriod, cfg.LivenessPeriod)
	cfg.CellWaitersMax = cmp.Or(cfg.CellWaitersMax, cfg.WaitersMax)
	cfg.HeartbeatEvery = cmp.Or(cfg.HeartbeatEvery, cfg.SupportPeriod/6)
	if cfg.Working == nil {
		cfg.Working = new(uint64)
	}
	cfg.CommandSet = max(cfg.CommandSet, wire.CommandSetMin)
	cfg.ProposeSet = min(cmp.Or(cfg.ProposeSet, cfg.CommandSet), cfg.CommandSet)
	if cfg.Dice == nil {
		cfg.Dice = rand.New(rand.NewPCG(cfg.Boot, 0))
	}
	c := &Core{
		cfg: cfg, now: now, began: now,
		cold: slab.New(cfg.NamesKey), warm: make(map[cell.ID]*hosted), tombstones: make(map[cell.ID]cell.Incarnation), sick: make(map[Handle]*hosted),
		newBatch: newBatch, handed: cfg.Recovered, durable: cfg.Recovered,
		loads: make(map[storage.ReadID][]*hosted), nextLoad: loadsKept, nextHandle: 1,
		servers: make(map[cell.ServerID]*server), pointers: pointers{of: make(map[cell.ID]*pointer)},
	}
	c.journal.open(c.handed + 1)
	c.out.Loads = append(c.out.Loads, Load{ID: bootLoad,
		Ranges: []storage.Range{kindRange(keyTombstone), kindRange(keyHandles), kindRange(keyMemory), kindRange(keyPeriod),
			kindRange(keyLives), kindRange(keyPointer), kindRange(keyAge)}})
	return c
}

// Ready reports whether the restart scan is done.
func (c *Core) Ready() bool { return c.ready }

// PeerMessage is one Paxos message as it came from an authenticated peer server.
type PeerMessage struct {
	From     cell.ServerID
	Name     *Name // of Envelope.Cell; nil when the sender of this does not keep names
	Envelope peer.Envelope
	Message  paxos.Message
}

// OnPeer takes one message from a peer. What it drops is all that rule 10 allows to be dropped; a different configuration
// number is never a reason, since it is the messages from the future that teach who lags (hazard H12).
func (c *Core) OnPeer(m *PeerMessage) {
	from := c.sender(m.From)
	h := c.named(m)
	switch {
	case !c.ready:
		c.drop("restart scan")
	case h == nil:
		c.stray(from, m)
	case h.incarnation != m.Envelope.Incarnation:
		c.drop("wrong incarnation")
		c.answerAbsent(from, m)
	case m.Message.To != 0 && m.Message.To != h.node:
		c.drop("wrong recipient")
		if m.Message.To < h.node && h.configuration.Number > m.Envelope.Configuration {
			c.tellMoved(from, m, h.configuration) // meant for one that lived here before (hazard H19)
		}
	case h.isImpostor(m.Message.From, from):
		c.drop("sender is not that node")
	case !c.answerCold(h, from, m):
		c.whenHot(h, input{peer: m})
	}
}

// Waiting is how many requests have no answer yet.
func (c *Core) Waiting() int { return c.waiters }

// drop counts a message that nobody here may see. The sender is not told: Paxos expects losses.
func (c *Core) drop(reason string) {
	if c.cfg.Events.Dropped != nil {
		c.cfg.Events.Dropped(reason)
	}
}

// refused counts a request that met a bound.
func (c *Core) refused(reason string) {
	if c.cfg.Events.Refused != nil {
		c.cfg.Events.Refused(reason)
	}
}

// OnDurable takes storage's report that everything up to batch n is on disk, and releases what waited for it.
func (c *Core) OnDurable(n storage.BatchNumber) {
	if n > c.durable {
		c.durable = n
	}
	c.synced()
	c.release()
}

// release lets go of held items whose batch is durable. A message of a node that went cold, out of service or away since
// is sent all the same: it states something durable. One to the node itself has nobody left to hear it.
func (c *Core) release() {
	i := 0
	for ; i < len(c.held) && c.held[i].batch <= c.durable; i++ {
		item := &c.held[i]
		switch {
		case item.opens != nil:
			c.open(item.opens)
		case item.reply != nil:
			c.out.Replies = append(c.out.Replies, *item.reply)
		case item.message.To == item.node.node:
			if item.node.hot != nil {
				item.node.confirms(&item.message, noEpoch, 0)
				c.step(item.node, &item.message)
			}
		default:
			support := item.support
			if item.jury != item.node.configuration.Number {
				support = noEpoch // it was confirmed under another jury than the envelope will say
			}
			c.guard(item.node, func() { c.emit(item.node, &item.message, support) })
		}
	}
	if i == 0 {
		return
	}
	n := copy(c.held, c.held[i:])
	clear(c.held[n:])
	c.held = c.held[:n]
}

// hold queues an item behind the newest batch, that of this turn included. Not behind the batch that the item's own step
// wrote to: the step may have relied on an earlier one, and written nothing (hazard H8).
func (c *Core) hold(item heldItem) { c.fresh = append(c.fresh, item) }

// Tick advances time and looks at the nodes that wait for something; the shell calls it every 20 ms or so. Its cost is
// proportional to the active cells, never to the hosted ones.
func (c *Core) Tick(now time.Duration) {
	c.now, c.ticked = now, true
	c.beat()
	c.judgeFitness()
	c.examine()
	c.remember()
	c.nudge()
	c.rejoin()
	c.sweep()
	c.balance()
	c.expireForwards()
	c.expireLeases()
	c.agePointers()
	c.coolDown()
	c.trim()
}

// Now sets the time for the inputs that follow.
func (c *Core) Now(now time.Duration) { c.now = now }

// Flush ends the turn: it obeys the effects of every node touched and returns what the shell must do. It goes round until
// nothing moves: votes of nodes to themselves may be free to go at once, and what they decide belongs to this turn, too. Nodes come in
// the order of their handles, which is that of their keys and much like that of the peers' handles, so that all find what stands next to
// each other faster; what is touched meanwhile comes behind them.
func (c *Core) Flush() *Output {
	for {
		slices.SortFunc(c.dirty, func(a, b *hosted) int { return cmp.Compare(a.handle, b.handle) })
		for i := 0; i < len(c.dirty); i++ {
			c.dirty[i].isDirty = false
			c.obey(c.dirty[i])
		}
		c.dirty = c.dirty[:0]
		c.number()
		if len(c.held) == 0 || c.held[0].batch > c.durable {
			break
		}
		c.release() // nothing was written, so what relied on older batches may go; it may touch nodes again
	}
	c.forget()
	if c.batch != nil {
		c.handed++
		c.putJournal()
		c.batch.Number = c.handed
		c.handOver(c.handed)
		c.out.Batch, c.batch = c.batch, nil
	}
	c.collect()
	if c.cfg.Events.Chosen != nil && c.slots > 0 {
		c.cfg.Events.Chosen(c.slots, c.commands)
	}
	c.slots, c.commands = 0, 0
	return &c.out
}

// number tells the held items of this turn which batch they wait for. Numbers in held never fall, so whatever is released
// is a prefix of it, and messages of one node leave in the order in which it sent them.
func (c *Core) number() {
	n := c.handed
	if c.batch != nil {
		n++
	}
	if plantedAckEarly {
		c.durable = n
	}
	for i := range c.fresh {
		c.fresh[i].batch = n
	}
	c.held = append(c.held, c.fresh...)
	clear(c.fresh)
	c.fresh = c.fresh[:0]
}

// write returns the batch of this turn: one for all nodes, so that a turn costs one sync however many cells it touched.
func (c *Core) write() *storage.Batch {
	if c.batch == nil {
		c.batch = c.newBatch()
	}
	return c.batch
}

// Recycle forgets an Output that the shell is done with; it comes before the next input.
func (c *Core) Recycle() {
	clear(c.out.Replies)
	clear(c.out.Loads)
	c.out.Batch, c.out.Loads, c.out.Replies = nil, c.out.Loads[:0], c.out.Replies[:0]
	for i := range c.out.Peers {
		c.servers[c.out.Peers[i].To].recycle(&c.out.Peers[i])
	}
	c.out.Peers, c.out.Beats = c.out.Peers[:0], c.out.Beats[:0]
}
