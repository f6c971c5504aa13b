package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	"physalia/cell"
)

// claim is what servers say about one name that no record explains. It is kept until it is decided, and forgotten when nobody
// says so any more.
type claim struct {
	views   []view
	reports []report
	graves  []grave
}

// view is one configuration that somebody runs. Many servers report the same one.
type view struct {
	incarnation   cell.Incarnation
	configuration uint64
	alpha         uint32
	owner         uint64
	members       []Member
}

// report is one server's word about its node of the name; it has at most one.
type report struct {
	server  *server
	view    int // position in claim.views
	node    uint32
	round   uint32
	sealed  bool
	learner bool
}

// grave is one server's tombstone.
type grave struct {
	server      *server
	incarnation cell.Incarnation
}

// same reports whether two views are one.
func (v *view) same(w *view) bool {
	return v.incarnation == w.incarnation && v.configuration == w.configuration && v.owner == w.owner && slices.Equal(v.members, w.members)
}

// place is the position of a server's node in a view, or -1.
func (v *view) place(id cell.ServerID, node uint32) int {
	return slices.IndexFunc(v.members, func(m Member) bool { return m.node == node && m.Server() == id })
}

// add takes a report, in the place of what that server said before.
func (c *claim) add(r report, v view) {
	c.forget(func(old *report) bool { return old.server == r.server })
	r.view = slices.IndexFunc(c.views, func(w view) bool { return w.same(&v) })
	if r.view < 0 {
		r.view = len(c.views)
		c.views = append(c.views, v)
	}
	c.reports = append(c.reports, r)
}

// bury takes a tombstone.
func (c *claim) bury(g grave) {
	for i := range c.graves {
		if c.graves[i].server == g.server {
			c.graves[i].incarnation = max(c.graves[i].incarnation, g.incarnation)
			return
		}
	}
	c.graves = append(c.graves, g)
}

// forget removes reports.
func (c *claim) forget(which func(*report) bool) {
	c.reports = slices.DeleteFunc(c.reports, func(r report) bool { return which(&r) })
	if len(c.reports) == 0 {
		c.views = nil
	}
}

// deepest is the highest incarnation that a tombstone names.
func (c *claim) deepest() (inc cell.Incarnation) {
	for i := range c.graves {
		inc = max(inc, c.graves[i].incarnation)
	}
	return inc
}

// incarnations lists those that are reported, the newest first.
func (c *claim) incarnations() (list []cell.Incarnation) {
	for i := range c.reports {
		if inc := c.views[c.reports[i].view].incarnation; !slices.Contains(list, inc) {
			list = append(list, inc)
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	return list
}

// onlyLearners reports whether nobody with a vote reports an incarnation.
func (c *claim) onlyLearners(inc cell.Incarnation) bool {
	return !slices.ContainsFunc(c.reports, func(r report) bool { return c.views[r.view].incarnation == inc && !r.learner })
}

// finding is what the reports about one incarnation come to.
type finding uint8

const (
	undecided   finding = iota
	isLive              // a majority of the newest jury that anybody knows runs exactly that configuration
	isEnded             // nothing can be chosen in it any more
	halfDeleted         // a tombstone says that it was deleted, and there is no proof that nothing is chosen
	conflicting         // two juries under one number
)

var findingNames = [...]string{undecided: "undecided", isLive: "live", isEnded: "ended", halfDeleted: "half-deleted", conflicting: "conflict"}

func (f finding) String() string { return findingNames[f] }

// judgement is a finding, the view that it rests on, who of the view's members reported, and what is known of each, for people.
type judgement struct {
	finding finding
	view    *view
	hosts   memberSet // report exactly this view
	others  memberSet // report another configuration of this incarnation
	buried  memberSet // have a tombstone for it
	sealed  bool      // somebody has applied the seal
}

// judgeClaim decides about one incarnation. It is a pure function of what was reported:
//
//   - Ended: a node has applied the seal, or so many members of the newest jury carry a tombstone that no majority is left (L2).
//   - Half deleted: there is a tombstone, and neither of that.
//   - Conflict: two juries are reported under one configuration number.
//   - Live: of the newest jury that is reported, a majority reports exactly it. A newer one that no reporter has heard of
//     shares a member with this majority or was reached through members of it, so it shows in a later round, and is adopted
//     then.
//   - Undecided: everything else.
func judgeClaim(c *claim, inc cell.Incarnation) judgement {
	var j judgement
	conflict := false
	for i := range c.reports {
		r := &c.reports[i]
		v := &c.views[r.view]
		if v.incarnation != inc || r.learner { // a learner knows what it was told
			continue
		}
		j.sealed = j.sealed || r.sealed
		switch {
		case j.view == nil || v.configuration > j.view.configuration:
			j.view, conflict = v, false
		case v.configuration == j.view.configuration && v != j.view:
			conflict = true
		}
	}
	for i := range c.reports {
		// Learners alone make no cell alive, but what they were told says whose tombstones make it dead.
		if r := &c.reports[i]; j.view == nil && c.views[r.view].incarnation == inc {
			j.view = &c.views[r.view]
		}
	}
	if j.view == nil {
		return j
	}
	for i := range c.reports {
		r := &c.reports[i]
		if k := j.view.place(r.server.id, r.node); k >= 0 && c.views[r.view].incarnation == inc && !r.learner {
			if &c.views[r.view] == j.view {
				j.hosts.add(k)
			} else {
				j.others.add(k)
			}
		}
	}
	deleted := false
	for i := range c.graves {
		if g := &c.graves[i]; g.incarnation >= inc {
			deleted = true
			if k := slices.IndexFunc(j.view.members, func(m Member) bool { return m.Server() == g.server.id }); k >= 0 {
				j.buried.add(k)
			}
		}
	}
	n := len(j.view.members)
	switch {
	case j.sealed || n-j.buried.size() < n/2+1:
		j.finding = isEnded
	case deleted:
		j.finding = halfDeleted
	case conflict:
		j.finding = conflicting
	case j.hosts.size() >= n/2+1:
		j.finding = isLive
	}
	return j
}

// describe tells what is known of every member.
func (j *judgement) describe() string {
	if j.view == nil {
		return "only learners report it"
	}
	var b strings.Builder
	n := len(j.view.members)
	fmt.Fprintf(&b, "configuration %d: %d of %d members report it, a majority is %d:", j.view.configuration, j.hosts.size(), n, n/2+1)
	for i, mem := range j.view.members {
		says := "not heard"
		switch {
		case j.hosts.has(i):
			says = "hosts it"
		case j.others.has(i):
			says = "knows another configuration"
		case j.buried.has(i):
			says = "has a tombstone"
		}
		fmt.Fprintf(&b, " %s %s;", mem.Server(), says)
	}
	return strings.TrimSuffix(b.String(), ";")
}
