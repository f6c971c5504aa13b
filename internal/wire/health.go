package wire

import "physalia/cell"

// The messages of the health tracker: what servers hear of each other, and what operators want to know of repair.

// The methods of health.
const (
	MethodServerReport = "server.report"   // control -> server: ReportRequest -> ServerReport
	MethodHealth       = "health.report"   // operator -> control: ListHealth -> HealthReport
	MethodEndHold      = "health.hold.end" // operator -> control: EndHold -> nothing
)

// ReportRequest asks a server what it hears of some others, and how large its nodes are.
type ReportRequest struct{ Peers []cell.ServerID }

// PeerHeard is what one server hears of another.
type PeerHeard struct {
	Lane   bool   // they share cells, so heartbeats go between them
	Age    uint64 // milliseconds since the other last proved to be useful; meaningful with a lane
	Gossip bool   // the rumour counts it among the living
}

// ServerReport answers a ReportRequest, in its order. Bytes is the state of Sampled nodes, which are some of those in memory.
type ServerReport struct {
	Peers   []PeerHeard
	Sampled uint64
	Bytes   uint64
}

// ListHealth asks for a report with at most so many cells; zero means ListLimitMax.
type ListHealth struct{ Limit uint32 }

// HealthReport is what one control process knows of repair.
type HealthReport struct {
	Control     string // name of the control process
	Holds       []HoldInfo
	Pools       []PoolHealth
	Budgets     []BudgetInfo
	Cells       []CellHealth  // those without a majority first, then those on the brink
	Cut         bool          // there are more such cells than Cells
	Unreachable []ServerSince // servers that their peers hear and this process does not
	Dead        []ServerSince // and those that are dead, or returning
	Counts      []HealthCount // what was done since the start, by name
}

// HoldInfo is a correlated failure that keeps repairs back. Times are in milliseconds.
type HoldInfo struct {
	Domain string // for example "rack:b1/r2"; what `physalia control hold end` takes
	Died   uint64 // servers that were dead when it began
	Size   uint64 // of how many
	Away   uint64 // of them and since, not back
	Since  uint64 // how long it has lasted
	Left   uint64 // how long it lasts at most from now on
}

// PoolHealth counts the cells of one brick and color that are not as they should be.
type PoolHealth struct {
	Brick   string
	Color   string
	Owned   bool   // by the process that reports
	Waiting uint64 // one dead member, and the patience is not over; or several, and the dust has to settle
	Held    uint64 // by a correlated failure
	Lost    uint64 // no majority is alive
	Aged    uint64 // one dead member for longer than the patience
	Urgent  uint64 // two or more dead members
	Brink   uint64 // exactly a majority alive
	Refused string // why the lifecycle manager took the last proposal of this pool not; empty when it took it
}

// BudgetInfo is one budget as it stands. Repairs are in thousandths.
type BudgetInfo struct {
	Of          string // "colony", "each brick" or "brick b1"
	Repairs     uint64 // per second
	Bytes       uint64 // per second
	RepairsLeft uint64 // available now
	BytesLeft   uint64
}

// CellHealth is a cell in danger.
type CellHealth struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Class       string // "lost" or "brink"
	Doing       string // what is being done about it
	Members     []MemberHealth
}

// MemberHealth is what is known of one member's server.
type MemberHealth struct {
	Server cell.ServerID
	State  string // "up", "dead", "returning" or "unknown"; "quarantined" when the server is up and its node is out of service
	For    uint64 // milliseconds that it has been dead, or quarantined
	Held   bool   // its death is under a hold
}

// ServerSince is a server in some state for so many milliseconds.
type ServerSince struct {
	Server cell.ServerID
	State  string
	For    uint64
}

// HealthCount is one counter.
type HealthCount struct {
	Name  string
	Value uint64
}

// EndHold ends the hold on a domain: its dead servers are taken for gone.
type EndHold struct{ Domain string }

// DomainBytesMax bounds the name of a failure domain.
const DomainBytesMax = 2*NameBytesMax + 16
