package main

import (
	"github.com/spf13/pflag"

	"physalia/health"
)

// repairFlags are the policy of slow repair as flags. The lifecycle manager's --limit-repair bound the same work once more, at the
// servers that take the new members.
func repairFlags(f *pflag.FlagSet, c *health.RepairConfig) {
	*c = health.DefaultRepairConfig()
	// The patience is an operator's guess of how long reboots and switches take; all else follows from the size of the colony.
	f.DurationVar(&c.Patience, "repair-patience", c.Patience, "how long a dead server is waited for, for example 30m, before the cells that lost only it are repaired")
	f.DurationVar(&c.Settle, "repair-settle", c.Settle, "how long cells wait that lost two members, so that a correlated failure shows first")
	f.DurationVar(&c.ReturnMin, "repair-return", c.ReturnMin, "how long a server that returned must stay before its repairs are dropped")
	f.DurationVar(&c.HoldWindow, "hold-window", c.HoldWindow, "deaths of one domain within this time may have one reason, and hold repairs back")
	f.DurationVar(&c.HoldMax, "hold-max", c.HoldMax, "how long a hold lasts at most")
	// Values are checked by the repairer itself when the control plane starts, before anything is opened to others.
	for _, row := range []struct {
		suffix, where string
		of            *health.Budget
	}{{"", "the colony", &c.Colony}, {"-brick", "one brick", &c.Brick}, {"-server", "one surviving member's server", &c.Server}} {
		f.Float64Var(&row.of.Repairs, "repairs-per-second"+row.suffix, row.of.Repairs, "`number` of repairs proposed per second in "+row.where)
		f.Float64Var(&row.of.Bytes, "repair-bytes-per-second"+row.suffix, row.of.Bytes, "`bytes` of cells taught by repairs per second in "+row.where)
	}
}
