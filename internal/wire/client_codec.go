package wire

import "physalia/cell"

// Append adds [cell, incarnation, timeout, trace, attempt].
func (m *Header) Append(b []byte) []byte {
	b = AppendString(AppendArray(b, 5), string(m.Cell))
	b = AppendUint(b, uint64(m.Incarnation))
	b = AppendUint(b, uint64(m.Timeout))
	b = AppendUint(b, m.Trace)
	return AppendUint(b, uint64(m.Attempt))
}

// Decode reads what Append wrote.
func (m *Header) Decode(r *Reader) {
	r.Struct(5, "header")
	m.Cell = decodeID(r)
	m.Incarnation = cell.Incarnation(r.Uint())
	m.Timeout = r.Uint32("timeout")
	m.Trace = r.Uint()
	m.Attempt = r.Uint32("attempt")
}

// Append adds [header, request identity, transaction].
func (m *TxnRequest) Append(b []byte) []byte {
	b = m.Header.Append(AppendArray(b, 3))
	return AppendTxn(AppendIdentity(b, &m.Request), &m.Txn)
}

// Decode reads what Append wrote.
func (m *TxnRequest) Decode(r *Reader) {
	r.Struct(3, "TxnRequest")
	m.Header.Decode(r)
	DecodeIdentity(r, &m.Request)
	DecodeTxn(r, &m.Txn)
}

// UnmarshalTxn is Unmarshal for a TxnRequest, with m on the caller's stack. What is logged of it, its identity and its transaction, it
// also returns as it came, in buf's memory, for AppendTxnCommand: nil when it came in another form than the one that commands have,
// which is allowed, and costs its decoder a second try.
func UnmarshalTxn(buf []byte, m *TxnRequest) (logged []byte, err error) {
	r := NewReader(buf)
	r.Struct(3, "TxnRequest")
	m.Header.Decode(&r)
	start := r
	r.canonical = true
	DecodeIdentity(&r, &m.Request)
	DecodeTxn(&r, &m.Txn)
	if r.Done() == nil {
		return buf[start.off:], nil
	}
	r = start
	DecodeIdentity(&r, &m.Request)
	DecodeTxn(&r, &m.Txn)
	return nil, unmarshalled(&r, (*TxnRequest)(nil))
}

// UnmarshalRead is Unmarshal for a ReadRequest, with m on the caller's stack.
func UnmarshalRead(buf []byte, m *ReadRequest) error {
	r := NewReader(buf)
	m.Decode(&r)
	return unmarshalled(&r, (*ReadRequest)(nil))
}

// Append adds [incarnation, result].
func (m *TxnReply) Append(b []byte) []byte {
	return AppendTxnResult(AppendUint(AppendArray(b, 2), uint64(m.Incarnation)), &m.Result)
}

// Decode reads what Append wrote.
func (m *TxnReply) Decode(r *Reader) {
	r.Struct(2, "TxnReply")
	m.Incarnation = cell.Incarnation(r.Uint())
	DecodeTxnResult(r, &m.Result)
}

// UnmarshalFate is Unmarshal for a TxnReply to one who does not look at the results of the operations: they are left out, and of them
// only the structure is checked (ValidateStructure).
func UnmarshalFate(buf []byte, m *TxnReply) error {
	r := NewReader(buf)
	r.Struct(2, "TxnReply")
	m.Incarnation = cell.Incarnation(r.Uint())
	decodeFate(&r, &m.Result)
	r.raw("results")
	return unmarshalled(&r, (*TxnReply)(nil))
}

// Append adds [header, stale, least revision, transaction, confirm].
func (m *ReadRequest) Append(b []byte) []byte {
	b = AppendBool(m.Header.Append(AppendArray(b, 5)), m.Stale)
	return AppendBool(AppendTxn(AppendUint(b, uint64(m.Least)), &m.Txn), m.Confirm)
}

// Decode reads what Append wrote.
func (m *ReadRequest) Decode(r *Reader) {
	r.Struct(5, "ReadRequest")
	m.Header.Decode(r)
	m.Stale = r.Bool()
	m.Least = cell.Revision(r.Uint())
	DecodeTxn(r, &m.Txn)
	m.Confirm = r.Bool()
}

// Append adds [incarnation, result].
func (m *ReadReply) Append(b []byte) []byte {
	return AppendTxnResult(AppendUint(AppendArray(b, 2), uint64(m.Incarnation)), &m.Result)
}

// Decode reads what Append wrote.
func (m *ReadReply) Decode(r *Reader) {
	r.Struct(2, "ReadReply")
	m.Incarnation = cell.Incarnation(r.Uint())
	DecodeTxnResult(r, &m.Result)
}

// Append adds [header].
func (m *ExplainRequest) Append(b []byte) []byte { return m.Header.Append(AppendArray(b, 1)) }

// Decode reads what Append wrote.
func (m *ExplainRequest) Decode(r *Reader) {
	r.Struct(1, "ExplainRequest")
	m.Header.Decode(r)
}

// Append adds the fields in the order of the struct.
func (m *Explanation) Append(b []byte) []byte {
	b = AppendString(AppendArray(b, 19), string(m.Server))
	b = AppendString(b, string(m.Cell))
	b = AppendUint(AppendUint(b, uint64(m.Incarnation)), m.Node)
	b = AppendString(AppendString(AppendString(b, m.State), m.Role), m.Promised)
	b = AppendString(b, string(m.Leader))
	b = AppendUint(AppendUint(AppendUint(b, m.Applied), m.Chosen), m.Floor)
	b = AppendUint(AppendUint(b, m.Configuration), uint64(m.Revision))
	b = AppendUint(AppendUint(AppendUint(b, m.Keys), m.Bytes), m.StateHash)
	b = AppendString(appendList(b, m.Members), cut(m.Note, DetailBytesMax))
	return AppendBool(b, m.ReadLease)
}

// Decode reads what Append wrote.
func (m *Explanation) Decode(r *Reader) {
	r.Struct(19, "Explanation")
	*m = Explanation{
		Server:        decodeServer(r),
		Cell:          decodeID(r),
		Incarnation:   cell.Incarnation(r.Uint()),
		Node:          r.Uint(),
		State:         r.String(NameBytesMax, "state"),
		Role:          r.String(NameBytesMax, "role"),
		Promised:      r.String(NameBytesMax, "promised ballot"),
		Leader:        decodeServer(r),
		Applied:       r.Uint(),
		Chosen:        r.Uint(),
		Floor:         r.Uint(),
		Configuration: r.Uint(),
		Revision:      cell.Revision(r.Uint()),
		Keys:          r.Uint(),
		Bytes:         r.Uint(),
		StateHash:     r.Uint(),
		Members:       decodeList[ExplainedMember](r, MembersMax, 8, "members"),
		Note:          r.String(DetailBytesMax, "note"),
		ReadLease:     r.Bool(),
	}
}

// Append adds [node, server, address, alive, supported, supports, confirmed].
func (m *ExplainedMember) Append(b []byte) []byte {
	b = AppendString(AppendUint(AppendArray(b, 7), m.Node), string(m.Server))
	b = AppendBool(AppendString(b, m.Addr), m.Alive)
	return AppendBool(AppendBool(AppendBool(b, m.Supported), m.Supports), m.Confirmed)
}

// Decode reads what Append wrote.
func (m *ExplainedMember) Decode(r *Reader) {
	r.Struct(7, "ExplainedMember")
	*m = ExplainedMember{Node: r.Uint(), Server: decodeServer(r), Addr: r.String(AddrBytesMax, "address"), Alive: r.Bool(),
		Supported: r.Bool(), Supports: r.Bool(), Confirmed: r.Bool()}
}

// Append adds the fields in the order of the struct.
func (m *ServerInfo) Append(b []byte) []byte {
	b = AppendString(AppendArray(b, 12), string(m.Server))
	for _, s := range [...]string{m.Name, m.Colony, m.Brick, m.Rack, m.Power, m.Color, m.Version} {
		b = AppendString(b, s)
	}
	return AppendUint(AppendUint(AppendUint(AppendUint(b, m.Boot), m.Nodes), m.Hot), m.Peers)
}

// Decode reads what Append wrote.
func (m *ServerInfo) Decode(r *Reader) {
	r.Struct(12, "ServerInfo")
	*m = ServerInfo{
		Server:  decodeServer(r),
		Name:    r.String(NameBytesMax, "server name"),
		Colony:  r.String(NameBytesMax, "colony"),
		Brick:   r.String(NameBytesMax, "brick"),
		Rack:    r.String(NameBytesMax, "rack"),
		Power:   r.String(NameBytesMax, "power domain"),
		Color:   r.String(NameBytesMax, "color"),
		Version: r.String(NameBytesMax, "version"),
		Boot:    r.Uint(),
		Nodes:   r.Uint(),
		Hot:     r.Uint(),
		Peers:   r.Uint(),
	}
}
