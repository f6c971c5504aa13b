package sim

import (
	"fmt"
	"slices"
	"time"

	"physalia/placement"
)

// A world without a site is one brick of nine servers: small enough for protocols, too small for placement to go wrong. A site has
// pools in which the overlap limit is hard, and parts that fail together.
//
// Site is the topology of a world whose servers fail by its parts. Its servers are dealt over the pools (a brick's servers of one
// color) in turn, and over the racks within a pool. A rack may hold servers of both colors; it has one power domain unless Crossed.
type Site struct {
	Bricks, Colors int  // 1 or 2 each, two pools at most
	Racks, Powers  int  // of each brick, 3 to 6 each
	Crossed        bool // a rack's servers draw from several power domains
}

// poolMin is how many servers a pool has at least: with sixteen the overlap limit is hard up to five cells.
const poolMin = 16

// pools is how many pools there are.
func (t *Site) pools() int { return t.Bricks * t.Colors }

// check bounds a site from outside.
func (t *Site) check(p *Schedule) error {
	switch {
	case t == nil:
		return nil
	case p.Control == nil:
		return fmt.Errorf("sim: a site needs a control plane")
	case t.Bricks < 1 || t.Colors < 1 || t.pools() > 2 || t.Racks < 3 || t.Racks > 6 || t.Powers < 3 || t.Powers > 6:
		return fmt.Errorf("sim: site out of range: %+v", *t)
	case p.Servers > siteMax || p.Servers%t.pools() != 0 || p.Servers/t.pools() < poolMin:
		return fmt.Errorf("sim: %d servers, allowed are %d or more in each of %d pools, %d in all", p.Servers, poolMin, t.pools(), siteMax)
	case uint64(p.Cells) > placement.OverlapLimit(p.Servers/t.pools(), jurySize):
		return fmt.Errorf("sim: %d cells are beyond the overlap limit of a pool of %d", p.Cells, p.Servers/t.pools())
	}
	return nil
}

// spot is where a server stands. The numbers of racks and power domains are those of its brick.
type spot struct{ brick, color, rack, power int }

// spot is where a server stands, from its number.
func (p *Schedule) spot(at int) spot {
	t := p.Site
	if t == nil { // three of each, crosswise, so that no rack and no domain holds a majority of a cell's members
		return spot{rack: at % domains, power: at / domains % domains}
	}
	pool, i := at%t.pools(), at/t.pools()
	s := spot{brick: pool / t.Colors, color: pool % t.Colors, rack: i % t.Racks}
	if s.power = s.rack % t.Powers; t.Crossed {
		s.power = (s.rack + i/t.Racks) % t.Powers
	}
	return s
}

// where is the set of servers whose spot a condition holds for.
func (p *Schedule) where(is func(spot) bool) (set Servers) {
	for at := range p.Servers {
		if is(p.spot(at)) {
			set |= 1 << at
		}
	}
	return set
}

// domain is a part of a site that may be lost without a cell losing its majority.
type domain struct {
	name string
	set  Servers
}

// siteDomains lists the racks and power domains of a site.
func (p *Schedule) siteDomains() (list []domain) {
	for b := range p.Site.Bricks {
		for r := range p.Site.Racks {
			list = append(list, domain{fmt.Sprintf("rack b%d/r%d", b+1, r), p.where(func(s spot) bool { return s.brick == b && s.rack == r })})
		}
		for e := range p.Site.Powers {
			list = append(list, domain{fmt.Sprintf("power domain b%d/p%d", b+1, e), p.where(func(s spot) bool { return s.brick == b && s.power == e })})
		}
	}
	return list
}

// poolSet is the servers of the pool of one of them.
func (p *Schedule) poolSet(at int) Servers {
	home := p.spot(at)
	return p.where(func(s spot) bool { return s.brick == home.brick && s.color == home.color })
}

// The times of a blow. Who looks for a new proposer, or waits for the old one's support to run out, needs some hundred milliseconds
// with the knobs of drawSite.
const (
	blowsBegin = 500 * time.Millisecond
	blowSettle = 300 * time.Millisecond
	probeTime  = 1500 * time.Millisecond
)

// Everything else is left calm: what is looked for is what the loss of a part costs, and who meets it with bad disks and lossy networks
// is the swarm.
//
// drawSite draws a schedule of failures that belong together. Small numbers mean few and small parts.
func drawSite(s Source) Schedule {
	t := &Site{Bricks: 1, Colors: 1, Racks: 4 + s.Draw("racks", 3), Powers: 3 + s.Draw("power domains", 4), Crossed: s.Draw("crossed", 2) == 1}
	switch s.Draw("pools", 3) {
	case 1:
		t.Colors = 2
	case 2:
		t.Bricks = 2
	}
	p := Schedule{Seed: uint64(s.Draw("seed", 1<<31)), Site: t, Servers: t.pools() * poolMin, Cells: 2 + s.Draw("more cells", cellsMax-1),
		Alpha: 1 + s.Draw("alpha-1", 4), Batch: 1 + s.Draw("batch-1", 2), Clients: 1, Ops: 6 + s.Draw("more ops", 10), Idle: 10 * time.Second,
		Sync: time.Millisecond, Turn: 200 * time.Microsecond, Heartbeat: 50 * time.Millisecond, Liveness: 200 * time.Millisecond,
		Control: &ControlPlan{Patience: 600*time.Millisecond + ms(s, "control patience", 600), Scan: 300 * time.Millisecond}}
	burnt := false
	for at, n := blowsBegin, 1+s.Draw("blows", 2); n > 0; n-- {
		lasts := blowSettle + probeTime
		if s.Draw("long", 4) == 1 { // for repair to come about meanwhile
			lasts += ms(s, "repair", 1500)
		}
		for range [...]int{1, 1, 1, 2, 3}[s.Draw("parts", 5)] {
			f := drawBlow(s, &p, &burnt)
			f.At, f.For = at+ms(s, "together", 20), lasts
			p.Faults = append(p.Faults, f)
		}
		if s.Draw("control", 4) == 1 { // what fails takes the control plane along
			p.Control.Upsets = append(p.Control.Upsets, drawSiteUpset(s, at))
		}
		at += lasts - probeTime
		p.Faults = append(p.Faults, Fault{Kind: Probe, At: at, For: probeTime - 20*time.Millisecond})
		at += probeTime + ms(s, "pause", 400)
		p.Span = at
	}
	return p
}

// drawSiteUpset draws what becomes of the control plane in a blow.
func drawSiteUpset(s Source, at time.Duration) Upset {
	return Upset{Kind: UpsetKind(s.Draw("upset", int(ControlPause)+1)), At: at + ms(s, "upset at", 300), For: 50*time.Millisecond + ms(s, "upset for", 1000)}
}

// drawBlow draws one part of the site, and whether it dies, is cut off, or burns; at most one part burns for good, and only where enough
// is left to replace its servers.
func drawBlow(s Source, p *Schedule, burnt *bool) Fault {
	t, brick := p.Site, s.Draw("brick", p.Site.Bricks)
	f := Fault{Kind: Crash, Keep: s.Draw("keep", 3) * 50}
	part := s.Draw("part", 7)
	switch part {
	case 0:
		f.Who = drawServers(s, p.Servers, 3) | 1<<s.Draw("server", p.Servers)
	case 1, 2:
		r := s.Draw("rack", t.Racks)
		f.Who = p.where(func(x spot) bool { return x.brick == brick && x.rack == r })
	case 3, 4:
		e := s.Draw("power domain", t.Powers)
		f.Who = p.where(func(x spot) bool { return x.brick == brick && x.power == e })
	case 5:
		pool := p.poolSet(s.Draw("pool", t.pools()))
		f.Who = pool
	case 6:
		return Fault{Kind: JuryLoss, Cell: s.Draw("cell", p.Cells), Keep: f.Keep, Share: s.Draw("of its jury", 3)}
	}
	// Racks, power domains and single servers fail in several ways; a whole pool or a jury just dies.
	if part < 5 {
		switch s.Draw("how", 6) {
		case 3:
			f.Kind, f.Keep = Isolate, 0
		case 4: // a part of it is spared: the correlation is less than one
			for at := range p.Servers {
				if f.Who.count() > 1 && f.Who.Has(at) && s.Draw("spared", 3) == 1 {
					f.Who &^= 1 << at
				}
			}
		case 2, 5:
			if part > 0 && !*burnt && t.Racks >= 5 && t.Powers >= 5 {
				f.Kind, f.Keep, *burnt = Burn, 0, true
			}
		}
	}
	return f
}

// juryLoss is whom the loss of a jury, or of what holds most of it, takes now.
func (w *World) juryLoss(f *Fault) (who Servers) {
	p, jury := &w.plan, w.jurySet(w.cells[f.Cell])
	if f.Share%3 == 0 {
		return jury
	}
	// Every server stands for its rack or power domain; the first of those with most members is taken.
	for at := range p.Servers {
		home := p.spot(at)
		part := p.where(func(s spot) bool {
			return s.brick == home.brick && (f.Share%3 == 1 && s.rack == home.rack || f.Share%3 == 2 && s.power == home.power)
		})
		if (part & jury).count() > (who & jury).count() {
			who = part
		}
	}
	return who
}

// burn takes a server away for good: an operator will not get it back, and neither will its disk.
func (s *server) burn() {
	s.crash(0)
	s.damaged, s.stopped = "burnt", true
	s.world.trace.note(s.world.now, "%s burns", s.id)
}

// calm is a plan in which nothing goes wrong with the control plane.
func (p *ControlPlan) calm() *ControlPlan {
	if p == nil {
		return nil
	}
	q := *p
	q.Upsets, q.Wishes = nil, 0
	return &q
}

// everybodyIsKnown reports whether every server has introduced itself to the active process: cells of a site are asked for only then, since where few
// servers are known the overlap limit is not hard.
func (c *control) everybodyIsKnown() bool {
	return c.active != nil && !c.active.dead && !slices.ContainsFunc(c.active.links[:len(c.world.servers)], func(l link) bool { return !l.up })
}
