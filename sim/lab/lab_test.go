package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	_ "physalia/internal/rapidseed"
	"physalia/placement"
)

// Experiment 1 equals the binomial at every point, within what 91 points together may be off.
func TestSizesAreBinomial(t *testing.T) {
	p := sizesDefault(Run{Effort: 0.2})
	_, worst, err := independentSizes(Run{Seed: 1}, &p)
	if err != nil || worst > p.Simultanous || worst == 0 {
		t.Errorf("worst point is %.2f standard deviations off, allowed are %.2f (%v)", worst, p.Simultanous, err)
	}
}

// The comparison with the binomial notices a probability that is a little wrong, where it can be noticed at all.
func TestDeviationsNotice(t *testing.T) {
	for _, c := range []struct {
		hits, n int
		p       float64
		most    float64
		least   float64
	}{
		{5000, 10_000, 0.5, 0.01, 0}, {5300, 10_000, 0.5, 7, 5}, {0, 1000, 1e-6, 1, 0}, {5, 1000, 1e-6, 20, 6}, {1000, 1000, 1 - 1e-6, 1, 0}, {990, 1000, 1 - 1e-6, 20, 6},
	} {
		if d := deviations(c.hits, c.n, c.p); d > c.most || d < c.least {
			t.Errorf("%d of %d at %g: %.2f deviations, want %g to %g", c.hits, c.n, c.p, d, c.least, c.most)
		}
	}
}

// The binomial agrees with counting all outcomes, and the closed form for failures that share a domain with counting all states of
// domains and nodes.
func TestClosedFormsAgreeWithCounting(t *testing.T) {
	for _, counts := range [][]int{{1, 1, 1}, {3, 2, 2}, {2, 2, 2, 1}, {5}} {
		n := 0
		for _, c := range counts {
			n += c
		}
		for _, q := range []float64{0.01, 0.3, 0.9} {
			if a, b := LostTogether(counts, 0, q), Lost(n, q); math.Abs(a-b) > 1e-12 {
				t.Errorf("%v at %g: %g without shared failures, the binomial is %g", counts, q, a, b)
			}
			if a, b := LostTogether(counts, 0.2, q), counted(counts, 0.2, q); math.Abs(a-b) > 1e-12 {
				t.Errorf("%v at %g: %g, counted %g", counts, q, a, b)
			}
		}
	}
	if got := Lost(7, 0.01); math.Abs(got-3.4e-7) > 0.05e-7 {
		t.Errorf("seven at 0.01: %g", got)
	}
}

// counted sums over all sets of domains and nodes that fail.
func counted(counts []int, whole, single float64) float64 {
	var domain []int // by node
	for d, c := range counts {
		for range c {
			domain = append(domain, d)
		}
	}
	sum := 0.0
	for domains := range 1 << len(counts) {
		for nodes := range 1 << len(domain) {
			p, failed := 1.0, 0
			for d := range counts {
				p *= bit(domains, d, whole)
			}
			for i, d := range domain {
				p *= bit(nodes, i, single)
				if domains>>d&1 == 1 || nodes>>i&1 == 1 {
					failed++
				}
			}
			if failed > len(domain)-majority(len(domain)) {
				sum += p
			}
		}
	}
	return sum
}

func bit(set, i int, p float64) float64 {
	if set>>i&1 == 1 {
		return p
	}
	return 1 - p
}

// Each experiment is a function of its seed: twice the same bytes, and other bytes for another seed. Each claim has an answer, each
// figure has points that can be drawn.
func TestExperimentsAreFunctions(t *testing.T) {
	for _, e := range Experiments() {
		t.Run(e.Name, func(t *testing.T) {
			one, again, other := run(t, e, 1), run(t, e, 1), run(t, e, 2)
			if !bytes.Equal(one, again) {
				t.Error("the same seed gave other data")
			}
			if bytes.Equal(one, other) {
				t.Error("another seed gave the same data")
			}
			var r Result
			if err := json.Unmarshal(one, &r); err != nil {
				t.Fatal(err)
			}
			if r.Number != e.Number || r.Name != e.Name || len(r.Findings) == 0 || len(r.Figures) == 0 {
				t.Errorf("result %d %q with %d findings and %d figures", r.Number, r.Name, len(r.Findings), len(r.Figures))
			}
			for _, f := range r.Figures {
				checkFigure(t, &f)
			}
		})
	}
}

func run(t *testing.T, e Experiment, seed uint64) []byte {
	t.Helper()
	r, err := e.Run(Run{Seed: seed, Effort: 0.02})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r) // refuses what is no number
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkFigure(t *testing.T, f *Figure) {
	t.Helper()
	points := 0
	for _, s := range f.Series {
		for _, p := range s.Points {
			points++
			if !(p.Lo <= p.Y && p.Y <= p.Hi) {
				t.Errorf("figure %s, %s: %+v lies outside of its interval", f.Name, s.Name, p)
			}
		}
	}
	if points == 0 || f.X.Label == "" || f.Y.Label == "" || f.Note == "" || f.X.Log && f.X.Min <= 0 || f.Y.Log && f.Y.Min <= 0 {
		t.Errorf("figure %s: %d points, axes %+v and %+v", f.Name, points, f.X, f.Y)
	}
}

// A watch ends any experiment.
func TestWatchEndsExperiments(t *testing.T) {
	enough := errors.New("enough")
	for _, e := range Experiments() {
		asked := 0
		_, err := e.Run(Run{Seed: 1, Effort: 0.02, Watch: func(_ string, done, total int) error {
			if asked++; done < 0 || done > total {
				t.Errorf("%s: %d of %d", e.Name, done, total)
			}
			return enough
		}})
		if !errors.Is(err, enough) || asked != 1 {
			t.Errorf("%s: %v after %d questions", e.Name, err, asked)
		}
	}
}

// drawShape draws small sites in which cells fit: at least three racks and power domains, seven servers of each color.
func drawShape(t *rapid.T) Shape {
	h := Shape{Bricks: rapid.IntRange(1, 2).Draw(t, "bricks"), Racks: rapid.IntRange(3, 8).Draw(t, "racks"), Colors: rapid.IntRange(1, 3).Draw(t, "colors"),
		Aggregations: rapid.IntRange(1, 4).Draw(t, "aggregations"), Capacity: 1000}
	h.Powers = rapid.IntRange(3, min(h.Racks, 5)).Draw(t, "powers")
	h.ServersPerRack = h.Colors * rapid.IntRange(3, 5).Draw(t, "servers per rack and color")
	return h
}

// drawColony places cells near drawn users with the real code.
func drawColony(t *rapid.T, cells int) (*Site, *Fleet) {
	site, err := drawShape(t).Site()
	if err != nil {
		t.Fatal(err)
	}
	rng := stream(rapid.Uint64().Draw(t, "seed"), "test")
	fleet, err := newPlacer(site, 7, rng).fleet(drawVolumes(site, cells, rng), rapid.Bool().Draw(t, "hints"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return site, fleet
}

// hardlyOverlaps reports whether the overlap limit is hard in all pools of a site with so many cells.
func hardlyOverlaps(site *Site, cells int) bool {
	for _, p := range site.View.Pools() {
		if uint64(cells) > placement.OverlapLimit(len(p.Servers), 7) {
			return false
		}
	}
	return true
}

// TestSingleLossesCostNoMajority: whatever the site, well-placed cells survive any rack, power domain and server, a color touches only
// its own cells, and below the overlap limit no cell dies with another.
func TestSingleLossesCostNoMajority(t *testing.T) {
	enforced := 0
	rapid.Check(t, func(t *rapid.T) {
		cells := rapid.IntRange(1, 12).Draw(t, "cells")
		site, fleet := drawColony(t, cells)
		overlap := hardlyOverlaps(site, cells)
		if overlap {
			enforced++
		}
		for _, flaw := range Judge(site, fleet, overlap) {
			t.Error(flaw)
		}
	})
	if enforced == 0 {
		t.Error("the overlap limit was never hard")
	}
}

// TestDrawnKillSets: of any set of failures, a cell with a majority that can talk serves whoever is in that part of the network,
// nobody serves two parts, and one more failure never gives a cell back.
func TestDrawnKillSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		site, fleet := drawColony(t, 8)
		state := NewState(site)
		served := make([]int, fleet.Len())
		for c := range served {
			served[c] = fleet.Size
		}
		for range rapid.IntRange(1, 6).Draw(t, "kills") {
			level := Level(rapid.IntRange(0, int(levels)-1).Draw(t, "level"))
			unit := rapid.IntRange(0, site.Len(level)-1).Draw(t, "unit")
			state.strike(&outage{level: level, unit: int32(unit), servers: site.Servers(level, unit)}, true)
			for c := range fleet.Len() {
				now := checkServed(t, site, state, fleet.Jury(c))
				if now > served[c] {
					t.Fatalf("cell %d: %d members together, %d before the failure of %s %d", c, now, served[c], level, unit)
				}
				served[c] = now
			}
		}
	})
}

// checkServed compares who is served with a naive count by pairs, and returns how many members are together.
func checkServed(t *rapid.T, site *Site, state *State, jury []uint16) int {
	parts := map[int32]bool{}
	for client := range int32(site.View.Len()) {
		n := 0
		for _, m := range jury {
			if state.Talk(client, int32(m)) {
				n++
			}
		}
		if state.Up(client) && state.reaches(client, jury) != (n >= 4) {
			t.Fatalf("client %d talks to %d members of %v", client, n, jury)
		}
		if state.Up(client) && n >= 4 {
			parts[state.Part(client)] = true
		}
	}
	if len(parts) > 1 {
		t.Fatalf("%v serves %d parts of the network", jury, len(parts))
	}
	return state.together(jury)
}

// Each planted mistake of placement is found by Judge, in the colony that the right placement gave no reason to blame.
func TestJudgeFindsPlantedMistakes(t *testing.T) {
	site, err := Shape{Bricks: 1, Racks: 9, ServersPerRack: 10, Powers: 3, Colors: 2, Aggregations: 3, Capacity: 1000}.Site()
	if err != nil {
		t.Fatal(err)
	}
	for _, bug := range []struct {
		name  string
		plant func(f *Fleet, i int)
	}{
		{"two nodes too many in one power domain", func(f *Fleet, i int) { crowd(site, f.Jury(i), LevelPower, 5) }},
		{"one node too many in one rack", func(f *Fleet, i int) { crowd(site, f.Jury(i), LevelRack, 4) }},
		{"a cell across colors", func(f *Fleet, i int) { recolor(site, f.Jury(i)) }},
		{"ignored overlap limit", func(f *Fleet, i int) { copy(f.Jury(i)[:4], f.Jury((i + 2) % f.Len())[:4]) }},
	} {
		t.Run(bug.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				rng := stream(rapid.Uint64().Draw(t, "seed"), "planted")
				fleet, err := newPlacer(site, 7, rng).fleet(drawVolumes(site, 12, rng), rapid.Bool().Draw(t, "hints"), nil)
				if err != nil {
					t.Fatal(err)
				}
				if flaws := Judge(site, fleet, true); len(flaws) > 0 {
					t.Fatalf("before anything was planted: %v", flaws)
				}
				bug.plant(fleet, rapid.IntRange(0, fleet.Len()-1).Draw(t, "cell"))
				if flaws := Judge(site, fleet, true); len(flaws) == 0 {
					t.Fatal("not found")
				}
			})
		})
	}
}

// crowd moves members into the first one's unit of a level until it holds n of the jury.
func crowd(site *Site, jury []uint16, l Level, n int) {
	unit, color := site.Unit(l, int32(jury[0])), site.Unit(LevelColor, int32(jury[0]))
	var free []uint16
	for _, s := range site.Servers(l, int(unit)) {
		if site.Unit(LevelColor, s) == color && !slices.Contains(jury, uint16(s)) {
			free = append(free, uint16(s))
		}
	}
	inside := 0
	for _, m := range jury {
		if site.Unit(l, int32(m)) == unit {
			inside++
		}
	}
	for i := 0; inside < n; i++ {
		if site.Unit(l, int32(jury[i])) != unit {
			jury[i], free = free[0], free[1:]
			inside++
		}
	}
}

// recolor puts one member onto a server of the same rack and another color.
func recolor(site *Site, jury []uint16) {
	for _, s := range site.Servers(LevelRack, int(site.Unit(LevelRack, int32(jury[6])))) {
		if site.Unit(LevelColor, s) != site.Unit(LevelColor, int32(jury[6])) {
			jury[6] = uint16(s)
			return
		}
	}
}

// What-if counts what brute force counts, and its cells are all accounted for.
func TestWhatIfCounts(t *testing.T) {
	site, err := Shape{Bricks: 2, Racks: 6, ServersPerRack: 8, Powers: 3, Colors: 2, Aggregations: 3, Capacity: 1000}.Site()
	if err != nil {
		t.Fatal(err)
	}
	pools := site.Share(203)
	total := 0
	for i := range pools {
		n := 203
		if i+1 < len(pools) {
			n = pools[i+1].First
		}
		if err := site.PlacePool(&pools[i], n-pools[i].First, 1, nil); err != nil {
			t.Fatal(err)
		}
		total += pools[i].Fleet.Len()
	}
	for _, c := range []struct {
		kill       string
		lost, held bool
	}{{"rack=b01/r01", false, true}, {"power=p1", false, true}, {"server=b01-r01-s01", false, false}, {"brick=b02", true, true}, {"color=red", true, true}, {"device=b01-agg1", false, false}} {
		kills, err := site.ParseKill(c.kill)
		if err != nil {
			t.Fatal(err)
		}
		a, err := site.WhatIf(Question{Pools: pools, Kills: kills, Policy: repairPolicy(), Names: 5})
		if err != nil {
			t.Fatal(err)
		}
		sum := a.Lost + a.CutOff
		for _, n := range a.Margins {
			sum += n
		}
		if total != 203 || a.Cells != 203 || sum != 203 || (a.Lost > 0) != c.lost || a.Hold != c.held || a.CutOff != 0 || len(a.LostCells) != min(5, a.Lost) {
			t.Errorf("%s: %+v of %d cells", c.kill, a, total)
		}
		if (a.Repairs > 0) != (a.Seconds > 0) {
			t.Errorf("%s: %d repairs in %v s", c.kill, a.Repairs, a.Seconds)
		}
	}
	for _, bad := range []string{"rack", "shelf=1", "rack=b09/r01", "color=mauve", "=x"} {
		if _, err := site.ParseKill(bad); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
