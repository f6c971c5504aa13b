package lifecycle

import (
	"fmt"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

// Action is what a red button stops. The numbers are stored and never change.
type Action uint8

// The actions.
const (
	CreateCells Action = 1 // planning of new cells
	DeleteCells Action = 2 // seals and wiping, also of deletions that have begun
	MoveCells   Action = 3 // replacements that are not repairs
	RepairCells Action = 4

	actionMax = RepairCells
)

var actionNames = [...]string{CreateCells: "create", DeleteCells: "delete", MoveCells: "move", RepairCells: "repair"}

// String names an action as operators do.
func (a Action) String() string { return actionNames[a] }

// ParseActions reads the names of actions; none means all.
func ParseActions(names []string) (list []Action, err *cell.Error) {
	if len(names) == 0 {
		return []Action{CreateCells, DeleteCells, MoveCells, RepairCells}, nil
	}
	for _, name := range names {
		found := false
		for a := CreateCells; a <= actionMax; a++ {
			if a.String() == name {
				list, found = append(list, a), true
			}
		}
		if !found {
			return nil, &cell.Error{Op: "control.pause", Kind: cell.Invalid, Detail: fmt.Sprintf("%q is no action", name),
				Hint: "the actions are create, delete, move and repair; none means all"}
		}
	}
	return list, nil
}

// action is which red button stops replacements with this cause.
func (c Cause) action() Action {
	if c.isRepair() {
		return RepairCells
	}
	return MoveCells
}

// Order is what an operator has ordered: by whom, when and why.
type Order struct {
	By, Reason string
	At         uint64 // milliseconds since 1970, by the clock of the control process
}

// String tells an order in one phrase.
func (o *Order) String() string {
	text := fmt.Sprintf("by %s at %s", o.By, time.UnixMilli(int64(o.At)).UTC().Format(time.RFC3339))
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}

const formatOrder = 'O' // of a pause, or of a server's duty

// orderBytesMax bounds a stored text.
const orderBytesMax = wire.DetailBytesMax

// A pause and a server's duty are stored alike: what is ordered is a number, whose meaning depends on the key.
//
// appendOrder adds the stored form of an order, with what is ordered.
func appendOrder(b []byte, what uint8, o *Order) []byte {
	start := len(b)
	b = append(b, formatOrder, storedVersion)
	b = wire.AppendUint(wire.AppendArray(b, 4), uint64(what))
	b = wire.AppendString(wire.AppendString(b, o.By), o.Reason)
	return appendSum(wire.AppendUint(b, o.At), start)
}

// decodeOrder reads the stored form; errors as of decodeRecord.
func decodeOrder(b []byte, most uint8) (what uint8, o *Order, err error) {
	r, err := storedBody(formatOrder, b)
	if err != nil {
		return 0, nil, err
	}
	r.Struct(4, "order")
	what = uint8(r.UintMax(uint64(most), "what is ordered"))
	o = &Order{By: r.String(wire.NameBytesMax, "by"), Reason: r.String(orderBytesMax, "reason"), At: r.Uint()}
	if err := r.Done(); err != nil {
		return 0, nil, damaged(err.Error())
	}
	if what == 0 {
		return 0, nil, damaged("an order of nothing")
	}
	return what, o, nil
}

func pauseKey(a Action) []byte { return []byte{keyPause, byte(a)} }

// restorePause takes a stored pause. Pauses sort before everything that they hold back.
func (m *Manager) restorePause(value []byte) error {
	what, o, err := decodeOrder(value, uint8(actionMax))
	if err == nil {
		m.pauses[what] = o
	}
	return err
}

// paused refuses an action that is paused. The kind is that of a limit: it passes.
func (m *Manager) paused(a Action) *cell.Error {
	o := m.pauses[a]
	if o == nil {
		return nil
	}
	return &cell.Error{Kind: cell.Overloaded, RetryAfter: m.config.RetryMax, Detail: fmt.Sprintf("%s is paused %s", a, o),
		Hint: "physalia control resume " + a.String()}
}

// refusePaused is paused for somebody who asks: a pause ends when somebody ends it, not by waiting.
func (m *Manager) refusePaused(a Action) *cell.Error {
	err := m.paused(a)
	if err != nil {
		err.Kind, err.RetryAfter = cell.Refused, 0
	}
	return err
}

// Pause stops actions, until Resume. What could leave a cell worse if it stopped goes on: a founding that was told, a replacement
// for which the cell has issued a number. The answer comes when the pause is durable; a pause that holds already stays as it is.
func (m *Manager) Pause(now time.Duration, id RequestID, list []Action, o Order) {
	m.now = now
	// Who paused first, and why, is what others want to know; a second pause of the same changes nothing.
	for _, a := range list {
		if m.pauses[a] == nil {
			m.pauses[a] = &o
			m.out.Persist = append(m.out.Persist, Write{pauseKey(a), appendOrder(nil, uint8(a), &o)})
		}
	}
	m.out.Replies = append(m.out.Replies, Reply{Request: id})
}

// Resume ends the pauses of actions; what they held back goes on where it was.
func (m *Manager) Resume(now time.Duration, id RequestID, list []Action) {
	m.now = now
	for _, a := range list {
		if m.pauses[a] == nil {
			continue
		}
		m.pauses[a] = nil
		m.out.Persist = append(m.out.Persist, Write{Key: pauseKey(a)})
		// Tasks were taken off their servers' queues when they came up, and go back to the ends of these. Seals were left where they are.
		if a == DeleteCells {
			for _, t := range m.heldDrops {
				m.queue(t)
			}
			m.heldDrops = nil
		}
		// Those whose kind is still paused come back to the list when their turn comes.
		held := m.heldMoves
		m.heldMoves = nil
		m.moves = append(m.moves, held...)
		m.petitionsAt = m.now
		for _, d := range m.drains {
			d.at = m.now
		}
	}
	m.out.Replies = append(m.out.Replies, Reply{Request: id})
}

// pausedNow says that an action is paused, as the beginning of a sentence; empty when it is not.
func (m *Manager) pausedNow(a Action) string {
	if err := m.paused(a); err != nil {
		return err.Detail + "; "
	}
	return ""
}
