package health

import (
	"time"
)

// RepairConfig is the policy of slow repair. Rates are per second; what a budget allows at once, after a rest, is what a
// fifth of a second brings, and at least one repair. See DefaultRepairConfig for the values and doc.go for the reasons.
type RepairConfig struct {
	Patience  time.Duration // one dead member: repaired so long after its server died; above zero
	Settle    time.Duration // two or more dead members: repaired so long after the last died, so that a hold comes first; at most Patience
	ReturnMin time.Duration // a server that returned counts as back after so long; a death before it continues the old one

	HoldWindow time.Duration // deaths so close together may have one reason; above zero
	HoldMax    time.Duration // a hold ends by itself after so long; above HoldWindow

	Colony, Brick, Server Budget // of the colony, of each brick, and of each surviving member's server
	NodeBytes             uint64 // what a node is taken for while no server has reported its own average; above zero
	InFlight              int    // replacements begun and not seen to be done; a quarter is kept for cells on the brink
	PerTurn               int    // proposals per turn
	Page                  int    // cells looked at per turn; one costs some 100 ns
	Pause                 Pauses // after refusals
	CellsMax              int    // cells indexed; one costs some 150 bytes
	ServersMax            int    // servers indexed
	Seed                  uint64 // of the index's hash: keeps whoever names cells from choosing collisions
}

// Budget bounds what repair does per second.
type Budget struct {
	Repairs float64 // reconfigurations per second; at least 0.001
	Bytes   float64 // of taught state per second; above zero
}

// Pauses says how long a cell rests after its proposal came to nothing.
type Pauses struct {
	Refused  time.Duration // refused for a reason that passes; doubled for each refusal in a row of one pool
	Most     time.Duration // the longest pause
	UnderWay time.Duration // begun, and no newer configuration was heard of: proposed again, which is idempotent
}

// DefaultRepairConfig returns the production policy.
//
// The budgets follow "don't move faster than the expected rate of change" (NSDI 2020, section 5.1): a server with 100,000
// nodes is rebuilt in some half hour, as long as was waited for it to return, while a brick moves at most 2 MiB of cells per
// second.
func DefaultRepairConfig() RepairConfig {
	return RepairConfig{
		Patience: 30 * time.Minute, Settle: 10 * time.Second, ReturnMin: 30 * time.Second,
		HoldWindow: 5 * time.Minute, HoldMax: 6 * time.Hour,
		Colony: Budget{Repairs: 200, Bytes: 8 << 20}, Brick: Budget{Repairs: 50, Bytes: 2 << 20}, Server: Budget{Repairs: 25, Bytes: 1 << 20},
		NodeBytes: 32 << 10, InFlight: 256, PerTurn: 64, Page: 4096,
		Pause:    Pauses{Refused: time.Second, Most: 30 * time.Second, UnderWay: 2 * time.Minute},
		CellsMax: 20_000_000, ServersMax: 1 << 16,
	}
}

// Check reports what is wrong with a configuration, as a *cell.Error of kind Invalid, or nil.
func (c *RepairConfig) Check() error {
	switch {
	case c.Patience <= 0 || c.Settle < 0 || c.Settle > c.Patience || c.ReturnMin < 0:
		return invalid("patience is %v, settle %v, return-min %v", c.Patience, c.Settle, c.ReturnMin)
	case c.HoldWindow <= 0 || c.HoldMax <= c.HoldWindow:
		return invalid("hold-window is %v, hold-max %v", c.HoldWindow, c.HoldMax)
	case c.NodeBytes == 0 || c.InFlight < 4 || c.PerTurn < 1 || c.Page < 1:
		return invalid("node-bytes is %d, in-flight %d, at least 4, per-turn %d, page %d", c.NodeBytes, c.InFlight, c.PerTurn, c.Page)
	case c.Pause.Refused <= 0 || c.Pause.Most < c.Pause.Refused || c.Pause.UnderWay <= 0:
		return invalid("pauses are %+v", c.Pause)
	case c.CellsMax < 1 || c.CellsMax > 1<<32-2 || c.ServersMax < 1 || c.ServersMax > 1<<24:
		return invalid("cells-max is %d, servers-max %d", c.CellsMax, c.ServersMax)
	}
	for _, b := range [...]Budget{c.Colony, c.Brick, c.Server} {
		if !(b.Repairs >= 0.001) || !(b.Bytes > 0) {
			return invalid("a budget is %v repairs and %v bytes per second", b.Repairs, b.Bytes)
		}
	}
	return nil
}
