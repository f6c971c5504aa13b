//go:build planted

package machine

// Planted bugs: deliberate mistakes that the simulation must find, to prove that its checkers are alive.
var (
	plantedNoFloor     bool // breaks rule 14: what is not remembered is taken for new (hazard H14)
	plantedBlindExpiry bool // breaks rule 18: an expiry does not look at the renewals that it has seen (hazard H18)
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{"no-floor": &plantedNoFloor, "blind-expiry": &plantedBlindExpiry}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
