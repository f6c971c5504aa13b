package mesh

import (
	"fmt"
	"slices"
	"sync/atomic"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
)

const (
	// laneWaitingBytes bounds, per incoming lane, the frames that were handed out and not recycled; beyond, frames are
	// dropped before they are decoded. It keeps one peer that floods from filling the loop's inbox alone.
	laneWaitingBytes = 4 * wire.PeerFrameMax
	// batchKeep is the longest batch whose memory is kept.
	batchKeep = 1024
)

// Batch is the messages of one frame, decoded, from one authenticated peer; there may be none. Nothing in them aliases the
// connection's buffers, but the slices themselves are used again after Recycle: whoever keeps a message longer copies it.
type Batch struct {
	From     cell.ServerID
	Boot     uint64 // of the peer, as it said in its Hello
	Commands uint32 // the newest command set that it understands, as it said there
	Lane     core.Lane
	Durable  uint64 // newest batch that is durable there
	Messages []core.PeerMessage
	Forwards []peer.Forward // of the forward lane
	Bytes    int            // of the frame that carried them

	mesh    *Mesh
	waiting *atomic.Int64 // the lane's bytes handed out
}

// Recycle gives the batch back; it must not be touched any more. From any goroutine, once.
func (b *Batch) Recycle() {
	if b.mesh == nil {
		return // not made by a mesh
	}
	b.waiting.Add(-int64(b.Bytes))
	clear(b.Messages) // what they point to is free to go
	clear(b.Forwards)
	b.Messages, b.Forwards, b.Bytes, b.waiting = b.Messages[:0], b.Forwards[:0], 0, nil
	if cap(b.Messages) <= batchKeep {
		b.mesh.spare.Put(b)
	}
}

func (m *Mesh) batch() *Batch {
	if b, ok := m.spare.Get().(*Batch); ok {
		return b
	}
	return &Batch{mesh: m}
}

// reader decodes what one peer sends on one lane; the lane's goroutine owns it. A frame costs no allocation in the steady
// state but those of the commands in it.
type reader struct {
	mesh    *Mesh
	from    cell.ServerID
	boot    uint64
	set     uint32 // command set
	lane    core.Lane
	decoder peer.Decoder
	name    *core.Name   // the last that intern returned
	waiting atomic.Int64 // bytes of this lane that were handed out and not recycled
}

// read takes frames until the lane ends, and returns why it did.
func (m *Mesh) read(s *rpc.Stream) error {
	r := &reader{mesh: m, from: s.Peer.Server, boot: s.Peer.Boot, set: s.Peer.Commands(), lane: core.Lane(slices.Index(purposes[:], s.Peer.Purpose))}
	r.decoder.Intern = r.intern
	take := r.messages
	if s.Peer.Purpose == wire.ForHeartbeat {
		take = r.heartbeat
	}
	var buf []byte
	clock := rpc.NewFrameClock(s.Conn, s.In, m.cfg.FrameTimeout)
	for {
		var body []byte
		err := clock.Next()
		if err == nil {
			body, err = wire.ReadFrame(s.In, buf, wire.PeerFrameMax)
		}
		malformed := isMalformed(err)
		if err == nil {
			if err = take(body); err != nil {
				err, malformed = fmt.Errorf("%w: %w", refusal.BadMessage, err), true
			}
		}
		if malformed {
			m.Stats.Malformed.Add(1)
			m.loud.Do(func() {
				m.cfg.Logger.Warn("malformed frame from peer", "peer", r.from, "purpose", s.Peer.Purpose, "err", err)
			})
		}
		if err != nil {
			m.refused(err)
			return err
		}
		if buf = body; cap(buf) > keptBytes {
			buf = nil
		}
	}
}

// isMalformed tells a frame that is wrong from a connection that ended.
func isMalformed(err error) bool {
	broken, ok := err.(*wire.FrameError)
	return ok && broken.Fault != wire.FrameTruncated
}

// intern returns one string for a cell's name, however often it comes, and notes whose it is.
func (r *reader) intern(b []byte) cell.ID {
	if r.name = r.mesh.names.of(b); r.name == nil {
		return "" // hosted nowhere, and dropped as such
	}
	return r.name.ID
}

func (r *reader) heartbeat(body []byte) error {
	in := wire.NewReader(body)
	var h peer.Heartbeat
	peer.DecodeHeartbeat(&in, &h)
	if err := in.Done(); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if h.Boot != r.boot {
		return fmt.Errorf("heartbeat of boot %d on a connection of boot %d", h.Boot, r.boot)
	}
	r.mesh.cfg.Beat(r.from, h)
	return nil
}

// decode adds so many messages to a batch, or those before one that is malformed.
func (r *reader) decode(in *wire.Reader, count int, batch *Batch) {
	for i := 0; i < count && in.Err() == nil; i++ {
		if r.lane == core.LaneForward {
			batch.Forwards = append(batch.Forwards, peer.Forward{})
			peer.DecodeForward(in, &batch.Forwards[i])
			continue
		}
		batch.Messages = append(batch.Messages, core.PeerMessage{From: r.from})
		m := &batch.Messages[i]
		r.name = nil
		r.decoder.DecodeMessage(in, &m.Envelope, &m.Message)
		m.Name = r.name
	}
}

// messages decodes one frame and hands it out whole, or not at all.
func (r *reader) messages(body []byte) error {
	if r.waiting.Load() > laneWaitingBytes {
		r.mesh.Stats.FramesOverrun.Add(1)
		return nil
	}
	in := wire.NewReader(body)
	var head peer.FrameHead
	head.Decode(&in)
	batch := r.mesh.batch()
	batch.From, batch.Boot, batch.Commands, batch.Lane, batch.Durable = r.from, r.boot, r.set, r.lane, head.Durable
	batch.Bytes, batch.waiting = len(body), &r.waiting
	r.waiting.Add(int64(len(body)))
	r.decode(&in, head.Count, batch)
	if err := in.Done(); err != nil {
		batch.Recycle()
		return fmt.Errorf("frame of %d messages: %w", head.Count, err)
	}
	r.mesh.Stats.FramesReceived.Add(1)
	r.mesh.Stats.MessagesReceived.Add(uint64(head.Count))
	r.mesh.cfg.Messages(batch)
	return nil
}
