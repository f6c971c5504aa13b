package node

import (
	"sync"

	"physalia/cell"
	"physalia/node/core"
	"physalia/node/storage"
)

// intake is everything that waits for one turn of the loop.
type intake struct {
	peers    []*[]core.PeerMessage
	messages int // in peers
	requests []*core.Request
	calls    []func(*core.Core)
	heard    []cell.ServerID
	gone     []cell.ServerID
	durable  storage.BatchNumber
	loaded   []loaded
}

type loaded struct {
	id    storage.ReadID
	pairs []storage.Pair
	err   error
}

func (in *intake) reset() {
	clear(in.peers)
	clear(in.requests)
	clear(in.calls)
	clear(in.loaded)
	*in = intake{peers: in.peers[:0], requests: in.requests[:0], calls: in.calls[:0], heard: in.heard[:0], gone: in.gone[:0], loaded: in.loaded[:0]}
}

// inbox collects what arrives, from any goroutine, for the loop. It is bounded: peers' messages beyond the bound are
// dropped (Paxos expects losses), requests are refused; storage reports always fit, there is at most one per read.
type inbox struct {
	max  int
	wake chan struct{}

	mu sync.Mutex
	in *intake
}

func newInbox(max int) *inbox {
	return &inbox{max: max, wake: make(chan struct{}, 1), in: new(intake)}
}

// put adds something under the lock and wakes the loop; f reports whether it added it.
func (b *inbox) put(f func(in *intake) bool) bool {
	b.mu.Lock()
	ok := f(b.in)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // the loop is awake already
	}
	return ok
}

// swap takes everything and leaves an empty intake.
func (b *inbox) swap(empty *intake) *intake {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.in
	b.in = empty
	return full
}

// reported is the newest batch that storage reported durable and the loop has not heard of yet; zero when none.
func (b *inbox) reported() storage.BatchNumber {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.in.durable
}

func (b *inbox) peerMessages(batch *[]core.PeerMessage) bool {
	return b.put(func(in *intake) bool {
		if in.messages+len(*batch) > b.max {
			return false
		}
		in.messages += len(*batch)
		in.peers = append(in.peers, batch)
		return true
	})
}

func (b *inbox) request(r *core.Request) bool {
	return b.put(func(in *intake) bool {
		if len(in.requests) >= b.max {
			return false
		}
		in.requests = append(in.requests, r)
		return true
	})
}

func (b *inbox) call(f func(*core.Core)) {
	b.put(func(in *intake) bool { in.calls = append(in.calls, f); return true })
}

func (b *inbox) heardOf(id cell.ServerID) {
	b.put(func(in *intake) bool { in.heard = append(in.heard, id); return true })
}

func (b *inbox) goneIs(id cell.ServerID) {
	b.put(func(in *intake) bool { in.gone = append(in.gone, id); return true })
}

// Durable, ReadDone and Failed make the inbox a storage.Sink, with failures going elsewhere.
type storageSink struct {
	inbox  *inbox
	failed func(error)
}

func (s *storageSink) Durable(n storage.BatchNumber) {
	s.inbox.put(func(in *intake) bool { in.durable = max(in.durable, n); return true })
}

func (s *storageSink) ReadDone(id storage.ReadID, pairs []storage.Pair, err error) {
	s.inbox.put(func(in *intake) bool { in.loaded = append(in.loaded, loaded{id, pairs, err}); return true })
}

func (s *storageSink) Failed(err error) { s.failed(err) }
