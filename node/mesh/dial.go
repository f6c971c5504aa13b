package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"time"

	"physalia/cell"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// dial opens one lane to a peer, within dialTimeout or until ctx ends. The caller owns the connection.
func (m *Mesh) dial(ctx context.Context, to cell.ServerID, purpose wire.Purpose) (net.Conn, error) {
	addr := m.cfg.Resolve(to)
	if addr == "" {
		return nil, &cell.Error{Op: "mesh.dial", Kind: cell.Unavailable, Detail: fmt.Sprintf("no address is known for server %s", to)}
	}
	m.Stats.Dials.Add(1)
	cfg := m.rpcConfig(purpose, func(peer wire.Hello) *cell.Error {
		if peer.Server != to {
			return refuse(refusal.OtherName, "at %s answers server %q, not %s", addr, peer.Server, to)
		}
		return m.check(peer)
	})
	cfg.HandshakeTimeout = dialTimeout
	s, err := rpc.DialStream(ctx, addr, cfg)
	switch {
	case err == nil:
		if err = limitSilence(s.Conn, silenceMax); err == nil {
			return s.Conn, nil
		}
		s.Conn.Close() // the reason is known
	case cell.KindOf(err) == cell.Refused:
		m.Stats.PeersRefused.Add(1)
		m.loud.Do(func() { m.cfg.Logger.Warn("peer lane refused", "peer", to, "addr", addr, "err", err) })
	}
	return nil, err
}

// rpcConfig is how a lane shakes hands.
func (m *Mesh) rpcConfig(purpose wire.Purpose, check func(wire.Hello) *cell.Error) rpc.Config {
	hello := m.cfg.Hello
	hello.Min, hello.Max, hello.Purpose = wire.ProtocolMin, wire.ProtocolMax, purpose
	return rpc.Config{Hello: hello, FrameMax: wire.PeerFrameMax, Check: check, DialContext: m.cfg.Dial}
}

// check refuses servers that do not belong here: not one byte crosses a color or a brick.
func (m *Mesh) check(peer wire.Hello) *cell.Error {
	h := &m.cfg.Hello
	switch {
	case peer.Server.Check() != nil:
		return refuse(refusal.NoIdentity, "the peer names no valid server identity")
	case peer.Colony != h.Colony:
		return refuse(refusal.OtherColony, "server %s is of colony %q, this one of %q", peer.Server, peer.Colony, h.Colony)
	case peer.Brick != h.Brick:
		return refuse(refusal.OtherBrick, "server %s is of brick %q, this one of %q", peer.Server, peer.Brick, h.Brick)
	case peer.Color != h.Color:
		return refuse(refusal.OtherColor, "server %s is of color %q, this one of %q", peer.Server, peer.Color, h.Color)
	case peer.Server == h.Server:
		return refuse(refusal.OtherName, "server %s is this server: two processes use one identity, or an address is wrong", peer.Server)
	}
	return nil
}

func refuse(why refusal.Reason, format string, args ...any) *cell.Error {
	return &cell.Error{Op: "mesh.hello", Kind: cell.Refused, Err: why, Detail: fmt.Sprintf(format, args...),
		Hint: "check the addresses and the colony, brick and color of both servers"}
}

// watch guards a dialled connection, on which the peer never sends anything: reading from it finds out when the peer goes
// away, sooner than the next write would. The connection is closed when that happens or when ctx ends, and then broken is
// closed. end closes it in any case and waits for the guard.
func watch(ctx context.Context, nc net.Conn) (broken <-chan struct{}, end func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	go func() {
		defer close(done)
		defer nc.Close()
		var one [1]byte
		nc.Read(one[:]) // whatever it returns, the connection is of no use any more
	}()
	return done, func() {
		stop()
		nc.Close() // it may be closed already
		<-done
	}
}

// attempts paces the dialling of one lane.
type attempts struct {
	failures int       // in a row
	began    time.Time // of the attempt under way
}

// begin notes the start of an attempt.
func (a *attempts) begin() { a.began = time.Now() }

// pause waits after an attempt ended with err, with jitter, twice as long each time up to dialBackoffMax, or up to dialBackoffGone while
// nothing listens over there: whoever is not there comes to us when it is back. retry shortens that, but never to nothing: two servers
// whose connections break at once must not make each other spin. A connection that held for a while starts the count anew. It reports
// false when ctx ended.
func (a *attempts) pause(ctx context.Context, retry <-chan struct{}, err error) bool {
	limit := a.limit(time.Since(a.began), err)
	if !sleep(ctx, dialBackoffMin/2) {
		return false
	}
	timer := time.NewTimer(limit - dialBackoffMin/2 - rand.N(limit/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-retry:
	case <-timer.C:
	}
	return true
}

// limit is how long the next pause is at most, and half of it at least, after an attempt that took so long and ended with err.
func (a *attempts) limit(took time.Duration, err error) time.Duration {
	most := dialBackoffMax
	if errors.Is(err, syscall.ECONNREFUSED) {
		most = dialBackoffGone
	}
	if took > dialTimeout+dialBackoffMax {
		a.failures = 0
	}
	limit := min(dialBackoffMin<<min(a.failures, 8), most)
	a.failures++
	return limit
}

// sleep waits for d; it reports false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
