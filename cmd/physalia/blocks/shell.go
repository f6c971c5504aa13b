package blocks

import (
	"context"
	"sync"
	"time"

	"physalia/cell"
	"physalia/client"
	"physalia/sim/blockstore"
)

// Volume is all that a block store needs from a colony. *client.Volume is one.
type Volume interface {
	Lookup(ctx context.Context, partition uint32, option ...client.ReadOption) (client.VolumeState, error)
	Attach(ctx context.Context, partition uint32, primary, replica string) (client.VolumeState, error)
	Promote(ctx context.Context, partition uint32, expected cell.Generation, newPrimary string) (client.VolumeState, error)
	Replace(ctx context.Context, partition uint32, expected cell.Generation, newReplica string) (client.VolumeState, error)
}

// The paces of the shell.
const (
	tickEvery  = 25 * time.Millisecond
	askTimeout = 2 * time.Second // after it, the outcome of a question counts as unknown
	inboxMax   = 1024            // inputs that wait; more are lost, as on any network
)

// network carries messages between the copies and users of one volume. Whoever is dead has no inbox.
type network struct {
	mu    sync.RWMutex
	inbox map[string]chan blockstore.Input
}

// send delivers a message, or loses it.
func (n *network) send(m blockstore.Message) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	select {
	case n.inbox[m.To] <- m: // nobody listens on a nil channel
	default:
	}
}

// listen opens an inbox, and returns how to close it.
func (n *network) listen(name string) (inbox chan blockstore.Input, end func()) {
	inbox = make(chan blockstore.Input, inboxMax)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inbox[name] = inbox
	return inbox, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.inbox[name] == inbox {
			delete(n.inbox, name)
		}
	}
}

// runner is the thin shell around one Copy or Client: one goroutine, which steps it and does what the step wants.
type runner struct {
	now    func() time.Duration
	step   func(now time.Duration, in blockstore.Input) blockstore.Effects
	obey   func(blockstore.Effects) // all but the Ask
	volume Volume
	inbox  chan blockstore.Input

	partition uint32
	calls     sync.WaitGroup
}

// run lives until ctx ends, and waits for its calls.
func (r *runner) run(ctx context.Context) {
	defer r.calls.Wait()
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		var in blockstore.Input = blockstore.Tick{}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case in = <-r.inbox:
		}
		e := r.step(r.now(), in)
		r.obey(e)
		if e.Ask != nil {
			r.calls.Go(func() { r.ask(ctx, *e.Ask) })
		}
	}
}

// ask runs a transaction on the record. Its answer goes to the life that asked, and waits for a place in its inbox, since it must not
// be lost.
func (r *runner) ask(ctx context.Context, a blockstore.Ask) {
	call, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var state client.VolumeState
	var err error
	switch a.Kind {
	case blockstore.Promote:
		state, err = r.volume.Promote(call, r.partition, a.Expected, a.Name)
	case blockstore.Replace:
		state, err = r.volume.Replace(call, r.partition, a.Expected, a.Name)
	default:
		state, err = r.volume.Lookup(call, r.partition)
	}
	answer := blockstore.Answer{Ask: a, Record: state.VolumeRecord, Fence: state.Fence, Failed: cell.KindOf(err)}
	select {
	case r.inbox <- answer:
	case <-ctx.Done():
	}
}
