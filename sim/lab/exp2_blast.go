package lab

import (
	"fmt"
	"math"
	"math/rand/v2"

	"physalia/internal/topology"
)

// Experiment 2 plays years of failures, event by event, and keeps for each store which volumes have an answer. Only those volumes are judged again
// that an event concerns: those with a member or their client on a server that fell or rose; all of them when the network changed.
//
// The three stores differ in one thing, how many volumes share a jury. A jury of seven that is spread over bricks survives more than one that is
// not, but when it falls, everybody falls; and a command that no member survives takes all who share it. So the experiment
// shows two figures: how large incidents are, and how many hours miss a goal. Which store is best depends on the goal, and cells win
// where the paper's goal is; far below it they lose, since many small incidents touch many hours.
//
// blastParameters are what experiment 2 depends on.
type blastParameters struct {
	Site      Shape     `json:"site"`
	Volumes   int       `json:"volumes"` // one cell each
	Years     int       `json:"years"`   // each with a trace of its own
	Processes []Process `json:"failures"`
	Goal      float64   `json:"error_goal"` // share of volume time in an hour
}

// The rates are round numbers of the size that operators report; they are the same for all stores, and only ratios are claimed.
func blastDefault(r Run) blastParameters {
	return blastParameters{Site: house, Volumes: r.trials(3000, 300), Years: r.trials(30, 3), Goal: 0.0005, Processes: []Process{
		{Level: "server", PerYear: 2, Hours: 2, Together: 1}, {Level: "rack", PerYear: 0.2, Hours: 1, Together: 1},
		{Level: "power", PerYear: 0.1, Hours: 2, Together: 0.9}, {Level: "brick", PerYear: 0.05, Hours: 1, Together: 1},
		{Level: "color", PerYear: 0.5, Hours: 0.5, Together: 0.7}, {Level: "device", PerYear: 0.3, Hours: 4, Together: 1},
		{Level: levelPoison, PerYear: 3, Hours: 1},
	}}
}

// store is one way to keep the configuration of all volumes: which jury answers for which volume.
type store struct {
	name   string
	fleet  *Fleet
	of     []int32   // by volume: its jury
	users  [][]int32 // by server: volumes that a change of it concerns
	poison []int     // by jury: poisonous commands in force
	bad    []bool    // by volume: its client is up and has no answer
	count  int       // of bad

	hours     []float64 // by hour: the share of volume time without an answer
	incidents []float64 // the largest share at once, of each time something was bad
	worst     int       // of the incident that is on
}

// Blast is experiment 2: one database for all, one per brick, or one per volume?
func Blast(r Run) (Result, error) {
	p := blastDefault(r)
	res := Result{Number: 2, Name: "blast", Title: "One database, one per brick, or one per volume?", Parameters: p,
		Question: "The same failures strike three ways to keep the configuration of all volumes. How many volumes are hit at once, and for how many hours is an error goal missed?",
		Method: []string{
			fmt.Sprintf("%d years with failures of servers, racks, power domains, bricks, colors (a bad deployment), network devices, and commands that stop each member that applies them. The same trace for all three.", p.Years),
			"The monolith has seven nodes over all bricks and colors, which is generous: its members talk to each other across colors. A brick's store is placed by placement.Place in its brick, a cell near its users.",
			"A volume is hit while its client is up and cannot reach a majority of its store, or its store has stopped at a command. Only the store of that volume stops; what else a stopped process takes down is experiment 7.",
		}}
	site, err := p.Site.Site()
	if err != nil {
		return Result{}, err
	}
	volumes := drawVolumes(site, p.Volumes, stream(r.Seed, "blast/volumes"))
	stores, err := blastStores(r, site, volumes)
	if err != nil {
		return Result{}, err
	}
	tallies := make([]tally, len(stores))
	for y := range p.Years {
		if err := r.Watch.every(y*1000, p.Years*1000, "experiment 2: years"); err != nil {
			return Result{}, err
		}
		all := trace(site, p.Processes, hoursPerYear, len(volumes), stream(r.Seed, fmt.Sprintf("blast/year/%d", y)))
		for i := range stores {
			stores[i].play(site, volumes, all)
			tallies[i].take(&stores[i], len(volumes))
		}
	}
	res.Figures = blastFigures(&p, stores, tallies)
	res.Findings = blastFindings(&p, tallies)
	return res, nil
}

// blastStores builds the three.
func blastStores(r Run, site *Site, volumes []Volume) ([]store, error) {
	near, err := newPlacer(site, 7, stream(r.Seed, "blast/cells")).fleet(volumes, true, r.Watch)
	if err != nil {
		return nil, err
	}
	brick, pl := NewFleet(7, site.Len(LevelBrick)), newPlacer(site, 7, stream(r.Seed, "blast/bricks"))
	for b := range site.Len(LevelBrick) {
		jury, err := pl.place(topology.Brick(site.UnitName(LevelBrick, b)), noHints)
		if err != nil {
			return nil, err
		}
		brick.Add(jury)
	}
	one := NewFleet(7, 1)
	one.Add(widest(site, 7, stream(r.Seed, "blast/monolith")))
	ofBrick, own := make([]int32, len(volumes)), make([]int32, len(volumes))
	for i, v := range volumes {
		ofBrick[i], own[i] = site.Unit(LevelBrick, v.Client), int32(i)
	}
	return []store{{name: "one database", fleet: one, of: make([]int32, len(volumes))}, {name: "one per brick", fleet: brick, of: ofBrick},
		{name: "one cell per volume", fleet: near, of: own}}, nil
}

// Placement would not do this, since a cell never leaves its brick and color; a database that serves all bricks would.
//
// widest spreads a jury over bricks and colors in turn.
func widest(s *Site, size int, rng *rand.Rand) []uint16 {
	var jury []uint16
	for i := 0; len(jury) < size; {
		server := s.of[LevelBrick][i%s.Len(LevelBrick)][rng.IntN(len(s.of[LevelBrick][i%s.Len(LevelBrick)]))]
		if s.Unit(LevelColor, server) == int32(i%s.Len(LevelColor)) {
			jury = append(jury, uint16(server))
			i++
		}
	}
	return jury
}

// play lets a year of failures strike a store.
func (t *store) play(site *Site, volumes []Volume, all []outage) {
	t.reset(site, volumes)
	// Time passes before each moment, with what was bad until then.
	state, now := NewState(site), 0.0
	for _, m := range moments(all, hoursPerYear) {
		t.pass(now, m.at, len(volumes))
		now = m.at
		o := &all[m.outage]
		state.strike(o, m.begins)
		switch {
		case o.poison:
			if m.begins {
				t.poison[t.of[o.unit]]++
			} else {
				t.poison[t.of[o.unit]]--
			}
			t.judgeAll(state, volumes)
		case o.level == LevelDevice || o.level == LevelBrick:
			t.judgeAll(state, volumes)
		default:
			for _, s := range o.servers {
				for _, v := range t.users[s] {
					t.judge(state, volumes, int(v))
				}
			}
		}
		t.note(len(volumes))
	}
	t.pass(now, hoursPerYear, len(volumes))
	if t.worst > 0 {
		t.incidents = append(t.incidents, float64(t.worst)/float64(len(volumes)))
	}
}

// reset begins a year, and remembers which volumes a server concerns.
func (t *store) reset(site *Site, volumes []Volume) {
	t.poison, t.bad, t.count = make([]int, t.fleet.Len()), make([]bool, len(volumes)), 0
	t.hours, t.incidents, t.worst = make([]float64, hoursPerYear), nil, 0
	if t.users != nil {
		return
	}
	t.users = make([][]int32, site.View.Len())
	for i, v := range volumes {
		t.users[v.Client] = append(t.users[v.Client], int32(i))
		for _, m := range t.fleet.Jury(int(t.of[i])) {
			t.users[m] = append(t.users[m], int32(i))
		}
	}
}

// judge decides whether one volume has an answer.
func (t *store) judge(state *State, volumes []Volume, i int) {
	client, at := volumes[i].Client, t.of[i]
	bad := state.Up(client) && (t.poison[at] > 0 || !state.reaches(client, t.fleet.Jury(int(at))))
	if bad != t.bad[i] {
		t.bad[i] = bad
		if bad {
			t.count++
		} else {
			t.count--
		}
	}
}

func (t *store) judgeAll(state *State, volumes []Volume) {
	for i := range volumes {
		t.judge(state, volumes, i)
	}
}

// note follows an incident: from the first volume that is hit until none is.
func (t *store) note(volumes int) {
	if t.worst > 0 && t.count == 0 {
		t.incidents = append(t.incidents, float64(t.worst)/float64(volumes))
		t.worst = 0
	}
	t.worst = max(t.worst, t.count)
}

// pass lets time pass: what is bad counts for every hour that it touches.
func (t *store) pass(from, to float64, volumes int) {
	if t.count == 0 {
		return
	}
	share := float64(t.count) / float64(volumes)
	for h := int(from); h < hoursPerYear && float64(h) < to; h++ {
		t.hours[h] += share * (math.Min(to, float64(h+1)) - math.Max(from, float64(h)))
	}
}

// tally collects the years of one store.
type tally struct {
	lost      []float64   // by year: the share of volume time without an answer
	incidents [][]float64 // by year: shares
	hours     [][]float64 // by year: hours that were not clean
	largest   float64
}

func (y *tally) take(t *store, volumes int) {
	sum, dirty := 0.0, []float64(nil)
	for _, h := range t.hours {
		if sum += h; h > 0 {
			dirty = append(dirty, h)
		}
	}
	y.lost = append(y.lost, sum/hoursPerYear)
	y.incidents, y.hours = append(y.incidents, t.incidents), append(y.hours, dirty)
	for _, i := range t.incidents {
		y.largest = max(y.largest, i)
	}
}

// atLeast is how many values of each year are x or more, on average.
func atLeast(years [][]float64, x float64) Point {
	counts := make([]float64, len(years))
	for i, year := range years {
		for _, v := range year {
			if v >= x {
				counts[i]++
			}
		}
	}
	return mean(x, counts)
}

// grid is n values from low to high in equal steps of the logarithm.
func grid(low, high float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = low * math.Pow(high/low, float64(i)/float64(n-1))
	}
	return out
}

func blastFigures(p *blastParameters, stores []store, tallies []tally) []Figure {
	radius := Figure{Name: "2-radius", Title: "How many volumes one incident takes at once",
		Note: "An incident lasts from the first volume that is hit until none is. Read: incidents per year (upwards) that take at least this share of all volumes at once (to the right). The end of a line is the largest incident of all years.",
		X:    Axis{Label: "share of volumes without an answer at once", Log: true, Min: 1e-4, Max: 1}, Y: Axis{Label: "incidents per year, at least so large", Log: true, Min: 0.1}}
	hours := Figure{Name: "2-goal", Title: "Hours above an error goal",
		Note: fmt.Sprintf("An hour's error rate is the share of volume time in it without an answer. Read: hours per year (upwards) whose rate is above a goal (to the right). The paper's internal goal is %g %%.", p.Goal*100),
		X:    Axis{Label: "error goal: share of volume time in an hour", Log: true, Min: 1e-5, Max: 1}, Y: Axis{Label: "hours per year above the goal", Log: true, Min: 0.01}}
	for i := range stores {
		a, b := Series{Name: stores[i].name}, Series{Name: stores[i].name}
		for _, x := range grid(1e-4, 1, 25) {
			if q := atLeast(tallies[i].incidents, x); q.Y > 0 {
				a.Points = append(a.Points, q)
			}
		}
		for _, x := range grid(1e-5, 1, 26) {
			if q := atLeast(tallies[i].hours, x); q.Y > 0 {
				b.Points = append(b.Points, q)
			}
		}
		radius.Series, hours.Series = append(radius.Series, a), append(hours.Series, b)
	}
	return []Figure{radius, hours}
}

func blastFindings(p *blastParameters, t []tally) []Finding {
	lost := func(i int) Point { return mean(0, t[i].lost) }
	goal := func(i int) Point { return atLeast(t[i].hours, p.Goal) }
	mono, cells := lost(0), lost(2)
	return []Finding{
		{Paper: "Dividing the colony into a large number of cells is the main tool for reducing the blast radius (section 2.1).",
			Ours:    fmt.Sprintf("The largest incident in %d years took %.0f %% of the volumes with one database, %.0f %% with one per brick, %.1f %% with cells.", p.Years, 100*t[0].largest, 100*t[1].largest, 100*t[2].largest),
			Verdict: verdict(t[2].largest < t[1].largest && t[1].largest <= t[0].largest)},
		{Paper: "Figure 9: after the deployment of Physalia, the hours in which masters missed their internal error goal of 0.05 % became few; before, infrastructure failures and overload caused them.",
			Ours:    fmt.Sprintf("Hours per year above %g %%: %.1f (%.1f to %.1f) with one database, %.1f (%.1f to %.1f) with one per brick, %.1f (%.1f to %.1f) with cells.", 100*p.Goal, goal(0).Y, goal(0).Lo, goal(0).Hi, goal(1).Y, goal(1).Lo, goal(1).Hi, goal(2).Y, goal(2).Lo, goal(2).Hi),
			Verdict: verdict(goal(2).Hi < goal(0).Lo)},
		{Paper: "Availability to a cell's own clients is what counts, not that of nodes.",
			Ours:    fmt.Sprintf("Share of volume time without an answer: %.2g (%.2g to %.2g) with one database, %.2g (%.2g to %.2g) with one per brick, %.2g (%.2g to %.2g) with cells. Spreading failures out is not the same as having fewer: compare the shares with the hours.", mono.Y, mono.Lo, mono.Hi, lost(1).Y, lost(1).Lo, lost(1).Hi, cells.Y, cells.Lo, cells.Hi),
			Verdict: verdict(cells.Y < mono.Y)},
	}
}
