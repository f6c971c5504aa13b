package wire

import "physalia/cell"

// The codecs of the messages of health. Every struct is an array of its fields in order.

// Append adds [peers].
func (m *ReportRequest) Append(b []byte) []byte {
	b = AppendArray(b, 1)
	return appendStrings(b, m.Peers)
}

// Decode reads what Append wrote.
func (m *ReportRequest) Decode(r *Reader) {
	r.Struct(1, "ReportRequest")
	*m = ReportRequest{
		Peers: decodeStrings[cell.ServerID](r, BatchMax, cell.ServerIDBytesMax, "peers"),
	}
}

// Append adds [lane, age, gossip].
func (m *PeerHeard) Append(b []byte) []byte {
	b = AppendArray(b, 3)
	b = AppendBool(b, m.Lane)
	b = AppendUint(b, m.Age)
	return AppendBool(b, m.Gossip)
}

// Decode reads what Append wrote.
func (m *PeerHeard) Decode(r *Reader) {
	r.Struct(3, "PeerHeard")
	*m = PeerHeard{
		Lane:   r.Bool(),
		Age:    r.Uint(),
		Gossip: r.Bool(),
	}
}

// Append adds [peers, sampled, bytes].
func (m *ServerReport) Append(b []byte) []byte {
	b = AppendArray(b, 3)
	b = appendList(b, m.Peers)
	b = AppendUint(b, m.Sampled)
	return AppendUint(b, m.Bytes)
}

// Decode reads what Append wrote.
func (m *ServerReport) Decode(r *Reader) {
	r.Struct(3, "ServerReport")
	*m = ServerReport{
		Peers:   decodeList[PeerHeard](r, BatchMax, 4, "peers"),
		Sampled: r.Uint(),
		Bytes:   r.Uint(),
	}
}

// Append adds [limit].
func (m *ListHealth) Append(b []byte) []byte {
	b = AppendArray(b, 1)
	return AppendUint(b, uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *ListHealth) Decode(r *Reader) {
	r.Struct(1, "ListHealth")
	*m = ListHealth{
		Limit: decodeLimit(r),
	}
}

// Append adds [control, holds, pools, budgets, cells, cut, unreachable, dead, counts].
func (m *HealthReport) Append(b []byte) []byte {
	b = AppendArray(b, 9)
	b = AppendString(b, m.Control)
	b = appendList(b, m.Holds)
	b = appendList(b, m.Pools)
	b = appendList(b, m.Budgets)
	b = appendList(b, m.Cells)
	b = AppendBool(b, m.Cut)
	b = appendList(b, m.Unreachable)
	b = appendList(b, m.Dead)
	return appendList(b, m.Counts)
}

// Decode reads what Append wrote.
func (m *HealthReport) Decode(r *Reader) {
	r.Struct(9, "HealthReport")
	*m = HealthReport{
		Control:     r.String(NameBytesMax, "control process"),
		Holds:       decodeList[HoldInfo](r, BatchMax, 7, "holds"),
		Pools:       decodeList[PoolHealth](r, BatchMax, 11, "pools"),
		Budgets:     decodeList[BudgetInfo](r, BatchMax, 6, "budgets"),
		Cells:       decodeList[CellHealth](r, ListLimitMax, 6, "cells"),
		Cut:         r.Bool(),
		Unreachable: decodeList[ServerSince](r, ListLimitMax, 4, "unreachable servers"),
		Dead:        decodeList[ServerSince](r, ListLimitMax, 4, "dead servers"),
		Counts:      decodeList[HealthCount](r, BatchMax, 3, "counts"),
	}
}

// Append adds [domain, died, size, away, since, left].
func (m *HoldInfo) Append(b []byte) []byte {
	b = AppendArray(b, 6)
	b = AppendString(b, m.Domain)
	b = AppendUint(b, m.Died)
	b = AppendUint(b, m.Size)
	b = AppendUint(b, m.Away)
	b = AppendUint(b, m.Since)
	return AppendUint(b, m.Left)
}

// Decode reads what Append wrote.
func (m *HoldInfo) Decode(r *Reader) {
	r.Struct(6, "HoldInfo")
	*m = HoldInfo{
		Domain: r.String(DomainBytesMax, "domain"),
		Died:   r.Uint(),
		Size:   r.Uint(),
		Away:   r.Uint(),
		Since:  r.Uint(),
		Left:   r.Uint(),
	}
}

// Append adds [brick, color, owned, waiting, held, lost, aged, urgent, brink, refused].
func (m *PoolHealth) Append(b []byte) []byte {
	b = AppendArray(b, 10)
	b = AppendString(b, m.Brick)
	b = AppendString(b, m.Color)
	b = AppendBool(b, m.Owned)
	b = AppendUint(b, m.Waiting)
	b = AppendUint(b, m.Held)
	b = AppendUint(b, m.Lost)
	b = AppendUint(b, m.Aged)
	b = AppendUint(b, m.Urgent)
	b = AppendUint(b, m.Brink)
	return AppendString(b, cut(m.Refused, DetailBytesMax))
}

// Decode reads what Append wrote.
func (m *PoolHealth) Decode(r *Reader) {
	r.Struct(10, "PoolHealth")
	*m = PoolHealth{
		Brick:   r.String(NameBytesMax, "brick"),
		Color:   r.String(NameBytesMax, "color"),
		Owned:   r.Bool(),
		Waiting: r.Uint(),
		Held:    r.Uint(),
		Lost:    r.Uint(),
		Aged:    r.Uint(),
		Urgent:  r.Uint(),
		Brink:   r.Uint(),
		Refused: r.String(DetailBytesMax, "refusal"),
	}
}

// Append adds [of, repairs, bytes, repairs left, bytes left].
func (m *BudgetInfo) Append(b []byte) []byte {
	b = AppendArray(b, 5)
	b = AppendString(b, m.Of)
	b = AppendUint(b, m.Repairs)
	b = AppendUint(b, m.Bytes)
	b = AppendUint(b, m.RepairsLeft)
	return AppendUint(b, m.BytesLeft)
}

// Decode reads what Append wrote.
func (m *BudgetInfo) Decode(r *Reader) {
	r.Struct(5, "BudgetInfo")
	*m = BudgetInfo{
		Of:          r.String(DomainBytesMax, "budget"),
		Repairs:     r.Uint(),
		Bytes:       r.Uint(),
		RepairsLeft: r.Uint(),
		BytesLeft:   r.Uint(),
	}
}

// Append adds [cell, incarnation, class, doing, members].
func (m *CellHealth) Append(b []byte) []byte {
	b = AppendArray(b, 5)
	b = AppendString(b, string(m.Cell))
	b = AppendUint(b, uint64(m.Incarnation))
	b = AppendString(b, m.Class)
	b = AppendString(b, cut(m.Doing, DetailBytesMax))
	return appendList(b, m.Members)
}

// Decode reads what Append wrote.
func (m *CellHealth) Decode(r *Reader) {
	r.Struct(5, "CellHealth")
	*m = CellHealth{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		Class:       r.String(NameBytesMax, "class"),
		Doing:       r.String(DetailBytesMax, "doing"),
		Members:     decodeList[MemberHealth](r, MembersMax, 5, "members"),
	}
}

// Append adds [server, state, for, held].
func (m *MemberHealth) Append(b []byte) []byte {
	b = AppendArray(b, 4)
	b = AppendString(b, string(m.Server))
	b = AppendString(b, m.State)
	b = AppendUint(b, m.For)
	return AppendBool(b, m.Held)
}

// Decode reads what Append wrote.
func (m *MemberHealth) Decode(r *Reader) {
	r.Struct(4, "MemberHealth")
	*m = MemberHealth{
		Server: decodeServer(r),
		State:  r.String(NameBytesMax, "state"),
		For:    r.Uint(),
		Held:   r.Bool(),
	}
}

// Append adds [server, state, for].
func (m *ServerSince) Append(b []byte) []byte {
	b = AppendArray(b, 3)
	b = AppendString(b, string(m.Server))
	b = AppendString(b, m.State)
	return AppendUint(b, m.For)
}

// Decode reads what Append wrote.
func (m *ServerSince) Decode(r *Reader) {
	r.Struct(3, "ServerSince")
	*m = ServerSince{
		Server: decodeServer(r),
		State:  r.String(NameBytesMax, "state"),
		For:    r.Uint(),
	}
}

// Append adds [name, value].
func (m *HealthCount) Append(b []byte) []byte {
	b = AppendArray(b, 2)
	b = AppendString(b, m.Name)
	return AppendUint(b, m.Value)
}

// Decode reads what Append wrote.
func (m *HealthCount) Decode(r *Reader) {
	r.Struct(2, "HealthCount")
	*m = HealthCount{
		Name:  r.String(NameBytesMax, "name"),
		Value: r.Uint(),
	}
}

// Append adds [domain].
func (m *EndHold) Append(b []byte) []byte {
	b = AppendArray(b, 1)
	return AppendString(b, m.Domain)
}

// Decode reads what Append wrote.
func (m *EndHold) Decode(r *Reader) {
	r.Struct(1, "EndHold")
	*m = EndHold{
		Domain: r.String(DomainBytesMax, "domain"),
	}
}
