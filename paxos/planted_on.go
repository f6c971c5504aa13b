//go:build planted

package paxos

// Planted bugs: deliberate mistakes that the simulation must find, to prove that its checkers are alive.
var (
	plantedAcceptWithoutPromising bool // breaks P1: accepting is not promising
	plantedCertifyAnyBallot       bool // breaks P4: chosen-through applied to a record of another ballot (hazard H5)
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{
		"accept-without-promising": &plantedAcceptWithoutPromising,
		"certify-any-ballot":       &plantedCertifyAnyBallot,
	}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
