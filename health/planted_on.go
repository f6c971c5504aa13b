//go:build planted

package health

// plantedImpatience is a deliberate mistake that the simulation must find: a dead member is given up at once.
var plantedImpatience bool

// Plant switches the bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	if name != "impatience" {
		return nil
	}
	plantedImpatience = true
	return func() { plantedImpatience = false }
}
