package wire

import "physalia/cell"

// A snapshot of discovery is a set of objects: parts of bounded size, and a head that names them and is written last. Each
// object is a message of this file in the envelope of package snapshot, which has the version and the checksum.

// Bounds of snapshots.
const (
	SnapshotPartsMax   = 1 << 16
	SnapshotCellsMax   = 1 << 16 // of one part
	SnapshotServersMax = 1 << 14 // of one part
)

// SnapshotPart says what one part must be.
type SnapshotPart struct {
	First   uint32 // cells: the first bucket that it has; it has all up to the next part's first
	Entries uint32 // cells, servers or shares in it
	Bytes   uint64 // of the object
	Sum     uint32 // of the object, CRC-32C
}

// SnapshotHead names the parts of one snapshot.
type SnapshotHead struct {
	Copy    string // which copy wrote it
	Written uint64 // when it was begun, milliseconds since 1970 by that copy's clock
	Cells   uint64
	Servers []SnapshotPart // in order of the numbers that cells name servers by
	Shares  []SnapshotPart
	Routes  []SnapshotPart // in order of buckets
}

// SnapshotServers is a part with servers; the first one of the first part has number 0.
type SnapshotServers struct{ Contacts []Contact }

// SnapshotMember is a member of a cell.
type SnapshotMember struct {
	Node   uint32
	Server uint32 // number in the snapshot
}

// SnapshotCell is a route; without members its incarnation is sealed.
type SnapshotCell struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Configuration uint64
	Members       []SnapshotMember
}

// SnapshotCells is a part with routes.
type SnapshotCells struct{ Cells []SnapshotCell }

// SnapshotShare is what had been taken from one server.
type SnapshotShare struct {
	Server uint32
	Sums   []uint64
}

// SnapshotShares is a part with shares.
type SnapshotShares struct{ Shares []SnapshotShare }

// Append adds [first, entries, bytes, sum].
func (m *SnapshotPart) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 4), uint64(m.First)), uint64(m.Entries))
	return AppendUint(AppendUint(b, m.Bytes), uint64(m.Sum))
}

// Decode reads what Append wrote.
func (m *SnapshotPart) Decode(r *Reader) {
	r.Struct(4, "SnapshotPart")
	*m = SnapshotPart{First: r.Uint32("first bucket"), Entries: r.Uint32("entries"), Bytes: r.Uint(), Sum: r.Uint32("checksum")}
}

// Append adds [copy, written, cells, servers, shares, routes].
func (m *SnapshotHead) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendString(AppendArray(b, 6), m.Copy), m.Written), m.Cells)
	return appendList(appendList(appendList(b, m.Servers), m.Shares), m.Routes)
}

// Decode reads what Append wrote.
func (m *SnapshotHead) Decode(r *Reader) {
	r.Struct(6, "SnapshotHead")
	parts := func(what string) []SnapshotPart {
		return decodeList[SnapshotPart](r, SnapshotPartsMax, 5, what)
	}
	*m = SnapshotHead{Copy: r.String(NameBytesMax, "copy"), Written: r.Uint(), Cells: r.Uint(),
		Servers: parts("parts with servers"), Shares: parts("parts with shares"), Routes: parts("parts with routes")}
}

// Append adds [contacts].
func (m *SnapshotServers) Append(b []byte) []byte { return appendList(AppendArray(b, 1), m.Contacts) }

// Decode reads what Append wrote.
func (m *SnapshotServers) Decode(r *Reader) {
	r.Struct(1, "SnapshotServers")
	m.Contacts = decodeList[Contact](r, SnapshotServersMax, 7, "contacts")
}

// Append adds [node, server].
func (m *SnapshotMember) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendArray(b, 2), uint64(m.Node)), uint64(m.Server))
}

// Decode reads what Append wrote.
func (m *SnapshotMember) Decode(r *Reader) {
	r.Struct(2, "SnapshotMember")
	*m = SnapshotMember{Node: r.Uint32("node number"), Server: r.Uint32("number of a server")}
}

// Append adds [cell, incarnation, configuration, members].
func (m *SnapshotCell) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 4), string(m.Cell)), uint64(m.Incarnation))
	return appendList(AppendUint(b, m.Configuration), m.Members)
}

// Decode reads what Append wrote.
func (m *SnapshotCell) Decode(r *Reader) {
	r.Struct(4, "SnapshotCell")
	*m = SnapshotCell{Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint()), Configuration: r.Uint(),
		Members: decodeList[SnapshotMember](r, MembersMax, 3, "members")}
}

// Append adds [cells].
func (m *SnapshotCells) Append(b []byte) []byte { return appendList(AppendArray(b, 1), m.Cells) }

// Decode reads what Append wrote.
func (m *SnapshotCells) Decode(r *Reader) {
	r.Struct(1, "SnapshotCells")
	m.Cells = decodeList[SnapshotCell](r, SnapshotCellsMax, 5, "cells")
}

// Append adds [server, sums].
func (m *SnapshotShare) Append(b []byte) []byte {
	return appendSums(AppendUint(AppendArray(b, 2), uint64(m.Server)), m.Sums)
}

// Decode reads what Append wrote.
func (m *SnapshotShare) Decode(r *Reader) {
	r.Struct(2, "SnapshotShare")
	*m = SnapshotShare{Server: r.Uint32("number of a server"), Sums: decodeSums(r)}
}

// Append adds [shares].
func (m *SnapshotShares) Append(b []byte) []byte { return appendList(AppendArray(b, 1), m.Shares) }

// Decode reads what Append wrote.
func (m *SnapshotShares) Decode(r *Reader) {
	r.Struct(1, "SnapshotShares")
	m.Shares = decodeList[SnapshotShare](r, SnapshotServersMax, 4, "shares")
}
