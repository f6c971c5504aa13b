package wire

import "physalia/cell"

// The messages of lossy recovery (rule 17): a cell whose majority is lost for good goes on, as a new incarnation, from
// what its survivors hold.

// The methods of recovery.
const (
	MethodExport       = "cell.export"    // control -> server: ExportNode -> NodeExport
	MethodRecoverNodes = "node.recover"   // control -> server: RecoverNodes -> Outcomes
	MethodPlanRecovery = "recovery.plan"  // operator -> control: PlanRecovery -> RecoveryPlan; changes nothing
	MethodRecoverCells = "recovery.apply" // operator -> control: RecoverCells -> Outcomes
)

// ExportNode asks a server what its node of a cell holds. It is one cell per request, so that an answer is bounded by what
// one cell may hold; whoever recovers thousands keeps a bounded number of requests in flight.
type ExportNode struct {
	Cell        cell.ID
	Incarnation cell.Incarnation
	Timeout     uint32 // milliseconds
	Content     bool   // with the state and the entries
}

// Accepted is one record that a member has accepted above the slot that it applied: it may have been chosen.
type Accepted struct {
	Slot  uint64
	Round uint64 // of the ballot
	Node  uint64
	Entry []byte // as members send it to each other; empty in an export without content
}

// NodeExport is what one member of a cell holds.
type NodeExport struct {
	Cell          cell.ID
	Incarnation   cell.Incarnation
	Node          uint64
	Configuration uint64          // number of the configuration that decides the first slot above Applied
	Jury          []cell.ServerID // its members
	Others        []cell.ServerID // who else may hold something: learners, who left last, members of a pending configuration
	Promised      string          // highest ballot, for people
	Applied       uint64
	Known         uint64 // the highest slot that this member heard is chosen
	Revision      cell.Revision
	StateHash     uint64
	Sealed        bool       // the seal was applied, or is among Accepted
	Accepted      []Accepted // above Applied, ordered by slot; gaps are possible
	Cut           bool       // Accepted ends early, at ExportBytesMax
	State         []byte     // as of Applied; empty without content
}

// Recovery asks a server to create its node of a new incarnation from state. The state is durable in the lifecycle manager
// before the first server hears of it, and the same for every member. A node of an older incarnation of the cell is wiped in
// the same batch: the operator has declared that incarnation lost (rules 16 and 17).
type Recovery struct {
	Founding  Founding
	Applied   uint64 // that State is of
	StateHash uint64
	State     []byte
	Kept      []Accepted // the slots from Applied+1 on without a gap, to be applied to State
}

// RecoverNodes is a batch of recoveries; the server answers when all of them are durable.
type RecoverNodes struct{ Recoveries []Recovery }

// PlanRecovery asks what could be recovered without the servers named dead.
type PlanRecovery struct {
	Dead  []cell.ServerID
	Cells []cell.ID // empty: every cell behind After that has lost its majority
	After cell.ID
	Limit uint32 // cells of one page, 1 to RecoveryPageMax
}

// Survivor is what one member of a lost cell answered.
type Survivor struct {
	Server   cell.ServerID
	Node     uint64
	Promised string
	Applied  uint64
	Known    uint64
	Accepted uint64 // records above Applied
	Note     string // why it cannot help; empty when it can
}

// RecoveryCell is the plan for one cell. Problem says why the cell is left alone; then nothing is applied for it.
type RecoveryCell struct {
	Cell        cell.ID
	Incarnation cell.Incarnation // the lost one; the new one is the next
	Plan        uint64           // plan number; a cell that was decided about since is refused as Stale
	Brick       string
	Color       string
	Lost        []cell.ServerID // members on servers that are named dead
	Survivors   []Survivor
	Source      cell.ServerID // whose state it is
	Applied     uint64        // slot of that state
	Slot        uint64        // recovered through: Applied and the accepted records that are kept
	Known       uint64        // the highest slot that a survivor heard is chosen
	Revision    cell.Revision // of the state at Applied
	Members     []Founder     // the new jury
	Owner       uint64
	Problem     string
}

// RecoveryPlan is one page of a plan.
type RecoveryPlan struct {
	Cells []RecoveryCell
	Last  cell.ID // where the next page begins
	More  bool
}

// RecoverCells asks to carry out a plan. The dead servers' identities are retired for good.
type RecoverCells struct {
	Dead  []cell.ServerID
	Cells []RecoveryCell
	Wait  uint32 // milliseconds to wait for four durable nodes each
}

// Bounds of the messages above. A state and what is kept beside it fit a control frame together.
const (
	RecoveryStateBytesMax = 1 << 20
	ExportBytesMax        = 2 << 20 // entries of one export
	ExportRecordsMax      = 64
	RecoveryPageMax       = 64
)
