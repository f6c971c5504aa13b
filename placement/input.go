package placement

import (
	"fmt"
	"math"
	"strings"

	"physalia/cell"
	"physalia/internal/topology"
)

// JuryMax bounds the size of a jury.
const JuryMax = 13

// Input is what Place decides by.
type Input struct {
	View     *topology.View         // the servers, dead ones included
	Down     map[cell.ServerID]bool // servers that may take no new node now: dead, silent or draining
	Book     *Book                  // the cells that exist or are planned; nil: none
	JurySize int                    // 1 to JuryMax; 7 in production
	Brick    topology.Brick         // empty: Place chooses
	Color    topology.Color         // empty: Place chooses
	Hints    Hints
	// Coming are nodes that are on their way to a server and that the book does not know yet: learners. They count as load.
	Coming map[cell.ServerID]int
	// Keep are servers to be taken before all others, in this order, wherever the hard constraints allow: the survivors of a
	// cell that is recovered.
	Keep []cell.ServerID
}

// awaited is a server's load when all that is on its way there has come; loads come from outside, so the sum is saturated.
func (in *Input) awaited(id cell.ServerID, load uint64) uint64 {
	if sum := load + uint64(in.Coming[id]); sum >= load {
		return sum
	}
	return math.MaxUint64
}

// Hints tell where the users of a volume are; zero locations are unknown. A location that names a server of the view is
// completed from there.
type Hints struct{ Client, Primary, Replica topology.Location }

// The weight of each hint in the score. A node on the very server of the primary copy is best: what loses the node then
// loses the copy too.
const (
	primaryWeight = 3
	clientWeight  = 2
	replicaWeight = 2
)

// hint is one known location with its weight.
type hint struct {
	where  topology.Location
	weight uint64
}

// known lists the hints that say something, completed from the view.
func (h *Hints) known(v *topology.View) []hint {
	var hs []hint
	for _, x := range [...]hint{{h.Primary, primaryWeight}, {h.Client, clientWeight}, {h.Replica, replicaWeight}} {
		if !x.where.IsZero() {
			hs = append(hs, hint{v.Locate(x.where), x.weight})
		}
	}
	return hs
}

// Placement is a founding jury.
type Placement struct {
	Brick   topology.Brick
	Color   topology.Color
	Members []cell.ServerID // the server of node number i+1, best score first
	Owner   int             // position in Members of the node that owns ballot 1
}

// Pool returns the pool that the cell lives in.
func (p *Placement) Pool() topology.PoolKey { return topology.PoolKey{Brick: p.Brick, Color: p.Color} }

// String shows a placement in one line; the star marks the owner of ballot 1.
func (p *Placement) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", p.Pool())
	for i, m := range p.Members {
		b.WriteString(" " + string(m))
		if i == p.Owner {
			b.WriteByte('*')
		}
	}
	return b.String()
}

// Report tells what a placement was chosen from and how good it is.
type Report struct {
	Pool         topology.PoolKey
	Servers      int      // in the pool
	Live         int      // of them, not in Input.Down
	Room         int      // of them, with room for one more node
	Racks        int      // that the jury stands in
	RackMost     int      // most members in one rack
	Powers       int      // power domains that the jury draws from
	PowerMost    int      // most members in one power domain
	Cells        int      // in the pool before this one
	OverlapLimit uint64   // the overlap constraint is hard up to this many cells
	OverlapHard  bool     // it was enforced
	Above        int      // cells found that share more than (n-1)/2 servers with this jury
	Steps        int      // candidates and cells looked at, the measure of work
	Passed       []string // why pools that ranked higher could not hold the cell
}

// String shows a report in a few lines, for people and goldens.
func (r *Report) String() string {
	var b strings.Builder
	for _, p := range r.Passed {
		fmt.Fprintf(&b, "passed: %s\n", p)
	}
	fmt.Fprintf(&b, "%s: %d servers, %d live, %d with room\n", r.Pool, r.Servers, r.Live, r.Room)
	fmt.Fprintf(&b, "jury: %d racks (at most %d in one), %d power domains (at most %d in one)\n",
		r.Racks, r.RackMost, r.Powers, r.PowerMost)
	mode := "scored"
	if r.OverlapHard {
		mode = "enforced"
	}
	fmt.Fprintf(&b, "overlap: %s, %d cells, limit %d; shares too much with %d", mode, r.Cells, r.OverlapLimit, r.Above)
	return b.String()
}

// domainMax is how many nodes of a jury of n one rack or power domain may hold.
func domainMax(n int) int { return max(1, (n-1)/2) }

// shareMax is how many servers two cells may share; zero means that the constraint does not apply.
func shareMax(n int) int { return (n - 1) / 2 }
