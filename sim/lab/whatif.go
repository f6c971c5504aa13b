package lab

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/health"
	"physalia/internal/topology"
	"physalia/placement"
)

// Kill is a part of a site that is to fail, for example "rack=b01/r03".
type Kill struct {
	Level Level
	Unit  int
}

// ParseKill finds what a text of the form level=name names. A rack or power domain without its brick names those of all bricks.
func (s *Site) ParseKill(text string) ([]Kill, error) {
	word, name, ok := strings.Cut(text, "=")
	level, known := levelNamed(word)
	if !ok || !known {
		return nil, invalid("what-if", "write level=name, the level one of "+strings.Join(levelNames[:], ", "), "%q names nothing that can fail", text)
	}
	var out []Kill
	for u, n := range s.names[level] {
		called := level == LevelServer && s.View.Servers()[s.of[level][u][0]].Name == name // beside its identity
		if n == name || called || (level == LevelRack || level == LevelPower) && strings.HasSuffix(n, "/"+name) {
			out = append(out, Kill{level, u})
		}
	}
	if len(s.names[level]) == 0 {
		return nil, invalid("what-if", "kill something else", "there is no %s in %s", level, s.Name)
	}
	if len(out) == 0 {
		examples := s.names[level][:min(3, len(s.names[level]))]
		return nil, invalid("what-if", fmt.Sprintf("there are %d, for example %s", len(s.names[level]), strings.Join(examples, ", ")), "there is no %s %q", level, name)
	}
	return out, nil
}

// PoolFleet is the cells of one pool and one jury size.
type PoolFleet struct {
	Pool  topology.PoolKey
	First int       // number of its first cell in the site
	Names []cell.ID // of its cells, where they have names already
	Fleet *Fleet
}

// name is the name of a cell.
func (p *PoolFleet) name(c int) cell.ID {
	if p.Names != nil {
		return p.Names[c]
	}
	return cellName(p.First + c + 1)
}

// Share says how many of n cells each pool of the site gets: in proportion to its servers.
func (s *Site) Share(n int) []PoolFleet {
	pools, given, servers := s.View.Pools(), 0, 0
	out := make([]PoolFleet, len(pools))
	for i, p := range pools {
		servers += len(p.Servers)
		upTo := n * servers / s.View.Len()
		out[i] = PoolFleet{Pool: p.Key, First: given, Fleet: NewFleet(7, upTo-given)}
		given = upTo
	}
	return out
}

// Users are drawn anywhere in the brick, since nobody knows where those of cells that do not exist will be: what is learned is about the data
// centre, not about a workload.
//
// PlacePool places n cells in a pool, each near users that are drawn in its brick; the seed and the pool decide, so that pools can be
// placed in any order, or at once. The fleet of out must be empty.
func (s *Site) PlacePool(out *PoolFleet, n int, seed uint64, w Watch) error {
	rng, book := stream(seed, "what-if/"+out.Pool.String()), placement.NewBook()
	servers := s.Servers(LevelBrick, s.brickNumber(out.Pool.Brick))
	for i := range n {
		if err := w.every(i, n, "placing cells in "+out.Pool.String()); err != nil {
			return err
		}
		user := func() topology.Location { return s.location(servers[rng.IntN(len(servers))]) }
		in := placement.Input{View: s.View, Book: book, JurySize: 7, Brick: out.Pool.Brick, Color: out.Pool.Color,
			Hints: placement.Hints{Client: user(), Primary: user(), Replica: user()}}
		placed, _, err := placement.Place(in, rng)
		if err == nil {
			err = book.Add(cellName(out.First+i+1), 1, placed)
		}
		if err != nil {
			return err
		}
		out.Fleet.Add(s.numbers(placed.Members))
	}
	return nil
}

// brickNumber is the number of a brick.
func (s *Site) brickNumber(b topology.Brick) int {
	at, _ := slices.BinarySearch(s.names[LevelBrick], string(b))
	return at
}

// Answer is what a loss would cost.
type Answer struct {
	Site        string        `json:"site"`
	Cells       int           `json:"cells"`
	Unjudged    int           `json:"cells_that_are_not_live,omitempty"` // of a running colony: being created or deleted
	AlreadyDown int           `json:"servers_down_already,omitempty"`    // of them, before anything was taken away
	AlreadyLost int           `json:"cells_lost_already,omitempty"`      // likewise
	ServersDown int           `json:"servers_down"`
	DevicesDown int           `json:"devices_down"`
	Lost        int           `json:"cells_without_a_majority"`
	CutOff      int           `json:"cells_whose_majority_runs_but_cannot_talk"`
	Margins     []int         `json:"cells_by_margin"` // 0 to 3, more where juries are larger: of those that serve
	Repairs     int           `json:"members_to_replace"`
	Beyond      int           `json:"members_that_nothing_replaces"` // of cells without a majority
	Hold        bool          `json:"repair_is_held"`
	Slowest     string        `json:"slowest_brick,omitempty"`
	Repair      time.Duration `json:"-"`
	Seconds     float64       `json:"repair_seconds"` // at the budget, from when repair begins
	LostCells   []string      `json:"lost_cells"`     // the names of those that the loss leaves without a majority, or cuts off; bounded
}

// Question is what is asked about the cells of a site.
type Question struct {
	Pools  []PoolFleet
	Down   []int32 // servers that are down before anything is taken away
	Kills  []Kill
	Policy health.RepairConfig // whose budgets decide how long repair takes
	Names  int                 // how many lost cells are named at most
	Watch  Watch
}

// WhatIf tells what a loss would cost the cells of all pools, and how long their repair takes.
func (s *Site) WhatIf(q Question) (Answer, error) {
	before, state := NewState(s), NewState(s)
	for _, server := range q.Down {
		before.FailServer(server)
		state.FailServer(server)
	}
	for _, k := range q.Kills {
		for _, server := range s.Servers(k.Level, k.Unit) {
			state.FailServer(server)
		}
		if k.Level == LevelDevice {
			state.FailDevice(int32(k.Unit))
		}
	}
	a := Answer{Site: s.String(), Margins: make([]int, 4), AlreadyDown: len(q.Down), DevicesDown: state.downs, LostCells: []string{}}
	for i := range s.View.Len() {
		if !state.Up(int32(i)) {
			a.ServersDown++
		}
	}
	work := map[topology.Brick]int{}
	for i := range q.Pools {
		if err := s.judgePool(&a, &q.Pools[i], [2]*State{before, state}, work, &q); err != nil {
			return a, err
		}
	}
	a.Hold = s.held(before, state)
	a.repairTime(work, q.Policy)
	return a, nil
}

// judgePool looks at every cell of a pool, before the loss and after it.
func (s *Site) judgePool(a *Answer, p *PoolFleet, states [2]*State, work map[topology.Brick]int, q *Question) error {
	before, state := states[0], states[1]
	for c := range p.Fleet.Len() {
		if err := q.Watch.every(c, p.Fleet.Len(), "looking at cells of "+p.Pool.String()); err != nil {
			return err
		}
		jury := p.Fleet.Jury(c)
		alive, together := state.alive(jury), state.together(jury)
		a.Cells++
		dead := len(jury) - alive
		switch {
		case alive < majority(len(jury)):
			a.Lost++
			a.Beyond += dead
		case together < majority(len(jury)):
			a.CutOff++
		default:
			margin := together - majority(len(jury))
			for len(a.Margins) <= margin {
				a.Margins = append(a.Margins, 0)
			}
			a.Margins[margin]++
			a.Repairs += dead
			work[p.Pool.Brick] += dead
		}
		switch {
		case together >= majority(len(jury)):
		case before.together(jury) < majority(len(jury)):
			a.AlreadyLost++
		case len(a.LostCells) < q.Names:
			a.LostCells = append(a.LostCells, string(p.name(c)))
		}
	}
	return nil
}

// A cell whose majority runs in one part of the network serves whoever is there; one whose members are scattered over parts serves nobody.
//
// together is how many members run in the part of the network where most of them do.
func (t *State) together(jury []uint16) int {
	best := 0
	for _, m := range jury {
		n := 0
		for _, o := range jury {
			if t.Talk(int32(m), int32(o)) {
				n++
			}
		}
		best = max(best, n)
	}
	return best
}

// held reports whether slow repair would take the loss for a correlated one, by the rule of package health: of some domain three
// servers and a fifth die together, or two and half. Those that were down before have died at another time.
func (s *Site) held(before, state *State) bool {
	for _, l := range [...]Level{LevelRack, LevelPower, LevelBrick, LevelColor} {
		for u := range s.Len(l) {
			all, down := s.Servers(l, u), 0
			for _, server := range all {
				if before.Up(server) && !state.Up(server) {
					down++
				}
			}
			if down >= 3 && 5*down >= len(all) || down >= 2 && 2*down >= len(all) {
				return true
			}
		}
	}
	return false
}

// It is a lower bound: patience, a hold and the budgets of single servers come on top, and the first two are told beside it.
//
// repairTime is how long the budgets of the colony and of each brick make the repair take, if nothing else does: the longest of all.
func (a *Answer) repairTime(work map[topology.Brick]int, policy health.RepairConfig) {
	seconds := func(n int, b health.Budget) float64 {
		return max(float64(n)/b.Repairs, float64(n)*float64(policy.NodeBytes)/b.Bytes)
	}
	a.Seconds, a.Slowest = seconds(a.Repairs, policy.Colony), "the colony's budget"
	for _, brick := range sortedBricks(work) {
		if t := seconds(work[brick], policy.Brick); t > a.Seconds {
			a.Seconds, a.Slowest = t, "brick "+string(brick)
		}
	}
	a.Repair = time.Duration(a.Seconds * float64(time.Second))
}

func sortedBricks(work map[topology.Brick]int) []topology.Brick {
	out := make([]topology.Brick, 0, len(work))
	for b := range work {
		out = append(out, b)
	}
	slices.Sort(out)
	return out
}
