package lab

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// Experiment 1 draws each node of each cell by itself, and so has nothing to do with placement, until failures are shared: then it matters
// how placement.Place spreads a cell over the units that fail. For both the exact share is known, so each figure has a line that
// was computed and marks that were measured, and they must agree. The first is a test of the laboratory as much as of the paper.
//
// In the figures with shared failures p stays the probability that a node is down, so that they can be laid over the first: the unit takes its part
// of it, and the rest is left to the nodes. What remains then for a cell is the chance that two units fail at once, which no size
// of cell lowers beyond the number of units that it stands in: four power domains are four, for seven nodes and for thirteen.
//
// sizesParameters are what experiment 1 depends on.
type sizesParameters struct {
	Site        Shape     `json:"site"`
	Sizes       []int     `json:"cell_sizes"`
	P           []float64 `json:"node_failure_probabilities"`
	Trials      int       `json:"trials_per_point"` // independent failures: one fresh cell each
	Draws       int       `json:"draws_per_point"`  // correlated failures: one drawn site each
	Cells       int       `json:"cells_per_draw"`
	Shared      float64   `json:"share_of_failures_with_the_domain"`
	Simultanous float64   `json:"standard_deviations_that_hold_all_points"` // of the comparison with the binomial
}

// sizesDefault is what the report uses.
func sizesDefault(r Run) sizesParameters {
	return sizesParameters{Site: house, Sizes: []int{1, 3, 5, 7, 9, 11, 13},
		P:      []float64{0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9},
		Trials: r.trials(200_000, 2000), Draws: r.trials(2000, 20), Cells: 120, Shared: 0.5, Simultanous: 3.7}
}

// Sizes is experiment 1: how large should a cell be?
func Sizes(r Run) (Result, error) {
	p := sizesDefault(r)
	res := Result{Number: 1, Name: "sizes", Title: "How many nodes should a cell have?", Parameters: p,
		Question: "Availability against the probability that a node is down, for cells of 1 to 13 nodes: failures independent, and with half of them shared by a rack, a power domain or a color.",
		Method: []string{
			fmt.Sprintf("Independent: each point is %d cells, each node down with probability p by itself; the line is the binomial.", p.Trials),
			fmt.Sprintf("Correlated: %d cells per size placed by placement.Place; %d drawn states of the site per point. With probability %g p a domain is down as a whole, each server else by itself so that a node is down with probability p in all figures.", p.Cells, p.Draws, p.Shared),
		}}
	independent, worst, err := independentSizes(r, &p)
	if err != nil {
		return Result{}, err
	}
	res.Figures = append(res.Figures, independent)
	res.Findings = append(res.Findings,
		Finding{Paper: "Figure 4: majorities of more nodes win while less than half of the nodes fail, and lose beyond (NSDI 2020, section 2.2).",
			Ours:    fmt.Sprintf("All sizes cross at p = 0.5, where each loses half of its cells. The measured points are at most %.1f standard deviations from the binomial (%d points, %.1f allowed for all of them together).", worst, len(p.P)*len(p.Sizes), p.Simultanous),
			Verdict: verdict(worst <= p.Simultanous)})
	site, err := p.Site.Site()
	if err != nil {
		return Result{}, err
	}
	for _, l := range [...]Level{LevelRack, LevelPower, LevelColor} {
		f, finding, err := correlatedSizes(r, &p, site, l)
		if err != nil {
			return Result{}, err
		}
		res.Figures, res.Findings = append(res.Figures, f), append(res.Findings, finding)
	}
	return res, nil
}

// sizesFigure is the frame that all figures of experiment 1 have.
func sizesFigure(name, title, note string, least float64) Figure {
	return Figure{Name: "1-" + name, Title: title, Note: note, X: Axis{Label: "probability p that a node is down", Log: true, Min: 0.001, Max: 1},
		Y: Axis{Label: "probability that the cell has no majority", Log: true, Min: least, Max: 1}}
}

// independentSizes draws each node of each cell by itself, and tells how many standard deviations the worst point is off.
func independentSizes(r Run, p *sizesParameters) (Figure, float64, error) {
	f := sizesFigure("independent", "Cells without a majority, independent failures",
		"Marks are measured, lines are the binomial. There is no mark where nothing was seen in all trials; the data have its interval.", 1e-9)
	// The same dice for all sizes: the points of one figure are not independent, but each is fresh cells.
	rng, worst := stream(r.Seed, "sizes/independent"), 0.0
	for i, n := range p.Sizes {
		if err := r.Watch.every(i*1000, len(p.Sizes)*1000, "experiment 1: independent failures"); err != nil {
			return f, 0, err
		}
		curve := Series{Name: fmt.Sprintf("%d nodes (binomial)", n), Style: StyleExact}
		marks := Series{Name: nodesOf(n), Style: StyleMarks}
		for _, q := range p.P {
			curve.Points = append(curve.Points, exact(q, Lost(n, q)))
			lost := 0
			for range p.Trials {
				if drawFailed(rng, n, q) > n-majority(n) {
					lost++
				}
			}
			worst = max(worst, deviations(lost, p.Trials, Lost(n, q)))
			marks.Points = append(marks.Points, wilson(q, lost, p.Trials, z95))
		}
		f.Series = append(f.Series, curve, marks)
	}
	return f, worst, nil
}

// nodesOf names the series of a size.
func nodesOf(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// drawFailed is how many of n nodes fail by themselves.
func drawFailed(rng *rand.Rand, n int, q float64) (failed int) {
	for range n {
		if rng.Float64() < q {
			failed++
		}
	}
	return failed
}

// correlatedSizes measures placed cells while the units of one level fail as a whole, beside what follows from how their nodes are
// spread.
func correlatedSizes(r Run, p *sizesParameters, site *Site, l Level) (Figure, Finding, error) {
	f := sizesFigure(l.String(), fmt.Sprintf("Cells without a majority, %g of the failures by %s", p.Shared, l),
		fmt.Sprintf("A node is down with probability p, as in the first figure, but with probability %g p because its whole %s is. Marks are measured on placed cells, lines are computed from how the nodes of these cells are spread.", p.Shared, l), map[Level]float64{LevelRack: 1e-9, LevelPower: 1e-7, LevelColor: 1e-4}[l])
	loss, points, inside := map[int]float64{}, 0, 0
	for i, n := range p.Sizes {
		fleet, err := sizedFleet(r, p, site, n)
		if err != nil {
			return f, Finding{}, err
		}
		curve, marks := Series{Name: fmt.Sprintf("%d nodes (computed)", n), Style: StyleExact}, Series{Name: nodesOf(n), Style: StyleMarks}
		rng := stream(r.Seed, fmt.Sprintf("sizes/%s/%d", l, n))
		for _, q := range p.P {
			if err := r.Watch.every(i*1000, len(p.Sizes)*1000, "experiment 1: failures by "+l.String()); err != nil {
				return f, Finding{}, err
			}
			want, got := spreadLoss(site, fleet, l, p.Shared*q, single(q, p.Shared)), drawnLoss(rng, site, fleet, l, p, q)
			if q == 0.01 {
				loss[n] = want
			}
			if points++; got.Lo <= want && want <= got.Hi {
				inside++
			}
			curve.Points, marks.Points = append(curve.Points, exact(q, want)), append(marks.Points, got)
		}
		f.Series = append(f.Series, curve, marks)
	}
	finding := Finding{Paper: "Figure 4 assumes independent failures; in the text, the size is a trade-off between tolerance to large correlated failures and tolerance to random ones.",
		Ours: fmt.Sprintf("With %g of the failures by %s, cells of 5, 7 and 9 are without a majority with %.1e, %.1e and %.1e at p = 0.01 (independent: %.1e, %.1e, %.1e). %d of %d measured intervals contain what is computed.",
			p.Shared, l, loss[5], loss[7], loss[9], Lost(5, 0.01), Lost(7, 0.01), Lost(9, 0.01), inside, points),
		Verdict: verdict(loss[7] <= loss[5] && loss[7] > Lost(7, 0.01))}
	if l == LevelColor {
		finding.Ours += " A cell has one color, so no size helps against the loss of it: what helps is that only the cells of that color are lost."
		finding.Verdict = Beyond
	}
	return f, finding, nil
}

// single is the probability with which a server fails by itself, so that it is down with probability q in all.
func single(q, shared float64) float64 { return 1 - (1-q)/(1-shared*q) }

// spreadLoss is the exact share of cells without a majority, from the number of nodes that each cell has in the units of a level.
func spreadLoss(site *Site, fleet *Fleet, l Level, whole, alone float64) float64 {
	sum := 0.0
	for c := range fleet.Len() {
		counts := map[int32]int{}
		for _, m := range fleet.Jury(c) {
			counts[site.Unit(l, int32(m))]++
		}
		spread := slices.Sorted(maps.Values(counts))
		sum += LostTogether(spread, whole, alone)
	}
	return sum / float64(fleet.Len())
}

// sizedFleet places cells of one size, spread over the bricks.
func sizedFleet(r Run, p *sizesParameters, site *Site, n int) (*Fleet, error) {
	pl, fleet := newPlacer(site, n, stream(r.Seed, fmt.Sprintf("sizes/place/%d", n))), NewFleet(n, p.Cells)
	for i := range p.Cells {
		volume := Volume{Client: int32(i * site.View.Len() / p.Cells)}
		jury, err := pl.place(site.location(volume.Client).Brick, noHints)
		if err != nil {
			return nil, err
		}
		fleet.Add(jury)
	}
	return fleet, nil
}

// drawnLoss is the share of cells without a majority over drawn states of the site, in which a server is down with probability q.
func drawnLoss(rng *rand.Rand, site *Site, fleet *Fleet, l Level, p *sizesParameters, q float64) Point {
	var share ratio
	whole, alone := p.Shared*q, single(q, p.Shared)
	// All cells are judged in each drawn state: they fail together, so a state is one trial.
	state := NewState(site)
	for range p.Draws {
		state.Heal()
		for u := range site.Len(l) {
			if rng.Float64() < whole {
				for _, s := range site.Servers(l, u) {
					state.FailServer(s)
				}
			}
		}
		for s := range int32(site.View.Len()) {
			if rng.Float64() < alone {
				state.FailServer(s)
			}
		}
		lost := 0
		for c := range fleet.Len() {
			if state.alive(fleet.Jury(c)) < majority(fleet.Size) {
				lost++
			}
		}
		share.add(float64(lost), float64(fleet.Len()))
	}
	return share.point(q)
}
