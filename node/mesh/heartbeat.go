package mesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
)

// heartbeatWait is how many intervals one write of a heartbeat may take; the kernel takes dozens of them without the peer.
const heartbeatWait = 4

// beat keeps heartbeats going to one peer, on a connection of their own. Its cost depends on the number of servers, never
// on the number of cells.
type beat struct {
	mesh   *Mesh
	to     cell.ServerID
	ctx    context.Context
	cancel context.CancelFunc
	retry  chan struct{} // capacity 1: dial again now
}

func newBeat(m *Mesh, to cell.ServerID) *beat {
	b := &beat{mesh: m, to: to, retry: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(m.ctx)
	return b
}

// run connects and beats until it is cancelled or the mesh is closed.
func (b *beat) run() {
	defer b.mesh.wg.Done()
	defer b.cancel()
	if !sleep(b.ctx, nil, rand.N(b.mesh.cfg.HeartbeatEvery)) { // smeared: servers must not beat in step
		return
	}
	for a := (attempts{}); ; {
		a.begin()
		nc, err := b.mesh.dial(b.ctx, b.to, wire.ForHeartbeat)
		if err == nil {
			err = b.pulse(nc)
		}
		if errors.Is(err, syscall.ECONNREFUSED) && b.ctx.Err() == nil {
			b.mesh.cfg.Gone(b.to)
		}
		if !a.pause(b.ctx, b.retry) {
			return
		}
	}
}

// pulse writes one heartbeat per interval until the connection breaks, and closes it. The death of the peer's process shows
// as broken at once, not at the next write.
func (b *beat) pulse(nc net.Conn) error {
	broken, end := watch(b.ctx, nc)
	defer end()
	every := b.mesh.cfg.HeartbeatEvery
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	buf := make([]byte, 0, 64)
	for sequence := uint64(1); ; sequence++ {
		if !b.mesh.cfg.Alive() || b.mesh.stuck(b.to) {
			b.mesh.Stats.HeartbeatsWithheld.Add(1)
		} else {
			buf = wire.EndFrame(peer.AppendHeartbeat(wire.BeginFrame(buf[:0]), &peer.Heartbeat{Sequence: sequence}), 0)
			if err := nc.SetWriteDeadline(time.Now().Add(heartbeatWait * every)); err != nil {
				return err
			}
			if _, err := nc.Write(buf); err != nil {
				return err
			}
		}
		select {
		case <-broken:
			return net.ErrClosed
		case <-ticker.C:
		}
	}
}
