package knock

import (
	"time"

	"physalia/cell"
)

// Refusal is why a knock is dropped; empty when it is taken. The texts are labels of a metric.
type Refusal string

// The reasons.
const (
	Malformed Refusal = "malformed" // not a knock
	Forged    Refusal = "forged"    // of another key or colony
	Late      Refusal = "late"      // its clock and ours differ by more than the window
	Replayed  Refusal = "replayed"  // not newer than the last one of its server
	Unknown   Refusal = "unknown"   // no address is registered: the server has to open a connection once
	Connected Refusal = "connected" // the server has a session already
	Pending   Refusal = "pending"   // it is going to be called already
	Full      Refusal = "full"      // too many are going to be called
)

// Refusals lists all of them, for metrics.
var Refusals = []Refusal{Malformed, Forged, Late, Replayed, Unknown, Connected, Pending, Full}

// Window is how far a server's clock may be from ours, either way, and how old a knock may be.
const Window = time.Minute

// Known is what the control plane knows of an identity when it knocks.
type Known struct {
	Addr      string // where it is dialed; empty: nobody registered it
	Connected bool   // with this boot or a later one
}

// Book decides which knocks are worth a connection, and in which order. It belongs to one owner. Its memory is bounded by
// the number of registered identities, and its queue by a number of its own.
type Book struct {
	queueMax int
	last     map[cell.ServerID]stamp
	pending  map[cell.ServerID]*Call // queued or being called
	queue    []*Call
}

// stamp orders the knocks of one server.
type stamp struct {
	boot uint64
	at   int64
}

// Call is one server to dial back.
type Call struct {
	Knock Knock
	Addr  string
}

// NewBook makes a book with room for so many servers that wait for their call.
func NewBook(queueMax int) *Book {
	return &Book{queueMax: queueMax, last: make(map[cell.ServerID]stamp), pending: make(map[cell.ServerID]*Call)}
}

// Take judges a knock that is authentic; now is in milliseconds since 1970. One that is taken waits for its call.
func (b *Book) Take(now int64, n Knock, known Known) Refusal {
	window, last := Window.Milliseconds(), b.last[n.Server]
	switch {
	case n.At < now-window || n.At > now+window:
		return Late
	case known.Addr == "":
		return Unknown
	case n.Boot < last.boot || n.Boot == last.boot && n.At <= last.at:
		return Replayed
	}
	b.last[n.Server] = stamp{n.Boot, n.At}
	switch {
	case known.Connected:
		return Connected
	case b.pending[n.Server] != nil:
		b.pending[n.Server].Knock = n // its newest nonce: it may have forgotten the others
		return Pending
	case len(b.queue) >= b.queueMax:
		return Full
	}
	c := &Call{n, known.Addr}
	b.pending[n.Server] = c
	b.queue = append(b.queue, c)
	return ""
}

// Next takes the first server that waits; false when none does. Done follows.
func (b *Book) Next() (c Call, ok bool) {
	if len(b.queue) == 0 {
		b.queue = nil
		return c, false
	}
	c, b.queue = *b.queue[0], b.queue[1:]
	return c, true
}

// Done says that the call to a server is over, whatever became of it: its next knock counts again.
func (b *Book) Done(id cell.ServerID) { delete(b.pending, id) }

// Waiting is how many servers wait for their call.
func (b *Book) Waiting() int { return len(b.queue) }
