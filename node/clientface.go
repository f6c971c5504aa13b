package node

import (
	"physalia/cell"
	"physalia/internal/rpc"
	"physalia/internal/wire"
	"physalia/node/core"
)

// clientFace takes the requests of clients: it decodes and checks them on their connection's goroutine and queues them
// for the loop.
type clientFace struct{ server *Server }

// Handle implements rpc.Handler.
func (f clientFace) Handle(c *rpc.Conn, q rpc.Request) {
	switch q.Method {
	case wire.MethodTxn, wire.MethodRead, wire.MethodExplain:
		f.server.submit(c, q)
	case wire.MethodServer:
		f.server.inbox.call(func(core *core.Core) { c.Reply(q.ID, f.server.info(core), nil) })
	default:
		c.Reply(q.ID, nil, &cell.Error{Op: "server", Kind: cell.Invalid, Detail: "a server does not answer " + q.Method,
			Hint: "control methods go to the control plane"})
	}
}

// submit parses a request about one cell and queues it.
func (s *Server) submit(c *rpc.Conn, q rpc.Request) {
	r, err := core.ParseRequest(q.Method, q.Params)
	if err != nil {
		s.metrics.reply(err)
		c.Reply(q.ID, nil, err)
		return
	}
	r.Origin = core.Origin{Conn: c, ID: q.ID}
	if !s.inbox.request(r) {
		e := overloaded(q.Method, r.Header.Cell)
		s.metrics.reply(e)
		c.Reply(q.ID, nil, e)
	}
}

func (s *Server) info(c *core.Core) *wire.ServerInfo {
	nodes, hot, _ := c.Counts()
	return &wire.ServerInfo{Server: s.identity.Server, Name: s.identity.Name, Colony: s.identity.Colony, Brick: s.identity.Brick,
		Rack: s.identity.Rack, Power: s.identity.Power, Color: s.identity.Color, Version: s.cfg.Version, Boot: s.boot,
		Nodes: uint64(nodes), Hot: uint64(hot), Peers: uint64(c.AlivePeers())}
}

// checkClient refuses connections that are not a client's, or not of this colony.
func (s *Server) checkClient(peer wire.Hello) *cell.Error {
	switch {
	case peer.Purpose != wire.ForClient:
		return &cell.Error{Op: "server.hello", Kind: cell.Refused, Detail: "this address serves clients only", Hint: "peers use the peer address"}
	case peer.Colony != "" && peer.Colony != s.identity.Colony:
		return &cell.Error{Op: "server.hello", Kind: cell.Refused,
			Detail: "this server is of colony " + s.identity.Colony + ", the client wants " + peer.Colony, Hint: "check the address and --colony"}
	}
	return nil
}
