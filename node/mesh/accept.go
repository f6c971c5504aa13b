package mesh

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// inboundKey names one incoming lane.
type inboundKey struct {
	from    cell.ServerID
	purpose wire.Purpose
}

// inbound is the connection that a peer's lane has now.
type inbound struct {
	conn net.Conn
	boot uint64 // of the peer, as it said
}

// acceptPause is how long the accept loop rests after an error such as "too many open files", which only time cures.
const acceptPause = 50 * time.Millisecond

// accept takes connections until the mesh is closed.
func (m *Mesh) accept() {
	defer m.wg.Done()
	for {
		nc, err := m.cfg.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !sleep(m.ctx, acceptPause) {
				return
			}
			m.loud.Do(func() { m.cfg.Logger.Warn("cannot accept peers", "err", err) })
			continue
		}
		if pass, ok := m.track(nc); ok {
			m.wg.Add(1)
			go m.serve(nc, pass)
		}
	}
}

// track registers an accepted connection so that Close can end it; it closes nc and reports false when there are too many
// or the mesh is closed.
func (m *Mesh) track(nc net.Conn) (*rpc.Pass, bool) {
	pass, why := m.gate.Enter(nc.RemoteAddr())
	if pass == nil {
		nc.Close() // without a word
		m.refused(why)
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		nc.Close() // nobody waits for a word
		pass.Leave()
		return nil, false
	}
	m.accepted[nc] = struct{}{}
	return pass, true
}

// refused tells whoever counts.
func (m *Mesh) refused(err error) {
	if m.cfg.Refused != nil {
		m.cfg.Refused(err)
	}
}

// untrack forgets an accepted connection, and its lane if no newer connection has taken it over.
func (m *Mesh) untrack(nc net.Conn, key inboundKey) {
	nc.Close() // it may be closed already
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.accepted, nc)
	if in := m.inbound[key]; in != nil && in.conn == nc {
		delete(m.inbound, key)
	}
}

// serve reads one peer's lane from its Hello to its end.
func (m *Mesh) serve(nc net.Conn, pass *rpc.Pass) {
	defer m.wg.Done()
	defer pass.Leave()
	var key inboundKey
	defer func() { m.untrack(nc, key) }()
	// A connection on which no deadline can be set is closed already, and the next read finds that out.
	nc.SetDeadline(time.Now().Add(acceptTimeout))
	stream, why := rpc.AcceptStream(nc, m.rpcConfig(wire.ForPaxos, pass.Check(nc, m.checkInbound)))
	if why != nil {
		m.refused(why)
		if why.Kind == cell.Refused || why.Kind == cell.Stale {
			m.Stats.PeersRefused.Add(1)
			m.loud.Do(func() { m.cfg.Logger.Warn("peer refused", "remote", nc.RemoteAddr(), "err", why) })
		}
		return
	}
	nc.SetDeadline(time.Time{})
	key = inboundKey{stream.Peer.Server, stream.Peer.Purpose}
	m.establish(key, &inbound{nc, stream.Peer.Boot})
	m.Retry(key.from) // it lives: lanes to it need not wait for their turn
	if err := m.read(stream); m.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		m.cfg.Logger.Debug("peer lane ended", "peer", key.from, "purpose", key.purpose, "err", err)
	}
}

// checkInbound judges who connects: a peer that belongs here, for a lane that exists, and not an earlier life of one that
// is connected.
func (m *Mesh) checkInbound(peer wire.Hello) *cell.Error {
	if peer.Purpose != wire.ForHeartbeat && !slices.Contains(purposes[:], peer.Purpose) {
		return refuse(refusal.WrongRole, "this address serves the lanes of peer servers, not purpose %d", peer.Purpose)
	}
	if err := m.check(peer); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if in := m.inbound[inboundKey{peer.Server, peer.Purpose}]; in != nil && peer.Boot < in.boot {
		return &cell.Error{Op: "mesh.hello", Kind: cell.Stale, Err: refusal.EarlierLife,
			Detail: fmt.Sprintf("server %s is connected with boot %d, this is boot %d", peer.Server, in.boot, peer.Boot),
			Hint:   "two processes run under one identity: stop one of them"}
	}
	return nil
}

// establish makes a connection its lane's, and closes the one before it: the peer dials again only after it has given up
// the old one, of which this side may not have heard.
func (m *Mesh) establish(key inboundKey, in *inbound) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.inbound[key]; old != nil {
		old.conn.Close() // its goroutine sees to the rest
	}
	m.inbound[key] = in
}
