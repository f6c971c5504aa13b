package lab

import (
	"fmt"
	"math/rand/v2"
)

// Experiment 8 rolls a bad build out in three ways and with two kinds of bug. The first kind shows server by server, some time after the update; watching
// crashes stops such a rollout, and the slower it is, the sooner, relatively. The second kind shows everywhere at once, when something
// triggers it; no watching helps, and what counts is how many members of a cell have the build at that moment. A rolling update without colors
// passes through the state in which half of every cell has it. Color by color, a cell has it whole or not at all.
//
// A cell is counted as lost when four members are down. Crashed servers stay down until the build is rolled back.
//
// rolloutParameters are what experiment 8 depends on; times in minutes.
type rolloutParameters struct {
	Site     Shape `json:"site"`
	Cells    int   `json:"cells"`
	Rollouts int   `json:"rollouts_per_point"`
	// Of the bugs that show server by server: when they do, and how far apart.
	Latent []float64 `json:"minutes_from_the_update_to_the_crash"`
	Spread float64   `json:"spread_of_these_minutes"` // uniform, to either side
	// Of the rollouts.
	Batch  float64 `json:"share_of_servers_updated_at_once"`
	Step   float64 `json:"minutes_between_batches"`
	Bake   float64 `json:"minutes_of_watching_between_colors"`
	Notice int     `json:"crashes_of_updated_servers_that_stop_the_rollout"`
	React  float64 `json:"minutes_from_noticing_to_rolled_back"`
	// Of the bugs that show everywhere at once.
	Triggers []float64 `json:"trigger_hours_after_the_rollout_began"`
}

// plan says when each server is updated, in minutes; the rollout is over, or stopped, before the rest.
type plan []float64

// Rollout is experiment 8: what does a bad build cost, color by color, server by server, and all at once?
func Rollout(r Run) (Result, error) {
	p := rolloutParameters{Site: house, Cells: r.trials(1500, 200), Rollouts: r.trials(60, 6),
		Latent: []float64{1, 3, 10, 30, 60, 120, 240, 480, 960, 1920, 3840}, Spread: 0.1, Batch: 0.02, Step: 5, Bake: 24 * 60, Notice: 5, React: 30,
		Triggers: []float64{0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 6, 12, 24, 25, 36, 48, 50, 72, 74, 96}}
	res := Result{Number: 8, Name: "rollout", Title: "What does a bad build cost?", Parameters: p,
		Question: "A build makes servers crash: some time after they have it, or all of them at once when something triggers it. How many cells lose their majority before it is rolled back?",
		Method: []string{
			fmt.Sprintf("Every updated server crashes after the time on the axis, plus or minus %.0f %%: servers of one color do alike, so memory and disks fill at the same rate (section 3.3). Crash number %d is noticed; %.0f minutes later nothing is updated any more and every server has its old build back.", 100*p.Spread, p.Notice, p.React),
			fmt.Sprintf("All at once: every server in one step. Server by server: %.0f %% of all servers every %.0f minutes, in random order, as a rolling update without colors does it. Color by color: the same pace inside a color, and %.0f hours of watching between colors.", 100*p.Batch, p.Step, p.Bake/60),
			"In the second figure the build works until something triggers the bug, a date, a peak, a message, and then stops every server that has it at that moment.",
			"Cells of seven, placed near their users. A cell is lost when four of its members are down at once.",
		}}
	site, err := p.Site.Site()
	if err != nil {
		return Result{}, err
	}
	fleet, err := newPlacer(site, 7, stream(r.Seed, "rollout/cells")).fleet(drawVolumes(site, p.Cells, stream(r.Seed, "rollout/volumes")), true, r.Watch)
	if err != nil {
		return Result{}, err
	}
	plans := p.plans(site)
	f := Figure{Name: "8-rollout", Title: "Cells lost to a bad build, at the worst moment",
		X: Axis{Label: "time from the update to the crash (minutes)", Log: true, Min: 1, Max: 5000}, Y: Axis{Label: "cells without a majority (%)"},
		Note: "To the left bugs that show at once, to the right such as fill a disk over days: they show when the rolling update is through. The worst moment of each rollout, averaged; intervals over rollouts."}
	for i, kind := range plans {
		s := Series{Name: kind.name}
		for k, latent := range p.Latent {
			if err := r.Watch.every((i*len(p.Latent)+k)*1000, len(plans)*len(p.Latent)*1000, "experiment 8: rollouts"); err != nil {
				return Result{}, err
			}
			rng, worst := stream(r.Seed, fmt.Sprintf("rollout/%d/%d", i, k)), []float64(nil)
			for range p.Rollouts {
				worst = append(worst, 100*p.play(fleet, kind.make(rng), latent, rng))
			}
			s.Points = append(s.Points, mean(latent, worst))
		}
		f.Series = append(f.Series, s)
	}
	g := p.triggered(r, fleet, plans)
	bound := 100 / float64(p.Site.Colors)
	name := fmt.Sprintf("one color of %d", p.Site.Colors)
	f.Series = append(f.Series, Series{Name: name, Style: StylePaper, Points: []Point{exact(p.Latent[0], bound), exact(p.Latent[len(p.Latent)-1], bound)}})
	g.Series = append(g.Series, Series{Name: name, Style: StylePaper, Points: []Point{exact(p.Triggers[0], bound), exact(p.Triggers[len(p.Triggers)-1], bound)}})
	res.Figures = []Figure{f, g}
	res.Findings = p.findings(f, g, bound)
	return res, nil
}

// schedule is a way to roll a build out.
type schedule struct {
	name string
	make func(*rand.Rand) plan
}

// plans are the three that are compared.
func (p *rolloutParameters) plans(site *Site) []schedule {
	return []schedule{
		{"all at once", func(*rand.Rand) plan { return make(plan, site.View.Len()) }},
		{"server by server", func(rng *rand.Rand) plan { return p.rolling(site, rng, false) }},
		{"color by color", func(rng *rand.Rand) plan { return p.rolling(site, rng, true) }},
	}
}

// triggered measures a bug that strikes all servers that have it at one moment.
func (p *rolloutParameters) triggered(r Run, fleet *Fleet, plans []schedule) Figure {
	f := Figure{Name: "8-trigger", Title: "Cells lost when something triggers the bug everywhere at once",
		X: Axis{Label: "time from the beginning of the rollout to the trigger (hours)", Log: true, Min: 0.1, Max: 100}, Y: Axis{Label: "cells without a majority (%)"},
		Note: fmt.Sprintf("Color by color, each color has it %.0f hours after the one before: the steps. When all have it no way of rolling out helps any more.", p.Bake/60)}
	for i, kind := range plans {
		s := Series{Name: kind.name}
		for k, hour := range p.Triggers {
			rng, lost := stream(r.Seed, fmt.Sprintf("rollout/trigger/%d/%d", i, k)), []float64(nil)
			for range p.Rollouts {
				updates := kind.make(rng)
				lost = append(lost, 100*lostShare(fleet, func(m uint16) bool { return updates[m] <= 60*hour }))
			}
			s.Points = append(s.Points, mean(hour, lost))
		}
		f.Series = append(f.Series, s)
	}
	return f
}

// findings compares both figures with the paper.
func (p *rolloutParameters) findings(crashes, trigger Figure, bound float64) []Finding {
	const once, rolling, colored = 0, 1, 2
	worst := func(f Figure, i int) float64 { q, _ := top(f.Series[i]); return q.Y }
	hour := p.Bake / 60 / 2 // half of the first color's watch
	by := func(i int) Point { return middle(trigger.Series[i], hour) }
	half := float64(p.Site.Bricks*p.Site.Racks*p.Site.ServersPerRack) / 2 / float64(int(p.Batch*float64(p.Site.Bricks*p.Site.Racks*p.Site.ServersPerRack))) * p.Step / 60
	return []Finding{
		{Paper: "Deploying color by color limits a bad deployment to the cells of one color (section 3.4).",
			Ours:    fmt.Sprintf("Triggered %.0f hours after the rollout began, color by color loses %.0f %% of the cells (%.1f to %.1f), server by server %.0f %%, all at once %.0f %%.", hour, by(colored).Y, by(colored).Lo, by(colored).Hi, by(rolling).Y, by(once).Y),
			Verdict: verdict(by(colored).Y <= bound+0.5 && by(rolling).Y > 99)},
		{Paper: "Bad code may be invisible until it is on half of the hosts (section 3.3).",
			Ours:    fmt.Sprintf("Server by server, half of the servers have it after %.1f hours; triggered then, it costs some %.0f %% of the cells, an hour later %.0f %%.", half, middle(trigger.Series[rolling], half).Y, middle(trigger.Series[rolling], half+1).Y),
			Verdict: verdict(middle(trigger.Series[rolling], half).Y > 25)},
		{Paper: "Positive validation during a deployment helps, but does not eliminate the risk.",
			Ours:    fmt.Sprintf("Where servers crash one after the other, watching is enough: stopped by crash number %d, server by server loses at most %.1f %% of the cells, color by color %.1f %% (it is faster inside its color), all at once %.0f %%. It is the common trigger that takes colors.", p.Notice, worst(crashes, rolling), worst(crashes, colored), worst(crashes, once)),
			Verdict: verdict(worst(crashes, rolling) < worst(crashes, once))},
	}
}

// rolling updates servers in random order, batch by batch; by color, or regardless of it.
func (p *rolloutParameters) rolling(s *Site, rng *rand.Rand, colors bool) plan {
	at, out := 0.0, make(plan, s.View.Len())
	groups := [][]int32{span(0, s.View.Len())}
	if colors {
		groups = s.of[LevelColor]
	}
	batch := max(1, int(p.Batch*float64(s.View.Len())))
	for _, group := range groups {
		for i, j := range rng.Perm(len(group)) {
			if i > 0 && i%batch == 0 {
				at += p.Step
			}
			out[group[j]] = at
		}
		at += p.Bake
	}
	return out
}

// play rolls a bad build out, and returns the largest share of cells without a majority. Nobody repairs crashed servers before the
// build is rolled back, so the worst moment is just before.
func (p *rolloutParameters) play(f *Fleet, updates plan, latent float64, rng *rand.Rand) float64 {
	crash := make([]float64, len(updates))
	earliest := newEarliest(p.Notice)
	for i, at := range updates {
		crash[i] = at + latent*(1-p.Spread+2*p.Spread*rng.Float64())
		earliest.add(crash[i])
	}
	noticed := earliest.last()
	stop := noticed + p.React
	return lostShare(f, func(m uint16) bool { return updates[m] <= stop && crash[m] <= stop })
}

// lostShare is the share of cells without a majority when some servers are down.
func lostShare(f *Fleet, isDown func(uint16) bool) float64 {
	lost := 0
	for c := range f.Len() {
		down := 0
		for _, m := range f.Jury(c) {
			if isDown(m) {
				down++
			}
		}
		if down > f.Size-majority(f.Size) {
			lost++
		}
	}
	return float64(lost) / float64(f.Len())
}

// earliest keeps the n smallest of many numbers.
type earliest struct {
	n    int
	kept []float64 // ascending
}

func newEarliest(n int) *earliest { return &earliest{n: n} }

func (e *earliest) add(x float64) {
	at := len(e.kept)
	for at > 0 && e.kept[at-1] > x {
		at--
	}
	if at == e.n {
		return
	}
	e.kept = append(e.kept, 0)
	copy(e.kept[at+1:], e.kept[at:])
	e.kept[at] = x
	e.kept = e.kept[:min(len(e.kept), e.n)]
}

// last is the n-th smallest.
func (e *earliest) last() float64 { return e.kept[len(e.kept)-1] }
