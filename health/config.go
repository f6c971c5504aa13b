package health

import (
	"fmt"
	"time"

	"physalia/cell"
)

// Config holds the rule for verdicts.
type Config struct {
	DisconnectedMax time.Duration // down when disconnected this long; above zero
	SilentMax       time.Duration // down when a ping or disconnection was followed by no proof of life this long; above zero
	ReturnMin       time.Duration // up again when heard without interruption this long; zero: at once
	UnreachableMax  time.Duration // not down, though not heard, while its peers hear it, for so long; zero: peers are not asked
	ServersMax      int           // servers tracked; one costs some 500 bytes
}

// DefaultConfig returns the production rule.
func DefaultConfig() Config {
	return Config{DisconnectedMax: 2 * time.Second, SilentMax: 5 * time.Second, ReturnMin: 2 * time.Second, UnreachableMax: time.Hour, ServersMax: 1 << 16}
}

// Check reports what is wrong with a configuration, as a *cell.Error of kind Invalid, or nil.
func (c *Config) Check() error {
	switch {
	case c.DisconnectedMax <= 0 || c.SilentMax <= 0 || c.ReturnMin < 0 || c.UnreachableMax < 0:
		return invalid("disconnected-max is %v, silent-max %v, return-min %v, unreachable-max %v", c.DisconnectedMax, c.SilentMax, c.ReturnMin, c.UnreachableMax)
	case c.ServersMax < 1:
		return invalid("servers-max is %d", c.ServersMax)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return &cell.Error{Op: "health.config", Kind: cell.Invalid, Detail: fmt.Sprintf(format, args...),
		Hint: "use positive values, or those of DefaultConfig"}
}
