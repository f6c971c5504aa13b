package core

import (
	"physalia/cell"
	"physalia/internal/wire"
)

// What a log may hold grows with the versions of this software. Everything that is new in a log since the first version has a number,
// its command set, and each build understands all sets up to its own. A server tells its own in the Hello of every lane, so nothing
// of this costs a byte per message; a restart, which a change of version takes, opens new lanes. A proposer words a command in the
// newest set that every member and learner of the cell's configuration is known to understand in its present life, and that the operator
// lets it propose (Config.ProposeSet); who was not heard counts as the oldest. What is chosen cannot be taken back: a member that is
// started with an older build later meets what it does not understand, and stops as failed (rule 9).

// Understands notes the newest command set that a peer's boot said it understands; 0 is the oldest.
func (c *Core) Understands(from cell.ServerID, boot uint64, set uint32) {
	if s := c.sender(from); s.id != c.cfg.Server && c.meet(s, boot) {
		s.commands = set
	}
}

// worded is a command as every member of the cell understands it; it may be changed in place, since nobody else has it yet. A build
// that knows the oldest set only has nothing to choose, and the compiler knows.
func (c *Core) worded(h *hosted, command []byte) []byte {
	if wire.CommandSet > wire.CommandSetMin {
		wire.Word(command, c.commonSet(h))
	}
	return command
}

// commonSet is the newest command set that may be proposed in a cell.
func (c *Core) commonSet(h *hosted) uint32 {
	set := c.cfg.ProposeSet
	for _, list := range [...][]*server{h.members, h.learners} {
		for _, s := range list {
			if s.id != c.cfg.Server {
				set = min(set, max(s.commands, wire.CommandSetMin))
			}
		}
	}
	return set
}
