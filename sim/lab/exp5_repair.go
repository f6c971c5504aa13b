package lab

import (
	"fmt"
	"math/rand/v2"
	"time"

	"physalia/health"
)

// Experiment 5 lets health.Repairer look after a brick in virtual time (ward.go), once with its production policy and once with all patience taken
// out, and compares both with nobody looking after it. The same failures strike all three.
//
// Repair has a price and a use. The use is margin: cells that have lost members are nearer to losing their majority. The price is traffic when most is
// broken, and moves that turn out to have been for nothing when the servers come back. Short failures and the power event are over by
// themselves; lasting ones are what repair is for. So slow repair should have nearly the use of eager repair for lasting failures, at nearly
// no price for the others; and it pays with cells at risk for as long as a power event lasts, which the figures show as plainly.
//
// repairParameters are what experiment 5 depends on.
type repairParameters struct {
	Site        Shape     `json:"site"`
	Cells       int       `json:"cells"`
	Runs        int       `json:"runs"` // of which intervals are
	Hours       float64   `json:"hours"`
	Short       Process   `json:"short_failures"` // reboots, cables
	Lasting     Process   `json:"lasting_failures"`
	PowerAt     float64   `json:"power_event_at_hour"`
	PowerHours  float64   `json:"power_event_hours"`
	NodeBytes   uint64    `json:"bytes_per_node"`
	Replace     float64   `json:"seconds_per_replacement"`
	SlowMinutes float64   `json:"slow_patience_minutes"`
	SlowPerS    float64   `json:"slow_repairs_per_second"`
	EagerPerS   float64   `json:"eager_repairs_per_second"`
	Samples     []float64 `json:"sampled_at_hours"`
}

func repairDefault(r Run) repairParameters {
	slow := health.DefaultRepairConfig()
	p := repairParameters{Site: Shape{Bricks: 1, Racks: 20, ServersPerRack: 12, Powers: 4, Colors: 1, Aggregations: 6, Capacity: 20_000},
		Cells: r.trials(2000, 50), Runs: r.trials(8, 2), Hours: 96, PowerAt: 24, PowerHours: 4, NodeBytes: slow.NodeBytes, Replace: 0.8,
		Short:       Process{Level: "server", PerYear: 24, Hours: 0.3, Together: 1},
		Lasting:     Process{Level: "server", PerYear: 6, Hours: 48, Together: 1},
		SlowMinutes: slow.Patience.Minutes(), SlowPerS: slow.Brick.Repairs, EagerPerS: 1000}
	for h := 0.5; h <= p.Hours; h++ {
		p.Samples = append(p.Samples, h)
	}
	return p
}

// policy is a way to repair; without a configuration nothing is repaired.
type policy struct {
	name   string
	config *health.RepairConfig
}

// Nothing of eager repair is written for the laboratory: it is what the production code does when it is told to be impatient, so that what
// differs is the policy and nothing else.
//
// policies are the three that are compared. Eager repair is the same code without patience, holds and budgets worth the name.
func (p *repairParameters) policies() []policy {
	slow, eager := health.DefaultRepairConfig(), health.DefaultRepairConfig()
	eager.Patience, eager.Settle, eager.ReturnMin = time.Second, 0, 0
	eager.HoldWindow, eager.HoldMax = 1, 2 // deaths never fall into one nanosecond: no hold
	free := health.Budget{Repairs: p.EagerPerS, Bytes: 1 << 30}
	eager.Colony, eager.Brick, eager.Server = free, free, free
	eager.InFlight, eager.PerTurn = 100_000, 10_000
	return []policy{{"no repair", nil}, {"eager repair", &eager}, {"slow repair", &slow}}
}

// Repair is experiment 5: how soon should a dead member be replaced?
func Repair(r Run) (Result, error) {
	p := repairDefault(r)
	res := Result{Number: 5, Name: "repair", Title: "How soon should a dead member be replaced?", Parameters: p,
		Question: "Slow repair against eager repair against none: how many cells are at risk, and what does repair copy, with independent failures and with a power event?",
		Method: []string{
			fmt.Sprintf("%d cells of seven on %s. %d runs of %.0f hours; failure rates are some ten times those of experiment 2, so that %.0f hours show something.", p.Cells, "one brick of 240 servers in four power domains", p.Runs, p.Hours, p.Hours),
			fmt.Sprintf("Slow repair is health.Repairer with its production policy: %.0f minutes of patience with one dead member, holds, budgets. Eager repair is the same code with 1 s of patience, no holds and %.0f repairs per second. New members are chosen by placement.Substitute; a replacement takes %.1f s and copies %d KiB.", p.SlowMinutes, p.EagerPerS, p.Replace, p.NodeBytes>>10),
			fmt.Sprintf("The power event takes one of the four power domains for %.0f hours. At risk is a cell that has lost two members or more.", p.PowerHours),
		}}
	site, err := p.Site.Site()
	if err != nil {
		return Result{}, err
	}
	var outcomes [2][]repairOutcome
	for i, power := range [...]bool{false, true} {
		for _, policy := range p.policies() {
			o, err := repairRuns(r, &p, site, policy, power)
			if err != nil {
				return Result{}, err
			}
			outcomes[i] = append(outcomes[i], o)
		}
		res.Figures = append(res.Figures, repairFigures(&p, outcomes[i], power)...)
	}
	res.Findings = repairFindings(&p, outcomes[0], outcomes[1])
	return res, nil
}

// repairOutcome is what one policy came to, over all runs.
type repairOutcome struct {
	name       string
	risk, sent [][]float64 // by sample, by run: percent of cells at risk; MiB copied so far
	margin     [][]float64 // by sample, by run: mean margin
	atRisk     []float64   // by run: cell hours at risk
	lost       []float64   // by run: cell hours without a majority
	copied     []float64   // by run: MiB
}

// repairRuns plays all runs of one policy. All policies meet the same failures.
func repairRuns(r Run, p *repairParameters, site *Site, policy policy, power bool) (repairOutcome, error) {
	o := repairOutcome{name: policy.name, risk: make([][]float64, len(p.Samples)), sent: make([][]float64, len(p.Samples)), margin: make([][]float64, len(p.Samples))}
	for run := range p.Runs {
		rng := stream(r.Seed, fmt.Sprintf("repair/failures/%d", run))
		all := trace(site, []Process{p.Short, p.Lasting}, p.Hours, 1, rng)
		if power {
			all = append(all, powerEvent(p, site, rng))
		}
		pl := newPlacer(site, 7, stream(r.Seed, fmt.Sprintf("repair/cells/%d", run)))
		volumes := make([]Volume, p.Cells)
		fleet, err := pl.fleet(volumes, false, r.Watch)
		if err != nil {
			return o, err
		}
		w, err := newWard(site, fleet, pl, policy.config, p)
		if err != nil {
			return o, err
		}
		what := fmt.Sprintf("experiment 5: %s, power event %v", policy.name, power)
		if err := w.play(moments(all, p.Hours), all, func() error { return r.Watch.every(run*1000, p.Runs*1000, what) }); err != nil {
			return o, err
		}
		for i := range p.Samples {
			o.risk[i], o.sent[i], o.margin[i] = append(o.risk[i], w.samples[i].risk), append(o.sent[i], w.samples[i].sent), append(o.margin[i], w.samples[i].margin)
		}
		o.atRisk, o.lost = append(o.atRisk, w.atRisk), append(o.lost, w.lost)
		o.copied = append(o.copied, w.mib())
	}
	return o, nil
}

// powerEvent takes one power domain.
func powerEvent(p *repairParameters, site *Site, rng *rand.Rand) outage {
	u := rng.IntN(site.Len(LevelPower))
	return outage{start: p.PowerAt, end: p.PowerAt + p.PowerHours, level: LevelPower, unit: int32(u), servers: site.Servers(LevelPower, u)}
}

func repairFigures(p *repairParameters, all []repairOutcome, power bool) []Figure {
	name, title := "independent", "independent failures"
	if power {
		name, title = "power", "a power event"
	}
	x := Axis{Label: "time (hours)"}
	risk := Figure{Name: "5-risk-" + name, Title: "Cells that have lost two members or more, " + title, X: x, Y: Axis{Label: "cells at risk (%)"}, Note: "Average over the runs; the data have its intervals."}
	margin := Figure{Name: "5-margin-" + name, Title: "Margin of cells, " + title, X: x, Y: Axis{Label: "mean margin (nodes that can still be lost)", Max: 3}, Note: "Three is a whole cell, zero is the brink."}
	sent := Figure{Name: "5-traffic-" + name, Title: "What repair has copied, " + title, X: x, Y: Axis{Label: "copied so far (MiB)"}, Note: fmt.Sprintf("At %d KiB per replaced node.", p.NodeBytes>>10)}
	for _, o := range all {
		a, b, c := Series{Name: o.name, Style: StyleSteps}, Series{Name: o.name, Style: StyleSteps}, Series{Name: o.name, Style: StyleSteps}
		for i, h := range p.Samples {
			a.Points, b.Points, c.Points = append(a.Points, mean(h, o.risk[i])), append(b.Points, mean(h, o.margin[i])), append(c.Points, mean(h, o.sent[i]))
		}
		risk.Series, margin.Series, sent.Series = append(risk.Series, a), append(margin.Series, b), append(sent.Series, c)
	}
	return []Figure{risk, margin, sent}
}

func repairFindings(p *repairParameters, calm, power []repairOutcome) []Finding {
	const none, eager, slow = 0, 1, 2
	text := func(values []float64) string {
		q := mean(0, values)
		return fmt.Sprintf("%.3g (%.3g to %.3g)", q.Y, q.Lo, q.Hi)
	}
	avg := func(values []float64) float64 { return mean(0, values).Y }
	return []Finding{
		{Paper: "Do not move faster than the expected rate of change (section 5.1); how long repair waits is not published.",
			Ours: fmt.Sprintf("Independent failures: cell hours at risk %s without repair, %s with slow, %s with eager repair; MiB copied %s with slow, %s with eager repair.",
				text(calm[none].atRisk), text(calm[slow].atRisk), text(calm[eager].atRisk), text(calm[slow].copied), text(calm[eager].copied)),
			Verdict: verdict(avg(calm[slow].copied) < avg(calm[eager].copied) && avg(calm[slow].atRisk) < avg(calm[none].atRisk))},
		{Paper: "The 2011 outage grew from re-mirroring that began when much had failed together (section 1.1).",
			Ours: fmt.Sprintf("A power event of %.0f hours: eager repair copies %s MiB, slow repair %s, most of it not for the event. Cell hours at risk %s without repair, %s with slow, %s with eager repair: what eager repair buys, for what is back by itself.", p.PowerHours,
				text(power[eager].copied), text(power[slow].copied), text(power[none].atRisk), text(power[slow].atRisk), text(power[eager].atRisk)),
			Verdict: verdict(avg(power[slow].copied)-avg(calm[slow].copied) < (avg(power[eager].copied)-avg(calm[eager].copied))/4)},
		{Paper: "The loss of one power domain costs no cell its majority (section 3.2).",
			Ours:    fmt.Sprintf("Cell hours without a majority in the power runs: %s without repair, %s with slow, %s with eager repair; they come from single failures on top of the event.", text(power[none].lost), text(power[slow].lost), text(power[eager].lost)),
			Verdict: Beyond},
	}
}
