package paxos

import "fmt"

// NodeNumber is a member's identity inside one cell. Numbers come from a counter in the cell's own configuration and
// are never issued twice (rule 4). Zero is no node.
type NodeNumber uint32

// ServerID is the durable identity of the server that hosts a member; opaque here.
type ServerID string

// Slot is a position in the cell's log. The first is 1; zero is "before the log".
type Slot uint64

// Round is the counting half of a ballot. Round 1 belongs to the owner named in the founding configuration.
type Round uint64

// Ballot orders proposals: by round, then by node. The zero Ballot is below all others and is never proposed.
type Ballot struct {
	Round Round
	Node  NodeNumber
}

// Less orders ballots by Round, then Node.
func (b Ballot) Less(c Ballot) bool {
	if b.Round != c.Round {
		return b.Round < c.Round
	}
	return b.Node < c.Node
}

// IsZero reports whether b is the zero Ballot.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// String shows a ballot as "round.node", for example "9.3".
func (b Ballot) String() string { return fmt.Sprintf("%d.%d", b.Round, b.Node) }
