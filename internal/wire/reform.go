package wire

import "physalia/cell"

// The methods that change who the members of a cell are.
const (
	MethodChange        = "cell.change"       // control -> server: ChangeCell -> Configured
	MethodCreateLearner = "node.learner"      // control -> server: CreateLearner -> nothing
	MethodReplaceMember = "lifecycle.replace" // operator -> control: ReplaceMember -> Outcomes, of one element
)

// ChangeKind says what a ChangeCell asks for; each names the fields that it uses beside Number.
type ChangeKind uint8

// The kinds of a change. All but Look are refused as Stale by a cell whose configuration has another number.
const (
	Look        ChangeKind = 0 // nothing is changed; the proposer tells its configuration, once it is known to be the proposer still
	AddLearner  ChangeKind = 1 // Server, Request: a node number is issued, which Configured.Node tells
	DropLearner ChangeKind = 2 // New
	Replace     ChangeKind = 3 // Old, New: the learner New becomes a member in the place of Old
	HandOver    ChangeKind = 4 // New: this member shall be the proposer
)

// ChangeCell asks a cell's proposer for one change of its configuration (rules 3 and 4). It is answered when the change is
// chosen: who asks again, because the answer was lost, is told so by the number, or gets the same answer. Unavailable with
// RetryAfter means "not yet": the learner lacks something, or the change before is not settled.
type ChangeCell struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Timeout     uint32 // milliseconds
	Attempt     uint32 // as in Header
	Kind        ChangeKind
	Request     uint64 // AddLearner: the same request gets the same number
	Number      uint64 // of the configuration that the change was planned for
	Old, New    uint64
	Server      cell.ServerID
}

// Configured is a cell's configuration as its proposer runs it.
type Configured struct {
	Incarnation cell.Incarnation
	Number      uint64
	Alpha       uint32
	Busy        bool      // a change is not in force yet, or the member that left is still needed
	Node        uint64    // AddLearner: the number issued
	Members     []Founder // the jury, by node number
	Learners    []Founder
}

// CreateLearner asks a server to create a node that the cell has issued a number to. It is durable before it is answered,
// and answered alike however often it is asked.
type CreateLearner struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Node        uint64 // issued by the cell
	Request     uint64 // with which it was asked for
	Number      uint64 // of the configuration that follows
	Alpha       uint32
	Members     []Founder // whom to ask
}

// ReplaceMember asks the lifecycle manager to replace the member on one server by one on another. It is answered when the
// cell runs the new configuration and needs the old member no more, or after Wait with what is missing; asked again, it
// goes on where it is.
type ReplaceMember struct {
	Cell   cell.ID
	Remove cell.ServerID
	Add    cell.ServerID // empty: placement chooses
	Wait   uint32        // milliseconds
}

// Append adds the fields in the order of the struct.
func (m *ChangeCell) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 10), string(m.Cell)), uint64(m.Incarnation))
	b = AppendUint(AppendUint(b, uint64(m.Timeout)), uint64(m.Attempt))
	b = AppendUint(AppendUint(b, uint64(m.Kind)), m.Request)
	b = AppendUint(AppendUint(AppendUint(b, m.Number), m.Old), m.New)
	return AppendString(b, string(m.Server))
}

// Decode reads what Append wrote.
func (m *ChangeCell) Decode(r *Reader) {
	r.Struct(10, "ChangeCell")
	*m = ChangeCell{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		Timeout:     r.Uint32("timeout"),
		Attempt:     r.Uint32("attempt"),
		Kind:        ChangeKind(r.UintMax(uint64(HandOver), "kind of change")),
		Request:     r.Uint(),
		Number:      r.Uint(),
		Old:         r.Uint(),
		New:         r.Uint(),
		Server:      decodeServer(r),
	}
}

// Append adds the fields in the order of the struct.
func (m *Configured) Append(b []byte) []byte {
	b = AppendUint(AppendUint(AppendArray(b, 7), uint64(m.Incarnation)), m.Number)
	b = AppendUint(AppendBool(AppendUint(b, uint64(m.Alpha)), m.Busy), m.Node)
	return appendList(appendList(b, m.Members), m.Learners)
}

// Decode reads what Append wrote.
func (m *Configured) Decode(r *Reader) {
	r.Struct(7, "Configured")
	*m = Configured{
		Incarnation: cell.Incarnation(r.Uint()),
		Number:      r.Uint(),
		Alpha:       r.Uint32("alpha"),
		Busy:        r.Bool(),
		Node:        r.Uint(),
		Members:     decodeMembers(r),
		Learners:    decodeMembers(r),
	}
}

// Append adds the fields in the order of the struct.
func (m *CreateLearner) Append(b []byte) []byte {
	b = AppendUint(AppendString(AppendArray(b, 7), string(m.Cell)), uint64(m.Incarnation))
	b = AppendUint(AppendUint(AppendUint(b, m.Node), m.Request), m.Number)
	return appendList(AppendUint(b, uint64(m.Alpha)), m.Members)
}

// Decode reads what Append wrote.
func (m *CreateLearner) Decode(r *Reader) {
	r.Struct(7, "CreateLearner")
	*m = CreateLearner{
		Cell:        decodeID(r),
		Incarnation: cell.Incarnation(r.Uint()),
		Node:        r.Uint(),
		Request:     r.Uint(),
		Number:      r.Uint(),
		Alpha:       r.Uint32("alpha"),
		Members:     decodeMembers(r),
	}
}

// Append adds [cell, remove, add, wait].
func (m *ReplaceMember) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 4), string(m.Cell)), string(m.Remove))
	return AppendUint(AppendString(b, string(m.Add)), uint64(m.Wait))
}

// Decode reads what Append wrote.
func (m *ReplaceMember) Decode(r *Reader) {
	r.Struct(4, "ReplaceMember")
	*m = ReplaceMember{Cell: decodeID(r), Remove: decodeServer(r), Add: decodeServer(r), Wait: r.Uint32("wait")}
}
