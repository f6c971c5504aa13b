package peer

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
	"physalia/paxos"
)

// fields is the set of Message's fields that a kind uses, in the order in which they are encoded.
type fields uint16

const (
	hasBallot fields = 1 << iota // two elements: round and node; it is bit 0, see elements
	hasSlot
	hasThrough
	hasFloor
	hasNumber
	hasEntry
	hasRecords
	hasSnapshot
	hasMoved // Envelope.Moved
)

// fieldsOf says what each kind of message carries beside the head; see the comments at the kinds in paxos. A kind
// without a row here does not exist on the wire; a test compares the table with the source of paxos.
var fieldsOf = [...]fields{
	paxos.MsgPrepare:   hasBallot | hasSlot,
	paxos.MsgPromise:   hasBallot | hasSlot | hasThrough | hasFloor | hasRecords,
	paxos.MsgNack:      hasBallot,
	paxos.MsgAccept:    hasBallot | hasSlot | hasThrough | hasEntry,
	paxos.MsgAccepted:  hasBallot | hasSlot | hasThrough,
	paxos.MsgChosen:    hasBallot | hasThrough,
	paxos.MsgConfirm:   hasBallot | hasNumber,
	paxos.MsgConfirmed: hasBallot | hasNumber,
	paxos.MsgLearn:     hasSlot,
	paxos.MsgTeach:     hasThrough | hasRecords,
	paxos.MsgTeachAll:  hasSnapshot,
	paxos.MsgAhead:     hasBallot | hasThrough,
	paxos.MsgBehind:    hasBallot | hasSlot,
	paxos.MsgResign:    hasBallot | hasNumber,
}

const (
	headElements    = 6 // kind, cell, incarnation, configuration number, from, to
	supportElements = 1 // Envelope.Support, behind the fields, or not there
	hashElements    = 2 // Envelope.HashSlot and Hash, at the end, or not there
)

// elements is the length of the array that a message with these fields is encoded as, without a hash.
func (f fields) elements() int {
	return headElements + bits.OnesCount16(uint16(f)) + int(f&hasBallot) // the ballot has two
}

// known returns the fields of a kind, and false for a kind that this build does not know.
func known(k paxos.MessageKind) (fields, bool) {
	switch {
	case int(k) < len(fieldsOf) && fieldsOf[k] != 0:
		return fieldsOf[k], true
	case k >= KindMoved && k <= KindAbsent:
		return hostFields[k-KindMoved], true
	}
	return 0, false
}

// AppendMessage adds one message: the array [kind, cell, incarnation, configuration, from, to, fields of the kind], and
// behind them the envelope's support epoch and hash, if there are any. Fields that the kind does not use are not sent. It panics with a
// *must.Violation on an unknown kind and on anything out of the bounds of this package.
func AppendMessage(b []byte, env *Envelope, m *paxos.Message) []byte {
	f, ok := known(m.Kind)
	if !ok {
		must.That(false, "wire: message kind %d has no codec", m.Kind)
	}
	n := f.elements()
	if env.Support != (Epoch{}) {
		n += supportElements
	}
	if env.HashSlot != 0 {
		n += hashElements
	}
	b = wire.AppendArray(b, n)
	b = append(b, byte(m.Kind))
	b = wire.AppendString(b, string(env.Cell))
	b = wire.AppendUint(b, uint64(env.Incarnation))
	b = wire.AppendUint(b, uint64(env.Configuration))
	b = wire.AppendUint(b, uint64(m.From))
	b = wire.AppendUint(b, uint64(m.To))
	b = appendFields(b, f, m)
	if f&hasMoved != 0 {
		b = AppendConfiguration(b, env.Moved)
	}
	if env.Support != (Epoch{}) {
		b = appendEpoch(b, env.Support)
	}
	if env.HashSlot != 0 {
		b = wire.AppendUint(b, uint64(env.HashSlot))
		b = wire.AppendUint(b, env.Hash)
	}
	return b
}

func appendFields(b []byte, f fields, m *paxos.Message) []byte {
	if f&hasBallot != 0 {
		b = appendBallot(b, m.Ballot)
	}
	if f&hasSlot != 0 {
		b = wire.AppendUint(b, uint64(m.Slot))
	}
	if f&hasThrough != 0 {
		b = wire.AppendUint(b, uint64(m.Through))
	}
	if f&hasFloor != 0 {
		b = wire.AppendUint(b, uint64(m.Floor))
	}
	if f&hasNumber != 0 {
		b = wire.AppendUint(b, m.Number)
	}
	if f&hasEntry != 0 {
		b = AppendEntry(b, &m.Entry)
	}
	if f&hasRecords != 0 {
		b = appendRecords(b, m.Records)
	}
	if f&hasSnapshot != 0 {
		b = appendEmbedded(b, m.Snapshot)
	}
	return b
}

// appendEmbedded adds a snapshot, checksum included, as one byte string. The head is the four-byte
// form whatever the length, so that it can be filled in afterwards.
func appendEmbedded(b []byte, s *paxos.Snapshot) []byte {
	must.That(s != nil, "wire: MsgTeachAll without a snapshot")
	b = append(b, msgpcode.Bin32, 0, 0, 0, 0)
	start := len(b)
	b = AppendSnapshot(b, s)
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}

// A Decoder decodes what names cells and servers, and lets its owner keep one string per name instead of one per
// message. The zero Decoder copies every name. It is as safe for concurrent use as its functions are.
type Decoder struct {
	// Intern returns the ID for the bytes of a cell's name (1 to CellBytesMax of them, not validated further), which it
	// must not keep. A lookup in a map by string(b) does not allocate. What it returns becomes Envelope.Cell as it is:
	// the owner may return "" for a cell that it does not care about.
	Intern func(b []byte) cell.ID
	// InternServer does the same for the server identities in configurations.
	InternServer func(b []byte) paxos.ServerID
}

// DecodeMessage consumes one message with a zero Decoder; see Decoder.DecodeMessage.
func DecodeMessage(r *wire.Reader, env *Envelope, m *paxos.Message) {
	new(Decoder).DecodeMessage(r, env, m)
}

// DecodeMessage consumes one message and overwrites env and m. Nothing in them aliases the reader's buffer: the
// commands of one entry share one allocation. A malformed message fails the reader; env and m are then meaningless.
func (d *Decoder) DecodeMessage(r *wire.Reader, env *Envelope, m *paxos.Message) {
	*env, *m = Envelope{}, paxos.Message{}
	n := r.Array(math.MaxInt16, "message")
	m.Kind = paxos.MessageKind(r.Enum(uint8(KindAbsent), "message kind"))
	f, ok := known(m.Kind)
	if !ok && r.Err() == nil {
		r.FailUnknown("message kind", uint64(m.Kind))
	}
	extra := n - f.elements() // the sum of the optional parts is unambiguous
	if extra < 0 || extra > supportElements+hashElements {
		r.Fail("message of kind %d has %d elements, want %d, or up to %d with support and hash", m.Kind, n, f.elements(), f.elements()+supportElements+hashElements)
	}
	if r.Err() != nil {
		return
	}
	env.Cell = d.cell(r)
	env.Incarnation = cell.Incarnation(r.Uint())
	env.Configuration = paxos.ConfigurationNumber(r.Uint())
	m.From = node(r)
	m.To = node(r)
	d.fields(r, f, m)
	if f&hasMoved != 0 {
		env.Moved = new(paxos.Configuration)
		d.DecodeConfiguration(r, env.Moved)
	}
	if extra&supportElements != 0 {
		env.Support = decodeEpoch(r)
	}
	if extra&hashElements != 0 {
		env.HashSlot = paxos.Slot(r.Uint())
		env.Hash = r.Uint()
		if env.HashSlot == 0 {
			r.Fail("hash of slot 0")
		}
	}
}

func (d *Decoder) fields(r *wire.Reader, f fields, m *paxos.Message) {
	if f&hasBallot != 0 {
		m.Ballot = ballot(r)
	}
	if f&hasSlot != 0 {
		m.Slot = paxos.Slot(r.Uint())
	}
	if f&hasThrough != 0 {
		m.Through = paxos.Slot(r.Uint())
	}
	if f&hasFloor != 0 {
		m.Floor = paxos.Slot(r.Uint())
	}
	if f&hasNumber != 0 {
		m.Number = r.Uint()
	}
	if f&hasEntry != 0 {
		DecodeEntry(r, &m.Entry)
	}
	if f&hasRecords != 0 {
		m.Records = decodeRecords(r)
	}
	if f&hasSnapshot != 0 {
		m.Snapshot = d.embedded(r)
	}
}

func (d *Decoder) embedded(r *wire.Reader) *paxos.Snapshot {
	b := r.Bytes(SnapshotBytesMax, "snapshot")
	if r.Err() != nil {
		return nil
	}
	s, err := d.DecodeSnapshot(b)
	if err != nil {
		r.Fail("%v", err)
		return nil
	}
	return &s
}

// cell consumes a cell's name.
func (d *Decoder) cell(r *wire.Reader) cell.ID {
	b := r.Text(CellBytesMax, "cell name")
	if r.Err() != nil {
		return ""
	}
	if len(b) == 0 {
		r.Fail("cell name is empty")
		return ""
	}
	if d.Intern != nil {
		return d.Intern(b)
	}
	id := cell.ID(b)
	if err := id.Check(); err != nil {
		r.Fail("%v", err)
	}
	return id
}

// server consumes a server identity.
func (d *Decoder) server(r *wire.Reader) paxos.ServerID {
	b := r.Text(ServerBytesMax, "server identity")
	if d.InternServer != nil && r.Err() == nil {
		return d.InternServer(b)
	}
	return paxos.ServerID(b)
}

func node(r *wire.Reader) paxos.NodeNumber {
	return paxos.NodeNumber(r.UintMax(math.MaxUint32, "node number"))
}

func ballot(r *wire.Reader) paxos.Ballot {
	return paxos.Ballot{Round: paxos.Round(r.Uint()), Node: node(r)}
}

func appendBallot(b []byte, v paxos.Ballot) []byte {
	return wire.AppendUint(wire.AppendUint(b, uint64(v.Round)), uint64(v.Node))
}
