package sim

import (
	_ "embed"
	"fmt"
	"strings"
	"text/tabwriter"

	"physalia/paxos"
)

// Coverage of the fault space: how often each fault met each phase of a cell's life and each role of a victim. A field that
// stays empty is a claim nobody has tried.

// Phase is what a cell is doing when a fault strikes.
type Phase uint8

// The phases.
const (
	Founding      Phase = iota // nobody has led it yet
	Electing                   // nobody leads it now
	Leading                    // somebody leads it, and nothing else is wrong
	Troubled                   // somebody leads it while another fault is in force
	Reconfiguring              // a change of its members is pending
	phases
)

var phaseNames = [phases]string{"founding", "electing", "leading", "troubled", "reconfiguring"}

// String names the phase.
func (p Phase) String() string { return phaseNames[p] }

// Role is what a fault's victim is to the cell.
type Role uint8

// The roles. Everybody stands for faults without a victim among the cell's members.
const (
	Everybody Role = iota
	ProposerRole
	CandidateRole
	FollowerRole
	LearnerRole
	LeavingRole // it was a member, and is still needed
	roles
)

var roleNames = [roles]string{"everybody", "proposer", "candidate", "follower", "learner", "leaving"}

// String names the role.
func (r Role) String() string { return roleNames[r] }

// Coverage counts (fault, phase, role).
type Coverage [faultKinds][phases][roles]int

// add adds another count.
func (c *Coverage) add(other *Coverage) {
	for k := range c {
		for p := range c[k] {
			for r := range c[k][p] {
				c[k][p][r] += other[k][p][r]
			}
		}
	}
}

// victims reports whether a fault strikes servers.
func (k FaultKind) victims() bool {
	return k < Lossy || k == ClientCut || k == Duel || k == HandOver || k == FullDisk
}

// cover counts a fault that strikes now, for every cell of which it strikes a member. A server that is down is no victim.
func (w *World) cover(f *Fault, who Servers) {
	w.report.Faults[f.Kind]++
	for _, v := range w.cells {
		phase := w.phase(v) // one fault may meet cells in different phases
		if !f.Kind.victims() {
			w.report.Coverage[f.Kind][phase][Everybody]++
			continue
		}
		for _, s := range w.servers {
			if who.Has(s.at) && s.core != nil && w.hosts(v, s) {
				w.report.Coverage[f.Kind][phase][s.role(v)]++
			}
		}
	}
}

// phase is what a cell is doing now.
func (w *World) phase(v *volume) Phase {
	switch {
	case v.led == paxos.Ballot{}:
		return Founding
	case w.proposer(v) == nil:
		return Electing
	case v.job != nil && !v.job.over:
		return Reconfiguring
	case w.faults > 0:
		return Troubled
	}
	return Leading
}

// role is what a server is to a cell now. One that is asleep follows.
func (s *server) role(v *volume) Role {
	r, _ := s.core.Inspect(v.id)
	switch {
	case v.jury != nil && v.jury.Learner(s.node(v)) != nil:
		return LearnerRole
	case !v.sits(s):
		return LeavingRole
	case r == nil || r.Role() == paxos.Follower:
		return FollowerRole
	case r.Role() == paxos.Candidate:
		return CandidateRole
	}
	return ProposerRole
}

//go:embed testdata/coverage.txt
var allowedText string

// allowance is a line of testdata/coverage.txt: fields that may stay empty, and why. A star stands for anything.
type allowance struct{ fault, phase, role, reason string }

// allowances reads the list: one per line, the parts separated by bars.
func allowances(text string) (list []allowance) {
	for line := range strings.Lines(text) {
		parts := strings.Split(strings.TrimSpace(line), "|")
		if strings.HasPrefix(line, "#") || len(parts) != 4 {
			continue
		}
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		list = append(list, allowance{parts[0], parts[1], parts[2], parts[3]})
	}
	return list
}

// covers reports whether a field may stay empty because of this line.
func (a allowance) covers(k FaultKind, p Phase, r Role) bool {
	match := func(pattern, name string) bool { return pattern == "*" || pattern == name }
	return match(a.fault, k.String()) && match(a.phase, p.String()) && match(a.role, r.String())
}

// Missing lists the fields that are empty and should not be.
func (c *Coverage) Missing() (missing []string) {
	allowed := allowances(allowedText)
	c.each(func(k FaultKind, p Phase, r Role, n int) {
		if n > 0 || notYet[k] != "" {
			return
		}
		for _, a := range allowed {
			if a.covers(k, p, r) {
				return
			}
		}
		missing = append(missing, fmt.Sprintf("%s x %s x %s", k, p, r))
	})
	return missing
}

// each visits the fields that exist: faults without victims have no roles, the others no world.
func (c *Coverage) each(visit func(k FaultKind, p Phase, r Role, n int)) {
	for k := range faultKinds {
		for p := range phases {
			for r := range roles {
				if k.victims() == (r != Everybody) {
					visit(k, p, r, c[k][p][r])
				}
			}
		}
	}
}

// String shows the table: a row for each fault, a column for each phase, and in it the counts by role.
func (c *Coverage) String() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "fault")
	for p := range phases {
		fmt.Fprintf(t, "\t%s", p)
	}
	fmt.Fprintln(t, "\t")
	for k := range faultKinds {
		fmt.Fprintf(t, "%s", k)
		for p := range phases {
			n := c[k][p]
			if k.victims() {
				fmt.Fprintf(t, "\t%s/%s/%s/%s/%s", figure(n[ProposerRole]), figure(n[CandidateRole]), figure(n[FollowerRole]), figure(n[LearnerRole]), figure(n[LeavingRole]))
			} else {
				fmt.Fprintf(t, "\t%s", figure(n[Everybody]))
			}
		}
		if why := notYet[k]; why != "" {
			fmt.Fprintf(t, "\tnot yet: %s", why)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	return "counts are of victims that were proposer/candidate/follower/learner/leaving\n" + b.String()
}

// figure shows a count, and nothing as a dot.
func figure(n int) string {
	if n == 0 {
		return "."
	}
	return fmt.Sprint(n)
}
