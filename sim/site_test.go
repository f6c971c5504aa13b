package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/placement"
)

// TestCorrelated plays random schedules of failures that belong together, on the whole stack: cells that the real control plane
// created, lost parts of a site, and a probe of every cell.
func TestCorrelated(t *testing.T) {
	usually("60")
	defer usually("300")
	rapid.Check(t, func(t *rapid.T) {
		if r := Run(drawSite(rapidSource{t})); r.Failure != nil {
			t.Fatal(r.Describe())
		}
	})
}

// TestCorrelatedHappens proves that these schedules go where they are meant to: cells are lost and cells are not, parts burn, repair
// works meanwhile, and few probes are void.
func TestCorrelatedHappens(t *testing.T) {
	var sum Report
	var shapes [2][2]int
	for seed := range uint64(120) {
		p := drawSite(SeedSource(seed + 1))
		shapes[p.Site.Bricks-1][p.Site.Colors-1]++
		r := Run(p)
		if r.Failure != nil {
			t.Fatalf("seed %d: %s", seed+1, r.Describe())
		}
		sum.Add(r)
	}
	t.Logf("%d cells probed, %d of them without a majority, %d probes void, %d repairs, %d takeovers, %d burns, %d juries lost, %d cuts",
		sum.Probed, sum.Unserved, sum.ProbesVoid, sum.Repairs, sum.Takeovers, sum.Faults[Burn], sum.Faults[JuryLoss], sum.Faults[Isolate])
	if sum.Probed < 400 || sum.Unserved < 50 || sum.Unserved > sum.Probed/2 || sum.ProbesVoid > sum.Faults[Probe]/4 {
		t.Error("too few cells were asked, or they were all alike")
	}
	if sum.Repairs < 30 || sum.Faults[Burn] < 3 || sum.Faults[JuryLoss] < 10 || sum.Faults[Isolate] < 10 || sum.Upsets[ControlCrash] < 5 {
		t.Error("too little happened")
	}
	if shapes[0][0] < 10 || shapes[0][1] < 10 || shapes[1][0] < 10 {
		t.Errorf("sites by bricks and colors: %v", shapes)
	}
}

// sited is a calm world with a site: two colors of sixteen servers, five racks and power domains.
func sited(faults ...Fault) Schedule {
	p := drawSite(SeedSource(1))
	p.Site = &Site{Bricks: 1, Colors: 2, Racks: 5, Powers: 5, Crossed: true}
	p.Servers, p.Cells, p.Faults, p.Span, p.Control = 2*poolMin, 4, faults, 3*time.Second, &ControlPlan{Patience: 600 * millisecond, Scan: 300 * millisecond}
	return p
}

// half is the servers of a color.
func half(p *Schedule, color int) Servers {
	return p.where(func(s spot) bool { return s.color == color })
}

// A color is lost: its cells answer nothing, those of the other answer, and when it is back nothing is missing.
func TestLossOfAColor(t *testing.T) {
	p := sited()
	p.Faults = []Fault{{Kind: Crash, Who: half(&p, 0), At: 600 * millisecond, For: 2 * time.Second}, {Kind: Probe, At: 1000 * millisecond, For: 1500 * millisecond}}
	r := play(t, p)
	must(t, r.Probed == 4 && r.Unserved == 2 && r.ProbesVoid == 0, r)
}

// A rack and a power domain of another rack burn down, one after the other, with time for repair between: seven members are lost to
// some cell by and by, and nothing that was acknowledged.
func TestBurningOneAfterTheOther(t *testing.T) {
	p := sited()
	rack := p.where(func(s spot) bool { return s.rack == 0 })
	p.Faults = []Fault{{Kind: Burn, Who: rack, At: 600 * millisecond}, {Kind: Probe, At: 1000 * millisecond, For: 1400 * millisecond},
		{Kind: Crash, Who: p.where(func(s spot) bool { return s.power == 1 }), At: 5 * time.Second, For: 2 * time.Second}, {Kind: Probe, At: 5400 * millisecond, For: 1500 * millisecond}}
	p.Span = 8 * time.Second
	r := play(t, p)
	must(t, r.Probed == 8 && r.Unserved == 0 && r.Repairs > 0, r)
}

// calmSite is a world with a site in which all cells exist.
func calmSite(t *testing.T) *World {
	t.Helper()
	w := newWorld(sited())
	w.runUntil(2*time.Second, func() bool {
		return !slices.ContainsFunc(w.cells, func(v *volume) bool { return !v.wasFounded() || !allHost(w, v) })
	})
	if w.failure != nil || len(w.cells[3].known.Members) != jurySize {
		t.Fatalf("%v: the cells do not exist", w.failure)
	}
	return w
}

func allHost(w *World, v *volume) bool {
	return countIf(w.serversOf(v.known.Members), func(s *server) bool { return v.hosted[s.at] }) == jurySize
}

// The count by hand agrees with what one sees: whoever is down, or cut off, does not count, and a chain of members is no majority.
func TestCountOfWhoServes(t *testing.T) {
	w := calmSite(t)
	v := w.cells[0]
	jury := w.serversOf(v.known.Members)
	expect := func(what string, must, never bool) {
		t.Helper()
		if m, n := w.canServe(v); m != must || n != never {
			t.Errorf("%s: must %v, never %v", what, m, n)
		}
	}
	expect("calm", true, false)
	for _, s := range jury[:3] {
		s.crash(0)
	}
	expect("three down", true, false)
	w.net.change(jury[3].at, jury[4].at, allLanes, 1)
	expect("and two of the four do not hear each other", false, false)
	w.net.change(jury[3].at, jury[5].at, allLanes, 1)
	w.net.change(jury[6].at, jury[3].at, allLanes, 1)
	expect("and one of them nobody", false, true)
	w.net.lanes = [lanesCount][siteMax][siteMax]int{}
	v.hosted[jury[3].at] = false
	expect("one never had a node", false, false)
	jury[3].crash(0)
	expect("four down", false, true)
}

// Each mistake of placement that a loss brings to light is told by its name.
func TestLossesThatCostTooMuch(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong func(w *World) (lost Servers)
		text  string
	}{
		{"nothing", func(w *World) Servers { return w.plan.siteDomains()[0].set }, ""},
		{"rack", func(w *World) Servers {
			return occupy(w, 0, w.plan.where(func(s spot) bool { return s.rack == 2 && s.color == 0 }))
		}, "the loss of rack b1/r2 alone"},
		{"power", func(w *World) Servers {
			return occupy(w, 0, w.plan.where(func(s spot) bool { return s.power == 3 && s.color == 0 }))
		}, "the loss of power domain b1/p3 alone"},
		{"overlap", func(w *World) Servers {
			w.cells[0].known.Members = slices.Clone(w.cells[2].known.Members)
			return w.jurySet(w.cells[2])
		}, "the loss of the servers of vol-3"},
		{"color", func(w *World) Servers { occupy(w, 0, half(&w.plan, 0)); occupy(w, 0, half(&w.plan, 1)); return 0 }, "members are of another color or brick"},
	} {
		w := calmSite(t)
		w.cells[0].known.Members = slices.Clone(w.cells[0].known.Members)
		lost := c.wrong(w)
		if w.checkLoss(lost); (c.text == "") != (w.failure == nil) || w.failure != nil && !strings.Contains(w.failure.Text, c.text) {
			t.Errorf("%s: %v", c.name, w.failure)
		}
	}
}

// occupy puts the first four members of a cell onto servers of a set, and returns the set.
func occupy(w *World, c int, set Servers) Servers {
	i := 0
	w.each(set, func(s *server) {
		if i < 4 {
			w.cells[c].known.Members[i].Server = s.id
			i++
		}
	})
	return set
}

// Repair may exchange who is gone for who runs, and not the other way round.
func TestChangesThatMakeThingsWorse(t *testing.T) {
	for _, c := range []struct {
		gone, comes bool // the member that leaves, and the one that comes, have been down for long
		fail        bool
	}{{true, false, false}, {true, true, false}, {false, false, false}, {false, true, true}} {
		w := calmSite(t)
		v := w.cells[0]
		before, after := v.known.Members, slices.Clone(v.known.Members)
		free := w.plan.poolSet(w.serverNamed(before[0].Server).at) &^ w.jurySet(v)
		var to *server
		w.each(free, func(s *server) { to = s })
		after[6] = wire.Founder{Node: 8, Server: to.id}
		for s, down := range map[*server]bool{w.serverNamed(before[6].Server): c.gone, to: c.comes} {
			if down {
				s.crash(0)
			}
			s.since = -time.Minute
		}
		if w.checkChange(v, before, after); (w.failure != nil) != c.fail {
			t.Errorf("%+v: %v", c, w.failure)
		}
	}
}

// What crosses colors is seen, and sites that cannot be are refused.
func TestSitesAreChecked(t *testing.T) {
	w := calmSite(t)
	if w.checkColors(w.servers[0], w.servers[2]); w.failure != nil {
		t.Errorf("%v between servers of one color", w.failure)
	}
	if w.checkColors(w.servers[0], w.servers[1]); w.failure == nil {
		t.Error("servers of two colors may talk")
	}
	for _, wrong := range []func(p *Schedule){
		func(p *Schedule) { p.Control = nil }, func(p *Schedule) { p.Servers = 30 }, func(p *Schedule) { p.Servers = 48 }, func(p *Schedule) { p.Site.Racks = 2 },
		func(p *Schedule) { p.Site.Bricks = 2 }, func(p *Schedule) { p.Cells = 6 }, func(p *Schedule) { p.Site = nil },
	} {
		p := sited()
		if wrong(&p); func() error { _, err := Parse(p.String()); return err }() == nil {
			t.Errorf("%v is allowed", p)
		}
	}
	if n := placement.OverlapLimit(poolMin, jurySize); n < cellsMax {
		t.Errorf("the overlap limit is hard up to %d cells only", n)
	}
}

// Servers are found by their names, those with two digits too.
func TestServersAreFoundByName(t *testing.T) {
	w := newWorld(sited())
	for _, s := range w.servers {
		if w.serverNamed(s.id) != s {
			t.Errorf("%s is not found", s.id)
		}
	}
	if w.servers[11].id != cell.ServerID("s12") {
		t.Error(w.servers[11].id)
	}
}
