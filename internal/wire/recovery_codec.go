package wire

import "physalia/cell"

// The codecs of the messages of recovery. Every struct is an array of its fields in order.

// Append adds [cell, incarnation, timeout, content].
func (m *ExportNode) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 4), string(m.Cell)), uint64(m.Incarnation))
	return AppendBool(AppendUint(b, uint64(m.Timeout)), m.Content)
}

// Decode reads what Append wrote.
func (m *ExportNode) Decode(r *Reader) {
	r.Struct(4, "ExportNode")
	*m = ExportNode{Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint()), Timeout: r.Uint32("timeout"), Content: r.Bool()}
}

// Append adds [slot, round, node, entry].
func (m *Accepted) Append(b []byte) []byte {
	return AppendBytes(AppendUint(AppendUint(AppendUint(AppendArray(b, 4), m.Slot), m.Round), m.Node), m.Entry)
}

// Decode reads what Append wrote; the entry is copied.
func (m *Accepted) Decode(r *Reader) {
	r.Struct(4, "Accepted")
	*m = Accepted{Slot: r.Uint(), Round: r.Uint(), Node: r.Uint(), Entry: decodeBytes(r, ExportBytesMax, "entry")}
}

// decodeBytes copies bytes out of the reader's buffer; nil when there are none.
func decodeBytes(r *Reader, most int, what string) []byte {
	return append([]byte(nil), r.Bytes(most, what)...)
}

// decodeAccepted reads the records of one member.
func decodeAccepted(r *Reader) []Accepted {
	return decodeList[Accepted](r, ExportRecordsMax, 5, "accepted records")
}

// Append adds the fields of the export.
func (m *NodeExport) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 15), string(m.Cell)), uint64(m.Incarnation))
	b = appendStrings(AppendUint(AppendUint(b, m.Node), m.Configuration), m.Jury)
	b = AppendString(appendStrings(b, m.Others), m.Promised)
	b = AppendUint(AppendUint(AppendUint(b, m.Applied), m.Known), uint64(m.Revision))
	b = AppendBool(AppendUint(b, m.StateHash), m.Sealed)
	return AppendBytes(AppendBool(appendList(b, m.Accepted), m.Cut), m.State)
}

// Decode reads what Append wrote; the state is copied.
func (m *NodeExport) Decode(r *Reader) {
	r.Struct(15, "NodeExport")
	*m = NodeExport{
		Cell:          decodeID(r),
		Incarnation:   cell.Incarnation(r.Uint()),
		Node:          r.Uint(),
		Configuration: r.Uint(),
		Jury:          decodeStrings[cell.ServerID](r, 2*MembersMax, cell.ServerIDBytesMax, "jury"),
		Others:        decodeStrings[cell.ServerID](r, 2*MembersMax, cell.ServerIDBytesMax, "others"),
		Promised:      r.String(NameBytesMax, "promised ballot"),
		Applied:       r.Uint(),
		Known:         r.Uint(),
		Revision:      cell.Revision(r.Uint()),
		StateHash:     r.Uint(),
		Sealed:        r.Bool(),
		Accepted:      decodeAccepted(r),
		Cut:           r.Bool(),
		State:         decodeBytes(r, RecoveryStateBytesMax, "state"),
	}
}

// Append adds [founding, applied, state hash, state, kept].
func (m *Recovery) Append(b []byte) []byte {
	b = AppendUint(AppendUint(m.Founding.Append(AppendArray(b, 5)), m.Applied), m.StateHash)
	return appendList(AppendBytes(b, m.State), m.Kept)
}

// Decode reads what Append wrote; the state is copied.
func (m *Recovery) Decode(r *Reader) {
	r.Struct(5, "Recovery")
	m.Founding.Decode(r)
	m.Applied, m.StateHash = r.Uint(), r.Uint()
	m.State = decodeBytes(r, RecoveryStateBytesMax, "state")
	m.Kept = decodeAccepted(r)
}

// Append adds [recoveries].
func (m *RecoverNodes) Append(b []byte) []byte { return appendList(AppendArray(b, 1), m.Recoveries) }

// Decode reads what Append wrote.
func (m *RecoverNodes) Decode(r *Reader) {
	r.Struct(1, "RecoverNodes")
	m.Recoveries = decodeList[Recovery](r, BatchMax, 11, "recoveries")
}

// Append adds [dead, cells, after, limit].
func (m *PlanRecovery) Append(b []byte) []byte {
	b = AppendString(appendStrings(appendStrings(AppendArray(b, 4), m.Dead), m.Cells), string(m.After))
	return AppendUint(b, uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *PlanRecovery) Decode(r *Reader) {
	r.Struct(4, "PlanRecovery")
	*m = PlanRecovery{
		Dead:  decodeStrings[cell.ServerID](r, BatchMax, cell.ServerIDBytesMax, "dead servers"),
		Cells: decodeStrings[cell.ID](r, RecoveryPageMax, cell.IDBytesMax, "cells"),
		After: decodeID(r),
		Limit: r.Uint32("limit of a page"),
	}
}

// Append adds [server, node, promised, applied, known, accepted, note].
func (m *Survivor) Append(b []byte) []byte {
	b = AppendString(AppendUint(AppendString(AppendArray(b, 7), string(m.Server)), m.Node), m.Promised)
	return AppendString(AppendUint(AppendUint(AppendUint(b, m.Applied), m.Known), m.Accepted), cut(m.Note, DetailBytesMax))
}

// Decode reads what Append wrote.
func (m *Survivor) Decode(r *Reader) {
	r.Struct(7, "Survivor")
	*m = Survivor{Server: decodeServer(r), Node: r.Uint(), Promised: r.String(NameBytesMax, "promised ballot"), Applied: r.Uint(),
		Known: r.Uint(), Accepted: r.Uint(), Note: r.String(DetailBytesMax, "note")}
}

// Append adds the plan for one cell.
func (m *RecoveryCell) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendString(AppendArray(b, 15), string(m.Cell)), uint64(m.Incarnation)), m.Plan)
	b = appendStrings(AppendString(AppendString(b, m.Brick), m.Color), m.Lost)
	b = AppendString(appendList(b, m.Survivors), string(m.Source))
	b = AppendUint(AppendUint(AppendUint(AppendUint(b, m.Applied), m.Slot), m.Known), uint64(m.Revision))
	return AppendString(AppendUint(appendList(b, m.Members), m.Owner), cut(m.Problem, DetailBytesMax))
}

// Decode reads what Append wrote.
func (m *RecoveryCell) Decode(r *Reader) {
	r.Struct(15, "RecoveryCell")
	*m = RecoveryCell{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		Plan:        r.Uint(),
		Brick:       r.String(NameBytesMax, "brick"),
		Color:       r.String(NameBytesMax, "color"),
		Lost:        decodeStrings[cell.ServerID](r, 4*MembersMax, cell.ServerIDBytesMax, "lost members"),
		Survivors:   decodeList[Survivor](r, 4*MembersMax, 8, "survivors"),
		Source:      decodeServer(r),
		Applied:     r.Uint(),
		Slot:        r.Uint(),
		Known:       r.Uint(),
		Revision:    cell.Revision(r.Uint()),
		Members:     decodeMembers(r),
		Owner:       r.Uint(),
		Problem:     r.String(DetailBytesMax, "problem"),
	}
}

// decodeRecoveryCells reads the cells of a plan.
func decodeRecoveryCells(r *Reader) []RecoveryCell {
	return decodeList[RecoveryCell](r, RecoveryPageMax, 16, "cells of a recovery")
}

// Append adds [cells, last, more].
func (m *RecoveryPlan) Append(b []byte) []byte {
	return AppendBool(AppendString(appendList(AppendArray(b, 3), m.Cells), string(m.Last)), m.More)
}

// Decode reads what Append wrote.
func (m *RecoveryPlan) Decode(r *Reader) {
	r.Struct(3, "RecoveryPlan")
	*m = RecoveryPlan{Cells: decodeRecoveryCells(r), Last: decodeID(r), More: r.Bool()}
}

// Append adds [dead, cells, wait].
func (m *RecoverCells) Append(b []byte) []byte {
	return AppendUint(appendList(appendStrings(AppendArray(b, 3), m.Dead), m.Cells), uint64(m.Wait))
}

// Decode reads what Append wrote.
func (m *RecoverCells) Decode(r *Reader) {
	r.Struct(3, "RecoverCells")
	*m = RecoverCells{
		Dead:  decodeStrings[cell.ServerID](r, BatchMax, cell.ServerIDBytesMax, "dead servers"),
		Cells: decodeRecoveryCells(r),
		Wait:  r.Uint32("wait"),
	}
}
