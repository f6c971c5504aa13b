package node

import (
	"context"
	"crypto/rand"
	"net"
	"sync"
	"time"

	"physalia/cell"
	"physalia/internal/knock"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// knocks sends knocks, and recognizes the connections that come of them by their nonces. Safe for concurrent use.
type knocks struct {
	server *Server

	mu   sync.Mutex
	sent []sentKnock // the newest last; at most sentKnocksMax
}

type sentKnock struct {
	nonce [wire.KnockNonceBytes]byte
	addr  string
}

const (
	sentKnocksMax  = 32 // an answer to an older one is refused
	knockTries     = 5  // knocks without an answer before a connection is opened after all
	knockSendLimit = 5 * time.Second
)

// tries is what the seeker is told: 0 for never.
func (k *knocks) tries() int {
	if !k.server.cfg.KnockKey.Set() {
		return 0
	}
	return knockTries
}

// send sends one datagram. An error is no news: without an answer the seeker tries again, here or elsewhere.
func (k *knocks) send(ctx context.Context, addr string) {
	s := k.server
	n := knock.Knock{Server: s.identity.Server, Boot: s.boot, At: time.Now().UnixMilli()}
	_, err := rand.Read(n.Nonce[:])
	if err == nil {
		k.note(n.Nonce, addr)
		err = k.write(ctx, addr, s.cfg.KnockKey.Seal(s.identity.Colony, n))
	}
	if err != nil {
		s.cfg.Logger.Debug("knock was not sent", "addr", addr, "err", err)
	}
}

func (k *knocks) write(ctx context.Context, addr string, datagram []byte) error {
	ctx, cancel := context.WithTimeout(ctx, knockSendLimit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write(datagram)
	return err
}

// note remembers a nonce until it is used, or until enough newer ones were sent.
func (k *knocks) note(nonce [wire.KnockNonceBytes]byte, addr string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.sent) == sentKnocksMax {
		k.sent = k.sent[:copy(k.sent, k.sent[1:])]
	}
	k.sent = append(k.sent, sentKnock{nonce, addr})
}

// use finds the knock of a nonce and forgets it; a nonce proves one connection.
func (k *knocks) use(nonce [wire.KnockNonceBytes]byte) (addr string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, s := range k.sent {
		if s.nonce == nonce {
			k.sent = append(k.sent[:i], k.sent[i+1:]...)
			return s.addr, true
		}
	}
	return "", false
}

// answered gives the connections that answer knocks a face of their own.
func (k *knocks) answered(peer wire.Hello, cfg *rpc.Config) {
	if peer.Purpose == wire.ForDialBack {
		cfg.FrameMax, cfg.Handler = wire.ControlFrameMax, &dialBackFace{server: k.server}
	}
}

// dialBackFace takes the requests of a connection that the control plane opened. Until the first of them has proven that it
// answers a knock, it does nothing else. It runs on the connection's reader goroutine.
type dialBackFace struct {
	server *Server
	link   *controlLink // nil until proven
}

// Handle implements rpc.Handler.
func (f *dialBackFace) Handle(c *rpc.Conn, q rpc.Request) {
	s := f.server
	switch {
	case f.link != nil && q.Method != wire.MethodDialBack:
		controlFace{s, f.link}.Handle(c, q)
	case q.Notify:
	case f.link != nil || q.Method != wire.MethodDialBack:
		s.refuseRequest(c, q, &cell.Error{Op: "server.dialback", Kind: cell.Refused, Detail: "the first request, and no other, has to prove that this server knocked"})
	default:
		m := new(wire.DialBack)
		if !s.decode(c, q, m) {
			return
		}
		proven := s.cfg.KnockKey.Proven(s.identity.Colony, s.identity.Server, s.boot, m)
		addr, sent := "", false
		if proven {
			addr, sent = s.agent.knocks.use(m.Nonce)
		}
		if !sent {
			s.cfg.Logger.Warn("a connection claims to answer a knock and does not prove it", "remote", c.RemoteAddr(), "key", proven)
			s.refuseRequest(c, q, &cell.Error{Op: "server.dialback", Kind: cell.Refused, Detail: "this is no answer to a knock of this server"})
			return
		}
		f.link = s.agent.newLink(s.ctx, addr)
		f.link.conn = c
		c.Reply(q.ID, nil, nil)
		f.link.tell(linkEvent{opened: true})
	}
}
