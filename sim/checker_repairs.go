package sim

import (
	"time"

	"physalia/cell"
	"physalia/health"
)

// The deaths are counted anew here, from the tracker's verdicts alone, as the operators' guide tells them: a server that is back for
// less than ReturnMin has not been back. The budget is that of the colony, with the fifth of a second that may come at once, for
// each process that was started: they do not know of each other.
//
// proposed looks at every proposal of a repairer. Only a member is given up whose server is taken for dead, and, if it is the only
// one, has been for the patience; a cell has one proposal at a time; and no second sees more
// than the budget.
func (c *controlChecks) proposed(p *process, now time.Duration, x health.Repair, err *cell.Error) {
	w, config := c.control.world, c.control.repairConfig()
	v, s := w.volumeOf(x.Cell, x.Incarnation), w.serverNamed(x.Remove)
	if c.open[p] == nil {
		c.open[p] = map[cell.ID]opened{}
	}
	if under, ok := c.open[p][x.Cell]; ok && under.remove != x.Remove && under.incarnation == x.Incarnation && v.known.Number == under.number && now-under.at < config.Pause.UnderWay {
		w.fail("repairs", place{s: s, v: v}, "it is to be replaced while the replacement of %s is under way", under.remove)
	}
	missed, since := 0, time.Duration(0)
	for _, m := range v.known.Members {
		d := &c.of(p)[w.serverNamed(m.Server).at]
		if !d.is {
			continue
		}
		missed++
		if m.Server == x.Remove {
			since = now - d.died
		}
	}
	least := config.Patience
	if missed > 1 {
		least = 0 // the brink is raised at once
	}
	if v.knows(x.Remove) && (missed == 0 || since < least) {
		w.fail("repairs", place{s: s, v: v}, "it is given up after %v, the only one that is missed; the patience is %v", since, least)
	}
	if err != nil {
		return
	}
	c.open[p][x.Cell] = opened{x.Remove, x.Incarnation, now, v.known.Number}
	c.taken = append(c.taken, w.now)
	n := 0
	for _, at := range c.taken {
		if w.now-at <= time.Second {
			n++
		}
	}
	if most := int(config.Colony.Repairs*1.2*float64(c.control.started)) + 1; n > most {
		w.fail("repairs", place{v: v}, "%d repairs began within a second, allowed are %d", n, most)
	}
}

// knows reports whether a server is among the members as they are known.
func (v *volume) knows(s cell.ServerID) bool {
	for _, m := range v.known.Members {
		if m.Server == s {
			return true
		}
	}
	return false
}

// opened is a proposal that a manager took, by the clock of the process.
type opened struct {
	remove      cell.ServerID
	incarnation cell.Incarnation
	at          time.Duration
	number      uint64 // of the cell's newest configuration then
}

// death is what a process was told of a server, by its clock: a server that comes back and stays for less than ReturnMin has not
// been back.
type death struct {
	is             bool
	died, returned time.Duration
}

// of are the deaths that a process knows.
func (c *controlChecks) of(p *process) *[siteMax]death {
	if c.deaths[p] == nil {
		c.deaths[p] = &[siteMax]death{}
	}
	return c.deaths[p]
}

// judged takes a verdict.
func (c *controlChecks) judged(p *process, x health.Verdict) {
	d := &c.of(p)[c.control.world.serverNamed(x.Server).at]
	switch {
	case x.Up:
		d.is, d.returned = false, x.At
	case d.died == 0 || x.At-d.returned >= c.control.repairConfig().ReturnMin:
		d.is, d.died = true, x.At
	default:
		d.is = true
	}
}
