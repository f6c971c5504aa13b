package blockstore

import (
	"fmt"

	"physalia/cell"
)

// SplitBrain hunts B1 and B5: no two copies acknowledge anything under one fence. It knows nothing of cells and records,
// only what copies say to clients.
type SplitBrain struct {
	By   map[cell.Fence]string // who acknowledged under a fence
	Acks uint64
}

// Sent sees a message that leaves a copy.
func (s *SplitBrain) Sent(m Message) error {
	if m.Kind != WriteDone && m.Kind != ReadDone {
		return nil
	}
	if s.By == nil {
		s.By = map[cell.Fence]string{}
	}
	s.Acks++
	if other, known := s.By[m.Fence]; known && other != m.From {
		return fmt.Errorf("split-brain: under fence %v, %s and %s acknowledged", m.Fence, other, m.From)
	}
	s.By[m.Fence] = m.From
	return nil
}
