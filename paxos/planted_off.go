//go:build !planted

package paxos

// Planted bugs exist only under the build tag "planted"; here they are constants that the compiler removes.
const (
	plantedAcceptWithoutPromising = false
	plantedCertifyAnyBallot       = false
	plantedCarryBallot            = false
	plantedPromiseBelowFloor      = false
	plantedReleaseBeforeHeld      = false
	plantedAppliedInMemory        = false
)
