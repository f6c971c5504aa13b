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

// beat keeps heartbeats going to one peer, on a connection of their own, until ctx ends. Its cost depends on the number
// of servers, never on the number of cells.
func (m *Mesh) beat(ctx context.Context, to cell.ServerID) {
	defer m.wg.Done()
	first := time.NewTimer(rand.N(m.cfg.HeartbeatEvery)) // smeared: servers must not beat in step
	defer first.Stop()
	select {
	case <-ctx.Done():
		return
	case <-first.C:
	}
	for failures := 0; ; failures++ {
		stream, err := m.dial(ctx, to, wire.ForHeartbeat)
		if err == nil {
			failures = 0
			err = m.pulse(ctx, stream.Conn)
			m.untrack(stream.Conn)
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			m.cfg.Gone(to)
		}
		if !backoff(ctx, failures) {
			return
		}
	}
}

// pulse writes one heartbeat per interval and returns when the connection breaks.
func (m *Mesh) pulse(ctx context.Context, nc net.Conn) error {
	broken := make(chan struct{})
	m.wg.Add(1)
	go func() { // the peer's death shows here at once, not at the next write
		defer m.wg.Done()
		defer close(broken)
		var one [1]byte
		nc.Read(one[:]) // whatever it returns, the connection is of no use any more
	}()
	defer func() { nc.Close(); <-broken }()
	ticker := time.NewTicker(m.cfg.HeartbeatEvery)
	defer ticker.Stop()
	buf := make([]byte, 0, 64)
	for sequence := uint64(1); ; sequence++ {
		buf = wire.EndFrame(peer.AppendHeartbeat(wire.BeginFrame(buf[:0]), &peer.Heartbeat{Sequence: sequence}), 0)
		if err := nc.SetWriteDeadline(time.Now().Add(m.cfg.HeartbeatEvery * 4)); err != nil {
			return err
		}
		if _, err := nc.Write(buf); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return net.ErrClosed
		case <-ticker.C:
		}
	}
}
