package mesh

import (
	"errors"
	"fmt"
	"net"
	"time"

	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/internal/wire/peer"
	"physalia/node/core"
)

// connectionsMax bounds the peers' connections; a colony's pool has far fewer servers than this.
const connectionsMax = 10_000

func (m *Mesh) accept() {
	defer m.wg.Done()
	for {
		nc, err := m.cfg.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !backoff(m.ctx, 0) {
				return
			}
			m.cfg.Logger.Warn("cannot accept peers", "err", err)
			continue
		}
		if !m.track(nc) {
			return
		}
		m.mu.Lock()
		full := len(m.conns) > connectionsMax
		m.mu.Unlock()
		if full {
			m.Stats.Refused.Add(1)
			m.untrack(nc)
			continue
		}
		m.wg.Add(1)
		go m.serve(nc)
	}
}

// serve reads one peer's lane to its end.
func (m *Mesh) serve(nc net.Conn) {
	defer m.wg.Done()
	defer m.untrack(nc)
	if err := nc.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return // closed already
	}
	stream, refusal := rpc.AcceptStream(nc, m.rpcConfig(wire.ForPaxos, m.check))
	if refusal != nil {
		m.Stats.PeersRefused.Add(1)
		m.cfg.Logger.Warn("peer refused", "remote", nc.RemoteAddr(), "err", refusal)
		return
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return // closed already
	}
	err := m.read(stream)
	if m.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		m.cfg.Logger.Debug("peer lane ended", "peer", stream.Peer.Server, "purpose", stream.Peer.Purpose, "err", err)
	}
}

func (m *Mesh) read(s *rpc.Stream) error {
	r := reader{mesh: m, from: s.Peer.Server, names: make(map[string]cell.ID)}
	r.decoder.Intern = r.intern
	var buf []byte
	for {
		body, err := wire.ReadFrame(s.In, buf, wire.PeerFrameMax)
		if err != nil {
			return err
		}
		if buf = body; cap(buf) > 1<<20 {
			buf = nil // one large frame must not be kept forever
		}
		if s.Peer.Purpose == wire.ForHeartbeat {
			err = r.heartbeat(body)
		} else {
			err = r.messages(body)
		}
		if err != nil {
			m.Stats.Malformed.Add(1)
			m.cfg.Logger.Warn("malformed frame from peer", "peer", r.from, "err", err)
			return err
		}
	}
}

// reader decodes what one peer sends on one lane.
type reader struct {
	mesh    *Mesh
	from    cell.ServerID
	decoder peer.Decoder
	names   map[string]cell.ID // one string per cell name, bounded
}

// namesMax bounds the names kept per connection; beyond, they are forgotten and learned anew.
const namesMax = 200_000

func (r *reader) intern(b []byte) cell.ID {
	if id, ok := r.names[string(b)]; ok {
		return id
	}
	id := cell.ID(b)
	if id.Check() != nil {
		return "" // hosted nowhere, and dropped as such
	}
	if len(r.names) >= namesMax {
		clear(r.names)
	}
	r.names[string(id)] = id
	return id
}

func (r *reader) heartbeat(body []byte) error {
	in := wire.NewReader(body)
	var h peer.Heartbeat
	peer.DecodeHeartbeat(&in, &h)
	if err := in.Done(); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	r.mesh.cfg.Heard(r.from)
	return nil
}

func (r *reader) messages(body []byte) error {
	in := wire.NewReader(body)
	var head peer.FrameHead
	head.Decode(&in)
	batch := r.mesh.batch()
	for i := 0; i < head.Count && in.Err() == nil; i++ {
		*batch = append(*batch, core.PeerMessage{From: r.from})
		m := &(*batch)[i]
		r.decoder.DecodeMessage(&in, &m.Envelope, &m.Message)
	}
	if err := in.Done(); err != nil {
		r.mesh.Recycle(batch)
		return fmt.Errorf("frame of %d messages: %w", head.Count, err)
	}
	r.mesh.Stats.FramesReceived.Add(1)
	r.mesh.Stats.MessagesReceived.Add(uint64(head.Count))
	r.mesh.cfg.Messages(batch)
	return nil
}

func (m *Mesh) batch() *[]core.PeerMessage {
	if b, ok := m.spare.Get().(*[]core.PeerMessage); ok {
		return b
	}
	return new([]core.PeerMessage)
}

// batchKeep is the longest batch whose memory is kept.
const batchKeep = 1024

// Recycle takes back a batch that Messages handed out.
func (m *Mesh) Recycle(b *[]core.PeerMessage) {
	if cap(*b) > batchKeep {
		return
	}
	clear(*b)
	*b = (*b)[:0]
	m.spare.Put(b)
}
