//go:build planted

package placement

// Planted bugs: deliberate mistakes that the simulation must find, to prove that its checkers are alive.
var (
	plantedCrowdedPower  bool // breaks "domains": a power domain may hold two nodes more than it may
	plantedIgnoreOverlap bool // breaks "overlap": what two cells share is neither forbidden nor scored
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{"crowded-power": &plantedCrowdedPower, "ignore-overlap": &plantedIgnoreOverlap}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
