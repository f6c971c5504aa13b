package node

import (
	"maps"
	"runtime"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/storage"
)

// loop owns the core: its goroutine is the only one that touches it, and all that is here. It never blocks: what it hands
// over goes into queues, what comes back comes by the inbox.
type loop struct {
	server  *Server
	core    *core.Core
	inbox   *inbox
	storage storage.Storage
	vitals  *vitals
	clock   func() time.Duration // monotonic
	backlog backlog
	turns   turns
	stop    chan struct{} // closed by Close
	spare   *intake       // what the inbox gets in exchange for what it holds
	beats   time.Duration // between two heartbeats to a peer
	sick    int           // core.SickChanges when the gauges were last set
	peers   int           // core.PeerChanges when the mesh was last told whom to exchange heartbeats with
}

// run turns until stop is closed. It returns an error when the core cannot go on.
func (l *loop) run() error {
	every := tickEvery
	timer := time.NewTimer(every)
	defer timer.Stop()
	if err := l.turn(true); err != nil { // asks for the restart scan
		return err
	}
	for {
		tick := false
		select {
		case <-l.stop:
			return nil
		case <-timer.C:
			tick = true
		case <-l.inbox.wake:
			if l.backlog.waits() && !l.inbox.reports() {
				continue // put before the wait began; storage's report, or a tick, ends it (docs/decisions/0008)
			}
		}
		if err := l.turn(tick); err != nil {
			return err
		}
		if next := l.pace(); tick || next < every {
			every = next
			timer.Reset(every)
		}
	}
}

// pace is when the next tick is due: soon, or later while nothing waits for the time to pass but heartbeats.
func (l *loop) pace() time.Duration {
	if l.core.Waits() {
		return tickEvery
	}
	return max(tickEvery, min(tickIdle, l.beats/2))
}

// turn takes everything from the inbox, steps the core, and does what it decided. The more waits, the more one turn does
// at once: one batch, one frame per peer and lane. So the inbox fills while a batch is on its way to the disk, and whoever
// is about to put something in goes first; on an idle server both cost nothing.
func (l *loop) turn(tick bool) error {
	runtime.Gosched()
	in, now := l.take()
	if err := l.feed(in, now, tick); err != nil {
		return err
	}
	l.obey(l.core.Flush(), now)
	l.core.Recycle()
	for _, batch := range in.peers {
		batch.Recycle()
	}
	in.reset()
	l.spare = in
	l.inbox.rest(l.backlog.waits())
	if l.turns.more() {
		poke(l.inbox.wake)
	}
	l.server.metrics.turns.Inc()
	l.vitals.turn.Store(int64(l.vitals.now()))
	return nil
}

// take empties the inbox, and reads the clock after that, never before: a request that arrived while this process was paused
// must be judged by the time of its arrival or later, or a lapsed read lease would answer it (rule 12, hazard H3).
func (l *loop) take() (*intake, time.Duration) {
	in := l.inbox.swap(l.spare, l.turns.left())
	return in, l.clock()
}

// feed gives the core its inputs: time first, storage reports before what they release, then everything else.
func (l *loop) feed(in *intake, now time.Duration, tick bool) error {
	c := l.core
	c.Now(now)
	if in.durable > 0 {
		l.backlog.reached(in.durable, now, l.server.metrics.fsync)
		c.OnDurable(in.durable)
	}
	for i := range in.loaded {
		if err := c.OnLoaded(in.loaded[i].id, in.loaded[i].pairs, in.loaded[i].err); err != nil {
			return err
		}
	}
	for id, addr := range in.addresses {
		c.Address(id, addr)
	}
	if err := l.feedPeers(in); err != nil {
		return err
	}
	l.turns.feedAsks(in, c)
	if l.backlog.full() {
		l.refuse(in)
	} else {
		bulk := l.turns.split(in)
		feedLane(c, in.peers[:bulk])
		l.feedRequests(in, now)
		feedLane(c, in.peers[bulk:])
	}
	if tick {
		l.tick(now)
	}
	return nil
}

// feedPeers tells the core what the frames and heartbeats of this turn prove of their senders, before any message in them: in
// a fixed order, so that a turn does not depend on that of a map.
func (l *loop) feedPeers(in *intake) error {
	for _, batch := range in.peers {
		if batch.Commands > wire.CommandSetMin {
			l.core.Understands(batch.From, batch.Boot, batch.Commands)
		}
		l.core.OnFrame(batch.From, batch.Boot, batch.Lane, storage.BatchNumber(batch.Durable))
	}
	for _, id := range inOrder(in.beats) {
		h := in.beats[id]
		if err := l.core.OnHeartbeat(id, &h); err != nil {
			return err
		}
	}
	for _, id := range inOrder(in.gone) {
		l.core.Gone(id)
	}
	return nil
}

// inOrder lists the servers in a map in the order of their identities; most turns have none.
func inOrder[V any](of map[cell.ServerID]V) []cell.ServerID {
	if len(of) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(of))
}

// diskBehind is the reason of refuse.
const diskBehind admission.Reason = "disk is behind"

// refuse takes nothing in that could be written: the disk is too far behind.
func (l *loop) refuse(in *intake) {
	m := l.server.metrics
	if in.messages > 0 {
		m.dropped.WithLabelValues("the disk is behind").Add(float64(in.messages))
	}
	for _, r := range in.requests {
		l.turnAway(r, admission.Refusal{Reason: diskBehind, Detail: "the server's disk is too far behind", RetryAfter: overloadedRetryAfter})
	}
}

// obey does what the core decided: the batch first, so that loads see it and frames tell the truth about it.
func (l *loop) obey(out *core.Output, now time.Duration) {
	if out.Batch != nil {
		l.server.metrics.batch(out.Batch)
		l.backlog.handed(out.Batch.Number, out.Batch.Bytes(), now)
		l.storage.Commit(out.Batch)
	}
	for i := range out.Loads {
		l.storage.Read(out.Loads[i].ID, out.Loads[i].Ranges...)
	}
	durable := uint64(l.core.Durable())
	for i := range out.Peers {
		l.server.mesh.Send(&out.Peers[i], durable)
	}
	if l.server.Err() == nil { // a server that failed is of no use to anybody (rule 13)
		for i := range out.Beats {
			l.server.mesh.Beat(&out.Beats[i])
		}
	}
	for i := range out.Replies {
		l.reply(&out.Replies[i])
	}
}

// reply answers a request; on a connection that is closed by now it does nothing.
func (l *loop) reply(r *core.Reply) {
	l.server.metrics.reply(r.Err)
	r.To.Conn.(*rpc.Conn).Reply(r.To.ID, r.Result, r.Err)
}

// tick advances what time alone moves, tells the mesh whom to exchange heartbeats with when that may have changed, and
// brings the gauges up to date.
func (l *loop) tick(now time.Duration) {
	c, s := l.core, l.server
	c.Tick(now)
	if changes := c.PeerChanges(); changes != l.peers {
		l.peers = changes
		s.mesh.Keep(c.Peers())
	}
	nodes, hot, led := c.Counts()
	l.vitals.nodes.Store(int64(nodes))
	l.vitals.silent.Store(int64(c.SilentPeers()))
	l.vitals.ready.Store(c.Ready())
	s.metrics.gauges(nodes, hot, led, l.backlog.bytes)
	s.metrics.unsynced.Set(l.backlog.oldest(now).Seconds())
	s.metrics.queue(l.turns.left(), c.Waiting())
	s.metrics.pointers.Set(float64(c.Pointers()))
	s.metrics.sweeping.Set(float64(c.Sweeping()))
	s.metrics.journal.Set(float64(c.JournalBytes()))
	if changes := c.SickChanges(); changes != l.sick {
		l.sick = changes
		s.metrics.quarantines(c.Quarantined())
	}
	given, held := c.Support()
	s.metrics.support(given, held)
}
