package wire

import "physalia/cell"

// The messages by which operators hold the control plane back, empty servers, and see what it waits for.

// The methods of operating.
const (
	MethodPause  = "control.pause"  // operator -> control: ActionOrder -> nothing, when it is durable
	MethodResume = "control.resume" // operator -> control: ActionOrder -> nothing, when it is durable
	MethodDuty   = "server.duty"    // operator -> control: ServerDuty -> nothing, when it is durable
	MethodStatus = "control.status" // operator -> control: StatusRequest -> ControlStatus
)

// ActionOrder pauses or resumes actions.
type ActionOrder struct {
	Actions []string // "create", "delete", "move", "repair"; none means all
	By      string   // who orders it, for people
	Reason  string
}

// ServerDuty orders what a server is to be.
type ServerDuty struct {
	Server cell.ServerID
	Duty   string // "serving", "draining" or "decommissioning"
	By     string
	Reason string
}

// StatusRequest asks for the state of the control plane, and for a page of what has not converged.
type StatusRequest struct {
	After uint64 // Number of the last WaitingStep of the page before; zero starts
	Limit uint32 // 0 to StatusPageMax steps
}

// PauseState is one action that is paused.
type PauseState struct {
	Action string
	By     string
	Reason string
	At     uint64 // milliseconds since 1970
}

// LimitState is one token bucket.
type LimitState struct {
	Work  string // "create", "move" or "repair"
	Scope string // "colony", "brick" or "server"
	Name  string // of the brick or the server
	Milli uint64 // tokens per 1,000 seconds
	Burst uint64
	Left  uint64 // whole tokens that are there now
}

// StatusCount is a number with a name.
type StatusCount struct {
	Workflow string // "create", "delete", "replace"
	State    string
	Count    uint64
}

// DrainState is a server that is being emptied.
type DrainState struct {
	Server  cell.ServerID
	Duty    string
	By      string
	Reason  string
	At      uint64 // milliseconds since 1970
	Nodes   uint64 // that it still hosts
	Moving  uint64 // of them, being replaced now
	Waiting string // why nothing more begins, or which cell cannot be moved
}

// WaitingStep is one workflow that has not converged. Numbers rise with age: the oldest has the lowest.
type WaitingStep struct {
	Number      uint64 // zero: nothing is stored of it yet
	Workflow    string
	Cell        cell.ID
	Incarnation cell.Incarnation
	State       string
	Since       uint64 // milliseconds that it has been seen unfinished, by this control process
	Why         string // what it waits for
}

// ControlStatus answers a StatusRequest. Limits lists the colony's and the bricks' buckets, and of the servers' those that are
// spent most.
type ControlStatus struct {
	Uptime  uint64 // milliseconds since this manager started
	Pauses  []PauseState
	Limits  []LimitState
	Counts  []StatusCount
	Drains  []DrainState
	Waiting []WaitingStep
	Open    uint64 // how many have not converged
	More    bool   // Waiting goes on behind its last Number
}

// Bounds of the messages above.
const (
	StatusPageMax   = 256
	StatusLimitsMax = 1024
	StatusDrainsMax = 1024
	StatusTextMax   = 512 // texts are cut to so many bytes when encoded
)

// Append adds [actions, by, reason].
func (m *ActionOrder) Append(b []byte) []byte {
	return AppendString(AppendString(appendStrings(AppendArray(b, 3), m.Actions), m.By), m.Reason)
}

// Decode reads what Append wrote.
func (m *ActionOrder) Decode(r *Reader) {
	r.Struct(3, "ActionOrder")
	*m = ActionOrder{Actions: decodeStrings[string](r, 64, NameBytesMax, "actions"), By: r.String(NameBytesMax, "by"), Reason: r.String(StatusTextMax, "reason")}
}

// Append adds [server, duty, by, reason].
func (m *ServerDuty) Append(b []byte) []byte {
	return AppendString(AppendString(AppendString(AppendString(AppendArray(b, 4), string(m.Server)), m.Duty), m.By), m.Reason)
}

// Decode reads what Append wrote.
func (m *ServerDuty) Decode(r *Reader) {
	r.Struct(4, "ServerDuty")
	*m = ServerDuty{Server: decodeServer(r), Duty: r.String(NameBytesMax, "duty"), By: r.String(NameBytesMax, "by"), Reason: r.String(StatusTextMax, "reason")}
}

// Append adds [after, limit].
func (m *StatusRequest) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendArray(b, 2), m.After), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *StatusRequest) Decode(r *Reader) {
	r.Struct(2, "StatusRequest")
	*m = StatusRequest{After: r.Uint(), Limit: r.Uint32("limit of a page")}
}

// Append adds [action, by, reason, at].
func (m *PauseState) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 4), m.Action), m.By)
	return AppendUint(AppendString(b, cut(m.Reason, StatusTextMax)), m.At)
}

// Decode reads what Append wrote.
func (m *PauseState) Decode(r *Reader) {
	r.Struct(4, "PauseState")
	*m = PauseState{Action: r.String(NameBytesMax, "action"), By: r.String(NameBytesMax, "by"), Reason: r.String(StatusTextMax, "reason"), At: r.Uint()}
}

// Append adds [work, scope, name, milli, burst, left].
func (m *LimitState) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendString(AppendArray(b, 6), m.Work), m.Scope), m.Name)
	return AppendUint(AppendUint(AppendUint(b, m.Milli), m.Burst), m.Left)
}

// Decode reads what Append wrote.
func (m *LimitState) Decode(r *Reader) {
	r.Struct(6, "LimitState")
	*m = LimitState{Work: r.String(NameBytesMax, "work"), Scope: r.String(NameBytesMax, "scope"), Name: r.String(cell.ServerIDBytesMax, "name"),
		Milli: r.Uint(), Burst: r.Uint(), Left: r.Uint()}
}

// Append adds [workflow, state, count].
func (m *StatusCount) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendString(AppendArray(b, 3), m.Workflow), m.State), m.Count)
}

// Decode reads what Append wrote.
func (m *StatusCount) Decode(r *Reader) {
	r.Struct(3, "StatusCount")
	*m = StatusCount{Workflow: r.String(NameBytesMax, "workflow"), State: r.String(NameBytesMax, "state"), Count: r.Uint()}
}

// Append adds the fields in the order of the struct.
func (m *DrainState) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendString(AppendArray(b, 8), string(m.Server)), m.Duty), m.By)
	b = AppendUint(AppendString(b, cut(m.Reason, StatusTextMax)), m.At)
	return AppendString(AppendUint(AppendUint(b, m.Nodes), m.Moving), cut(m.Waiting, StatusTextMax))
}

// Decode reads what Append wrote.
func (m *DrainState) Decode(r *Reader) {
	r.Struct(8, "DrainState")
	*m = DrainState{Server: decodeServer(r), Duty: r.String(NameBytesMax, "duty"), By: r.String(NameBytesMax, "by"), Reason: r.String(StatusTextMax, "reason"),
		At: r.Uint(), Nodes: r.Uint(), Moving: r.Uint(), Waiting: r.String(StatusTextMax, "waiting")}
}

// Append adds the fields in the order of the struct.
func (m *WaitingStep) Append(b []byte) []byte {
	b = AppendString(AppendUint(AppendArray(b, 7), m.Number), m.Workflow)
	b = AppendString(AppendUint(AppendString(b, string(m.Cell)), uint64(m.Incarnation)), m.State)
	return AppendString(AppendUint(b, m.Since), cut(m.Why, StatusTextMax))
}

// Decode reads what Append wrote.
func (m *WaitingStep) Decode(r *Reader) {
	r.Struct(7, "WaitingStep")
	*m = WaitingStep{Number: r.Uint(), Workflow: r.String(NameBytesMax, "workflow"), Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint()),
		State: r.String(NameBytesMax, "state"), Since: r.Uint(), Why: r.String(StatusTextMax, "why")}
}

// Append adds the fields in the order of the struct.
func (m *ControlStatus) Append(b []byte) []byte {
	b = appendList(AppendUint(AppendArray(b, 8), m.Uptime), m.Pauses)
	b = appendList(appendList(appendList(b, m.Limits), m.Counts), m.Drains)
	return AppendBool(AppendUint(appendList(b, m.Waiting), m.Open), m.More)
}

// Decode reads what Append wrote.
func (m *ControlStatus) Decode(r *Reader) {
	r.Struct(8, "ControlStatus")
	*m = ControlStatus{
		Uptime:  r.Uint(),
		Pauses:  decodeList[PauseState](r, 64, 5, "pauses"),
		Limits:  decodeList[LimitState](r, StatusLimitsMax, 7, "limits"),
		Counts:  decodeList[StatusCount](r, 64, 4, "counts"),
		Drains:  decodeList[DrainState](r, StatusDrainsMax, 9, "drains"),
		Waiting: decodeList[WaitingStep](r, StatusPageMax, 8, "waiting steps"),
		Open:    r.Uint(),
		More:    r.Bool(),
	}
}
