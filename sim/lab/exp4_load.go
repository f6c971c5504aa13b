package lab

import "fmt"

// The paper's highest load of cells under failed aggregation devices (section 5.2.1).
const paperLoad = 29

// Experiment 4 is the paper's Figure 12: a store of configurations has nothing to do until something breaks, and then has to do for everybody at once.
// A volume asks when exactly one of its copies can be reached, so the load is highest when about half of the paths are gone, and then
// falls: who reaches neither copy has nothing to ask for. How high it is follows from how independently the two copies are cut off, which is
// a matter of the network and not of the store; hence two series.
//
// Load is experiment 4: how many cells are asked at once when the network breaks?
func Load(r Run) (Result, error) {
	a, p, err := newArena(r)
	if err != nil {
		return Result{}, err
	}
	res := Result{Number: 4, Name: "load", Title: "How many cells are asked at once?", Parameters: p,
		Question: "Aggregation devices and brick routers fail: which share of volumes asks its cell to change who is primary, and how many of these get an answer?",
		Method: []string{
			"A volume asks when its client runs and reaches exactly one of its two copies. With both it needs nothing; with neither it is disconnected entirely, and asks for nothing that helps.",
			"The same site, volumes and cells (of seven, placed near their users) as in experiment 3. In a second series copies stand in bricks of their own, as if nobody cared.",
		}}
	cells, err := newPlacer(a.site, 7, stream(r.Seed, "network/near/7")).fleet(a.volumes, true, r.Watch)
	if err != nil {
		return Result{}, err
	}
	apart := *a
	apart.volumes = make([]Volume, len(a.volumes))
	rng := stream(r.Seed, "load/apart")
	for i, v := range a.volumes {
		n := a.site.View.Len()
		apart.volumes[i] = Volume{v.Client, int32(rng.IntN(n)), int32(rng.IntN(n))}
	}
	asked, answered, err := a.asking(r, &p, cells)
	if err != nil {
		return Result{}, err
	}
	spread, _, err := apart.asking(r, &p, cells)
	if err != nil {
		return Result{}, err
	}
	asked.Name, answered.Name, spread.Name = "ask their cell, copies in one brick", "ask and get an answer", "ask their cell, copies anywhere"
	line := Series{Name: fmt.Sprintf("the paper's highest, %d %%", paperLoad), Style: StylePaper, Points: []Point{exact(0, paperLoad), exact(100, paperLoad)}}
	res.Figures = []Figure{{Name: "4-load", Title: "Volumes that ask their cell under failed devices", Series: []Series{asked, answered, spread, line},
		X: Axis{Label: "failed aggregation devices and routers (%)"}, Y: Axis{Label: "volumes (%)"},
		Note: "Upwards, the share of all volumes that ask their cell in one drawn state of the network. Intervals are over drawn states."}}
	peak, at := top(asked)
	wide, wideAt := top(spread)
	last := asked.Points[len(asked.Points)-1]
	early := slope(asked, 0, at/2)
	late := slope(asked, at/2, at)
	res.Findings = []Finding{
		{Paper: "Figure 12: load rises linearly with failed devices up to at most 29 %, then falls as volumes disconnect entirely.",
			Ours:    fmt.Sprintf("Rises to %.0f %% (%.1f to %.1f) at %.0f %% of the devices, then falls to %.0f %%. Copies anywhere: %.0f %% at %.0f %% of the devices.", peak.Y, peak.Lo, peak.Hi, at, last.Y, wide.Y, wideAt),
			Verdict: verdict(at > 0 && at < 100 && last.Y < peak.Y/2)},
		{Paper: "The rise is linear, and its top 29 %.",
			Ours:    fmt.Sprintf("About linear, but slow at its beginning, since two devices must fail to cut a rack off: %.2f %% of the volumes per %% of the devices on the first half of the rise, %.2f on the second. The top is %.1f times the paper's; it follows from how far apart copies stand.", early, late, peak.Y/paperLoad),
			Verdict: verdict(early > 0.8*late && peak.Lo < paperLoad+3 && peak.Hi > paperLoad-3)},
	}
	return res, nil
}

// asking measures which share of the volumes asks, and gets an answer, in percent.
func (a *arena) asking(r Run, p *networkParameters, cells *Fleet) (asked, answered Series, err error) {
	rng, state := stream(r.Seed, "load/failures"), NewState(a.site)
	for i, k := range p.Failed {
		var ask, answer ratio
		for d := range p.Draws {
			if err := r.Watch.every((i*p.Draws+d)*10, len(p.Failed)*p.Draws*10, "experiment 4: failed devices"); err != nil {
				return asked, answered, err
			}
			a.fail(state, k, rng)
			asks, answers := 0, 0
			for v, u := range a.volumes {
				if state.Talk(u.Client, u.Primary) == state.Talk(u.Client, u.Replica) {
					continue
				}
				if asks++; state.reaches(u.Client, cells.Jury(v)) {
					answers++
				}
			}
			ask.add(float64(asks), float64(len(a.volumes)))
			answer.add(float64(answers), float64(len(a.volumes)))
		}
		x := 100 * float64(k) / float64(p.Devices)
		asked.Points, answered.Points = append(asked.Points, percent(ask.point(x))), append(answered.Points, percent(answer.point(x)))
	}
	return asked, answered, nil
}

// percent is a share in percent.
func percent(p Point) Point { return Point{p.X, 100 * p.Y, 100 * p.Lo, 100 * p.Hi} }

// top is the highest point of a series, and where it is.
func top(s Series) (best Point, at float64) {
	for _, p := range s.Points {
		if p.Y > best.Y {
			best, at = p, p.X
		}
	}
	return best, at
}

// slope is the average rise of a series between two places.
func slope(s Series, from, to float64) float64 {
	first, last := Point{}, Point{}
	for _, p := range s.Points {
		if p.X <= from {
			first = p
		}
		if p.X <= to {
			last = p
		}
	}
	if last.X == first.X {
		return 0
	}
	return (last.Y - first.Y) / (last.X - first.X)
}
