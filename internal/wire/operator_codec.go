package wire

import "physalia/cell"

// The codecs of routes and of what clients and operators ask of the control plane. Every struct is an array of its
// fields in order.

// Append adds [cell, incarnation, configuration, members, deleted].
func (m *Route) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 5), string(m.Cell)), uint64(m.Incarnation))
	return AppendBool(appendList(AppendUint(b, m.Configuration), m.Members), m.Deleted)
}

// Decode reads what Append wrote.
func (m *Route) Decode(r *Reader) {
	r.Struct(5, "Route")
	*m = Route{
		Cell:          decodeID(r),
		Incarnation:   cell.Incarnation(r.Uint()),
		Configuration: r.Uint(),
		Members:       decodeMembers(r),
		Deleted:       r.Bool(),
	}
}

// decodeRoutes reads a batch of routes.
func decodeRoutes(r *Reader) []Route { return decodeList[Route](r, BatchMax, 6, "routes") }

// Append adds [cells].
func (m *LookupRequest) Append(b []byte) []byte { return appendStrings(AppendArray(b, 1), m.Cells) }

// Decode reads what Append wrote.
func (m *LookupRequest) Decode(r *Reader) {
	r.Struct(1, "LookupRequest")
	m.Cells = decodeStrings[cell.ID](r, BatchMax, cell.IDBytesMax, "cells")
}

// Append adds [routes, ages, filling].
func (m *Routes) Append(b []byte) []byte {
	return AppendBool(appendNumbers(appendList(AppendArray(b, 3), m.Routes), m.Ages), m.Filling)
}

// Decode reads what Append wrote.
func (m *Routes) Decode(r *Reader) {
	r.Struct(3, "Routes")
	*m = Routes{Routes: decodeRoutes(r), Ages: decodeNumbers[uint32](r, BatchMax, AgeNever, "ages"), Filling: r.Bool()}
}

// Append adds [cells, brick, color, wait].
func (m *CreateCells) Append(b []byte) []byte {
	b = appendStrings(AppendArray(b, 4), m.Cells)
	return AppendUint(AppendString(AppendString(b, m.Brick), m.Color), uint64(m.Wait))
}

// Decode reads what Append wrote.
func (m *CreateCells) Decode(r *Reader) {
	r.Struct(4, "CreateCells")
	*m = CreateCells{
		Cells: decodeStrings[cell.ID](r, BatchMax, cell.IDBytesMax, "cells"),
		Brick: r.String(NameBytesMax, "brick"),
		Color: r.String(NameBytesMax, "color"),
		Wait:  r.Uint32("wait"),
	}
}

// Append adds [drops, wait].
func (m *DeleteCells) Append(b []byte) []byte {
	return AppendUint(appendList(AppendArray(b, 2), m.Drops), uint64(m.Wait))
}

// Decode reads what Append wrote.
func (m *DeleteCells) Decode(r *Reader) {
	r.Struct(2, "DeleteCells")
	*m = DeleteCells{Drops: decodeDrops(r), Wait: r.Uint32("wait")}
}

// Append adds [after, prefix, limit].
func (m *ListCells) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 3), string(m.After)), m.Prefix)
	return AppendUint(b, uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *ListCells) Decode(r *Reader) {
	r.Struct(3, "ListCells")
	*m = ListCells{After: decodeID(r), Prefix: r.String(cell.IDBytesMax, "prefix"), Limit: decodeLimit(r)}
}

// Append adds the description of a cell.
func (m *CellInfo) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 10), string(m.Cell)), uint64(m.Incarnation))
	b = AppendString(AppendString(AppendString(b, m.State), m.Brick), m.Color)
	b = AppendInt(AppendUint(appendList(b, m.Members), uint64(m.Live)), int64(m.Margin))
	return AppendString(AppendUint(b, m.Plan), cut(m.Waiting, DetailBytesMax))
}

// Decode reads what Append wrote.
func (m *CellInfo) Decode(r *Reader) {
	r.Struct(10, "CellInfo")
	*m = CellInfo{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		State:       r.String(NameBytesMax, "state"),
		Brick:       r.String(NameBytesMax, "brick"),
		Color:       r.String(NameBytesMax, "color"),
		Members:     decodeMembers(r),
		Live:        r.Uint32("live members"),
		Margin:      decodeMargin(r),
		Plan:        r.Uint(),
		Waiting:     r.String(DetailBytesMax, "what is waited for"),
	}
}

// Append adds [cells, more].
func (m *CellList) Append(b []byte) []byte {
	return AppendBool(appendList(AppendArray(b, 2), m.Cells), m.More)
}

// Decode reads what Append wrote.
func (m *CellList) Decode(r *Reader) {
	r.Struct(2, "CellList")
	*m = CellList{Cells: decodeList[CellInfo](r, ListLimitMax, 11, "cells"), More: r.Bool()}
}

// Append adds [registration, up, since].
func (m *ServerState) Append(b []byte) []byte {
	return AppendUint(AppendBool(m.Registration.Append(AppendArray(b, 3)), m.Up), m.Since)
}

// Decode reads what Append wrote.
func (m *ServerState) Decode(r *Reader) {
	r.Struct(3, "ServerState")
	m.Registration.Decode(r)
	m.Up, m.Since = r.Bool(), r.Uint()
}

// Append adds [after, limit].
func (m *ListServers) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendArray(b, 2), string(m.After)), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *ListServers) Decode(r *Reader) {
	r.Struct(2, "ListServers")
	*m = ListServers{After: decodeServer(r), Limit: decodeLimit(r)}
}

// Append adds [servers, more].
func (m *ServerList) Append(b []byte) []byte {
	return AppendBool(appendList(AppendArray(b, 2), m.Servers), m.More)
}

// Decode reads what Append wrote.
func (m *ServerList) Decode(r *Reader) {
	r.Struct(2, "ServerList")
	*m = ServerList{Servers: decodeList[ServerState](r, ListLimitMax, 17, "servers"), More: r.Bool()}
}
