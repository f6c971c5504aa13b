package wire

import "physalia/cell"

// The methods between servers and the control plane. A server opens the connection and registers; from then on the
// control plane sends the requests over it, at its own pace.
const (
	MethodRegister    = "control.register" // server -> control: Registration -> Registered
	MethodPush        = "discovery.push"   // server -> control: RoutePush -> nothing; paged, acknowledged
	MethodCreateNodes = "node.create"      // control -> server: CreateNodes -> Outcomes
	MethodDropNodes   = "node.drop"        // control -> server: DropNodes -> Outcomes
	MethodSeal        = "cell.seal"        // control -> server: SealCell -> nothing
	MethodListNodes   = "node.list"        // control -> server: ListNodes -> NodeList
	MethodPing        = "server.ping"      // control -> server: nothing -> Pong
)

// The methods that clients and operators call on the control plane.
const (
	MethodLookup      = "discovery.lookup" // LookupRequest -> Routes
	MethodCreateCells = "lifecycle.create" // CreateCells -> Outcomes
	MethodDeleteCells = "lifecycle.delete" // DeleteCells -> Outcomes
	MethodListCells   = "lifecycle.list"   // ListCells -> CellList
	MethodListServers = "health.servers"   // ListServers -> ServerList
)

// Registration introduces a server to the control plane.
type Registration struct {
	Server     cell.ServerID
	Name       string
	Colony     string
	Brick      string
	Rack       string
	Power      string
	Color      string
	PeerAddr   string
	ClientAddr string
	GossipAddr string
	Boot       uint64 // raised at every start of this identity
	Nodes      uint64 // nodes hosted now
	Capacity   uint64 // nodes it is willing to host
	Wants      Duties // asked of this instance; none named: whatever it has. Not part of what is known of the server
}

// Registered answers a Registration.
type Registered struct {
	Control   string       // name of the control process
	Addr      string       // where it is reached, as other instances name it; may be empty
	Seeds     []string     // gossip addresses of live servers of the same brick and color
	Takes     Duties       // what this instance does for the server over this connection from now on
	Elsewhere []DutyHolder // who has those that were wanted and not taken, as far as it is known
}

// Founder is one member of a founding jury, with the addresses known at creation.
type Founder struct {
	Node       uint64
	Server     cell.ServerID
	PeerAddr   string
	ClientAddr string
}

// Founding asks a server to create its node of a new cell. It is durable in the lifecycle manager before the first
// server hears of it, and never planned again under its incarnation (rule 4).
type Founding struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Members     []Founder // ordered by node number; the receiver finds itself by server identity
	Owner       uint64    // node number that owns ballot 1
	Alpha       uint32
}

// CreateNodes is a batch of foundings; the server answers when all of them are durable.
type CreateNodes struct{ Foundings []Founding }

// Drop asks a server to wipe its node of a sealed incarnation (rules 15 and 16).
type Drop struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
}

// DropNodes is a batch of drops. Sealed must be true: the sender knows that each incarnation's seal was chosen.
type DropNodes struct {
	Sealed bool
	Drops  []Drop
}

// Outcome answers one element of a batch; a nil Err is success.
type Outcome struct{ Err *cell.Error }

// Outcomes answers a batch, in order.
type Outcomes struct{ Outcomes []Outcome }

// SealCell asks a member to have the cell's seal chosen. The answer comes when the seal is applied there; NotProposer
// names whom to ask instead.
type SealCell struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Timeout     uint32 // milliseconds
	Attempt     uint32 // as in Header
}

// ListNodes pages through the nodes of a server in order of their local handles.
type ListNodes struct {
	After uint64 // last Handle of the page before; zero starts
	Limit uint32 // 1 to ListLimitMax
}

// NodeInfo describes one hosted node.
type NodeInfo struct {
	Handle        uint64
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Node          uint64
	Configuration uint64
	Sealed        bool
	Quarantined   string // why, empty when it is well
	Members       []Founder
}

// NodeList is one page of nodes.
type NodeList struct {
	Nodes []NodeInfo
	More  bool
}

// Pong answers a ping.
type Pong struct {
	Boot  uint64
	Nodes uint64
}

// Route tells where a cell lives. Routes are hints: a higher (Incarnation, Configuration) replaces a lower one, and a
// wrong one costs time, never correctness.
type Route struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Configuration uint64
	Members       []Founder
	Deleted       bool // the incarnation is sealed
}

// LookupRequest asks for the routes of some cells.
type LookupRequest struct{ Cells []cell.ID }

// Routes answers a lookup, in order; a route without members means that this copy does not know the cell.
type Routes struct {
	Routes []Route
	// Ages tells per route how long ago, in seconds, the copy last heard of any server that hosts a member of it: no news is
	// older than that. AgeNever: never since the copy began. It is empty, or as long as Routes.
	Ages []uint32
	// Filling: the copy has not heard of everybody yet since it started, so a cell that it does not know may well exist.
	Filling bool
}

// CreateCells asks for new cells; a name that exists with the same wishes succeeds (idempotent by name).
type CreateCells struct {
	Cells []cell.ID
	Brick string // empty: placement chooses
	Color string // empty: placement chooses
	Wait  uint32 // milliseconds to wait for four durable nodes each
}

// DeleteCells asks to seal and then wipe cells, each by name and incarnation (zero: the current one).
type DeleteCells struct {
	Drops []Drop
	Wait  uint32 // milliseconds to wait for the seals
}

// ListCells pages through the desired state in order of names.
type ListCells struct {
	After  cell.ID
	Prefix string
	Limit  uint32 // 1 to ListLimitMax
}

// CellInfo is one cell as the lifecycle manager wants it, with what health knows.
type CellInfo struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	State       string // "creating", "live", "sealing", "wiping", "deleted"
	Brick       string
	Color       string
	Members     []Founder
	Live        uint32 // members on servers that are up
	Margin      int32  // how many more nodes it can lose and keep its majority; negative: majority lost
	Plan        uint64 // plan number
	Waiting     string // what the current step waits for, empty when converged
}

// CellList is one page of cells.
type CellList struct {
	Cells []CellInfo
	More  bool
}

// ServerState is one server as health sees it.
type ServerState struct {
	Registration Registration
	Up           bool
	Since        uint64 // milliseconds since it went up or down
}

// ListServers pages through the servers in order of identity.
type ListServers struct {
	After cell.ServerID
	Limit uint32
}

// ServerList is one page of servers.
type ServerList struct {
	Servers []ServerState
	More    bool
}

// Bounds of the messages above.
const (
	NameBytesMax   = 64   // brick, rack, power, color, server name, colony
	AddrBytesMax   = 256  // host:port
	DetailBytesMax = 2048 // texts in errors and notes; longer ones are cut when encoded
	MembersMax     = 13
	BatchMax       = 1024 // elements of one batch or page
	ListLimitMax   = 1024
)
