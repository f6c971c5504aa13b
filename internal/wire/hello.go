package wire

import (
	"math"

	"physalia/cell"
)

// Purpose says what a connection is for; each purpose has its own lane, so that bulk never delays a heartbeat.
type Purpose uint8

// The purposes. The numbers are part of the wire format and never change.
const (
	ForClient    Purpose = 1 // client -> server or control plane, MessagePack-RPC
	ForControl   Purpose = 2 // server -> control plane, MessagePack-RPC, requests flow both ways
	ForPaxos     Purpose = 3 // server -> server, Paxos frames
	ForHeartbeat Purpose = 4 // server -> server, liveness only
	ForBulk      Purpose = 5 // server -> server, snapshots and log segments
	ForForward   Purpose = 6 // server -> server, clients' requests that a member passes on, and their answers
	ForDialBack  Purpose = 7 // control plane -> server, the answer to a knock; from then on as ForControl
	ForJoin      Purpose = 8 // a process without a certificate -> control plane's join port, to get one
)

// ProtocolMin is the oldest protocol version that this build speaks; ProtocolMax, the newest, is in versions_this.go.
const ProtocolMin = 1

// Hello is the first frame in both directions of every connection. The side that accepts answers with its own Hello, or
// with one whose Refusal is set, and then closes.
type Hello struct {
	Min, Max uint32 // protocol versions spoken; the connection uses the highest common one
	Features uint64 // the lowest byte: see SetCommands; other bits mean nothing yet
	Purpose  Purpose
	Colony   string
	Brick    string        // servers only
	Color    string        // servers only
	Server   cell.ServerID // servers only
	Boot     uint64        // servers only
	Refusal  *cell.Error   // why the connection is refused
}

// Append adds [min, max, features, purpose, colony, brick, color, server, boot, refusal].
func (m *Hello) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 10), uint64(m.Min)), uint64(m.Max))
	b = AppendUint(AppendUint(b, m.Features), uint64(m.Purpose))
	b = AppendString(AppendString(AppendString(b, m.Colony), m.Brick), m.Color)
	return AppendError(AppendUint(AppendString(b, string(m.Server)), m.Boot), m.Refusal)
}

// Decode reads what Append wrote. Any purpose up to 255 is read: to refuse an unknown one politely is the business of
// the side that accepts.
func (m *Hello) Decode(r *Reader) {
	r.Struct(10, "Hello")
	*m = Hello{
		Min:      r.Uint32("lowest protocol version"),
		Max:      r.Uint32("highest protocol version"),
		Features: r.Uint(),
		Purpose:  Purpose(r.UintMax(math.MaxUint8, "purpose")),
		Colony:   r.String(NameBytesMax, "colony"),
		Brick:    r.String(NameBytesMax, "brick"),
		Color:    r.String(NameBytesMax, "color"),
		Server:   decodeServer(r),
		Boot:     r.Uint(),
		Refusal:  DecodeError(r),
	}
}
