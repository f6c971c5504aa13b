package wire

import (
	"math"

	"physalia/cell"
)

// The codecs of the messages between servers and control plane that concern servers and their nodes. Every struct is
// an array of its fields in order.

// Append adds the registration.
func (m *Registration) Append(b []byte) []byte {
	b = AppendString(AppendArray(b, 14), string(m.Server))
	for _, s := range [...]string{m.Name, m.Colony, m.Brick, m.Rack, m.Power, m.Color, m.PeerAddr, m.ClientAddr, m.GossipAddr} {
		b = AppendString(b, s)
	}
	return AppendUint(AppendUint(AppendUint(AppendUint(b, m.Boot), m.Nodes), m.Capacity), uint64(m.Wants))
}

// Decode reads what Append wrote.
func (m *Registration) Decode(r *Reader) {
	r.Struct(14, "Registration")
	*m = Registration{
		Server:     decodeServer(r),
		Name:       r.String(NameBytesMax, "server name"),
		Colony:     r.String(NameBytesMax, "colony"),
		Brick:      r.String(NameBytesMax, "brick"),
		Rack:       r.String(NameBytesMax, "rack"),
		Power:      r.String(NameBytesMax, "power domain"),
		Color:      r.String(NameBytesMax, "color"),
		PeerAddr:   r.String(AddrBytesMax, "peer address"),
		ClientAddr: r.String(AddrBytesMax, "client address"),
		GossipAddr: r.String(AddrBytesMax, "gossip address"),
		Boot:       r.Uint(),
		Nodes:      r.Uint(),
		Capacity:   r.Uint(),
		Wants:      decodeDuties(r),
	}
}

// Append adds [control, address, seeds, takes, elsewhere].
func (m *Registered) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 5), m.Control), m.Addr)
	return appendList(AppendUint(appendStrings(b, m.Seeds), uint64(m.Takes)), m.Elsewhere)
}

// Decode reads what Append wrote.
func (m *Registered) Decode(r *Reader) {
	r.Struct(5, "Registered")
	*m = Registered{
		Control:   r.String(NameBytesMax, "control process"),
		Addr:      r.String(AddrBytesMax, "address"),
		Seeds:     decodeStrings[string](r, BatchMax, AddrBytesMax, "seeds"),
		Takes:     decodeDuties(r),
		Elsewhere: decodeHolders(r),
	}
}

// founderBytesMin is the least encoding of a Founder: an array of four elements of one byte.
const founderBytesMin = 5

// Append adds [node, server, peer address, client address].
func (m *Founder) Append(b []byte) []byte {
	b = AppendString(AppendUint(AppendArray(b, 4), m.Node), string(m.Server))
	return AppendString(AppendString(b, m.PeerAddr), m.ClientAddr)
}

// Decode reads what Append wrote.
func (m *Founder) Decode(r *Reader) {
	r.Struct(4, "Founder")
	*m = Founder{
		Node:       r.Uint(),
		Server:     decodeServer(r),
		PeerAddr:   r.String(AddrBytesMax, "peer address"),
		ClientAddr: r.String(AddrBytesMax, "client address"),
	}
}

// decodeMembers reads the members of one cell.
func decodeMembers(r *Reader) []Founder {
	return decodeList[Founder](r, MembersMax, founderBytesMin, "members")
}

// Append adds [cell, incarnation, members, owner, alpha].
func (m *Founding) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 5), string(m.Cell)), uint64(m.Incarnation))
	return AppendUint(AppendUint(appendList(b, m.Members), m.Owner), uint64(m.Alpha))
}

// Decode reads what Append wrote.
func (m *Founding) Decode(r *Reader) {
	r.Struct(5, "Founding")
	*m = Founding{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		Members:     decodeMembers(r),
		Owner:       r.Uint(),
		Alpha:       r.Uint32("alpha"),
	}
}

// Append adds [foundings].
func (m *CreateNodes) Append(b []byte) []byte { return appendList(AppendArray(b, 1), m.Foundings) }

// Decode reads what Append wrote.
func (m *CreateNodes) Decode(r *Reader) {
	r.Struct(1, "CreateNodes")
	m.Foundings = decodeList[Founding](r, BatchMax, 6, "foundings")
}

// Append adds [cell, incarnation].
func (m *Drop) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendArray(b, 2), string(m.Cell)), uint64(m.Incarnation))
}

// Decode reads what Append wrote.
func (m *Drop) Decode(r *Reader) {
	r.Struct(2, "Drop")
	*m = Drop{Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint())}
}

// decodeDrops reads a batch of drops.
func decodeDrops(r *Reader) []Drop { return decodeList[Drop](r, BatchMax, 3, "drops") }

// Append adds [sealed, drops].
func (m *DropNodes) Append(b []byte) []byte {
	return appendList(AppendBool(AppendArray(b, 2), m.Sealed), m.Drops)
}

// Decode reads what Append wrote.
func (m *DropNodes) Decode(r *Reader) {
	r.Struct(2, "DropNodes")
	*m = DropNodes{Sealed: r.Bool(), Drops: decodeDrops(r)}
}

// Append adds [error].
func (m *Outcome) Append(b []byte) []byte { return AppendError(AppendArray(b, 1), m.Err) }

// Decode reads what Append wrote.
func (m *Outcome) Decode(r *Reader) {
	r.Struct(1, "Outcome")
	m.Err = DecodeError(r)
}

// Append adds [outcomes].
func (m *Outcomes) Append(b []byte) []byte { return appendList(AppendArray(b, 1), m.Outcomes) }

// Decode reads what Append wrote.
func (m *Outcomes) Decode(r *Reader) {
	r.Struct(1, "Outcomes")
	m.Outcomes = decodeList[Outcome](r, BatchMax, 2, "outcomes")
}

// Append adds [cell, incarnation, timeout, attempt].
func (m *SealCell) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 4), string(m.Cell)), uint64(m.Incarnation))
	return AppendUint(AppendUint(b, uint64(m.Timeout)), uint64(m.Attempt))
}

// Decode reads what Append wrote.
func (m *SealCell) Decode(r *Reader) {
	r.Struct(4, "SealCell")
	*m = SealCell{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		Timeout:     r.Uint32("timeout"),
		Attempt:     r.Uint32("attempt"),
	}
}

// decodeLimit reads the size of a page, at most ListLimitMax; to refuse zero is the business of the receiver.
func decodeLimit(r *Reader) uint32 { return uint32(r.UintMax(ListLimitMax, "limit of a page")) }

// Append adds [after, limit].
func (m *ListNodes) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendArray(b, 2), m.After), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *ListNodes) Decode(r *Reader) {
	r.Struct(2, "ListNodes")
	*m = ListNodes{After: r.Uint(), Limit: decodeLimit(r)}
}

// Append adds the description of a node.
func (m *NodeInfo) Append(b []byte) []byte {
	b = AppendString(AppendUint(AppendArray(b, 8), m.Handle), string(m.Cell))
	b = AppendUint(AppendUint(AppendUint(b, uint64(m.Incarnation)), m.Node), m.Configuration)
	b = AppendString(AppendBool(b, m.Sealed), cut(m.Quarantined, DetailBytesMax))
	return appendList(b, m.Members)
}

// Decode reads what Append wrote.
func (m *NodeInfo) Decode(r *Reader) {
	r.Struct(8, "NodeInfo")
	*m = NodeInfo{
		Handle:        r.Uint(),
		Cell:          decodeID(r),
		Incarnation:   cell.Incarnation(r.Uint()),
		Node:          r.Uint(),
		Configuration: r.Uint(),
		Sealed:        r.Bool(),
		Quarantined:   r.String(DetailBytesMax, "reason of quarantine"),
		Members:       decodeMembers(r),
	}
}

// Append adds [nodes, more].
func (m *NodeList) Append(b []byte) []byte {
	return AppendBool(appendList(AppendArray(b, 2), m.Nodes), m.More)
}

// Decode reads what Append wrote.
func (m *NodeList) Decode(r *Reader) {
	r.Struct(2, "NodeList")
	*m = NodeList{Nodes: decodeList[NodeInfo](r, ListLimitMax, 9, "nodes"), More: r.Bool()}
}

// Append adds [boot, nodes].
func (m *Pong) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendArray(b, 2), m.Boot), m.Nodes)
}

// Decode reads what Append wrote.
func (m *Pong) Decode(r *Reader) {
	r.Struct(2, "Pong")
	*m = Pong{Boot: r.Uint(), Nodes: r.Uint()}
}

// decodeMargin reads a margin, which may be negative.
func decodeMargin(r *Reader) int32 {
	v := r.Int()
	if v < math.MinInt32 || v > math.MaxInt32 {
		r.Fail("margin %d does not fit 32 bits", v)
		return 0
	}
	return int32(v)
}
