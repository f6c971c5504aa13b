//go:build planted

package paxos

// Planted bugs: deliberate mistakes that the simulation must find, to prove that its checkers are alive.
var (
	plantedAcceptWithoutPromising bool // breaks P1: accepting is not promising
	plantedCertifyAnyBallot       bool // breaks P4: chosen-through applied to a record of another ballot (hazard H5)
	plantedCarryBallot            bool // breaks P8: a ballot is used under a jury that did not promise it (hazard H4)
	plantedPromiseBelowFloor      bool // breaks P5: what is held only as state is promised as if it were empty (hazard H6)
	plantedReleaseBeforeHeld      bool // breaks P9: a node that left is released at once (hazard H19)
	plantedAppliedInMemory        bool // breaks P4: a record tells what was applied although it stands in memory only
)

// Plant switches one bug on and returns how to switch it off again; nil when there is no bug of that name.
func Plant(name string) (undo func()) {
	bugs := map[string]*bool{
		"accept-without-promising": &plantedAcceptWithoutPromising,
		"certify-any-ballot":       &plantedCertifyAnyBallot,
		"carry-ballot":             &plantedCarryBallot,
		"promise-below-floor":      &plantedPromiseBelowFloor,
		"release-before-held":      &plantedReleaseBeforeHeld,
		"applied-in-memory":        &plantedAppliedInMemory,
	}
	bug, ok := bugs[name]
	if !ok {
		return nil
	}
	*bug = true
	return func() { *bug = false }
}
