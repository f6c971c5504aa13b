package node

import (
	"net"

	"physalia/cell"
	"physalia/internal/pki"
	"physalia/internal/refusal"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// clientFace takes the requests of clients, on the reader goroutine of their connection: it decodes and bounds them there,
// so that a connection that sends nonsense costs its own time, and queues what is left for the loop. The loop answers.
type clientFace struct{ server *Server }

// Handle implements rpc.Handler.
func (f clientFace) Handle(c *rpc.Conn, q rpc.Request) {
	if q.Notify {
		return // no method of a server is a notification, and there is nobody to answer
	}
	s := f.server
	switch q.Method {
	case wire.MethodTxn, wire.MethodRead, wire.MethodExplain, wire.MethodGrant, wire.MethodKeepAlive, wire.MethodRevoke, wire.MethodLeases:
		s.submit(c, q)
	case wire.MethodPresent:
		if err := s.gate.Present(c, q.Params); err != nil {
			s.refuseRequest(c, q, err)
			return
		}
		c.Reply(q.ID, nil, nil)
	case wire.MethodServer:
		s.askFor(c, q, func(core *core.Core) { c.Reply(q.ID, s.info(core), nil) })
	default:
		s.refuseRequest(c, q, &cell.Error{Op: "server", Kind: cell.Invalid, Detail: "a server does not answer this method to clients",
			Hint: "control methods go to the control plane"})
	}
}

// submit parses a request about one cell and queues it.
func (s *Server) submit(c *rpc.Conn, q rpc.Request) {
	r, err := core.ParseRequest(q.Method, q.Params)
	if err == nil {
		err = s.allow(c, q.Method, r)
	}
	if err == nil {
		r.Origin = core.Origin{Conn: c, ID: q.ID}
		err = s.inbox.request(r, q.Method, len(q.Params))
	}
	if err != nil {
		s.refuseRequest(c, q, err)
	}
}

// askFor queues a question to the core, which answers the request itself.
func (s *Server) askFor(c *rpc.Conn, q rpc.Request, f func(*core.Core)) {
	if err := s.inbox.ask(q.Method, f); err != nil {
		s.refuseRequest(c, q, err)
	}
}

// refuseRequest answers a request that does not reach the loop.
func (s *Server) refuseRequest(c *rpc.Conn, q rpc.Request, err *cell.Error) {
	s.metrics.reply(err)
	c.Reply(q.ID, nil, err)
}

// info describes this server; it runs on the loop.
func (s *Server) info(c *core.Core) *wire.ServerInfo {
	nodes, hot, _ := c.Counts()
	return &wire.ServerInfo{Server: s.identity.Server, Name: s.identity.Name, Colony: s.identity.Colony, Brick: s.identity.Brick,
		Rack: s.identity.Rack, Power: s.identity.Power, Color: s.identity.Color, Version: s.cfg.Version, Boot: s.boot,
		Nodes: uint64(nodes), Hot: uint64(hot), Peers: uint64(c.AlivePeers())}
}

// checkClient refuses connections that are not a client's, or not of this colony.
func (s *Server) checkClient(peer wire.Hello) *cell.Error {
	switch {
	case peer.Purpose == wire.ForDialBack && s.cfg.KnockKey.Set() && peer.Colony == s.identity.Colony:
		return nil
	case peer.Purpose != wire.ForClient:
		return &cell.Error{Op: "server.hello", Kind: cell.Refused, Err: refusal.WrongRole, Detail: "this address serves clients only", Hint: "peers use the peer address"}
	case peer.Colony != "" && peer.Colony != s.identity.Colony:
		return &cell.Error{Op: "server.hello", Kind: cell.Refused, Err: refusal.OtherColony,
			Detail: "this server is of colony " + s.identity.Colony + ", the client wants " + peer.Colony, Hint: "check the address and --colony"}
	}
	return nil
}

// rejected counts connections that did not get through their Hello. The log hears of them on request only: an outsider can
// cause any number.
func (s *Server) rejected(remote net.Addr, err *cell.Error) {
	s.refused(pki.ClientPort, err)
	s.cfg.Logger.Debug("client connection rejected", "remote", remote, "err", err)
}
