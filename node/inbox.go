package node

import (
	"fmt"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/wire/peer"
	"physalia/node/admission"
	"physalia/node/core"
	"physalia/node/mesh"
	"physalia/node/storage"
)

// Bounds of the inbox in bytes, beside Config.InboxMax, which bounds messages and requests in number. Both are of the
// encoded forms; decoded, they are a small multiple of it.
const (
	inboxPeerBytesMax    = 256 << 20 // frames of peers; each lane has a smaller bound of its own (mesh)
	inboxRequestBytesMax = 128 << 20 // requests of clients
	inboxAsksMax         = 8192      // questions to the core; more than one connection may have in flight (rpc.Config)
)

// intake is everything that waits for one turn of the loop.
type intake struct {
	peers        []*mesh.Batch
	messages     int // in peers
	peerBytes    int // of peers
	requests     []*core.Request
	requestBytes int // of requests
	asks         []func(*core.Core)
	beats        map[cell.ServerID]peer.Heartbeat // the newest of each peer
	gone         map[cell.ServerID]bool           // nothing listens at their addresses
	addresses    map[cell.ServerID]string         // new client addresses; the address book bounds their number
	durable      storage.BatchNumber              // 0: nothing new
	loaded       []loaded
}

// loaded is storage's answer to one read.
type loaded struct {
	id    storage.ReadID
	pairs []storage.Pair
	err   error
}

func newIntake() *intake {
	return &intake{beats: make(map[cell.ServerID]peer.Heartbeat), gone: make(map[cell.ServerID]bool), addresses: make(map[cell.ServerID]string)}
}

// reset empties an intake and keeps its memory.
func (in *intake) reset() {
	clear(in.peers)
	clear(in.requests)
	clear(in.asks)
	clear(in.loaded)
	clear(in.beats)
	clear(in.gone)
	clear(in.addresses)
	*in = intake{peers: in.peers[:0], requests: in.requests[:0], asks: in.asks[:0], loaded: in.loaded[:0],
		beats: in.beats, gone: in.gone, addresses: in.addresses}
}

// inbox collects what arrives, from any goroutine, for the loop, and never makes anybody wait. It is bounded: messages of
// peers beyond the bounds are dropped (Paxos expects losses), requests and questions are refused; heartbeats are one
// per peer; storage reports always fit, since each answers something that the loop asked for.
type inbox struct {
	max  int           // messages, and requests
	wake chan struct{} // capacity 1: something is there

	refused func(admission.Reason) // counts refusals; nil: nobody does

	mu     sync.Mutex
	in     *intake
	queued queued // what the loop took and left for later turns
	deaf   bool   // the loop waits for a report of storage, and is woken by nothing else
	missed bool   // something was put since the last swap that woke nobody
	closed bool   // the loop takes no more requests
}

// Reasons of the door for refusing; those behind it are package admission's and core's.
const (
	inboxFull admission.Reason = "inbox is full"
	asksFull  admission.Reason = "questions of the control plane"
)

func newInbox(max int) *inbox {
	return &inbox{max: max, wake: make(chan struct{}, 1), in: newIntake()}
}

// put adds something under the lock and wakes the loop, unless that waits for storage; f reports whether it added it.
func (b *inbox) put(f func(in *intake) bool) bool {
	b.mu.Lock()
	ok := f(b.in)
	wakes := ok && !b.deaf
	b.missed = b.missed || ok && b.deaf
	b.mu.Unlock()
	if wakes {
		poke(b.wake)
	}
	return ok
}

// report adds what storage has to say, which wakes the loop in any case.
func (b *inbox) report(f func(in *intake)) {
	b.mu.Lock()
	f(b.in)
	b.mu.Unlock()
	poke(b.wake)
}

// rest is how the loop says, at the end of a turn, what it waits for from now on: for a report of storage, or for anything. What came
// during the turn, while that was not known yet, wakes it at once in the second case.
func (b *inbox) rest(forStorage bool) {
	b.mu.Lock()
	b.deaf = forStorage
	wakes := b.missed && !forStorage
	b.mu.Unlock()
	if wakes {
		poke(b.wake)
	}
}

// leave is put for what can wait until the loop turns anyway, at the next tick at the latest.
func (b *inbox) leave(f func(in *intake) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return f(b.in)
}

// poke wakes whoever waits on a channel of capacity one; a second poke before it looks is the same poke.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// swap takes everything and leaves an empty intake; queued is what the loop has not done of what it took before.
func (b *inbox) swap(empty *intake, left queued) *intake {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.in
	b.in, b.queued, b.missed = empty, left, false
	return full
}

// reports tells whether storage has reported something that no turn has seen yet.
func (b *inbox) reports() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.in.durable > 0 || len(b.in.loaded) > 0
}

// close makes the inbox refuse requests and questions from now on: nobody will answer them. What the loop must hear of to
// the end, such as storage reports, still goes in.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// peerMessages queues one frame, or reports false: the caller keeps it then. An empty one only proves that its lane works, which is
// worth as much a tick later.
func (b *inbox) peerMessages(batch *mesh.Batch) bool {
	put := b.put
	if len(batch.Messages)+len(batch.Forwards) == 0 {
		put = b.leave
	}
	return put(func(in *intake) bool {
		n := len(batch.Messages) + len(batch.Forwards)
		if b.closed || in.messages+n > b.max || in.peerBytes+batch.Bytes > inboxPeerBytesMax {
			return false
		}
		in.messages += n
		in.peerBytes += batch.Bytes
		in.peers = append(in.peers, batch)
		return true
	})
}

// request queues one request of so many encoded bytes, or says why not; it is answered by the loop only when it was queued.
func (b *inbox) request(r *core.Request, method string, bytes int) *cell.Error {
	var refusal *cell.Error
	b.put(func(in *intake) bool {
		switch {
		case b.closed:
			refusal = stopping(method)
		case len(in.requests)+b.queued.requests >= b.max || in.requestBytes+b.queued.requestBytes+bytes > inboxRequestBytesMax:
			refusal = b.overloaded(method, inboxFull, fmt.Sprintf("%d requests of %d bytes wait for the server's loop",
				len(in.requests)+b.queued.requests, in.requestBytes+b.queued.requestBytes))
		default:
			r.Bytes = bytes
			in.requests = append(in.requests, r)
			in.requestBytes += bytes
		}
		return refusal == nil
	})
	if refusal != nil {
		refusal.Cell = r.Header.Cell
	}
	return refusal
}

// ask queues a question to the core, or says why not. f runs on the loop, later; whatever it answers, it must not block.
func (b *inbox) ask(method string, f func(*core.Core)) *cell.Error {
	var refusal *cell.Error
	b.put(func(in *intake) bool {
		switch {
		case b.closed:
			refusal = stopping(method)
		case len(in.asks)+b.queued.asks >= inboxAsksMax:
			refusal = b.overloaded(method, asksFull, fmt.Sprintf("%d questions wait for the server's loop", len(in.asks)+b.queued.asks))
		default:
			in.asks = append(in.asks, f)
		}
		return refusal == nil
	})
	return refusal
}

// beat notes a heartbeat of a peer; of two, the newer one says all that the older one did. It does not wake the loop: an idle server
// would do little else than to wake for each of its peers' heartbeats, and support that is given a tick later is given for longer than
// the peer counts on, never for less.
func (b *inbox) beat(id cell.ServerID, h peer.Heartbeat) {
	b.leave(func(in *intake) bool {
		if old, ok := in.beats[id]; !ok || old.Boot < h.Boot || old.Boot == h.Boot && old.Sequence < h.Sequence {
			in.beats[id] = h
		}
		delete(in.gone, id)
		return true
	})
}

// gone notes that nothing listens at a peer's address; a later heartbeat takes it back.
func (b *inbox) gone(id cell.ServerID) {
	b.put(func(in *intake) bool { in.gone[id] = true; return true })
}

// address notes where clients reach a server.
func (b *inbox) address(id cell.ServerID, clientAddr string) {
	b.put(func(in *intake) bool { in.addresses[id] = clientAddr; return true })
}

// storageSink makes the inbox a storage.Sink, with failures going elsewhere.
type storageSink struct {
	inbox  *inbox
	failed func(error)
}

// Durable implements storage.Sink.
func (s *storageSink) Durable(n storage.BatchNumber) {
	s.inbox.report(func(in *intake) { in.durable = max(in.durable, n) })
}

// ReadDone implements storage.Sink.
func (s *storageSink) ReadDone(id storage.ReadID, pairs []storage.Pair, err error) {
	s.inbox.report(func(in *intake) { in.loaded = append(in.loaded, loaded{id, pairs, err}) })
}

// Failed implements storage.Sink.
func (s *storageSink) Failed(err error) { s.failed(err) }

// overloadedRetryAfter is told with refusals for lack of room: a few turns under the heaviest load.
const overloadedRetryAfter = 50 * time.Millisecond

// overloaded refuses something at the door.
func (b *inbox) overloaded(op string, why admission.Reason, detail string) *cell.Error {
	if b.refused != nil {
		b.refused(why)
	}
	return refusedAs(op, "", admission.Refusal{Reason: why, Detail: detail, RetryAfter: overloadedRetryAfter})
}

func stopping(op string) *cell.Error {
	return &cell.Error{Op: op, Kind: cell.Unavailable, Detail: "the server is stopping", Hint: "ask another member of the cell"}
}
