package wire

import "physalia/cell"

// The methods of the client face. Requests and replies are MessagePack-RPC; params and results are the structs named
// here, positional.
const (
	MethodTxn     = "cell.txn"     // TxnRequest -> TxnReply
	MethodRead    = "cell.read"    // ReadRequest -> ReadReply
	MethodExplain = "cell.explain" // ExplainRequest -> Explanation
	MethodServer  = "server.info"  // no params -> ServerInfo
)

// Header opens every request about one cell.
type Header struct {
	Cell        cell.ID
	Incarnation cell.Incarnation // zero: whichever is current
	Timeout     uint32           // milliseconds that the client will still wait; zero is refused
	Trace       uint64           // shown in logs on both sides; zero is none
	Attempt     uint32           // how often the client has sent this request before; lets a member take over from a dead proposer
}

// TxnRequest asks for one transaction, exactly once.
type TxnRequest struct {
	Header  Header
	Request cell.Request
	Txn     cell.Txn
}

// TxnReply answers a transaction that was applied.
type TxnReply struct {
	Incarnation cell.Incarnation
	Result      cell.TxnResult
}

// ReadRequest asks for reads only. A read is linearizable unless it is Stale; with Confirm the proposer asks its jury even
// if it holds a read lease, which costs a round trip and rests on no clock. A Stale read is answered by any member from its applied state, a consistent prefix;
// Least makes a session monotonic: a member that has not applied that revision answers Unavailable.
type ReadRequest struct {
	Header Header
	Stale  bool
	Least  cell.Revision
	Txn    cell.Txn // Txn.IsRead must hold

	Confirm bool
}

// ReadReply answers a read.
type ReadReply struct {
	Incarnation cell.Incarnation
	Result      cell.TxnResult
}

// ExplainRequest asks one server what it knows of a cell.
type ExplainRequest struct{ Header Header }

// Explanation is one server's view of one cell, for people.
type Explanation struct {
	Server        cell.ServerID
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Node          uint64
	State         string // "hot", "cold", "loading", "sealed", "quarantined"
	Role          string // "proposer", "candidate", "follower"
	Promised      string // ballot
	Leader        cell.ServerID
	Applied       uint64
	Chosen        uint64
	Floor         uint64
	Configuration uint64
	Revision      cell.Revision
	Keys          uint64
	Bytes         uint64
	StateHash     uint64
	Members       []ExplainedMember
	Note          string
	ReadLease     bool // the answering proposer may answer linearizable reads by itself, now
}

// ExplainedMember is one member as the answering server sees it.
type ExplainedMember struct {
	Node   uint64
	Server cell.ServerID
	Addr   string // client address, if known
	Alive  bool   // proved to be useful within the liveness period

	Supported bool // the answering server supports that member's server
	Supports  bool // that member's server supports the answering one
	Confirmed bool // the member counts towards the answering proposer's read lease, now
}

// ServerInfo describes a server.
type ServerInfo struct {
	Server  cell.ServerID
	Name    string
	Colony  string
	Brick   string
	Rack    string
	Power   string
	Color   string
	Version string
	Boot    uint64
	Nodes   uint64
	Hot     uint64
	Peers   uint64 // peer servers that proved to be useful within the liveness period
}
