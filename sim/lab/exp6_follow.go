package lab

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"physalia/internal/topology"
)

// Experiment 6 is the paper's Figure 7: users of a volume jump, and placement.Improve brings its nodes after them, one at a time. What is measured is
// how near the jury is after each replacement, and what failed devices would cost at that moment. How long a replacement takes is not
// measured here but taken from the drill with real processes.
//
// Two colonies are compared, one with few cells and one with many: nearness and the overlap limit pull in opposite directions, since users in the
// same racks want the same servers.
//
// followParameters are what experiment 6 depends on; times in seconds.
type followParameters struct {
	Site      Shape     `json:"site"`
	Fleets    []int     `json:"cells"`
	Movers    int       `json:"volumes_whose_users_move"`
	Notice    float64   `json:"seconds_until_the_first_replacement_begins"`
	Replace   float64   `json:"seconds_per_replacement"`
	Fail      []float64 `json:"failed_devices_percent"`
	Draws     int       `json:"draws"`
	GoalAfter float64   `json:"the_papers_seconds"`
}

// Follow is experiment 6: how soon is a cell near users that move, and is it available meanwhile?
func Follow(r Run) (Result, error) {
	p := followParameters{Site: house, Fleets: []int{r.trials(240, 96), r.trials(1500, 200)}, Movers: r.trials(200, 20), Notice: 1, Replace: 0.8, Fail: []float64{10, 25}, Draws: r.trials(100, 10), GoalAfter: 60}
	res := Result{Number: 6, Name: "follow", Title: "A client that moves", Parameters: p,
		Question: "The client and both copies of a volume move to other racks of the brick. How long until the cell's nodes are near, and how likely is the cell out of reach meanwhile?",
		Method: []string{
			fmt.Sprintf("%d volumes move, one after the other, among %d cells in all (%d in another colony, where cells are few and the overlap limit hardly binds); placement.Improve chooses each replacement by the new places, until nothing gains.", p.Movers, p.Fleets[1], p.Fleets[0]),
			fmt.Sprintf("One member at a time: a replacement takes %.1f s, the first begins after %.0f s. That is what `physalia drill jump` measured on real processes (5.3 to 6.0 s in all at default limits); it is not measured here.", p.Replace, p.Notice),
			fmt.Sprintf("Near is who stands in a rack of one of the three users. Out of reach is measured over %d drawn sets of failed devices in each state of the jury, for clients that reach a copy of their data.", p.Draws),
		}}
	a, _, err := newArena(r)
	if err != nil {
		return Result{}, err
	}
	var nearness []Series
	var paths [][][]uint16
	steps := 0
	for _, cells := range p.Fleets { // what follows is about the last, the fullest
		a.volumes = drawVolumes(a.site, cells, stream(r.Seed, "follow/volumes"))
		if paths, steps, err = a.follow(r, &p); err != nil {
			return Result{}, err
		}
		nearness = append(nearness, a.nearness(&p, paths, steps, fmt.Sprintf("%d cells, %d per pool", cells, cells/len(a.site.View.Pools()))))
	}
	near := Figure{Name: "6-near", Title: "Nodes near the volume's users, after these moved", X: Axis{Label: "time since the users moved (s)"}, Y: Axis{Label: "nodes in a rack of a user (%)", Max: 100},
		Note: "A cell of seven cannot have more than three nodes in a rack or power domain, and shares at most three servers with any other: the more cells a pool has, the fewer nodes find room near.", Series: nearness}
	reach := Figure{Name: "6-reach", Title: "Stores out of reach while the cell follows its users", X: near.X, Y: Axis{Label: "P(store out of reach)", Log: true, Min: 1e-4},
		Note: "If that many network devices fail at this moment of the move. No step makes it worse for long: a member leaves only when the new one has what it had."}
	for _, percent := range p.Fail {
		s, err := a.reachability(r, &p, paths, steps, percent)
		if err != nil {
			return Result{}, err
		}
		reach.Series = append(reach.Series, s)
	}
	res.Figures = []Figure{near, reach}
	slowest, swaps := 0.0, []float64(nil)
	for _, path := range paths {
		swaps = append(swaps, float64(len(path)-1))
		slowest = max(slowest, p.Notice+p.Replace*float64(len(path)-1))
	}
	last, roomy := near.Series[1].Points[steps-1], near.Series[0].Points[len(near.Series[0].Points)-1]
	before, after := reach.Series[1].Points[0], reach.Series[1].Points[steps-1]
	res.Findings = []Finding{
		{Paper: "Cells typically move within one minute (Figure 7: far nodes are replaced by near ones, one at a time).",
			Ours:    fmt.Sprintf("%.1f replacements on average, the slowest cell near after %.1f s; then %.0f %% of the nodes are in a rack of a user, and %.0f %% where cells are few: the overlap limit keeps the others out of the same nine servers.", mean(0, swaps).Y, slowest, last.Y, roomy.Y),
			Verdict: verdict(slowest < p.GoalAfter)},
		{Paper: "Moving continuously keeps the probability that the volume's store is available, given its client, high.",
			Ours:    fmt.Sprintf("With %.0f %% of the devices failed, the store is out of reach with %.3f (%.3f to %.3f) before the move and %.3f (%.3f to %.3f) after it.", p.Fail[1], before.Y, before.Lo, before.Hi, after.Y, after.Lo, after.Hi),
			Verdict: verdict(after.Y < before.Y)},
		{Paper: "Cells follow their clients wherever they go.", Ours: "Inside the brick only: a cell never leaves its brick here, so a client that moves to another brick is followed by a new cell, not by this one.", Verdict: Contradicts},
	}
	return res, nil
}

// follow places all cells, moves the users of some, and returns the juries that each of these goes through.
func (a *arena) follow(r Run, p *followParameters) (paths [][][]uint16, steps int, err error) {
	pl, rng := newPlacer(a.site, 7, stream(r.Seed, "follow/cells")), stream(r.Seed, "follow/jumps")
	fleet, err := pl.fleet(a.volumes, true, r.Watch)
	if err != nil {
		return nil, 0, err
	}
	for i := range min(p.Movers, len(a.volumes)) {
		if err := r.Watch.every(i*100, p.Movers*100, "experiment 6: users move"); err != nil {
			return nil, 0, err
		}
		a.volumes[i] = a.jump(a.volumes[i], rng)
		jury := fleet.Jury(i)
		path := [][]uint16{slices.Clone(jury)}
		for {
			n, err := pl.improve(cellName(i+1), jury, a.site.hints(a.volumes[i]), 1)
			if err != nil {
				return nil, 0, err
			}
			if n == 0 {
				break
			}
			path = append(path, slices.Clone(jury))
		}
		paths, steps = append(paths, path), max(steps, len(path))
	}
	return paths, steps, nil
}

// All three go to racks where none of them was, which is the worst case: usually one user moves at a time.
//
// jump moves the users of a volume to other racks of their brick.
func (a *arena) jump(v Volume, rng *rand.Rand) Volume {
	pool := a.site.of[LevelBrick][a.site.Unit(LevelBrick, v.Client)]
	racks := map[int32]bool{}
	for _, u := range [...]int32{v.Client, v.Primary, v.Replica} {
		racks[a.site.Unit(LevelRack, u)] = true
	}
	var to []int32
	for len(to) < 3 {
		if c := pool[rng.IntN(len(pool))]; !racks[a.site.Unit(LevelRack, c)] {
			racks[a.site.Unit(LevelRack, c)] = true
			to = append(to, c)
		}
	}
	return Volume{to[0], to[1], to[2]}
}

// at is the jury of a path after so many replacements.
func at(path [][]uint16, step int) []uint16 { return path[min(step, len(path)-1)] }

// moment is when a replacement is done.
func (p *followParameters) moment(step int) float64 {
	if step == 0 {
		return 0
	}
	return p.Notice + p.Replace*float64(step)
}

// nearness is the share of nodes in a rack of a user, step by step.
func (a *arena) nearness(p *followParameters, paths [][][]uint16, steps int, name string) Series {
	s := Series{Name: name}
	for step := range steps {
		var shares []float64
		for i, path := range paths {
			v, near := a.volumes[i], 0
			for _, m := range at(path, step) {
				here := a.site.location(int32(m))
				if min(here.Distance(a.site.location(v.Client)), here.Distance(a.site.location(v.Primary)), here.Distance(a.site.location(v.Replica))) <= topology.SameRack {
					near++
				}
			}
			shares = append(shares, 100*float64(near)/float64(len(at(path, step))))
		}
		s.Points = append(s.Points, mean(p.moment(step), shares))
	}
	return s
}

// reachability is the share of stores out of reach, step by step, if devices fail then; the same draws at each step.
func (a *arena) reachability(r Run, p *followParameters, paths [][][]uint16, steps int, percent float64) (Series, error) {
	s := Series{Name: fmt.Sprintf("%.0f %% of the network devices failed", percent)}
	state := NewState(a.site)
	for step := range steps {
		if err := r.Watch.every(step*1000, steps*1000, "experiment 6: reach while moving"); err != nil {
			return s, err
		}
		rng := stream(r.Seed, fmt.Sprintf("follow/failures/%g", percent))
		var lost ratio
		for range p.Draws {
			a.fail(state, int(percent*float64(len(a.devices))/100), rng)
			miss, all := 0.0, 0.0
			for i, path := range paths {
				if v := a.volumes[i]; state.Talk(v.Client, v.Primary) || state.Talk(v.Client, v.Replica) {
					all++
					if !state.reaches(v.Client, at(path, step)) {
						miss++
					}
				}
			}
			lost.add(miss, all)
		}
		s.Points = append(s.Points, lost.point(p.moment(step)))
	}
	return s, nil
}
