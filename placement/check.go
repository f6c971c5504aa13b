package placement

import (
	"fmt"
	"slices"

	"physalia/cell"
	"physalia/internal/topology"
)

// Rule names a hard constraint in a Violation.
type Rule string

// The rules that Check knows.
const (
	RuleSize     Rule = "size"     // the jury has the wrong number of members
	RuleOwner    Rule = "owner"    // the owner of ballot 1 is no member
	RuleDistinct Rule = "distinct" // a server is a member twice
	RuleKnown    Rule = "known"    // a member is not in the view
	RulePool     Rule = "pool"     // a member is of another brick or color than the placement says
	RuleRack     Rule = "rack"     // a rack holds so many members that its loss costs the majority
	RulePower    Rule = "power"    // a power domain does
	RuleCapacity Rule = "capacity" // a member hosts more nodes than it is willing to
)

// Violation is one broken hard constraint.
type Violation struct {
	Rule   Rule
	Detail string // with the names and numbers
}

// String shows a violation as "rule: detail".
func (v Violation) String() string { return string(v.Rule) + ": " + v.Detail }

// Check judges any jury of the wanted size, whoever chose it, dead members included, by what the view says; members
// that the view does not know count in no domain. It returns all violations, rules in the order of their declaration,
// none for a sound jury. The overlap constraint is between cells: see Book.Sharing. Capacity is judged by the view's
// loads, in which an existing jury's own nodes are counted.
func Check(p Placement, size int, v *topology.View) []Violation {
	var out []Violation
	add := func(r Rule, format string, args ...any) {
		out = append(out, Violation{r, fmt.Sprintf(format, args...)})
	}
	if len(p.Members) != size {
		add(RuleSize, "jury has %d members, wanted are %d", len(p.Members), size)
	}
	if p.Owner < 0 || p.Owner >= len(p.Members) {
		add(RuleOwner, "owner is member %d of %d", p.Owner, len(p.Members))
	}
	// A server that is named twice counts twice below: its loss costs two members.
	var members []*topology.Server
	for i, id := range p.Members {
		if slices.Contains(p.Members[:i], id) {
			add(RuleDistinct, "server %s is a member twice", id)
		}
	}
	for _, id := range p.Members {
		s := v.Server(id)
		if s == nil {
			add(RuleKnown, "server %s is not registered", id)
			continue
		}
		members = append(members, s)
	}
	for _, s := range members {
		if s.Pool() != p.Pool() {
			add(RulePool, "server %s is of %s, the cell of %s", s.ID, s.Pool(), p.Pool())
		}
	}
	out = append(out, crowdedDomains(RuleRack, "rack", members, size, func(s *topology.Server) string { return string(s.Rack) })...)
	out = append(out, crowdedDomains(RulePower, "power domain", members, size, func(s *topology.Server) string { return string(s.Power) })...)
	for _, s := range members {
		if s.Load > s.Capacity {
			add(RuleCapacity, "server %s hosts %d nodes, its capacity is %d", s.ID, s.Load, s.Capacity)
		}
	}
	return out
}

// crowdedDomains finds the domains that hold too many members, in the order in which the members name them. Names
// belong to their brick.
func crowdedDomains(r Rule, what string, members []*topology.Server, size int, name func(*topology.Server) string) []Violation {
	type domain struct {
		brick topology.Brick
		name  string
	}
	var order []domain
	count := make(map[domain]int)
	for _, s := range members {
		d := domain{s.Brick, name(s)}
		if count[d]++; count[d] == 1 {
			order = append(order, d)
		}
	}
	var out []Violation
	for _, d := range order {
		if n := count[d]; n > domainMax(size) {
			out = append(out, Violation{r, fmt.Sprintf("%s %s of brick %s holds %d of %d, allowed are %d",
				what, d.name, d.brick, n, size, domainMax(size))})
		}
	}
	return out
}

// Jury makes a Placement from an existing jury, for Check and Book.Add: brick and color are those of the first member
// that the view knows, the owner is the first member.
func Jury(members []cell.ServerID, v *topology.View) Placement {
	p := Placement{Members: members}
	for _, id := range members {
		if s := v.Server(id); s != nil {
			p.Brick, p.Color = s.Brick, s.Color
			break
		}
	}
	return p
}
