package mesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
)

// heartbeatWait bounds one write of a heartbeat; the kernel takes dozens of them without the peer.
const heartbeatWait = time.Second

// beat keeps a lane for heartbeats to one peer, on a connection of its own. Its cost depends on the number of servers, never
// on the number of cells. What heartbeats say, and when they are due, is decided in the core: a server whose loop hangs is
// silent (rule 13).
type beat struct {
	mesh   *Mesh
	to     cell.ServerID
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1: a heartbeat is there
	retry  chan struct{} // capacity 1: dial again now

	mu   sync.Mutex
	next peer.Heartbeat // to leave; Sequence zero is none
}

func newBeat(m *Mesh, to cell.ServerID) *beat {
	b := &beat{mesh: m, to: to, wake: make(chan struct{}, 1), retry: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(m.ctx)
	return b
}

// put replaces the heartbeat that is to leave: an older one says nothing that the newer one does not.
func (b *beat) put(h peer.Heartbeat) {
	b.mu.Lock()
	if b.next.Sequence != 0 {
		b.mesh.Stats.HeartbeatsReplaced.Add(1)
	}
	b.next = h
	b.mu.Unlock()
	poke(b.wake)
}

// take returns the heartbeat that is to leave, if there is one.
func (b *beat) take() (h peer.Heartbeat, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, b.next = b.next, peer.Heartbeat{}
	return h, h.Sequence != 0
}

// run connects and beats until it is cancelled or the mesh is closed.
func (b *beat) run() {
	defer b.mesh.wg.Done()
	defer b.cancel()
	if !sleep(b.ctx, rand.N(dialBackoffMin)) { // smeared: a server must not dial all its peers at once
		return
	}
	for a := (attempts{}); ; {
		a.begin()
		nc, err := b.mesh.dial(b.ctx, b.to, wire.ForHeartbeat)
		if err == nil {
			b.mesh.retryLinks(b.to) // the other lanes need not find out by themselves that it is back
			err = b.pulse(nc)
		}
		if errors.Is(err, syscall.ECONNREFUSED) && b.ctx.Err() == nil {
			b.mesh.cfg.Gone(b.to)
		}
		if !a.pause(b.ctx, b.retry, err) {
			return
		}
	}
}

// pulse writes what it is given until the connection breaks, and closes it. The death of the peer's process shows as broken
// at once, not at the next write.
func (b *beat) pulse(nc net.Conn) error {
	broken, end := watch(b.ctx, nc)
	defer end()
	buf := make([]byte, 0, 128)
	for {
		if h, ok := b.take(); ok {
			buf = wire.EndFrame(peer.AppendHeartbeat(wire.BeginFrame(buf[:0]), &h), 0)
			if err := nc.SetWriteDeadline(time.Now().Add(heartbeatWait)); err != nil {
				return err
			}
			if _, err := nc.Write(buf); err != nil {
				return err
			}
		}
		select {
		case <-broken:
			return net.ErrClosed
		case <-b.wake:
		}
	}
}
