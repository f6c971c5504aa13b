package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
	"physalia/lifecycle"
)

// settle lets time pass in a healed world until what is wanted and what is agree, and nothing waits any more.
func (c *control) settle(when string) bool {
	w := c.world
	why := "nobody has answered"
	agreed := false
	over := false
	var look func()
	look = func() {
		if over {
			return
		}
		w.after(50*time.Millisecond, look)
		if x := c.unfinished(); x != "" {
			why = x
			return
		}
		c.active.ask(func(now time.Duration, id lifecycle.RequestID) {
			c.active.manager.List(now, id, wire.ListCells{Limit: wire.ListLimitMax})
		}, func(r lifecycle.Reply) {
			if r.List == nil {
				why = fmt.Sprintf("no list: %v", r.Err)
				return
			}
			if why = c.unfinished(); why == "" {
				why = c.compare(r.List.Cells)
			}
			agreed = why == ""
		})
	}
	look()
	settled := w.runUntil(w.now+convergeTime, func() bool { return agreed })
	over = true
	if !settled {
		w.fail("desired", place{}, "%s: desired and actual do not agree in %v of a healed world: %s", when, convergeTime, why)
	}
	return settled
}

// spared reports whether every cell that lives keeps a majority of members that host their nodes and are not in a set: a cell that
// was founded by five of seven, when the store was lost, has two fewer to lose. The two are replaced then, and never by themselves: who
// has missed the founding is not told of it again (lifecycle A3), so seven other servers must be left.
func (c *control) spared(bad Servers) bool {
	all := slices.Clone(c.world.cells)
	for _, v := range c.lives {
		all = append(all, v)
	}
	for _, v := range all {
		left, missed := 0, 0
		for _, m := range v.known.Members {
			switch s := c.world.serverNamed(m.Server); {
			case bad.Has(s.at):
			case v.hosted[s.at]:
				left++
			case c.vault.lost:
				missed++
			}
		}
		room := missed == 0 || len(c.world.servers)-bad.count()-missed >= jurySize
		if v.wasFounded() && !v.isOver() && (left < jurySize/2+1 || !room) {
			return false
		}
	}
	return true
}

// unfinished says what nobody has acknowledged yet.
func (c *control) unfinished() string {
	switch {
	case c.active == nil || c.active.dead:
		return "no control process runs"
	case c.vault.restored:
		return "the store is being rebuilt"
	case len(c.people.drained) > 0:
		return "a server is drained"
	}
	for _, x := range c.people.wanted {
		if !x.settled && !x.ended && !c.stillborn(x.id) {
			return fmt.Sprintf("%s shall exist: %v, and nobody says so", x.id, x.exists)
		}
	}
	return ""
}

// compare says where the manager's list and the servers differ; empty when nowhere. It asks three things: does anything on the list
// wait for something that will come; are the members of every living cell those that its own log has, and do they host it; and is
// there a node on a sound server that the list does not explain.
func (c *control) compare(list []wire.CellInfo) string {
	w := c.world
	listed := map[life]*wire.CellInfo{}
	for i := range list {
		x := &list[i]
		listed[life{x.Cell, x.Incarnation}] = x
		if c.stillborn(x.Cell) {
			continue
		}
		if x.State != "deleted" && x.State != "live" && !c.excused(x.Waiting) || x.State == "live" && x.Waiting != "" && !c.excused(x.Waiting) {
			return fmt.Sprintf("%s.%d is %s and waits: %s", x.Cell, x.Incarnation, x.State, x.Waiting)
		}
		if x.State == "live" {
			if why := c.compareMembers(x); why != "" {
				return why
			}
		}
	}
	for _, s := range w.servers {
		if !s.stands() {
			continue
		}
		for _, n := range s.core.Census(&wire.Census{}).Nodes {
			x := listed[life{n.Cell, n.Incarnation}]
			switch {
			case c.stillborn(n.Cell):
			case x == nil:
				return fmt.Sprintf("%s hosts node %d of %s.%d, which nobody wants", s.id, n.Node, n.Cell, n.Incarnation)
			case x.State != "live" && !c.excused(x.Waiting):
				return fmt.Sprintf("%s hosts node %d of %s.%d, which is %s", s.id, n.Node, n.Cell, n.Incarnation, x.State)
			}
			// A node that was down when it was removed may stay: nobody tells it while its cell is idle (docs/bugs.md, Open).
		}
	}
	return c.compareWanted(list)
}

// stillborn reports whether nothing was chosen in the newest incarnation of a name, no majority hosts it, and the store has been lost: whoever
// was not told of it then never will be, so it can neither live nor be sealed, and its name stays taken (rule 15).
func (c *control) stillborn(id cell.ID) bool {
	inc := c.checks.newest[id]
	if !c.vault.lost || !isScratch(id) || inc == 0 || len(c.world.volumeOf(id, inc).log) > 0 {
		return false
	}
	hosts := 0
	for _, s := range c.world.servers {
		if s.core != nil && slices.ContainsFunc(s.core.Census(&wire.Census{}).Nodes, func(n wire.CensusNode) bool { return n.Cell == id && n.Incarnation == inc }) {
			hosts++
		}
	}
	return hosts <= jurySize/2
}

// excused reports whether what waits waits for a server that stays away, or was damaged.
func (c *control) excused(waiting string) bool {
	for _, s := range c.world.servers {
		if !s.stands() && strings.Contains(waiting, string(s.id)) {
			return true
		}
	}
	return false
}

func isMember(x *wire.CellInfo, s cell.ServerID, node uint64) bool {
	for _, m := range x.Members {
		if m.Server == s && m.Node == node {
			return true
		}
	}
	return false
}

// Servers are asked for their census, which is what they would tell the manager, too; a node that is cold is in it.
//
// compareMembers says in what a cell's members differ from the newest configuration that any server runs. Nobody who stays away
// may be left among them: there are servers enough.
func (c *control) compareMembers(x *wire.CellInfo) string {
	var newest *wire.CensusNode
	hosts := 0
	for _, s := range c.world.servers {
		if s.core == nil {
			continue
		}
		for _, n := range s.core.Census(&wire.Census{}).Nodes {
			if n.Cell != x.Cell || n.Incarnation != x.Incarnation {
				continue
			}
			if isMember(x, s.id, n.Node) && !n.Learner {
				hosts++
			}
			if !n.Learner && (newest == nil || n.Configuration > newest.Configuration) {
				newest = &n
			}
		}
	}
	switch {
	case newest == nil:
		return fmt.Sprintf("%s.%d is live, and nobody hosts it", x.Cell, x.Incarnation)
	case hosts < jurySize/2+1:
		return fmt.Sprintf("%s.%d is live, and %d of its members host it", x.Cell, x.Incarnation, hosts)
	}
	for _, m := range newest.Members {
		if !isMember(x, m.Server, m.Node) {
			return fmt.Sprintf("%s.%d: node %d on %s is a member, and the manager knows %v", x.Cell, x.Incarnation, m.Node, m.Server, x.Members)
		}
		// Whom a manager does not know that lost its store, and that never came since, nobody can take for dead.
		if s := c.world.serverNamed(m.Server); s.core == nil && c.active.tracker.Knows(s.id) && !c.lingering() {
			return fmt.Sprintf("%s.%d: %s is away for good, and still a member", x.Cell, x.Incarnation, m.Server)
		}
	}
	return ""
}

// lingering reports whether a server lives whose disk was damaged: a node that is out of service there stays, and no new one is created
// beside it, so a repair that was sent there waits for an operator (docs/bugs.md, Open).
func (c *control) lingering() bool {
	return c.world.in(func(s *server) bool { return s.core != nil && s.damaged != "" }) != 0
}

// compareWanted says which name was acknowledged, and is not as it was asked for.
func (c *control) compareWanted(list []wire.CellInfo) string {
	for _, x := range c.people.wanted {
		live := false
		for i := range list {
			live = live || list[i].Cell == x.id && list[i].State == "live"
		}
		if x.settled && live != x.exists {
			return fmt.Sprintf("%s was acknowledged (exists: %v), and it is not so", x.id, x.exists)
		}
	}
	return ""
}
