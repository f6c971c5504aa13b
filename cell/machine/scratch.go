package machine

import (
	"physalia/cell"
	"physalia/internal/wire"
)

// Scratch is the memory that a machine needs while it applies one command or answers one read. Machines of one owner may share one
// (Machine.Use), which then stays in the processor's caches, whichever of them works. The zero Scratch is ready to use.
type Scratch struct {
	command wire.Command    // the one that is applied
	outcome Outcome         // of the newest
	results []cell.OpResult // of the newest transaction or read
	kept    []cell.OpResult // of these, what is remembered
	undo    []change        // how to take back the running transaction, oldest first; empty between transactions
}

// scratchKept is of how many results the memory is kept.
const scratchKept = 16

// Use makes a machine work in a scratch that it shares with others. What Apply returns is then valid until the next Apply of any of
// them, its results until the next Apply or Read of any of them.
func (m *Machine) Use(s *Scratch) { m.store.scratch = s }

// room returns the memory to work in, the machine's own if it shares none.
func (m *Machine) room() *Scratch {
	if m.store.scratch == nil {
		m.store.scratch = new(Scratch)
	}
	return m.store.scratch
}
