package wire

// CommandSetMin is the command set of the first version, which every version understands. A command set is all that a log may hold: a
// command that is new, or an old one in a new encoding, begins a new set. The version byte of a command is the set that it takes to
// understand it. See docs/operations.md for what that means in a rollout.
const CommandSetMin = commandVersion

// featureCommands are the bits of Hello.Features that tell the newest command set that the sender understands; zero, as the first
// versions say, is CommandSetMin.
const featureCommands = 0xff

// SetCommands says in a Hello which command sets this side understands.
func (m *Hello) SetCommands(set uint32) {
	if set > CommandSetMin {
		m.Features = m.Features&^featureCommands | uint64(set&featureCommands)
	}
}

// Commands is the newest command set that the other side understands.
func (m *Hello) Commands() uint32 { return max(uint32(m.Features&featureCommands), CommandSetMin) }
