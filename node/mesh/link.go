package mesh

import (
	"context"
	"net"
	"sync"
	"time"

	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
)

// link is one outgoing lane: a double buffer, and the goroutine that connects and writes it. Frames are finished under the
// lock, by whoever adds them; the writer swaps the buffer for an empty one and hands all of it to one write call, so that
// the number of system calls falls as the load rises.
type link struct {
	mesh   *Mesh
	key    linkKey
	max    int // bytes queued at most
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // capacity 1: something is queued
	retry  chan struct{} // capacity 1: dial again now

	mu     sync.Mutex
	queued []byte // whole frames
	frames int    // in queued
	down   bool   // connecting failed: nothing is queued until it succeeds. At first there is hope
}

func newLink(m *Mesh, key linkKey) *link {
	l := &link{mesh: m, key: key, max: paxosQueueBytes, wake: make(chan struct{}, 1), retry: make(chan struct{}, 1)}
	if key.lane != core.LanePaxos {
		l.max = bulkQueueBytes
	}
	l.ctx, l.cancel = context.WithCancel(m.ctx)
	return l
}

// purposes says what the connection of a lane is for.
var purposes = [...]wire.Purpose{core.LanePaxos: wire.ForPaxos, core.LaneBulk: wire.ForBulk, core.LaneForward: wire.ForForward}

// frameOverhead is what add puts before the messages.
const frameOverhead = wire.FrameHeaderBytes + peer.FrameHeadBytes

// add frames one output into the queue; it reports false when it was dropped. A frame beyond the receiver's bounds is
// dropped here: the receiver would end the lane over it, and lose the others with it.
func (l *link) add(o *core.PeerOut, durable uint64) bool {
	if o.Count > peer.FrameMessagesMax || len(o.Body)+peer.FrameHeadBytes > wire.PeerFrameMax {
		l.mesh.loud.Do(func() {
			l.mesh.cfg.Logger.Error("frame beyond the bounds of the lane", "peer", o.To, "messages", o.Count, "bytes", len(o.Body))
		})
		return false
	}
	l.mu.Lock()
	if l.down || len(l.queued)+frameOverhead+len(o.Body) > l.max {
		l.mu.Unlock()
		return false
	}
	start := len(l.queued)
	b := wire.BeginFrame(l.queued)
	b = peer.FrameHead{Durable: durable, Count: o.Count}.Append(b)
	b = append(b, o.Body...)
	l.queued = wire.EndFrame(b, start)
	l.frames++
	l.mu.Unlock()
	poke(l.wake)
	return true
}

// run connects, writes until the connection breaks, and connects again, until the link or the mesh is closed.
func (l *link) run() {
	defer l.mesh.wg.Done()
	defer l.cancel()
	purpose := purposes[l.key.lane]
	for a := (attempts{}); ; {
		a.begin()
		nc, err := l.mesh.dial(l.ctx, l.key.to, purpose)
		if err == nil {
			l.up()
			err = l.write(nc)
		}
		l.drop()
		if l.ctx.Err() == nil {
			l.mesh.cfg.Logger.Debug("peer lane is down", "peer", l.key.to, "lane", l.key.lane, "err", err)
		}
		if !a.pause(l.ctx, l.retry, err) {
			return
		}
	}
}

// up notes that the lane is connected.
func (l *link) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// drop notes that the lane is not connected, and forgets what is queued: it would be stale before it arrived.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mesh.Stats.FramesDropped.Add(uint64(l.frames))
	l.down, l.queued, l.frames = true, nil, 0
}

// take swaps what is queued for an empty buffer.
func (l *link) take(empty []byte) (out []byte, frames int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, frames = l.queued, l.frames
	l.queued, l.frames = empty[:0], 0
	return out, frames
}

// write sends what is queued, everything in one call, until the connection breaks, and closes it.
func (l *link) write(nc net.Conn) error {
	broken, end := watch(l.ctx, nc)
	defer end()
	stats := &l.mesh.Stats
	var spare []byte
	var set time.Time // when the deadline was set
	for {
		out, frames := l.take(spare)
		if frames == 0 {
			spare = out
			select {
			case <-broken:
				return net.ErrClosed
			case <-l.wake:
			}
			continue
		}
		if now := time.Now(); now.Sub(set) > writeGrain {
			set = now
			nc.SetWriteDeadline(now.Add(writeTimeout + writeGrain)) // where it fails, so does writing
		}
		if _, err := nc.Write(out); err != nil {
			stats.FramesDropped.Add(uint64(frames)) // some may have arrived; nobody can say which
			return err
		}
		stats.Writes.Add(1)
		stats.FramesSent.Add(uint64(frames))
		stats.BytesSent.Add(uint64(len(out)))
		if spare = out; cap(spare) > keptBytes {
			spare = nil
		}
	}
}
