package control

import (
	"physalia/cell"
	"physalia/internal/fleet"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// before decides whether the user of a connection may do what it asks.
func (p *Control) before(c *rpc.Conn, method string, params []byte) (fleet.Ended, *cell.Error) {
	session := p.gate.Session(c)
	return nil, p.gate.Control(session, method, params)
}

// accessHandlers take what users show of themselves.
func (p *Control) accessHandlers() map[string]fleet.Handler {
	return map[string]fleet.Handler{
		wire.MethodPresent: func(r fleet.Request) { r.Reply(nil, p.gate.Present(r.Conn(), r.Params)) },
	}
}
