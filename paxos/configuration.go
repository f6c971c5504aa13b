package paxos

import (
	"fmt"
	"strings"
)

// ConfigurationNumber counts the changes of a cell's member set; the founding configuration is 1.
type ConfigurationNumber uint64

// Member is one voting node and the server that hosts it.
type Member struct {
	Node   NodeNumber
	Server ServerID
}

// Configuration is the member set that decides slots, and the parameters that all of them must agree on. Jury size and
// alpha are data, never constants: two builds with different constants would split the jury (rule 2, hazard H21).
// A Configuration is immutable once built.
type Configuration struct {
	Number  ConfigurationNumber
	Members []Member   // the jury, ordered by node number
	Alpha   uint32     // at most this many slots are in flight; 1 to AlphaMax
	Owner   NodeNumber // owner of ballot 1, in the founding configuration
	Next    NodeNumber // the next node number to issue; above all that were ever issued
}

// Bounds of a configuration.
const (
	JuryMax  = 13
	AlphaMax = 16
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

// Server returns the server of a member, or "" when n is not a member.
func (c *Configuration) Server(n NodeNumber) ServerID {
	if i := c.Index(n); i >= 0 {
		return c.Members[i].Server
	}
	return ""
}

// Check reports what is wrong with a configuration from outside, or nil.
func (c *Configuration) Check() error {
	switch {
	case c.Number == 0:
		return fmt.Errorf("configuration number is 0, the first is 1")
	case len(c.Members) == 0 || len(c.Members) > JuryMax:
		return fmt.Errorf("configuration has %d members, allowed are 1 to %d", len(c.Members), JuryMax)
	case c.Alpha == 0 || c.Alpha > AlphaMax:
		return fmt.Errorf("configuration has alpha %d, allowed are 1 to %d", c.Alpha, AlphaMax)
	}
	servers := make(map[ServerID]bool, len(c.Members))
	for i, m := range c.Members {
		switch {
		case m.Node == 0 || m.Node >= c.Next:
			return fmt.Errorf("member %d has node number %d, which was not issued (next is %d)", i, m.Node, c.Next)
		case i > 0 && m.Node <= c.Members[i-1].Node:
			return fmt.Errorf("members are not ordered by node number at %d", i)
		case m.Server == "" || servers[m.Server]:
			return fmt.Errorf("member %d names server %q, which is empty or a member already", i, m.Server)
		}
		servers[m.Server] = true
	}
	if c.Number == 1 && c.Index(c.Owner) < 0 {
		return fmt.Errorf("founding owner %d is not a member", c.Owner)
	}
	return nil
}

// Describe shows a configuration in one line, for example "#1 jury (1 2 3*) alpha 4"; the star marks the owner.
func (c *Configuration) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d jury (", c.Number)
	for i, m := range c.Members {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%d", m.Node)
		if m.Node == c.Owner {
			b.WriteByte('*')
		}
	}
	fmt.Fprintf(&b, ") alpha %d", c.Alpha)
	return b.String()
}
