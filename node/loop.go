package node

import (
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/node/core"
	"physalia/node/storage"
)

// batchesAhead is how many batches may be on their way to the disk before the next turn waits.
const batchesAhead = 1

// loop owns the core: it is the only goroutine that touches it.
type loop struct {
	server  *Server
	core    *core.Core
	inbox   *inbox
	storage storage.Storage
	began   time.Time
	stop    chan struct{}
	done    chan struct{}
	spare   *intake
	syncs   syncClock
	peers   int // core.PeerChanges when the mesh was last told whom to exchange heartbeats with
}

// run turns until stop is closed. It returns an error when the core cannot go on.
func (l *loop) run() error {
	defer close(l.done)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	if err := l.turn(true); err != nil { // asks for the restart scan
		return err
	}
	for {
		tick := false
		select {
		case <-l.stop:
			return nil
		case <-ticker.C:
			tick = true
		case <-l.inbox.wake:
			if l.waitForDisk() {
				continue
			}
		}
		if err := l.turn(tick); err != nil {
			return err
		}
	}
}

// waitForDisk reports whether the next turn should wait until storage has caught up: with batchesAhead batches on their
// way to the disk, another turn would not be answered earlier, it would only split the same work into smaller batches,
// syncs and frames. Storage's report wakes the loop again, and a tick ends every wait.
func (l *loop) waitForDisk() bool {
	return l.core.Handed()-max(l.core.Durable(), l.inbox.reported()) >= batchesAhead
}

// turn takes everything from the inbox, steps the core, and does what it decided.
func (l *loop) turn(tick bool) error {
	if l.spare == nil {
		l.spare = new(intake)
	}
	in := l.inbox.swap(l.spare)
	l.spare = nil
	if err := l.feed(in, tick); err != nil {
		return err
	}
	out := l.core.Flush()
	if out.Batch != nil {
		l.server.metrics.batch(out.Batch)
		l.syncs.handed(out.Batch.Number)
		l.storage.Commit(out.Batch)
	}
	for i := range out.Loads {
		l.storage.Read(out.Loads[i].ID, out.Loads[i].Ranges...)
	}
	durable := uint64(l.core.Durable())
	for i := range out.Peers {
		l.server.mesh.Send(&out.Peers[i], durable)
	}
	for i := range out.Replies {
		r := &out.Replies[i]
		l.server.metrics.reply(r.Err)
		r.To.Conn.(*rpc.Conn).Reply(r.To.ID, r.Result, r.Err)
	}
	l.core.Recycle()
	for _, batch := range in.peers {
		l.server.mesh.Recycle(batch)
	}
	in.reset()
	l.spare = in
	l.server.metrics.turn()
	return nil
}

// feed gives the core its inputs: time first, storage reports before what they release, then everything else.
func (l *loop) feed(in *intake, tick bool) error {
	c := l.core
	c.Now(time.Since(l.began))
	if in.durable > 0 {
		l.syncs.reached(in.durable, l.server.metrics.fsync)
		c.OnDurable(in.durable)
	}
	for i := range in.loaded {
		if err := c.OnLoaded(in.loaded[i].id, in.loaded[i].pairs, in.loaded[i].err); err != nil {
			return err
		}
	}
	for _, id := range in.heard {
		c.Heard(id)
	}
	for _, id := range in.gone {
		c.Gone(id)
	}
	for _, batch := range in.peers {
		for i := range *batch {
			c.OnPeer(&(*batch)[i])
		}
	}
	for _, f := range in.calls {
		f(c)
	}
	for _, r := range in.requests {
		c.OnRequest(r)
	}
	if tick {
		c.Tick(time.Since(l.began))
		l.keepHeartbeats()
		nodes, hot, led := c.Counts()
		l.server.metrics.gauges(nodes, hot, led)
	}
	return nil
}

// keepHeartbeats tells the mesh whom to exchange heartbeats with, when that may have changed.
func (l *loop) keepHeartbeats() {
	if changes := l.core.PeerChanges(); changes != l.peers {
		l.peers = changes
		l.server.mesh.Keep(l.core.Peers())
	}
}

// syncClock measures how long batches take to be durable, without a clock reading per batch while many are in flight.
type syncClock struct {
	marks []syncMark
}

type syncMark struct {
	batch storage.BatchNumber
	at    time.Time
}

func (s *syncClock) handed(n storage.BatchNumber) {
	s.marks = append(s.marks, syncMark{n, time.Now()})
}

func (s *syncClock) reached(n storage.BatchNumber, observe func(time.Duration)) {
	i := 0
	for ; i < len(s.marks) && s.marks[i].batch <= n; i++ {
		observe(time.Since(s.marks[i].at))
	}
	s.marks = s.marks[:copy(s.marks, s.marks[i:])]
}

// overloaded is the answer when the inbox is full.
func overloaded(op string, id cell.ID) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Overloaded, Cell: id, Detail: "the server's inbox is full", RetryAfter: 50 * time.Millisecond}
}
