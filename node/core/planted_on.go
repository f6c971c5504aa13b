//go:build planted

package core

// plantedAckEarly is a deliberate bug that the simulation must find: votes leave before they are durable (rule 1).
var plantedAckEarly bool

// Plant switches a bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	if name != "ack-before-durable" {
		return nil
	}
	plantedAckEarly = true
	return func() { plantedAckEarly = false }
}
