package node

import (
	"time"

	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/mesh"
)

// What one turn takes besides heartbeats, storage reports and messages of the Paxos lane, which it takes all, and first: these
// keep the colony alive. Requests of clients are bounded by admission.Limits.
const (
	turnBulkBytes = 4 << 20 // frames of the bulk lane: whole states and log segments for those who lag
	turnAsks      = 512     // questions to the core
)

// queued is what the loop took from the inbox and left for later turns: it counts toward the inbox's bounds.
type queued struct{ requests, requestBytes, asks int }

// turns is what waits for later turns of the loop, which owns it.
type turns struct {
	requests *admission.Queue[*core.Request]
	asks     []func(*core.Core)
	bulk     []*mesh.Batch
}

func newTurns(l admission.Limits) turns { return turns{requests: admission.NewQueue[*core.Request](l)} }

// left is what waits.
func (t *turns) left() queued {
	n, bytes := t.requests.Waiting()
	return queued{requests: n, requestBytes: bytes, asks: len(t.asks)}
}

// more reports whether another turn has something to do at once.
func (t *turns) more() bool {
	n, _ := t.requests.Waiting()
	return n > 0 || len(t.asks) > 0 || len(t.bulk) > 0
}

// feedAsks lets the core answer what was asked, so many per turn.
func (t *turns) feedAsks(in *intake, c *core.Core) {
	t.asks = append(t.asks, in.asks...)
	n := min(turnAsks, len(t.asks))
	for _, ask := range t.asks[:n] {
		ask(c)
	}
	rest := copy(t.asks, t.asks[n:])
	clear(t.asks[rest:])
	t.asks = t.asks[:rest]
}

// split leaves in the intake what is fed in this turn, in the order of its importance, and tells where the bulk begins: the
// Paxos lane, requests that peers passed on, and as much of the bulk lane as a turn takes, oldest first.
func (t *turns) split(in *intake) (bulk int) {
	kept := in.peers[:0]
	for _, batch := range in.peers {
		if batch.Lane == core.LaneBulk {
			t.bulk = append(t.bulk, batch)
			continue
		}
		kept = append(kept, batch)
	}
	bulk = len(kept)
	n := 0
	for bytes := 0; n < len(t.bulk) && bytes < turnBulkBytes; n++ {
		kept = append(kept, t.bulk[n])
		bytes += t.bulk[n].Bytes
	}
	rest := copy(t.bulk, t.bulk[n:])
	clear(t.bulk[rest:])
	t.bulk, in.peers = t.bulk[:rest], kept
	return bulk
}

// feedRequests serves the requests of a turn. While all that arrived fit a turn, they are served as they came, and the queue
// costs nothing; from there on cells take turns.
func (l *loop) feedRequests(in *intake, now time.Duration) {
	q := l.turns.requests
	if q.Passes(len(in.requests)) {
		for _, r := range in.requests {
			l.core.OnRequest(r)
		}
		return
	}
	for _, r := range in.requests {
		refusal := q.Add(now, admission.Item[*core.Request]{Cell: r.Header.Cell, Bytes: r.Bytes, Arrived: now,
			Expires: now + time.Duration(r.Header.Timeout)*time.Millisecond, Request: r})
		if refusal.Reason != admission.None {
			l.turnAway(r, refusal)
		}
	}
	q.Turn(now, l.core.OnRequest, l.turnAway)
}

// turnAway refuses a request that has not reached the core.
func (l *loop) turnAway(r *core.Request, why admission.Refusal) {
	l.server.metrics.refusal(why.Reason)
	l.reply(&core.Reply{To: r.Origin, Err: refusedAs(r.Op(), r.Header.Cell, why)})
}

// feedLane gives the core the messages of some frames.
func feedLane(c *core.Core, batches []*mesh.Batch) {
	for _, batch := range batches {
		for i := range batch.Messages {
			c.OnPeer(&batch.Messages[i])
		}
		for i := range batch.Forwards {
			c.OnForward(batch.From, &batch.Forwards[i])
		}
	}
}
