package wire

import "physalia/cell"

// The methods by which the instance that watches a brick asks the active one for repairs, and whom to miss.
const (
	MethodPropose  = "lifecycle.propose"  // control -> control: ProposeRepair -> nothing, or why not
	MethodWithdraw = "lifecycle.withdraw" // control -> control: WithdrawRepair -> Withdrawn
	MethodKnown    = "lifecycle.known"    // control -> control: ListServers -> ServerList, of all servers that the store remembers
)

// ProposeRepair asks for a member to be replaced because its server is dead.
type ProposeRepair struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Remove      cell.ServerID
	Raise       bool   // a cell at the brink is raised by one under a hold
	Why         string // for people
}

// WhyBytesMax bounds ProposeRepair.Why.
const WhyBytesMax = 512

// WithdrawRepair asks to give a proposed replacement up while nothing but planning has happened.
type WithdrawRepair struct {
	Cell   cell.ID
	Remove cell.ServerID
}

// Withdrawn tells whether it was given up.
type Withdrawn struct{ Given bool }

// Append adds [cell, incarnation, remove, raise, why].
func (m *ProposeRepair) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 5), string(m.Cell)), uint64(m.Incarnation))
	return AppendString(AppendBool(AppendString(b, string(m.Remove)), m.Raise), m.Why)
}

// Decode reads what Append wrote.
func (m *ProposeRepair) Decode(r *Reader) {
	r.Struct(5, "ProposeRepair")
	*m = ProposeRepair{Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint()), Remove: decodeServer(r), Raise: r.Bool(), Why: r.String(WhyBytesMax, "why")}
}

// Append adds [cell, remove].
func (m *WithdrawRepair) Append(b []byte) []byte {
	return AppendString(AppendString(AppendArray(b, 2), string(m.Cell)), string(m.Remove))
}

// Decode reads what Append wrote.
func (m *WithdrawRepair) Decode(r *Reader) {
	r.Struct(2, "WithdrawRepair")
	*m = WithdrawRepair{Cell: decodeID(r), Remove: decodeServer(r)}
}

// Append adds [given].
func (m *Withdrawn) Append(b []byte) []byte { return AppendBool(AppendArray(b, 1), m.Given) }

// Decode reads what Append wrote.
func (m *Withdrawn) Decode(r *Reader) {
	r.Struct(1, "Withdrawn")
	*m = Withdrawn{Given: r.Bool()}
}
