package lifecycle

import (
	"physalia/cell"
	"physalia/internal/wire"
)

// A server is remembered as it registered last, so that after a restart of the control plane foundings still carry the
// addresses of servers that are down. Nodes, the count that changes all the time, is not stored.

const serverFields = 12

func serverKey(id cell.ServerID) []byte { return append([]byte{keyServer}, id...) }

// appendServer adds the stored form of a registration.
func appendServer(b []byte, g *wire.Registration) []byte {
	start := len(b)
	b = append(b, formatServer, storedVersion)
	b = wire.AppendArray(b, serverFields)
	for _, s := range [...]string{string(g.Server), g.Name, g.Colony, g.Brick, g.Rack, g.Power, g.Color,
		g.PeerAddr, g.ClientAddr, g.GossipAddr} {
		b = wire.AppendString(b, s)
	}
	b = wire.AppendUint(b, g.Boot)
	b = wire.AppendUint(b, g.Capacity)
	return appendSum(b, start)
}

// decodeServer reads the stored form; errors as of decodeRecord.
func decodeServer(b []byte, names intern) (wire.Registration, error) {
	r, err := storedBody(formatServer, b)
	if err != nil {
		return wire.Registration{}, err
	}
	name := func(what string) string { return names.text(r.Text(wire.NameBytesMax, what)) }
	r.Struct(serverFields, "server record")
	g := wire.Registration{
		Server:     cell.ServerID(names.text(r.Text(cell.ServerIDBytesMax, "server"))),
		Name:       name("name"),
		Colony:     name("colony"),
		Brick:      name("brick"),
		Rack:       name("rack"),
		Power:      name("power"),
		Color:      name("color"),
		PeerAddr:   r.String(wire.AddrBytesMax, "peer address"),
		ClientAddr: r.String(wire.AddrBytesMax, "client address"),
		GossipAddr: r.String(wire.AddrBytesMax, "gossip address"),
		Boot:       r.Uint(),
		Capacity:   r.Uint(),
	}
	if err := r.Done(); err != nil {
		return wire.Registration{}, damaged(err.Error())
	}
	return g, g.Server.Check()
}

// sameServer reports whether two registrations are stored alike.
func sameServer(a, b wire.Registration) bool {
	a.Nodes, b.Nodes = 0, 0
	return a == b
}
