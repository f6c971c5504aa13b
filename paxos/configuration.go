package paxos

import (
	"fmt"
	"slices"
	"strings"
)

// ConfigurationNumber counts the changes of a cell's member set; the founding configuration is 1.
type ConfigurationNumber uint64

// Member is one voting node and the server that hosts it.
type Member struct {
	Node   NodeNumber
	Server ServerID
}

// Learner is a node that is being taught so that it can become a member. It has no vote.
type Learner struct {
	Member
	Request uint64 // of the change that added it
}

// Configuration is the member set that decides slots, and the parameters that all of them must agree on. Jury size and
// alpha are data, never constants: two builds with different constants would split the jury (rule 2, hazard H21).
// A Configuration is immutable once built: every change makes another one, also where the number stays.
type Configuration struct {
	Number   ConfigurationNumber
	Since    Slot       // the first slot that this jury decides; zero in a founding configuration
	Members  []Member   // the jury, ordered by node number
	Learners []Learner  // at most LearnersMax, ordered by node number
	Alpha    uint32     // at most this many slots are in flight; 1 to AlphaMax
	Owner    NodeNumber // owner of ballot 1, in the founding configuration
	Next     NodeNumber // the next node number to issue; above all that were ever issued

	// Left is the member that the newest change removed. Unsettled says that it is still needed: it answers for the slots
	// below Since until a majority of this jury holds them durably, which is then logged (rule 11).
	Left      Member
	Unsettled bool
}

// Bounds of a configuration.
const (
	JuryMax        = 13
	LearnersMax    = 4
	AlphaMax       = 16
	ServerBytesMax = 64 // of a ServerID
)

// Majority is the number of members whose agreement decides.
func (c *Configuration) Majority() int { return len(c.Members)/2 + 1 }

// Index returns the position of a node in the jury, or -1.
func (c *Configuration) Index(n NodeNumber) int {
	if i := int(n) - 1; i >= 0 && i < len(c.Members) && c.Members[i].Node == n {
		return i // a founding jury is numbered 1, 2, 3, ...
	}
	for i := range c.Members {
		if c.Members[i].Node == n {
			return i
		}
	}
	return -1
}

// Learner returns a learner by its node number, or nil.
func (c *Configuration) Learner(n NodeNumber) *Learner {
	for i := range c.Learners {
		if c.Learners[i].Node == n {
			return &c.Learners[i]
		}
	}
	return nil
}

// Server returns the server of a member, a learner or the node that left last, or "" when n is none of them.
func (c *Configuration) Server(n NodeNumber) ServerID {
	if i := c.Index(n); i >= 0 {
		return c.Members[i].Server
	}
	if l := c.Learner(n); l != nil {
		return l.Server
	}
	if n != 0 && n == c.Left.Node {
		return c.Left.Server
	}
	return ""
}

// Hosts returns the member or learner on a server, or zero.
func (c *Configuration) Hosts(s ServerID) NodeNumber {
	for _, m := range c.Members {
		if m.Server == s {
			return m.Node
		}
	}
	for _, l := range c.Learners {
		if l.Server == s {
			return l.Node
		}
	}
	return 0
}

// Dismisses reports whether a node with an issued number has no part in this configuration any more, nor in the slots
// before it. A number that is not issued yet belongs to the future, about which an old configuration knows nothing.
func (c *Configuration) Dismisses(n NodeNumber) bool {
	return n < c.Next && c.Index(n) < 0 && c.Learner(n) == nil && (!c.Unsettled || n != c.Left.Node)
}

// Check reports what is wrong with a configuration from outside, or nil.
func (c *Configuration) Check() error {
	switch {
	case c.Number == 0:
		return fmt.Errorf("configuration number is 0, the first is 1")
	case len(c.Members) == 0 || len(c.Members) > JuryMax:
		return fmt.Errorf("configuration has %d members, allowed are 1 to %d", len(c.Members), JuryMax)
	case len(c.Learners) > LearnersMax:
		return fmt.Errorf("configuration has %d learners, allowed are %d", len(c.Learners), LearnersMax)
	case c.Alpha == 0 || c.Alpha > AlphaMax:
		return fmt.Errorf("configuration has alpha %d, allowed are 1 to %d", c.Alpha, AlphaMax)
	case c.Left.Node != 0 && (c.Left.Node >= c.Next || c.Index(c.Left.Node) >= 0):
		return fmt.Errorf("node %d has left, but it is a member or was never issued (next is %d)", c.Left.Node, c.Next)
	case c.Unsettled && c.Left.Node == 0:
		return fmt.Errorf("configuration is unsettled, but nobody left it")
	}
	var room [JuryMax + LearnersMax]Member // every row of a restart is checked, so nothing is allocated
	everybody := append(room[:0], c.Members...)
	for _, l := range c.Learners {
		everybody = append(everybody, l.Member)
	}
	for i, m := range everybody {
		switch {
		case m.Node == 0 || m.Node >= c.Next:
			return fmt.Errorf("member %d has node number %d, which was not issued (next is %d)", i, m.Node, c.Next)
		case i > 0 && i != len(c.Members) && m.Node <= everybody[i-1].Node:
			return fmt.Errorf("members are not ordered by node number at %d", i)
		case m.Server == "" || slices.ContainsFunc(everybody[:i], func(other Member) bool { return other.Server == m.Server }):
			return fmt.Errorf("member %d names server %q, which is empty or a member already", i, m.Server)
		case i >= len(c.Members) && c.Index(m.Node) >= 0:
			return fmt.Errorf("node %d is a member and a learner", m.Node)
		}
	}
	if c.Number == 1 && c.Index(c.Owner) < 0 {
		return fmt.Errorf("founding owner %d is not a member", c.Owner)
	}
	return nil
}

// Describe shows a configuration in one line, for example "#2 since 12 jury (1 2 4) learners (5) left 3 unsettled alpha 4"; a
// star marks the owner of ballot 1.
func (c *Configuration) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d", c.Number)
	if c.Since > 0 {
		fmt.Fprintf(&b, " since %d", c.Since)
	}
	b.WriteString(" jury (")
	for i, m := range c.Members {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d", m.Node)
		if m.Node == c.Owner {
			b.WriteByte('*')
		}
	}
	b.WriteByte(')')
	for _, l := range c.Learners {
		fmt.Fprintf(&b, " learner %d", l.Node)
	}
	if c.Unsettled {
		fmt.Fprintf(&b, " left %d unsettled", c.Left.Node)
	}
	fmt.Fprintf(&b, " alpha %d", c.Alpha)
	return b.String()
}
