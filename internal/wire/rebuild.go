package wire

import "physalia/cell"

// The methods by which the control plane learns what servers host, and by which its store is rebuilt and kept.
const (
	MethodCensus  = "node.census"       // control -> server: Census -> CensusPage
	MethodSick    = "node.quarantined"  // control -> server: Census -> CensusPage, of the nodes that are out of service alone
	MethodGraves  = "node.graves"       // control -> server: Census -> GravePage
	MethodRebuild = "lifecycle.rebuild" // operator -> control: Rebuild -> RebuildState
	MethodBackup  = "lifecycle.backup"  // operator -> control: Backup -> BackupDone
)

// Census pages through what a server hosts, in order of local handles, or through its tombstones, in the order in which this
// boot learnt of them.
type Census struct {
	After uint64 // Handle, or Next, of the page before; zero starts
	Limit uint32 // 1 to ListLimitMax
}

// CensusNode is one hosted node with all that a manager needs to know of its cell. Unlike NodeInfo it carries no addresses.
type CensusNode struct {
	Handle        uint64
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Node          uint64
	Configuration uint64 // the newest one that this node knows
	Alpha         uint32
	Owner         uint64 // of ballot 1; told in configuration 1
	Learner       bool   // it has no vote yet
	Sealed        bool   // the seal is applied here: nothing is chosen in this incarnation any more
	Quarantined   string // why, empty when it is well
	Members       []CensusMember
}

// CensusMember is one member of the jury that a node knows.
type CensusMember struct {
	Node   uint64
	Server cell.ServerID
}

// CensusPage is one page of nodes.
type CensusPage struct {
	Nodes []CensusNode
	More  bool
}

// Grave is a tombstone: no incarnation up to this one is ever hosted on that server again.
type Grave struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
}

// GravePage is one page of tombstones.
type GravePage struct {
	Graves []Grave
	Next   uint64
	More   bool
}

// RebuildAction is what a Rebuild asks for. The numbers never change.
type RebuildAction uint8

// The actions.
const (
	RebuildLook  RebuildAction = 0 // tell how far it is
	RebuildBegin RebuildAction = 1 // stop everything automatic, and learn from the servers what exists
	RebuildEnd   RebuildAction = 2 // act again; refused before every connected server was heard once, unless forced
)

// Rebuild asks for a rebuild of the manager's store, for its end, or for its state and a page of what was found.
type Rebuild struct {
	Action RebuildAction
	Force  bool
	After  uint64 // findings to skip
	Limit  uint32 // of findings, 1 to ListLimitMax
}

// Finding is something that the manager found on the servers and that does not fit what it wants.
type Finding struct {
	Kind        string // "undecided", "half-deleted", "conflict", "missing", "quarantined"
	Cell        cell.ID
	Incarnation cell.Incarnation
	Detail      string
}

// RebuildState tells what the manager knows of the servers' own word.
type RebuildState struct {
	Rebuilding bool
	Why        string          // it is
	Round      uint64          // of the scan under way, or of the last one; counts from 1 in each life of the process
	Complete   bool            // every server that is connected was heard in a round that has ended since the rebuild began
	Connected  uint64          // servers connected
	Scanned    uint64          // servers heard completely in this round
	Nodes      uint64          // nodes reported in this round
	Live       uint64          // cells that are known to live
	Adopted    uint64          // cells adopted since the process started
	Deleted    uint64          // names known to be deleted
	Silent     []cell.ServerID // known or named as members, and not connected; at most BatchMax of them
	Findings   []Finding
	Found      uint64 // how many there are in all
	More       bool
}

// Backup asks the control process to write its store to a place that it can reach.
type Backup struct{ To string }

// BackupDone says what was written.
type BackupDone struct {
	Name  string
	Pairs uint64
	Bytes uint64
}

// Append adds [after, limit].
func (m *Census) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendArray(b, 2), m.After), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *Census) Decode(r *Reader) {
	r.Struct(2, "Census")
	*m = Census{After: r.Uint(), Limit: r.Uint32("limit of a page")}
}

// Append adds the fields in the order of the struct.
func (m *CensusNode) Append(b []byte) []byte {
	b = AppendString(AppendUint(AppendArray(b, 11), m.Handle), string(m.Cell))
	b = AppendUint(AppendUint(AppendUint(b, uint64(m.Incarnation)), m.Node), m.Configuration)
	b = AppendUint(AppendUint(b, uint64(m.Alpha)), m.Owner)
	b = AppendString(AppendBool(AppendBool(b, m.Learner), m.Sealed), cut(m.Quarantined, DetailBytesMax))
	return appendList(b, m.Members)
}

// Decode reads what Append wrote.
func (m *CensusNode) Decode(r *Reader) {
	r.Struct(11, "CensusNode")
	*m = CensusNode{
		Handle:        r.Uint(),
		Cell:          decodeID(r),
		Incarnation:   cell.Incarnation(r.Uint()),
		Node:          r.Uint(),
		Configuration: r.Uint(),
		Alpha:         r.Uint32("alpha"),
		Owner:         r.Uint(),
		Learner:       r.Bool(),
		Sealed:        r.Bool(),
		Quarantined:   r.String(DetailBytesMax, "reason of quarantine"),
		Members:       decodeList[CensusMember](r, MembersMax, 3, "members"),
	}
}

// Append adds [node, server].
func (m *CensusMember) Append(b []byte) []byte {
	return AppendString(AppendUint(AppendArray(b, 2), m.Node), string(m.Server))
}

// Decode reads what Append wrote.
func (m *CensusMember) Decode(r *Reader) {
	r.Struct(2, "CensusMember")
	*m = CensusMember{Node: r.Uint(), Server: decodeServer(r)}
}

// Append adds [nodes, more].
func (m *CensusPage) Append(b []byte) []byte {
	return AppendBool(appendList(AppendArray(b, 2), m.Nodes), m.More)
}

// Decode reads what Append wrote.
func (m *CensusPage) Decode(r *Reader) {
	r.Struct(2, "CensusPage")
	*m = CensusPage{Nodes: decodeList[CensusNode](r, ListLimitMax, 12, "nodes"), More: r.Bool()}
}

// Append adds [cell, incarnation].
func (m *Grave) Append(b []byte) []byte {
	return AppendUint(AppendString(AppendArray(b, 2), string(m.Cell)), uint64(m.Incarnation))
}

// Decode reads what Append wrote.
func (m *Grave) Decode(r *Reader) {
	r.Struct(2, "Grave")
	*m = Grave{Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint())}
}

// Append adds [graves, next, more].
func (m *GravePage) Append(b []byte) []byte {
	return AppendBool(AppendUint(appendList(AppendArray(b, 3), m.Graves), m.Next), m.More)
}

// Decode reads what Append wrote.
func (m *GravePage) Decode(r *Reader) {
	r.Struct(3, "GravePage")
	*m = GravePage{Graves: decodeList[Grave](r, ListLimitMax, 3, "tombstones"), Next: r.Uint(), More: r.Bool()}
}

// Append adds [action, force, after, limit].
func (m *Rebuild) Append(b []byte) []byte {
	b = AppendBool(AppendUint(AppendArray(b, 4), uint64(m.Action)), m.Force)
	return AppendUint(AppendUint(b, m.After), uint64(m.Limit))
}

// Decode reads what Append wrote.
func (m *Rebuild) Decode(r *Reader) {
	r.Struct(4, "Rebuild")
	*m = Rebuild{Action: RebuildAction(r.UintMax(uint64(RebuildEnd), "action")), Force: r.Bool(), After: r.Uint(), Limit: r.Uint32("limit of a page")}
}

// Append adds [kind, cell, incarnation, detail].
func (m *Finding) Append(b []byte) []byte {
	b = AppendString(AppendString(AppendArray(b, 4), m.Kind), string(m.Cell))
	return AppendString(AppendUint(b, uint64(m.Incarnation)), cut(m.Detail, DetailBytesMax))
}

// Decode reads what Append wrote.
func (m *Finding) Decode(r *Reader) {
	r.Struct(4, "Finding")
	*m = Finding{Kind: r.String(NameBytesMax, "kind of finding"), Cell: decodeID(r), Incarnation: cell.Incarnation(r.Uint()),
		Detail: r.String(DetailBytesMax, "finding")}
}

// Append adds the fields in the order of the struct.
func (m *RebuildState) Append(b []byte) []byte {
	b = AppendString(AppendBool(AppendArray(b, 14), m.Rebuilding), cut(m.Why, DetailBytesMax))
	b = AppendBool(AppendUint(b, m.Round), m.Complete)
	b = AppendUint(AppendUint(AppendUint(b, m.Connected), m.Scanned), m.Nodes)
	b = AppendUint(AppendUint(AppendUint(b, m.Live), m.Adopted), m.Deleted)
	b = appendList(appendStrings(b, m.Silent), m.Findings)
	return AppendBool(AppendUint(b, m.Found), m.More)
}

// Decode reads what Append wrote.
func (m *RebuildState) Decode(r *Reader) {
	r.Struct(14, "RebuildState")
	*m = RebuildState{
		Rebuilding: r.Bool(),
		Why:        r.String(DetailBytesMax, "reason"),
		Round:      r.Uint(),
		Complete:   r.Bool(),
		Connected:  r.Uint(),
		Scanned:    r.Uint(),
		Nodes:      r.Uint(),
		Live:       r.Uint(),
		Adopted:    r.Uint(),
		Deleted:    r.Uint(),
		Silent:     decodeStrings[cell.ServerID](r, BatchMax, cell.ServerIDBytesMax, "silent servers"),
		Findings:   decodeList[Finding](r, ListLimitMax, 5, "findings"),
		Found:      r.Uint(),
		More:       r.Bool(),
	}
}

// Append adds [to].
func (m *Backup) Append(b []byte) []byte { return AppendString(AppendArray(b, 1), m.To) }

// Decode reads what Append wrote.
func (m *Backup) Decode(r *Reader) {
	r.Struct(1, "Backup")
	m.To = r.String(DetailBytesMax, "place of a backup")
}

// Append adds [name, pairs, bytes].
func (m *BackupDone) Append(b []byte) []byte {
	return AppendUint(AppendUint(AppendString(AppendArray(b, 3), m.Name), m.Pairs), m.Bytes)
}

// Decode reads what Append wrote.
func (m *BackupDone) Decode(r *Reader) {
	r.Struct(3, "BackupDone")
	*m = BackupDone{Name: r.String(DetailBytesMax, "name of a backup"), Pairs: r.Uint(), Bytes: r.Uint()}
}
