package lab

import (
	"fmt"
	"math"

	"physalia/internal/topology"
	"physalia/placement"
)

// Experiment 7 asks what the overlap limit is good for. Every cell is poisoned in turn, and each other cell that shares four servers or more with it is
// gone too; so the experiment counts pairs of cells, which is exact for a given colony, and only the colonies are drawn.
//
// The limit says how many cells a pool may have for it to be hard (placement.OverlapLimit). Below that many servers it is scored, and there the figure
// shows how much that is worth still.
//
// poisonParameters are what experiment 7 depends on.
type poisonParameters struct {
	Pools    []int `json:"servers_in_the_pool"` // dealt over seven racks and power domains
	Cells    int   `json:"cells_in_the_pool"`   // the same in all pools
	Colonies int   `json:"colonies_per_point"`
}

// Poison is experiment 7: what else dies when a command kills every process that hosts a cell?
func Poison(r Run) (Result, error) {
	p := poisonParameters{Pools: []int{14, 21, 28, 35, 42, 50, 70, 100, 150, 200}, Cells: r.trials(200, 60), Colonies: r.trials(10, 3)}
	res := Result{Number: 7, Name: "poison", Title: "What dies with a poisoned cell?", Parameters: p,
		Question: "A command stops all seven servers of one cell. How many other cells lose their majority, with the overlap limit and without it?",
		Method: []string{
			fmt.Sprintf("%d cells of seven in one pool (one brick, one color); every cell is poisoned in turn, and its seven servers go down. Intervals are over %d colonies.", p.Cells, p.Colonies),
			"With the limit: placement.Place with its book. Without: placement.Place that is told of no other cell, so that it keeps racks and power domains but no two cells apart. The line is the exact expectation for juries drawn at random.",
			"In this product a bad command quarantines the node, not the process; the experiment is about the bug that takes the process.",
		}}
	kept, ignored := Series{Name: "with the overlap limit"}, Series{Name: "limit ignored"}
	expected := Series{Name: "juries at random, computed", Style: StylePaper}
	hard := 0 // smallest pool in which the limit is hard for so many cells
	for i, n := range p.Pools {
		if err := r.Watch.every(i*1000, len(p.Pools)*1000, "experiment 7: pools"); err != nil {
			return Result{}, err
		}
		if hard == 0 && placement.OverlapLimit(n, 7) >= uint64(p.Cells) {
			hard = n
		}
		with, err := poisoned(r, &p, n, true)
		if err != nil {
			return Result{}, err
		}
		without, err := poisoned(r, &p, n, false)
		if err != nil {
			return Result{}, err
		}
		kept.Points, ignored.Points = append(kept.Points, with), append(ignored.Points, without)
		expected.Points = append(expected.Points, exact(float64(n), float64(p.Cells-1)*sharedMuch(n, 7)))
	}
	res.Figures = []Figure{{Name: "7-poison", Title: fmt.Sprintf("Cells lost beside the poisoned one, %d cells in the pool", p.Cells), Series: []Series{ignored, kept, expected},
		X: Axis{Label: "servers in the pool", Log: true, Min: 10, Max: 250}, Y: Axis{Label: "other cells without a majority", Log: true, Min: 1e-4},
		Note: fmt.Sprintf("On the bottom line nothing was lost. The limit is hard from %d servers on (C(N,4)/350 cells), below it is only scored.", hard)}}
	lostHard, softer := true, true
	for i, n := range p.Pools {
		if n >= hard && kept.Points[i].Y > 0 {
			lostHard = false
		}
		softer = softer && kept.Points[i].Y <= ignored.Points[i].Y+1
	}
	at := func(s Series, n int) Point { return middle(s, float64(n)) }
	res.Findings = []Finding{
		{Paper: "If a poison pill crashes all nodes of a cell, only that cell should be lost, because each node contains a different mix of cells (section 2.2).",
			Ours:    fmt.Sprintf("With the limit, no other cell is lost in any pool of %d servers and more. At 50 servers it is %.3g cells with the limit and %.3g (%.3g to %.3g) without.", hard, at(kept, 50).Y, at(ignored, 50).Y, at(ignored, 50).Lo, at(ignored, 50).Hi),
			Verdict: verdict(lostHard)},
		{Paper: "The control plane tries to; the paper gives no bound.",
			Ours:    fmt.Sprintf("The bound costs servers: %d cells need a pool of %d. In pools of 14 and 21 servers %.0f and %.1f other cells are lost whatever placement does.", p.Cells, hard, at(kept, 14).Y, at(kept, 21).Y),
			Verdict: Beyond},
	}
	return res, nil
}

// poisoned is how many other cells are lost with one, on average over all cells of some colonies.
func poisoned(r Run, p *poisonParameters, servers int, limit bool) (Point, error) {
	shape := Shape{Bricks: 1, Racks: 7, ServersPerRack: (servers + 6) / 7, Powers: 7, Colors: 1, Aggregations: 2, Capacity: 1_000_000}
	site, err := shape.Site()
	if err != nil {
		return Point{}, err
	}
	if site, err = site.first(servers); err != nil {
		return Point{}, err
	}
	var values []float64
	for c := range p.Colonies {
		pl := newPlacer(site, 7, stream(r.Seed, fmt.Sprintf("poison/%d/%v/%d", servers, limit, c)))
		if !limit {
			pl.book = nil
		}
		fleet := NewFleet(7, p.Cells)
		for range p.Cells {
			jury, err := pl.place(topology.Brick(site.UnitName(LevelBrick, 0)), noHints)
			if err != nil {
				return Point{}, err
			}
			fleet.Add(jury)
		}
		values = append(values, float64(coLost(fleet))/float64(p.Cells))
	}
	point := mean(float64(servers), values)
	if point.Y == 0 { // nothing in all colonies: fewer than three in as many poisonings, with 95 %
		point.Hi = 3 / float64(p.Colonies*p.Cells)
	}
	return point, nil
}

// first is a site with the first n servers, dealt over the racks.
func (s *Site) first(n int) (*Site, error) {
	var servers []server
	perRack := s.View.Len() / s.Len(LevelRack)
	for j := 0; len(servers) < n; j++ {
		for rack := 0; rack < s.Len(LevelRack) && len(servers) < n; rack++ {
			servers = append(servers, server{s.View.Servers()[rack*perRack+j]})
		}
	}
	return newSite(s.Name, servers, nil, nil)
}

// coLost counts ordered pairs of cells of which the second loses its majority with the servers of the first.
func coLost(f *Fleet) (pairs int) {
	most := f.Size - majority(f.Size)
	for i := range f.Len() {
		on := map[uint16]bool{}
		for _, m := range f.Jury(i) {
			on[m] = true
		}
		for j := range f.Len() {
			if i != j && shared(on, f.Jury(j)) > most {
				pairs++
			}
		}
	}
	return pairs
}

func shared(on map[uint16]bool, jury []uint16) (n int) {
	for _, m := range jury {
		if on[m] {
			n++
		}
	}
	return n
}

// sharedMuch is the chance that two juries drawn at random from n servers share so many that one dies with the other.
func sharedMuch(n, size int) float64 {
	sum := 0.0
	for k := size - majority(size) + 1; k <= size; k++ {
		sum += choose(size, k) * choose(n-size, size-k) / choose(n, size)
	}
	return sum
}

// choose is the binomial coefficient.
func choose(n, k int) float64 {
	if k < 0 || k > n {
		return 0
	}
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return math.Round(c)
}
