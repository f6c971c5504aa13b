package health

import (
	"fmt"
	"slices"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// domainRef is a position in Repairer.domains; zero is none.
type domainRef uint32

// The kinds of domains that servers may share and fail with. A rack is tried first: where it explains all deaths, the larger
// domains around it are left alone.
const (
	byRack = iota
	byPower
	byBrick
	byColor
	domainKinds
)

// domain is servers that may die of one reason: a rack, power domain or brick, or a color, whose servers run the same
// software and share nothing else.
type domain struct {
	name  string // for example "rack:b1/r2"
	hosts []hostRef
	hold  *hold // nil: none
}

// hold keeps repairs back. It covers every server of its domain that died after from and before it ends.
type hold struct {
	since, from, until time.Duration
	died, size         int // at its beginning: servers dead within the window, of how many
}

// A hold begins when deaths within HoldWindow are so many that chance is no explanation, and so that repair would move a
// good part of what servers will bring back by themselves:
//
//   - at least three servers and a fifth of the domain. With a fifth of all servers dead, 15 % of cells of seven have lost
//     three members, and 3 % their majority: moving state helps none of the latter, and competes with the former;
//   - or two servers and half of the domain, so that racks of two to four servers, as colonies of 14 servers have, count.
//
// Servers that were dead before the window are no part of the domain here. A false alarm costs time, and no more: whatever is
// held is raised from the brink.
func correlated(died, size int) bool {
	return died >= 3 && 5*died >= size || died >= 2 && 2*died >= size
}

// over reports whether so few servers of a hold are still away that it ends: one, or a tenth of the domain.
func over(away, size int) bool { return away <= max(1, size/10) }

// domainNames tells what a server shares with others, by kind.
func domainNames(g *wire.Registration) [domainKinds]string {
	return [...]string{byRack: "rack:" + g.Brick + "/" + g.Rack, byPower: "power:" + g.Brick + "/" + g.Power, byBrick: "brick:" + g.Brick, byColor: "color:" + g.Color}
}

// domainFor finds or makes a domain.
func (r *Repairer) domainFor(name string) domainRef {
	ref := r.domOf[name]
	if ref == 0 {
		ref = domainRef(len(r.domains))
		r.domains = append(r.domains, domain{name: name})
		r.domOf[name] = ref
	}
	return ref
}

// correlate takes a death into account: it may be covered by a hold, or begin one.
func (r *Repairer) correlate(ref hostRef) {
	h := &r.hosts[ref]
	h.released = false
	if !h.placed {
		return
	}
	h.held = r.covered(h)
	for _, at := range h.domains {
		if r.domains[at].hold == nil {
			r.suspect(at)
		}
	}
}

// suspect begins a hold on a domain, if its recent deaths are many and not those of one hold that is on already.
func (r *Repairer) suspect(at domainRef) {
	d := &r.domains[at]
	from := r.now - r.config.HoldWindow
	var died []hostRef
	size := 0
	for _, ref := range d.hosts {
		h := &r.hosts[ref]
		recent := h.state == hostDead && h.died >= from
		if recent && !h.released {
			died = append(died, ref)
		}
		if recent || h.state != hostDead {
			size++
		}
	}
	if !correlated(len(died), size) || slices.ContainsFunc(r.holds, func(other domainRef) bool { return r.explains(other, died) }) {
		return
	}
	d.hold = &hold{since: r.now, from: from, until: r.now + r.config.HoldMax, died: len(died), size: size}
	r.holds = append(r.holds, at)
	r.stats.Holds++
	r.out.Notes = append(r.out.Notes, Note{Hold: true, Domain: d.name, Text: fmt.Sprintf(
		"%d of %d servers of %s died within %v: repairs of their cells are held, cells on the brink are raised by one; until most are back, for %v at most, or `physalia control hold end %s`",
		len(died), size, d.name, r.config.HoldWindow, r.config.HoldMax, d.name)})
	r.recoverHeld(d.hosts)
}

// explains reports whether a hold covers all of some servers.
func (r *Repairer) explains(at domainRef, died []hostRef) bool {
	for _, ref := range died {
		if !slices.Contains(r.hosts[ref].domains[:], at) || r.hosts[ref].died < r.domains[at].hold.from {
			return false
		}
	}
	return true
}

// covered reports whether a dead server is under any hold.
func (r *Repairer) covered(h *host) bool {
	if h.state != hostDead || h.released {
		return false
	}
	for _, at := range h.domains {
		if held := r.domains[at].hold; held != nil && h.died >= held.from {
			return true
		}
	}
	return false
}

// recoverHeld recomputes who of some servers is under a hold, after one began or ended, and has the cells of those looked at for
// whom it changed.
func (r *Repairer) recoverHeld(hosts []hostRef) {
	for _, ref := range hosts {
		h := &r.hosts[ref]
		if now := r.covered(h); now != h.held {
			h.held = now
			r.lookAt(ref)
		}
	}
}

// away counts the servers of a hold that are not back.
func (r *Repairer) away(d *domain) (n int) {
	for _, ref := range d.hosts {
		if h := &r.hosts[ref]; (h.state == hostDead || h.state == hostReturning) && h.died >= d.hold.from && !h.released {
			n++
		}
	}
	return n
}

// relaxHolds ends the holds of which enough servers are back.
func (r *Repairer) relaxHolds() {
	for _, at := range slices.Clone(r.holds) {
		if d := &r.domains[at]; over(r.away(d), d.hold.size) {
			r.endHold(at, fmt.Sprintf("%d of the %d servers are still away", r.away(d), d.hold.died), false)
		}
	}
}

// expireHolds ends the holds that have lasted too long.
func (r *Repairer) expireHolds() {
	for _, at := range slices.Clone(r.holds) {
		if d := &r.domains[at]; r.now >= d.hold.until {
			r.endHold(at, fmt.Sprintf("it lasted %v and %d servers are still away: they are taken for gone, and repaired within the budget",
				r.config.HoldMax, r.away(d)), true)
		}
	}
}

// EndHold ends a hold by hand: the servers under it are taken for gone, and their cells are repaired within the budget. The
// error is a *cell.Error of kind NotFound when there is no hold on such a domain.
func (r *Repairer) EndHold(now time.Duration, name string) error {
	r.advance(now)
	at := r.domOf[name]
	if at == 0 || r.domains[at].hold == nil {
		return &cell.Error{Op: "health.hold", Kind: cell.NotFound, Detail: fmt.Sprintf("there is no hold on %q", name),
			Hint: "physalia health lists the holds"}
	}
	r.endHold(at, "an operator ended it", true)
	r.relaxHolds() // others may have covered the same servers
	return nil
}

// endHold ends a hold. Servers that are given up count for no hold any more until they return and die again, else the next death
// would begin the same hold again.
func (r *Repairer) endHold(at domainRef, why string, giveUp bool) {
	d := &r.domains[at]
	lasted := r.now - d.hold.since
	for _, ref := range d.hosts {
		if h := &r.hosts[ref]; giveUp && h.state == hostDead && h.died >= d.hold.from {
			h.released = true
		}
	}
	d.hold = nil
	r.holds = slices.DeleteFunc(r.holds, func(other domainRef) bool { return other == at })
	r.recoverHeld(d.hosts)
	r.out.Notes = append(r.out.Notes, Note{Domain: d.name, Text: fmt.Sprintf("the hold on %s ends after %v: %s", d.name, round(lasted), why)})
}
