//go:build poison

package machine

import (
	"strings"

	"physalia/internal/wire"
)

// PoisonKey is the beginning of keys that no state machine survives to which a put of them is applied. What follows is the way to fall:
// "panic" is one that a server contains, "exit" one that nobody can.
const PoisonKey = "poison/"

// PoisonExit ends the process as if it had crashed. The program that runs the trial sets it; nobody else may.
var PoisonExit = func() { panic("there is no way to exit") }

// poison falls over a poisoned command.
func poison(c *wire.Command) {
	for i := range c.Txn.Then {
		switch how, poisoned := strings.CutPrefix(c.Txn.Then[i].Key, PoisonKey); {
		case poisoned && how == "exit":
			PoisonExit()
		case poisoned:
			panic("poisoned command: put of " + c.Txn.Then[i].Key)
		}
	}
}
