package lifecycle

import (
	"time"

	"physalia/cell"
	"physalia/internal/topology"
)

// level is what the manager does about servers that are much fuller than others of their pool. It sleeps until servers come or
// cells are made, and again when a look has found nothing to be gained: no timer runs in a colony that is level.
type level struct {
	awake bool
	at    time.Duration // of the next look
}

// Bounds of one look at a pool.
const (
	unevenMin       = 20 // the fullest server is this much of its capacity fuller than the emptiest, in percent; else nothing is done
	balanceTries    = 32 // cells of the fullest server that are looked at, drawn
	balancesPerLook = 8  // replacements that are begun
)

// unlevel has the pools looked at, some time.
func (m *Manager) unlevel() {
	if !m.level.awake && m.config.BalanceEvery > 0 {
		m.level = level{awake: true, at: m.now + m.config.BalanceEvery}
		m.after(m.config.BalanceEvery, func() {})
	}
}

// balance moves some nodes from the fullest server of each pool to emptier ones, as placement scores it: being near to users counts
// as it does for new cells. A pause or a limit of moves ends the look early.
func (m *Manager) balance() {
	if !m.level.awake || m.level.at > m.now {
		return
	}
	m.level.awake = false
	again := m.causes[ByBalance] > 0
	if view, err := m.planner.viewNow(); err == nil { // else no server can be placed on, and every registration reports why
		for _, pool := range view.Pools() {
			if full := m.fullest(pool); full != "" {
				again = m.relieve(full) || again
			}
		}
	}
	if again {
		m.unlevel()
	}
}

// fullest is the server of a pool that should be relieved, or "" when the pool is level enough.
func (m *Manager) fullest(pool *topology.Pool) (full cell.ServerID) {
	most, least := -1.0, 2.0
	for i := range pool.Servers {
		s := &pool.Servers[i]
		if m.planner.down[s.ID] || m.planner.closed[s.ID] || s.Capacity == 0 {
			continue
		}
		fill := float64(max(s.Load, uint64(m.planner.book.Nodes(s.ID)))) / float64(s.Capacity)
		if fill > most {
			most, full = fill, s.ID
		}
		least = min(least, fill)
	}
	if 100*(most-least) < unevenMin {
		return ""
	}
	return full
}

// relieve begins to move cells away from a server, and reports whether there may be more to do.
func (m *Manager) relieve(id cell.ServerID) (more bool) {
	begun := 0
	for range balanceTries {
		n := m.planner.book.Nodes(id)
		if n == 0 || begun == balancesPerLook {
			break
		}
		in := m.names[m.planner.book.CellAt(id, m.dice.IntN(n))]
		if in == nil || in.State != Live || !in.Moving().isZero() || m.downMembers(in) != 0 {
			continue
		}
		if m.allowMoves(in.Brick.String(), ByBalance) != nil {
			return true
		}
		swap, ok, err := m.planner.improve(&in.Record, m.hintsOf(in))
		if err != nil || !ok {
			continue
		}
		p := Proposal{Cell: in.Cell, Remove: swap.Remove, Add: swap.Add, Cause: ByBalance, Why: swap.String()}
		if err := m.beginMove(in, &p); err == nil {
			begun++
		} else if err.Kind == cell.Overloaded {
			return true
		}
	}
	return begun > 0
}
