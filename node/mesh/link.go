package mesh

import (
	"net"
	"sync"
	"time"

	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
)

// link is one lane to one peer: a double buffer and the goroutine that writes it.
type link struct {
	mesh *Mesh
	key  linkKey
	max  int
	wake chan struct{}

	mu     sync.Mutex
	queued []byte
	down   bool // connecting failed lately: nothing is queued
}

func newLink(m *Mesh, key linkKey) *link {
	l := &link{mesh: m, key: key, max: paxosQueueBytes, wake: make(chan struct{}, 1)}
	if key.lane == core.LaneBulk {
		l.max = bulkQueueBytes
	}
	return l
}

// add frames one output into the queue; it reports false when it was dropped.
func (l *link) add(o *core.PeerOut, durable uint64) bool {
	l.mu.Lock()
	if l.down || len(l.queued)+len(o.Body) > l.max {
		l.mu.Unlock()
		return false
	}
	start := len(l.queued)
	b := wire.BeginFrame(l.queued)
	b = peer.FrameHead{Durable: durable, Count: o.Count}.Append(b)
	b = append(b, o.Body...)
	l.queued = wire.EndFrame(b, start)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // the writer is awake already
	}
	return true
}

// run connects, writes until the connection breaks, and connects again, until the mesh is closed.
func (l *link) run() {
	defer l.mesh.wg.Done()
	purpose := wire.ForPaxos
	if l.key.lane == core.LaneBulk {
		purpose = wire.ForBulk
	}
	for failures := 0; ; failures++ {
		stream, err := l.mesh.dial(l.mesh.ctx, l.key.to, purpose)
		if err == nil {
			failures = 0
			l.setDown(false)
			err = l.write(stream.Conn)
			l.mesh.untrack(stream.Conn)
		}
		if l.mesh.ctx.Err() != nil {
			return
		}
		l.setDown(true)
		l.mesh.cfg.Logger.Debug("peer lane is down", "peer", l.key.to, "lane", l.key.lane, "err", err)
		if !backoff(l.mesh.ctx, failures) {
			return
		}
	}
}

func (l *link) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		l.queued = nil
	}
}

// write sends what is queued, everything in one call, until the connection breaks.
func (l *link) write(nc net.Conn) error {
	closed := make(chan struct{})
	l.mesh.wg.Add(1)
	go func() { // the peer sends nothing on this connection: reading finds out when it goes away
		defer l.mesh.wg.Done()
		defer close(closed)
		var one [1]byte
		nc.Read(one[:]) // whatever it returns, the connection is of no use any more
		nc.Close()
	}()
	defer func() { nc.Close(); <-closed }()
	var spare []byte
	for {
		l.mu.Lock()
		out := l.queued
		l.queued = spare[:0]
		l.mu.Unlock()
		if len(out) == 0 {
			spare = out
			select {
			case <-l.mesh.ctx.Done():
				return l.mesh.ctx.Err()
			case <-closed:
				return net.ErrClosed
			case <-l.wake:
			}
			continue
		}
		if err := nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := nc.Write(out); err != nil {
			return err
		}
		l.mesh.Stats.FramesSent.Add(1)
		l.mesh.Stats.BytesSent.Add(uint64(len(out)))
		if spare = out; cap(spare) > 1<<20 {
			spare = nil // one burst must not be kept forever
		}
	}
}
