package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"physalia/cell"
	"physalia/internal/must"
	"physalia/internal/wire"
	"physalia/paxos"
)

// Everything stored is one frame of bytes: format byte, version byte, one positional MessagePack struct, and the CRC32C
// of all of that, big-endian. Every future version keeps the first two bytes and the last four, so an older build can
// tell what it does not understand (ErrUnknownVersion) from what the disk did (ErrDamaged).
const (
	formatRing      = 'R'
	formatRow       = 'H'
	formatTombstone = 'T'
	formatSnapshot  = 'P'
	formatPointer   = 'W'
	formatName      = 'N'
	formatJournal   = 'J'

	storedVersion  = 1
	packedVersion  = StoredForms // of a snapshot: its state is packed
	storedOverhead = 2 + 4
)

// StoredForms is the highest version of anything stored that this build reads.
const StoredForms = 2

// The two reasons why something stored is refused; errors.Is tells them apart.
var (
	ErrUnknownVersion = fmt.Errorf("written by a newer version: %w", wire.ErrNotUnderstood)
	ErrDamaged        = errors.New("damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSum adds the checksum of everything from start on.
func appendSum(b []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// body verifies checksum, format and version and returns a reader over what is between.
func body(op string, format byte, b []byte) (wire.Reader, error) {
	r, _, err := bodyUpTo(op, format, storedVersion, b)
	return r, err
}

// bodyUpTo is body for a format of several versions, up to most.
func bodyUpTo(op string, format, most byte, b []byte) (r wire.Reader, version byte, err error) {
	if len(b) < storedOverhead {
		return r, 0, damaged(op, fmt.Sprintf("%d bytes, the shortest possible are %d", len(b), storedOverhead))
	}
	end := len(b) - 4
	want, got := binary.BigEndian.Uint32(b[end:]), crc32.Checksum(b[:end], castagnoli)
	switch {
	case want != got:
		return r, 0, damaged(op, fmt.Sprintf("checksum over %d bytes is %08x, stored is %08x", end, got, want))
	case b[0] != format:
		return r, 0, damaged(op, fmt.Sprintf("format byte is %q, want %q", b[0], format))
	case b[1] < storedVersion || b[1] > most:
		return r, 0, unknown(op, fmt.Sprintf("format %q has version %d, the newest that this build knows is %d", format, b[1], most))
	}
	return wire.NewReader(b[2:end]), b[1], nil
}

// finish turns what is wrong with a body whose checksum holds into an error.
func finish(op string, r *wire.Reader) error {
	err := r.Done()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrNotUnderstood):
		return unknown(op, "in the body, "+err.Error())
	}
	return damaged(op, "in the body, "+err.Error())
}

// unknown is an error that time heals: nothing is wrong with what is stored.
func unknown(op, detail string) error {
	return &cell.Error{Op: op, Kind: cell.Quarantined, Detail: detail, Err: ErrUnknownVersion,
		Hint: "run the version that wrote it, or a newer one"}
}

// damaged is an error that nothing heals: what this member promised or accepted may be forgotten, so that it could take back
// what others rely on.
func damaged(op, detail string) error {
	return &cell.Error{Op: op, Kind: cell.Quarantined, Detail: detail, Err: ErrDamaged,
		Hint: "the node must not vote again: let the control plane replace it"}
}

// AppendRingRecord adds a ring record in its stored form: [record, promised round, promised node, applied].
func AppendRingRecord(b []byte, rec *RingRecord) []byte {
	start := len(b)
	b = append(b, formatRing, storedVersion)
	b = wire.AppendArray(b, 4)
	b = AppendRecord(b, &rec.Record)
	b = appendBallot(b, rec.Promised)
	b = wire.AppendUint(b, uint64(rec.Applied))
	return appendSum(b, start)
}

// DecodeRingRecord reads what AppendRingRecord wrote; the result does not alias b. The error is a *cell.Error that
// wraps ErrDamaged or ErrUnknownVersion, as for all Decode functions of stored things.
func DecodeRingRecord(b []byte) (RingRecord, error) {
	const op = "peer.DecodeRingRecord"
	var rec RingRecord
	r, err := body(op, formatRing, b)
	if err != nil {
		return rec, err
	}
	r.Struct(4, "ring record")
	DecodeRecord(&r, &rec.Record)
	rec.Promised = ballot(&r)
	rec.Applied = paxos.Slot(r.Uint())
	return rec, finish(op, &r)
}

// AppendRow adds a row in its stored form: [cell, incarnation, node, learner, promised round, promised node, sealed,
// quarantined, founding, configuration].
func AppendRow(b []byte, row *Row) []byte {
	start := len(b)
	b = append(b, formatRow, storedVersion)
	b = wire.AppendArray(b, 10)
	b = appendCell(b, row.Cell)
	b = wire.AppendUint(b, uint64(row.Incarnation))
	b = wire.AppendUint(b, uint64(row.Node))
	b = wire.AppendBool(b, row.Learner)
	b = appendBallot(b, row.Promised)
	b = wire.AppendBool(b, row.Sealed)
	b = wire.AppendString(b, cut(row.Quarantined, QuarantineBytesMax))
	b = wire.AppendUint(b, row.Founding)
	b = AppendConfiguration(b, &row.Configuration)
	return appendSum(b, start)
}

// DecodeRow reads a row with a zero Decoder; see Decoder.DecodeRow.
func DecodeRow(b []byte) (Row, error) { return new(Decoder).DecodeRow(b) }

// DecodeRow reads what AppendRow wrote; the result does not alias b.
func (d *Decoder) DecodeRow(b []byte) (row Row, err error) {
	err = d.DecodeRowInto(b, &row)
	return row, err
}

// DecodeRowInto is DecodeRow for many rows one after the other: it overwrites row and uses the memory of its configuration again.
func (d *Decoder) DecodeRowInto(b []byte, row *Row) error {
	const op = "peer.DecodeRow"
	*row = Row{Configuration: paxos.Configuration{Members: row.Configuration.Members, Learners: row.Configuration.Learners}}
	r, err := body(op, formatRow, b)
	if err != nil {
		return err
	}
	r.Struct(10, "row")
	row.Cell = d.cell(&r)
	row.Incarnation = cell.Incarnation(r.Uint())
	row.Node = node(&r)
	row.Learner = r.Bool()
	row.Promised = ballot(&r)
	row.Sealed = r.Bool()
	row.Quarantined = r.String(QuarantineBytesMax, "quarantine reason")
	row.Founding = r.Uint()
	d.configuration(&r, &row.Configuration)
	return finish(op, &r)
}

// AppendTombstone adds a tombstone in its stored form: [cell, incarnation].
func AppendTombstone(b []byte, t *Tombstone) []byte {
	start := len(b)
	b = append(b, formatTombstone, storedVersion)
	b = wire.AppendArray(b, 2)
	b = appendCell(b, t.Cell)
	b = wire.AppendUint(b, uint64(t.Incarnation))
	return appendSum(b, start)
}

// DecodeTombstone reads what AppendTombstone wrote; the result does not alias b.
func DecodeTombstone(b []byte) (Tombstone, error) {
	const op = "peer.DecodeTombstone"
	var t Tombstone
	r, err := body(op, formatTombstone, b)
	if err != nil {
		return t, err
	}
	r.Struct(2, "tombstone")
	t.Cell = new(Decoder).cell(&r)
	t.Incarnation = cell.Incarnation(r.Uint())
	return t, finish(op, &r)
}

// AppendPointer adds a pointer in its stored form: [cell, incarnation, node, founding, born, [configuration]].
func AppendPointer(b []byte, p *Pointer) []byte {
	start := len(b)
	b = append(b, formatPointer, storedVersion)
	b = wire.AppendArray(b, 6)
	b = appendCell(b, p.Cell)
	b = wire.AppendUint(b, uint64(p.Incarnation))
	b = wire.AppendUint(b, uint64(p.Node))
	b = wire.AppendUint(b, p.Founding)
	b = wire.AppendUint(b, p.Born)
	if p.Configuration == nil {
		b = wire.AppendArray(b, 0)
	} else {
		b = AppendConfiguration(wire.AppendArray(b, 1), p.Configuration)
	}
	return appendSum(b, start)
}

// DecodePointer reads what AppendPointer wrote; the result does not alias b.
func (d *Decoder) DecodePointer(b []byte) (Pointer, error) {
	const op = "peer.DecodePointer"
	var p Pointer
	r, err := body(op, formatPointer, b)
	if err != nil {
		return p, err
	}
	r.Struct(6, "pointer")
	p.Cell = d.cell(&r)
	p.Incarnation = cell.Incarnation(r.Uint())
	p.Node = node(&r)
	p.Founding = r.Uint()
	p.Born = r.Uint()
	if r.Array(1, "configuration") == 1 && r.Err() == nil {
		p.Configuration = new(paxos.Configuration)
		d.DecodeConfiguration(&r, p.Configuration)
	}
	return p, finish(op, &r)
}

// AppendNodeName adds a node's name in its stored form: [cell, incarnation, node].
func AppendNodeName(b []byte, n *NodeName) []byte {
	start := len(b)
	b = append(b, formatName, storedVersion)
	b = appendCell(wire.AppendArray(b, 3), n.Cell)
	b = wire.AppendUint(wire.AppendUint(b, uint64(n.Incarnation)), uint64(n.Node))
	return appendSum(b, start)
}

// DecodeNodeName reads what AppendNodeName wrote; the result does not alias b.
func DecodeNodeName(b []byte) (NodeName, error) {
	const op = "peer.DecodeNodeName"
	var n NodeName
	r, err := body(op, formatName, b)
	if err != nil {
		return n, err
	}
	r.Struct(3, "name of a node")
	n.Cell = new(Decoder).cell(&r)
	n.Incarnation = cell.Incarnation(r.Uint())
	n.Node = node(&r)
	return n, finish(op, &r)
}

// AppendSnapshot adds a snapshot as it crosses the wire: [applied, sealed, configuration, [pending configuration], hash, state].
func AppendSnapshot(b []byte, s *paxos.Snapshot) []byte {
	start := len(b)
	b = appendSnapshotHead(append(b, formatSnapshot, storedVersion), s)
	b = wire.AppendBytes(b, s.State)
	return appendSum(b, start)
}

// AppendStoredSnapshot adds a snapshot in its stored form, which is AppendSnapshot's with the state as one block of S2: most of a state is
// remembered outcomes, which are alike (decision 0046).
func AppendStoredSnapshot(b []byte, s *paxos.Snapshot) []byte {
	start := len(b)
	b = appendSnapshotHead(append(b, formatSnapshot, packedVersion), s)
	b = append(b, msgpcode.Bin32, 0, 0, 0, 0)
	at := len(b)
	b = slices.Grow(b, s2.MaxEncodedLen(len(s.State)))
	b = b[:at+len(s2.Encode(b[at:cap(b)], s.State))]
	binary.BigEndian.PutUint32(b[at-4:], uint32(len(b)-at))
	return appendSum(b, start)
}

// appendSnapshotHead adds everything but the state.
func appendSnapshotHead(b []byte, s *paxos.Snapshot) []byte {
	if len(s.State) > StateBytesMax {
		must.That(false, "wire: snapshot state has %d bytes, allowed are %d", len(s.State), StateBytesMax)
	}
	b = wire.AppendArray(b, 6)
	b = wire.AppendUint(b, uint64(s.Applied))
	b = wire.AppendBool(b, s.Sealed)
	b = AppendConfiguration(b, &s.Configuration)
	if s.Pending == nil {
		b = wire.AppendArray(b, 0)
	} else {
		b = AppendConfiguration(wire.AppendArray(b, 1), s.Pending)
	}
	return wire.AppendUint(b, s.Hash)
}

// DecodeSnapshot reads a snapshot with a zero Decoder; see Decoder.DecodeSnapshot.
func DecodeSnapshot(b []byte) (paxos.Snapshot, error) { return new(Decoder).DecodeSnapshot(b) }

// DecodeSnapshot reads what AppendSnapshot wrote; the result does not alias b. The hash is not compared with the state: only the host's
// state machine can compute it. A packed one is refused: what comes from a peer is bounded by its bytes, and would be a thousand times as many.
func (d *Decoder) DecodeSnapshot(b []byte) (paxos.Snapshot, error) {
	return d.snapshot("peer.DecodeSnapshot", storedVersion, b)
}

// DecodeStoredSnapshot reads what AppendStoredSnapshot wrote, or AppendSnapshot: builds before packed states stored those. Otherwise it is
// DecodeSnapshot.
func DecodeStoredSnapshot(b []byte) (paxos.Snapshot, error) {
	return new(Decoder).snapshot("peer.DecodeStoredSnapshot", packedVersion, b)
}

func (d *Decoder) snapshot(op string, most byte, b []byte) (paxos.Snapshot, error) {
	var s paxos.Snapshot
	r, version, err := bodyUpTo(op, formatSnapshot, most, b)
	if err != nil {
		return s, err
	}
	r.Struct(6, "snapshot")
	s.Applied = paxos.Slot(r.Uint())
	s.Sealed = r.Bool()
	d.DecodeConfiguration(&r, &s.Configuration)
	if r.Array(1, "pending configuration") == 1 && r.Err() == nil {
		s.Pending = new(paxos.Configuration)
		d.DecodeConfiguration(&r, s.Pending)
		if c := s.Pending; r.Err() == nil && (c.Number != s.Configuration.Number+1 || c.Since <= s.Applied+1) {
			r.Fail("pending configuration %d since %d does not follow %d at slot %d", c.Number, c.Since, s.Configuration.Number, s.Applied)
		}
	}
	s.Hash = r.Uint()
	if version == packedVersion {
		s.State = unpacked(&r)
	} else {
		s.State = append([]byte(nil), r.Bytes(StateBytesMax, "state")...)
	}
	return s, finish(op, &r)
}

// unpacked consumes a packed state. What it says of its size is judged before memory is taken for it.
func unpacked(r *wire.Reader) []byte {
	b := r.Bytes(packedStateBytesMax, "packed state")
	if r.Err() != nil {
		return nil
	}
	n, err := s2.DecodedLen(b)
	if err == nil && n > StateBytesMax {
		r.Fail("packed state of %d bytes has %d unpacked, allowed are %d", len(b), n, StateBytesMax)
		return nil
	}
	var state []byte
	if err == nil {
		state, err = s2.Decode(nil, b)
	}
	if err != nil {
		r.Fail("packed state of %d bytes: %v", len(b), err)
		return nil
	}
	return state
}

func appendCell(b []byte, id cell.ID) []byte {
	if err := id.Check(); err != nil {
		must.That(false, "wire: cell name that cannot be read back: %v", err)
	}
	return wire.AppendString(b, string(id))
}

// cut shortens a text to at most max bytes without splitting a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
